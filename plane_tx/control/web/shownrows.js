/** The rows of the table that are on the screen, with room for those above and below them. */

import { el, serverNow } from "./format.js";
import { RowView } from "./row.js";

export class ShownRows {
  body = el("tbody");
  /** What is on the screen, by id. @type {Map<string, RowView>} */
  views = new Map();
  /** Views that stand for no session now; to draw in one costs less than to make one. */
  spare = [];

  /**
   * @param {import("./columns.js").Column[]} columns
   * @param {(id: string) => import("./samples.js").Samples | undefined} samplesOf
   * @param {() => void} keepFocus called before the row that has the focus is removed
   */
  constructor(columns, samplesOf, keepFocus) {
    this.columns = columns;
    this.samplesOf = samplesOf;
    this.keepFocus = keepFocus;
    this.above = spacer();
    this.below = spacer();
  }

  get elements() {
    return [this.above.element, this.body, this.below.element];
  }

  /**
   * Remove every row but these, and leave room for those that are not drawn.
   * @param {any[]} rows
   * @param {number} above how high the rows before them would be
   * @param {number} below
   */
  clear(rows, above, below) {
    const wanted = new Set(rows.map((row) => row.id));
    const focused = this.idOf(document.activeElement);
    // First of all: to focus has the page laid out, and half of a table would be scrolled back.
    if (focused !== null && !wanted.has(focused)) this.keepFocus();
    this.drop(wanted);
    this.above.setHeight(above);
    this.below.setHeight(below);
  }

  /**
   * Draw `rows`, after all others were removed, without moving the one that has the focus.
   * @param {any[]} rows
   * @param {number} first the place of the first of them among all
   * @param {string | null} activeId the row that the keyboard is at
   */
  show(rows, first, activeId) {
    const { activeElement } = document;
    const held = this.body.contains(activeElement) ? activeElement.closest("tr") : null;
    const now = serverNow();
    let next = this.body.firstChild;
    rows.forEach((row, place) => {
      const { element } = this.draw(row, first + place, now);
      if (element === held) next = this.clearUpTo(held, next);
      if (element === next) next = next.nextSibling;
      else this.body.insertBefore(element, next);
    });
    this.setTabStop(this.views.has(activeId) ? activeId : rows[0]?.id);
  }

  draw(row, index, now) {
    let view = this.views.get(row.id);
    if (!view) {
      view = this.spare.pop() ?? new RowView(this.columns);
      this.views.set(row.id, view);
      view.sample(this.samplesOf(row.id));
    }
    view.draw(row, index);
    view.tick(now);
    return view;
  }

  /** Put what stands between here and the row that must not be moved at the end, to be placed. */
  clearUpTo(held, next) {
    let each = next;
    while (each !== held) {
      const after = each.nextSibling;
      this.body.append(each);
      each = after;
    }
    return held;
  }

  drop(wanted) {
    for (const [id, view] of this.views) {
      if (wanted.has(id)) continue;
      view.element.remove();
      this.views.delete(id);
      this.spare.push(view);
    }
  }

  /** Have the key Tab stop at this row and no other. @param {string} stop */
  setTabStop(stop) {
    for (const [id, view] of this.views) view.link.tabIndex = id === stop ? 0 : -1;
  }

  /** Whether there was a row to focus. @param {string} id */
  focus(id) {
    const view = this.views.get(id);
    view?.link.focus({ preventScroll: true });
    return view !== undefined;
  }

  /** The session whose link this is. @param {EventTarget} link */
  idOf(link) {
    for (const [id, view] of this.views) if (view.link === link) return id;
    return null;
  }

  tick() {
    const now = serverNow();
    for (const view of this.views.values()) view.tick(now);
  }

  /** @param {string} id */
  sample(id) {
    this.views.get(id)?.sample(this.samplesOf(id));
  }
}

function spacer() {
  // Without a colspan, which would count columns that a narrow screen hides.
  const cell = el("td");
  const row = el("tr", null, cell);
  const element = el("tbody", { class: "spacer", "aria-hidden": "true", hidden: true }, row);
  return {
    element,
    setHeight(height) {
      element.hidden = height <= 0;
      cell.style.height = `${height}px`;
    },
  };
}
