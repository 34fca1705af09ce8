/** A chart of the last minutes of a few numbers, drawn by uPlot, with its values in words. */

import { el } from "./format.js";
import uPlot from "./vendor/uPlot.esm.js";

const HEIGHT = 150;
const AXIS_WIDTH = 72;
/** The axis goes on for so much above the greatest value. */
const HEADROOM = 1.1;
/** A ceiling so many times as high as the values is not drawn: they would be a flat line. */
const NEAR = 4;
/** Lines are told apart by more than their colour. */
const STYLES = [
  { colour: "--accent", dash: [] },
  { colour: "--warn", dash: [6, 4] },
];
/** Steps of an axis of bytes, so that its labels are round. */
const POWERS_OF_TWO = Array.from({ length: 51 }, (_, power) => 2 ** power);

/** A chart that has just begun shows so much, and not ten minutes of nothing. */
const LEAST_SECONDS = 60;

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {string} unit one that begins with B is of bytes
 * @property {(n: number) => string} format
 * @property {number} [least] what the axis shows at least, so that next to nothing looks like it
 * @property {boolean} [ceiling] whether it is what the first series cannot exceed
 */

/**
 * Draw a chart in `root` of the numbers that are pushed to it.
 * @param {HTMLElement} root
 * @param {object} wanted
 * @param {string} wanted.title
 * @param {Series[]} wanted.series at most two
 * @param {number} wanted.seconds how much of the past is kept and shown
 * @returns {{push: (timeMs: number, values: (number | null)[]) => void, destroy: () => void}}
 */
export function lineChart(root, wanted) {
  const chart = new LineChart(root, wanted);
  return {
    push: (timeMs, values) => chart.push(timeMs, values),
    destroy: () => chart.destroy(),
  };
}

class LineChart {
  constructor(root, { title, series, seconds }) {
    this.series = series;
    this.seconds = seconds;
    this.times = [];
    this.values = series.map(() => []);
    this.frame = 0;
    this.when = el("span");
    this.told = series.map((_each, line) => el("span", { class: `chart-line-${line + 1}` }));
    const minutes = Math.round(seconds / 60);
    const label = `${title} over the last ${minutes} minutes; the values stand beside it`;
    this.place = el("div", { class: "chart-plot", role: "img", "aria-label": label });
    const values = el("p", { class: "chart-value" }, this.when, this.told);
    const caption = el("figcaption", null, el("h3", null, title), values);
    this.figure = el("figure", { class: "chart" }, caption, this.place);
    root.append(this.figure);
    this.plot = new uPlot(this.options(), this.data(), this.place);
    this.watch();
  }

  options() {
    return {
      width: this.place.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { range: () => this.span() },
        y: { range: (_plot, _least, most) => [0, this.top(most ?? 0)] },
      },
      axes: [this.timeAxis(), this.valueAxis()],
      series: [{}, ...this.series.map((each, index) => this.line(each, index))],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx)] },
    };
  }

  timeAxis() {
    const values = (_plot, moments, _axis, _space, step) =>
      moments.map((seconds) => (step < 60 ? CLOCK : MINUTE).format(seconds * 1000));
    return { ...this.axis(), values, space: 80 };
  }

  valueAxis() {
    const [{ unit, format }] = this.series;
    const incrs = unit.startsWith("B") ? { incrs: POWERS_OF_TWO } : {};
    const values = (_plot, numbers) => numbers.map((number) => format(number));
    return { ...this.axis(), ...incrs, size: AXIS_WIDTH, values };
  }

  axis() {
    const grid = { stroke: () => this.colour("--line"), width: 1 };
    const stroke = () => this.colour("--muted");
    return { stroke, font: "12px system-ui, sans-serif", grid, ticks: grid };
  }

  line({ label, ceiling }, index) {
    const { colour, dash } = STYLES[index];
    const stroke = () => this.colour(colour);
    return { label, stroke, width: 2, dash, auto: !ceiling, points: { show: false } };
  }

  /** Where the axis ends: above the values, and above a ceiling that they come near to. */
  top(most) {
    const lasts = this.series.map(({ ceiling }, line) => ceiling && this.values[line].at(-1));
    const ceilings = lasts.map((last) => last || 0);
    const near = ceilings.filter((ceiling) => ceiling < most * NEAR);
    return Math.max(most, ...near, this.series[0].least ?? 1) * HEADROOM;
  }

  colour(name) {
    return getComputedStyle(this.figure).getPropertyValue(name).trim();
  }

  /** Draw anew when the width or the colours of the page change. */
  watch() {
    this.resized = new ResizeObserver(() => {
      const width = this.place.clientWidth;
      if (width > 0) this.plot.setSize({ width, height: HEIGHT });
    });
    this.resized.observe(this.place);
    this.redraw = () => this.plot.redraw(false);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", this.redraw);
    this.themed = new MutationObserver(this.redraw);
    const attributeFilter = ["data-theme"];
    this.themed.observe(document.documentElement, { attributes: true, attributeFilter });
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.resized.disconnect();
    this.themed.disconnect();
    this.dark.removeEventListener("change", this.redraw);
    this.plot.destroy();
    this.figure.remove();
  }

  push(timeMs, values) {
    this.times.push(timeMs / 1000);
    this.values.forEach((kept, index) => kept.push(values[index] ?? null));
    while (this.times[0] < timeMs / 1000 - this.seconds) this.forgetFirst();
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.plot.setData(this.data());
      this.tell(this.plot.cursor.idx);
    });
  }

  forgetFirst() {
    this.times.shift();
    for (const kept of this.values) kept.shift();
  }

  data() {
    return [this.times, ...this.values];
  }

  span() {
    const last = this.times.at(-1) ?? Date.now() / 1000;
    return [Math.min(this.times[0] ?? last, last - LEAST_SECONDS), last];
  }

  /** Say the values at the pointer, or else the last ones and the greatest. */
  tell(index) {
    if (!this.times.length) return;
    const pointed = index !== null && index !== undefined && index < this.times.length;
    const at = pointed ? index : this.times.length - 1;
    this.series.forEach((each, line) => {
      this.told[line].textContent = this.said(each, this.values[line], at, pointed);
    });
    this.when.textContent = pointed ? `at ${CLOCK.format(this.times[at] * 1000)}` : "";
  }

  said({ label, format, ceiling }, values, at, pointed) {
    const told = pointed ? at : values.findLastIndex((value) => value !== null);
    const value = values[told] ?? null;
    if (value === null) return pointed && !ceiling ? `${label} not told` : "";
    // Such as when the session has ended.
    if (told < at) return `${label} last ${format(value)}`;
    if (pointed || ceiling) return `${label} ${format(value)}`;
    const most = values.reduce((greatest, each) => Math.max(greatest, each ?? 0), 0);
    return `${label} ${format(value)} (most ${format(most)})`;
  }
}
