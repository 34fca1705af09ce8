/** Moments to the millisecond. */

import { el } from "./format.js";

const CLOCK = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});
const WHOLE = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

/** @param {number | null} ms since epoch */
export function preciseClock(ms) {
  return ms === null ? "" : CLOCK.format(ms);
}

/** The same as an element that knows its date and zone. @param {number} ms */
export function preciseTime(ms) {
  const machine = { datetime: new Date(ms).toISOString(), title: WHOLE.format(ms) };
  return el("time", machine, preciseClock(ms));
}
