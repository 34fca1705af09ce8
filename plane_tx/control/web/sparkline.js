/** A line of the last samples, small enough for a cell of a table. */

import { svg } from "./format.js";

const WIDTH = 48;
const HEIGHT = 16;

/** How many samples a line shows. */
export const SHOWN = 30;

export class Sparkline {
  line = svg("polyline", { class: "spark-line" });
  area = svg("polygon", { class: "spark-area" });
  element = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" },
    this.area,
    this.line,
  );

  /**
   * Draw `values`, the latest at the right; null is a gap that is passed over.
   * @param {(number | null)[]} values
   * @param {number} top what the upper edge means
   */
  draw(values, top) {
    const step = WIDTH / (SHOWN - 1);
    const left = WIDTH - step * (values.length - 1);
    const points = [];
    values.forEach((value, index) => {
      if (value === null) return;
      const y = HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, value / top);
      points.push([(left + index * step).toFixed(1), y.toFixed(1)]);
    });
    this.line.setAttribute("points", points.map((point) => point.join(",")).join(" "));
    this.area.setAttribute("points", below(points));
  }
}

function below(points) {
  if (points.length < 2) return "";
  const first = `${points[0][0]},${HEIGHT}`;
  const last = `${points.at(-1)[0]},${HEIGHT}`;
  return [first, ...points.map((point) => point.join(",")), last].join(" ");
}
