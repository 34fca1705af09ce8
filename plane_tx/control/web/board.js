/** What the server's board says, kept as it comes; every view of the page draws from this. */

import { ApiError, stream } from "./api.js";
import { setServerTime } from "./format.js";

/** A timeline that is never cleared would grow for as long as the page is open. */
const MOST_MEASURES = 500;

let measured = 0;

class Board extends EventTarget {
  /** Every session that the server knows, by id. @type {Map<string, any>} */
  rows = new Map();
  /** What the server said of itself. @type {any} */
  hello = null;
  /** @type {any} */
  overview = null;
  /** Whether all that is here is what the server has. */
  up = false;
  /** Why it is not up, as an ApiError. @type {import("./api.js").ApiError | null} */
  error = null;
  /** The sessions told since the last `hello`, until all were. @type {Set<string> | null} */
  told = null;

  /** Follow the server's board for as long as `signal` allows. @param {AbortSignal} signal */
  follow(signal) {
    const onEvent = (name, data) => this.take(name, data);
    return stream("/ctrl/board", { onEvent, onDown: (error) => this.down(error), signal });
  }

  take(name, data) {
    if (data.time) setServerTime(data.time);
    if (name === "hello") this.begin(data);
    else if (name === "sessions") this.apply(data.rows, []);
    else if (name === "complete") this.complete();
    else if (name === "changed") this.apply(data.rows, data.gone);
    else if (name === "overview") this.replace({ overview: data }, "overview");
    else if (name === "state") this.replace({ hello: { ...this.hello, ...data } }, "state");
  }

  begin(hello) {
    this.told = new Set();
    this.replace({ hello, error: null }, "hello");
  }

  /** What was here and was not told again has been forgotten by the server. */
  complete() {
    const { told } = this;
    this.told = null;
    this.apply([], told ? [...this.rows.keys()].filter((id) => !told.has(id)) : []);
    this.replace({ up: true }, "state");
  }

  down(error) {
    const ended = new ApiError("the server ended the connection", 0, "Ended");
    this.replace({ up: false, error: error ?? ended }, "state");
  }

  apply(rows, gone) {
    measure(() => {
      const changed = new Set();
      for (const row of rows) {
        this.rows.set(row.id, row);
        this.told?.add(row.id);
        changed.add(row.id);
      }
      for (const id of gone) this.rows.delete(id);
      this.tell("rows", { changed, gone: new Set(gone) });
    });
  }

  replace(fields, event) {
    Object.assign(this, fields);
    this.tell(event);
  }

  tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/**
 * Do `work`, and note how long it took as a `board-update` of the browser's timeline.
 * @param {() => void} work
 */
export function measure(work) {
  const start = performance.now();
  work();
  measured += 1;
  if (measured % MOST_MEASURES === 0) performance.clearMeasures("board-update");
  performance.measure("board-update", { start, end: performance.now() });
}

/**
 * Fires `rows` (detail: the Sets `changed` and `gone` of ids), `hello`, `overview`, and `state`
 * when the engine, the draining or the connection to the server changed.
 */
export const board = new Board();
