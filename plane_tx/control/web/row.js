/** One row of the table of sessions, on the screen. */

import { el } from "./format.js";
import { groupOf } from "./statuses.js";

export class RowView {
  /** The row that was drawn. @type {any} */
  row = null;
  index = -1;

  /** @param {import("./columns.js").Column[]} columns */
  constructor(columns) {
    this.cells = columns.map((column) => column.make());
    this.element = el(
      "tr",
      null,
      columns.map((column, place) => cellOf(column, this.cells[place])),
    );
    this.link = this.element.querySelector("a");
  }

  /**
   * Draw what differs from what was drawn before.
   * @param {any} row
   * @param {number} index its place among all that match
   */
  draw(row, index) {
    if (index !== this.index) {
      // The head is the first.
      this.element.setAttribute("aria-rowindex", String(index + 2));
      this.index = index;
    }
    if (row === this.row) return;
    this.row = row;
    this.element.dataset.group = groupOf(row.status);
    for (const cell of this.cells) cell.draw?.(row);
  }

  /** @param {number} now the server's time in ms */
  tick(now) {
    for (const cell of this.cells) cell.tick?.(this.row, now);
  }

  /** @param {import("./samples.js").Samples | undefined} samples */
  sample(samples) {
    for (const cell of this.cells) cell.sample?.(samples);
  }
}

function cellOf(column, cell) {
  if (column.id === "id") return el("th", { class: "col-id", scope: "row" }, cell.parts);
  return el("td", { class: `col-${column.id}` }, cell.parts);
}
