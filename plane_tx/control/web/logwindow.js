/** A window on the lines of a log: only the lines that can be seen are elements of the page. */

import { count, el } from "./format.js";
import { preciseClock } from "./precise.js";

/** Lines above and below the window, so that a short scroll shows no blank. */
const BEYOND = 4;
/** A line of ten thousand hits would be as many elements. */
const MOST_MARKS = 50;
/** Measured heights can move other lines into the window, which are measured then. */
const MOST_TRIES = 3;

const MARKS = { stdout: "out", stderr: "err", note: "" };

export class LogWindow {
  /**
   * @param {import("./loglines.js").LogLines} lines
   * @param {string} label
   */
  constructor(lines, label) {
    this.lines = lines;
    this.following = true;
    /** Where the window is while it does not follow: the first line in it, and how far into it. */
    this.anchor = { serial: 0, delta: 0 };
    /** The serial of the hit that was gone to. */
    this.current = -1;
    this.wrap = false;
    this.layout = 0;
    this.frame = 0;
    this.tops = new Float64Array(lines.mostLines + 1);
    /** @type {Map<number, HTMLElement>} */
    this.elements = new Map();
    this.build(label);
  }

  build(label) {
    this.body = el("div", { class: "log-lines" });
    // A hundred characters wide and a line high.
    this.probe = el("div", { class: "log-measure" });
    const probe = el("div", { class: "log-probe", "aria-hidden": "true" }, this.probe);
    this.sizer = el("div", { class: "log-sizer" }, this.body);
    // What comes by the thousand is read when somebody goes there, and not as it comes.
    const said = { role: "log", "aria-live": "off", "aria-label": label, tabindex: "0" };
    const on = { scroll: () => this.scrolled() };
    this.view = el("div", { class: "log-view log-times", ...said, on }, this.sizer, probe);
    this.resized = new ResizeObserver(() => this.relayout());
    this.resized.observe(this.view);
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.resized.disconnect();
    this.elements.clear();
    this.body.replaceChildren();
  }

  /** Draw with the next frame, however often this is called until then. */
  request() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  /** Draw every line anew: what is marked in it has changed. */
  remake() {
    this.elements.clear();
    this.body.replaceChildren();
    this.request();
  }

  /** Measure every line anew: the width of the text has changed. */
  relayout() {
    const { width, height } = this.probe.getBoundingClientRect();
    this.layout += 1;
    this.rowHeight = height || 20;
    const gutter = this.view.classList.contains("log-times") ? 19 : 6;
    const columns = Math.floor((this.view.clientWidth * 100) / (width || 800));
    this.columns = Math.max(10, columns - gutter);
    this.request();
  }

  setWrap(wrap) {
    this.wrap = wrap;
    this.view.classList.toggle("log-wrap", wrap);
    this.relayout();
  }

  setTimes(times) {
    this.view.classList.toggle("log-times", times);
    this.relayout();
  }

  follow() {
    this.following = true;
    this.request();
  }

  /** Bring `line` into the window, at a third of its height. */
  show(line) {
    this.following = false;
    this.current = line.serial;
    this.anchor = { serial: line.serial, delta: -this.view.clientHeight / 3 };
    this.remake();
  }

  /** The places of the first and the last line that can be seen. */
  seen() {
    const { scrollTop, clientHeight } = this.view;
    return { first: this.indexAt(scrollTop), last: this.indexAt(scrollTop + clientHeight) };
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.view;
    this.following = scrollHeight - clientHeight - scrollTop < this.rowHeight * 1.5;
    const index = this.indexAt(scrollTop);
    const serial = this.lines.kept[index]?.serial ?? 0;
    this.anchor = { serial, delta: scrollTop - this.tops[index] };
    this.request();
  }

  draw() {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const { from, to } = this.scroll();
      this.place(from, to);
      if (!this.wrap || !this.measure(from, to)) return;
    }
  }

  /** Put the window where it belongs, and tell which lines are to be seen in it. */
  scroll() {
    const { length } = this.lines.kept;
    this.stack();
    const total = this.tops[length];
    this.sizer.style.height = `${total}px`;
    const { clientHeight } = this.view;
    const end = Math.max(0, total - clientHeight);
    const top = this.following ? end : Math.min(end, Math.max(0, this.anchored()));
    // To scroll where it is would stop a scroll that is under way.
    if (Math.abs(this.view.scrollTop - top) > 1) this.view.scrollTop = top;
    const from = Math.max(0, this.indexAt(top) - BEYOND);
    return { from, to: Math.min(length, this.indexAt(top + clientHeight) + 1 + BEYOND) };
  }

  anchored() {
    const index = this.lines.indexOf(this.anchor.serial);
    const dropped = this.lines.kept[index]?.serial !== this.anchor.serial;
    return this.tops[index] + (dropped ? 0 : this.anchor.delta);
  }

  /** Work out where each line begins: ten thousand take some tens of microseconds. */
  stack() {
    let top = 0;
    this.lines.kept.forEach((line, index) => {
      this.tops[index] = top;
      top += this.heightOf(line);
    });
    this.tops[this.lines.kept.length] = top;
  }

  heightOf(line) {
    if (!this.wrap) return this.rowHeight;
    if (line.layout === this.layout) return line.height;
    return this.rowHeight * Math.max(1, Math.ceil(line.text.length / this.columns));
  }

  indexAt(y) {
    let low = 0;
    let high = Math.max(0, this.lines.kept.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Have the lines in the page be these; those that stay keep their elements, and a selection. */
  place(from, to) {
    const wanted = this.lines.kept.slice(from, to);
    const serials = new Set(wanted.map((line) => line.serial));
    for (const [serial, element] of this.elements) {
      if (!serials.has(serial)) {
        element.remove();
        this.elements.delete(serial);
      }
    }
    this.body.style.top = `${this.tops[from]}px`;
    let next = this.body.firstChild;
    for (const line of wanted) {
      const element = this.elementOf(line);
      if (element === next) next = next.nextSibling;
      else this.body.insertBefore(element, next);
    }
  }

  elementOf(line) {
    let element = this.elements.get(line.serial);
    if (!element) {
      element = lineElement(line, this.lines.pattern, line.serial === this.current);
      this.elements.set(line.serial, element);
    }
    return element;
  }

  /** Note how high each line in the page is; whether any was taken for another height. */
  measure(from, to) {
    let moved = false;
    for (const line of this.lines.kept.slice(from, to)) {
      const { height } = this.elements.get(line.serial).getBoundingClientRect();
      moved ||= Math.abs(height - this.heightOf(line)) > 0.1;
      Object.assign(line, { height, layout: this.layout });
    }
    return moved;
  }
}

function lineElement(line, pattern, current) {
  return el(
    "div",
    { class: `log-line log-${line.stream}${current ? " log-current" : ""}` },
    el("span", { class: "log-time" }, preciseClock(line.at)),
    el("span", { class: "log-mark", title: line.stream }, MARKS[line.stream]),
    el("span", { class: "log-text" }, ...marked(line, pattern), leftOut(line)),
  );
}

function leftOut({ left }) {
  // The server has cut the longest ones before.
  const note = `… ${count(left)} or more characters are not shown`;
  return left > 0 && el("span", { class: "log-cut" }, note);
}

/** The text of a line in pieces, with what the search finds marked. */
function marked({ text, hit }, pattern) {
  if (!hit) return [text];
  const pieces = [];
  let from = 0;
  for (const found of text.matchAll(new RegExp(pattern, "giu"))) {
    pieces.push(text.slice(from, found.index), el("mark", null, found[0]));
    from = found.index + found[0].length;
    if (pieces.length >= 2 * MOST_MARKS) break;
  }
  return [...pieces, text.slice(from)];
}
