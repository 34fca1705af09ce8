/** Numbers with a bar beside each, as a table that reads well without the bars. */

import { el, say } from "./format.js";

/** @typedef {{name: string, value: number, text: string, tone?: string}} Bar */

export class Bars {
  /** @type {Map<string, ReturnType<typeof makeBar>>} */
  rows = new Map();
  body = el("tbody");
  note = el("p", { class: "note" });

  /**
   * @param {string} title
   * @param {string} nothing what is said when there is nothing to show
   */
  constructor(title, nothing) {
    this.nothing = nothing;
    const id = `bars-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
    const heading = el("h2", { id }, title);
    const table = el("table", { class: "bars", "aria-labelledby": id }, this.body);
    this.element = el("section", { class: "card" }, heading, table, this.note);
  }

  /** @param {Bar[]} bars @param {string} [note] */
  draw(bars, note = "") {
    const names = new Set(bars.map((bar) => bar.name));
    for (const [name, row] of this.rows) if (!names.has(name)) this.remove(name, row);
    const top = Math.max(...bars.map((bar) => bar.value), Number.MIN_VALUE);
    bars.forEach((bar, place) => this.drawBar(bar, place, top));
    const text = bars.length ? note : this.nothing;
    say(this.note, text);
  }

  drawBar({ name, value, text, tone }, place, top) {
    const row = this.rows.get(name) ?? makeBar(name);
    this.rows.set(name, row);
    if (this.body.children[place] !== row.element) {
      this.body.insertBefore(row.element, this.body.children[place] ?? null);
    }
    row.bar.hidden = value === 0;
    row.bar.style.width = `${(100 * value) / top}%`;
    row.bar.dataset.tone = tone ?? "plain";
    say(row.text, text);
  }

  remove(name, row) {
    row.element.remove();
    this.rows.delete(name);
  }
}

function makeBar(name) {
  const bar = el("div", { class: "bar" });
  const text = el("td", { class: "number" });
  const track = el("td", { class: "track", "aria-hidden": "true" }, bar);
  return { bar, text, element: el("tr", null, el("th", { scope: "row" }, name), track, text) };
}
