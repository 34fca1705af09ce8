/** What the table is asked to show: the filter box, the chips of statuses, and ended sessions. */

import { count, el, say } from "./format.js";
import { parseFilter } from "./filter.js";
import { GROUPS } from "./statuses.js";

const CHIPS = GROUPS.filter((group) => group !== "ended");

export class Toolbar {
  input = document.getElementById("filter");
  endedBox = document.getElementById("show-ended");
  endedCount = document.getElementById("ended-count");
  filter = parseFilter("");
  /** @type {Set<string>} */
  groups = new Set();

  /**
   * @param {() => void} onChange
   * @param {() => void} onLeave the keyboard goes down from the filter box to the table
   */
  constructor(onChange, onLeave) {
    this.onChange = onChange;
    this.chips = new Map(CHIPS.map((group) => [group, this.makeChip(group)]));
    document.getElementById("chips").append(...[...this.chips.values()].map((chip) => chip.button));
    this.input.addEventListener("input", () => this.read());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.clear();
      if (event.key === "ArrowDown") onLeave();
    });
    this.endedBox.addEventListener("change", onChange);
    document
      .getElementById("toolbar")
      .addEventListener("submit", (event) => event.preventDefault());
  }

  get ended() {
    return this.endedBox.checked;
  }

  makeChip(group) {
    const number = el("span", { class: "number" }, "0");
    const on = { click: () => this.toggle(group) };
    const name = el("span", { class: "status", "data-tone": toneOfChip(group) }, group);
    const button = el(
      "button",
      { type: "button", class: "chip", "aria-pressed": "false", on },
      name,
      " ",
      number,
    );
    return { button, number };
  }

  toggle(group) {
    if (!this.groups.delete(group)) this.groups.add(group);
    this.chips.get(group).button.setAttribute("aria-pressed", String(this.groups.has(group)));
    this.onChange();
  }

  /** Show everything that is live again. */
  clear() {
    this.input.value = "";
    for (const group of [...this.groups]) this.toggle(group);
    this.read();
  }

  showEnded() {
    this.endedBox.checked = true;
    this.onChange();
  }

  /** @param {Record<string, number>} counts by group */
  tell(counts) {
    for (const [group, { number }] of this.chips) say(number, count(counts[group]));
    say(this.endedCount, count(counts.ended));
  }

  read() {
    this.filter = parseFilter(this.input.value);
    this.onChange();
  }
}

function toneOfChip(group) {
  return { booting: "busy", ready: "good", ending: "warn" }[group];
}
