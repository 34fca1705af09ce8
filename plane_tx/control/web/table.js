/** The table of sessions: live, sorted and filtered, and never more of it than is in sight. */

import { board, measure } from "./board.js";
import { COLUMNS } from "./columns.js";
import { firstSteps } from "./firststeps.js";
import { announce, counted, el } from "./format.js";
import { arrange } from "./order.js";
import { MOST_WATCHED, SampleFeed } from "./samples.js";
import { ShownRows } from "./shownrows.js";
import { groupOf } from "./statuses.js";
import { Toolbar } from "./toolbar.js";

/** Rows drawn beyond either edge, so that scrolling by a line shows no gap. */
const BEYOND = 6;

const TICK_MS = 1000;
const ANNOUNCE_MS = 700;

/** What is sampled of rows in sight alone, and so changes by looking. */
const SAMPLED = new Set(["cpu", "memory"]);

export class SessionTable {
  scroller = document.getElementById("scroller");
  nothing = document.getElementById("nothing");
  /** Every row that matches, in order. @type {any[]} */
  order = [];
  column = COLUMNS.find((column) => column.id === "age");
  descending = false;
  /** The row that the keyboard is at. @type {string | null} */
  activeId = null;
  activeIndex = 0;
  /** What stands in place of rows, as text. */
  saidOfNothing = "";
  open = false;
  stale = true;
  frame = 0;
  top = 0;
  /** Whether `top` is where the scroller is yet to be put. */
  moved = false;
  height = 0;

  constructor() {
    this.feed = new SampleFeed((id) => this.sampled(id));
    this.rows = new ShownRows(
      COLUMNS,
      (id) => this.feed.of(id),
      () => this.scroller.focus({ preventScroll: true }),
    );
    this.toolbar = new Toolbar(
      () => this.wantedChanged(),
      () => this.goTo(this.activeIndex),
    );
    this.build();
    this.listen();
  }

  /** Draw from now on. */
  enter() {
    this.open = true;
    this.scroller.scrollTop = this.top;
    this.rowHeight = heightOf(this.scroller);
    this.ticking = setInterval(() => this.tick(), TICK_MS);
    this.arrange();
  }

  /** Draw no more, and ask for no samples. */
  leave() {
    this.open = false;
    clearInterval(this.ticking);
    this.feed.watch([]);
  }

  /** Put the keyboard where it was; whether there is such a place. */
  focus() {
    return this.activeId !== null && this.rows.focus(this.activeId);
  }

  build() {
    this.heads = new Map(COLUMNS.map((column) => [column, this.makeHead(column)]));
    const columns = el(
      "colgroup",
      null,
      COLUMNS.map((column) => el("col", { class: `col-${column.id}` })),
    );
    const head = el("thead", null, el("tr", { "aria-rowindex": "1" }, [...this.heads.values()]));
    this.table = el(
      "table",
      { class: "sessions", "aria-labelledby": "sessions-title" },
      columns,
      head,
    );
    this.table.append(...this.rows.elements);
    this.scroller.append(this.table);
    this.markSort();
  }

  makeHead(column) {
    const on = { click: () => this.sortBy(column) };
    const button = el("button", { type: "button", title: column.note, on }, column.title);
    return el("th", { scope: "col", class: `col-${column.id}` }, button);
  }

  listen() {
    board.addEventListener("rows", ({ detail }) => {
      this.feed.forget(detail.gone);
      this.arrange();
    });
    board.addEventListener("state", () => this.arrange());
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.pressed(event));
    this.scroller.addEventListener("focusin", (event) => this.focused(event.target));
    this.rows.body.addEventListener("click", (event) => this.clicked(event));
    new ResizeObserver(() => this.resized()).observe(this.scroller);
  }

  sortBy(column) {
    this.descending = column === this.column && !this.descending;
    this.column = column;
    this.markSort();
    this.goToTop();
    this.arrange();
  }

  markSort() {
    for (const [column, head] of this.heads) {
      if (column !== this.column) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
    }
  }

  wantedChanged() {
    this.goToTop();
    this.arrange();
    clearTimeout(this.announcing);
    const tell = () => announce(`${counted(this.order.length, "session")} shown`);
    this.announcing = setTimeout(tell, ANNOUNCE_MS);
  }

  /** Have the rows sorted and drawn in the next frame, however much changes until then. */
  arrange() {
    this.stale = true;
    this.redraw();
  }

  redraw() {
    if (this.open && !this.frame)
      this.frame = requestAnimationFrame(() => measure(() => this.draw()));
  }

  draw() {
    this.frame = 0;
    if (!this.open) return;
    if (this.stale) this.sort();
    const { first, last } = this.window();
    const rows = this.order.slice(first, last);
    this.rows.clear(rows, first * this.rowHeight, (this.order.length - last) * this.rowHeight);
    this.rows.show(rows, first, this.activeId);
    if (this.moved) this.scroller.scrollTop = this.top;
    this.moved = false;
    if (document.activeElement === this.scroller) this.focus();
    this.watch();
  }

  sort() {
    this.stale = false;
    const { filter, groups, ended } = this.toolbar;
    const wanted = { filter, groups, ended, column: this.column, descending: this.descending };
    const { order, counts } = arrange(board.rows.values(), wanted, (id) => this.feed.of(id));
    const kept = this.placeToKeep();
    this.order = order;
    if (kept) this.keep(kept);
    this.table.setAttribute("aria-rowcount", String(order.length + 1));
    this.toolbar.tell(counts);
    this.tellNothing(counts);
    this.followActive();
  }

  /** The row that is to stay where it is on the screen while others come and go above it. */
  placeToKeep() {
    const { from, to } = this.sight();
    const atRow = this.rows.body.contains(document.activeElement);
    if (atRow && from <= this.activeIndex && this.activeIndex < to) {
      return { id: this.activeId, index: this.activeIndex };
    }
    // At the top what is new is to be seen.
    return this.top > 0 && from < to ? { id: this.order[from].id, index: from } : null;
  }

  keep({ id, index }) {
    const now = this.order.findIndex((row) => row.id === id);
    if (now < 0 || now === index) return;
    this.top = Math.max(0, this.top + (now - index) * this.rowHeight);
    this.moved = true;
  }

  goToTop() {
    this.top = 0;
    this.moved = true;
  }

  /** Which rows are in sight, with some beyond. */
  window() {
    const { from, to } = this.sight();
    return { first: Math.max(0, from - BEYOND), last: Math.min(this.order.length, to + BEYOND) };
  }

  sight() {
    const from = Math.min(this.order.length, Math.floor(this.top / this.rowHeight));
    const shown = Math.ceil(this.height / this.rowHeight) + 1;
    return { from, to: Math.min(this.order.length, from + shown) };
  }

  /** Keep the keyboard at its session, or when that is shown no more at what took its place. */
  followActive() {
    if (this.activeId === null) return;
    const index = this.order.findIndex((row) => row.id === this.activeId);
    this.activeIndex = index >= 0 ? index : Math.min(this.activeIndex, this.order.length - 1);
    this.activeId = this.order[this.activeIndex]?.id ?? null;
  }

  watch() {
    const { from, to } = this.sight();
    const inSight = this.order.slice(from, to);
    const rows = SAMPLED.has(this.column.id) ? this.order : inSight;
    const live = rows.filter((row) => groupOf(row.status) !== "ended");
    this.feed.watch(live.slice(0, MOST_WATCHED).map((row) => row.id));
  }

  sampled(id) {
    this.rows.sample(id);
    if (SAMPLED.has(this.column.id)) this.arrange();
  }

  tick() {
    if (!document.hidden) this.rows.tick();
  }

  scrolled() {
    if (!this.open) return;
    this.top = this.scroller.scrollTop;
    this.redraw();
  }

  resized() {
    if (!this.open) return;
    this.height = this.scroller.clientHeight;
    this.rowHeight = heightOf(this.scroller);
    this.redraw();
  }

  focused(target) {
    const id = this.rows.idOf(target);
    if (id === null) return;
    this.activeId = id;
    this.followActive();
    this.rows.setTabStop(id);
  }

  /** A click beside the link goes where the link leads, unless it was to select text. */
  clicked({ target }) {
    if (target.closest("a") || String(getSelection())) return;
    const link = target.closest("tr").querySelector("a");
    this.focused(link);
    link.click();
  }

  pressed(event) {
    const index = this.target(event);
    if (index === null) return;
    event.preventDefault();
    this.goTo(index);
  }

  /** Which row a key leads to; null when it leads to none. */
  target(event) {
    const inHead = event.target.closest("thead");
    if (inHead || event.ctrlKey || event.metaKey || event.altKey) return null;
    const page = Math.max(1, Math.floor(this.height / this.rowHeight) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) return this.activeIndex + steps[event.key];
    if (event.key === "Home") return 0;
    return event.key === "End" ? this.order.length - 1 : null;
  }

  /** Put the keyboard at a row, or at the nearest that there is. */
  goTo(index) {
    if (!this.order.length) return;
    this.activeIndex = Math.max(0, Math.min(this.order.length - 1, index));
    this.activeId = this.order[this.activeIndex].id;
    this.bringIntoSight(this.activeIndex);
    measure(() => this.draw());
    this.focus();
  }

  bringIntoSight(index) {
    const from = index * this.rowHeight;
    // The head covers as much of what is in sight as it takes itself.
    const inner = this.height - this.table.tHead.offsetHeight;
    const top = Math.min(from, Math.max(this.top, from + this.rowHeight - inner));
    this.scroller.scrollTop = top;
    this.top = this.scroller.scrollTop;
  }

  tellNothing(counts) {
    const said = this.order.length ? [] : this.whyNothing(counts);
    this.nothing.hidden = this.order.length > 0;
    // What is there may have the focus, and stays while there is the same to say.
    const text = said.map((part) => part.textContent ?? part).join("");
    if (this.saidOfNothing !== text) this.nothing.replaceChildren(...said);
    this.saidOfNothing = text;
  }

  whyNothing(counts) {
    if (!board.hello || (!board.up && !board.rows.size)) return ["Waiting for the server…"];
    if (!this.toolbar.filter.isEmpty || this.toolbar.groups.size) {
      return ["Nothing matches. ", linkButton("Clear the filter", () => this.toolbar.clear())];
    }
    if (!counts.ended) return firstSteps(board.hello);
    const spawn = el("a", { href: "#/spawn" }, "start one");
    const show = linkButton("show those that have ended", () => this.toolbar.showEnded());
    return ["No session is live: ", spawn, ", or ", show, "."];
  }
}

function linkButton(text, click) {
  return el("button", { type: "button", class: "link", on: { click } }, text);
}

function heightOf(scroller) {
  return Number.parseFloat(getComputedStyle(scroller).getPropertyValue("--row"));
}
