/** How numbers, times and elements are made for the page; text only ever becomes text nodes. */

const SVG = "http://www.w3.org/2000/svg";
const NOTHING = "–";

let serverOffsetMs = 0;

/** @param {number} ms the server's time now */
export function setServerTime(ms) {
  serverOffsetMs = ms - Date.now();
}

/** The server's time in ms since epoch, as far as its last message tells. */
export function serverNow() {
  return Date.now() + serverOffsetMs;
}

/**
 * A span in its two largest units: "450 ms", "4.2 s", "1 m 15 s", "3 d 4 h".
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds < 0.9995) return `${trimmed(seconds * 1000, seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 9.95) return `${trimmed(seconds, 1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return twoUnits(Math.floor(whole / 60), "m", whole % 60, "s");
  const minutes = Math.floor(whole / 60);
  if (minutes < 1440) return twoUnits(Math.floor(minutes / 60), "h", minutes % 60, "m");
  const hours = Math.floor(minutes / 60);
  return twoUnits(Math.floor(hours / 24), "d", hours % 24, "h");
}

function twoUnits(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

function trimmed(value, digits) {
  return String(Number(value.toFixed(digits)));
}

/**
 * A span in whole seconds, so that it ticks evenly: "42 s", "4 m 05 s"; below zero is "0 s".
 * @param {number} seconds
 */
export function countdown(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole >= 3600) return duration(whole);
  return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
}

/** @param {number | null | undefined} n */
export function bytes(n) {
  if (n === null || n === undefined) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = n;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 9.95 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A whole number with its thousands set apart. @param {number | null | undefined} n */
export function count(n) {
  return n === null || n === undefined ? NOTHING : COUNT.format(n);
}

/**
 * So many of something: "1 line", "2 lines".
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function counted(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

const COUNT = new Intl.NumberFormat("en-US");
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/**
 * A moment as a clock shows it here, with its date unless that is today's.
 * @param {number | null | undefined} ms
 */
export function time(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  const clock = CLOCK.format(ms);
  const day = DAY.format(ms);
  return day === DAY.format(serverNow()) ? clock : `${day}, ${clock}`;
}

/**
 * @param {number | null | undefined} ms
 * @param {number} [now]
 */
export function ago(ms, now = serverNow()) {
  if (ms === null || ms === undefined) return NOTHING;
  const seconds = Math.max(0, (now - ms) / 1000);
  return seconds < 1 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

/**
 * An element: `class`, attributes, and listeners as `on: {click}`; absent, null and false are left
 * out, true is an attribute without a value. Strings and numbers become text nodes.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...any} children
 */
export function el(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** The same in SVG. @type {typeof el} */
export function svg(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") listen(element, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter(isThere));
  return element;
}

function isThere(child) {
  return child !== null && child !== undefined && child !== false;
}

function listen(element, listeners) {
  for (const [event, listener] of Object.entries(listeners)) {
    element.addEventListener(event, listener);
  }
}

/** Set a text only when it is another, as every change costs a layout. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Have a screen reader say this when it has a moment. @param {string} text */
export function announce(text) {
  const place = document.getElementById("announcer");
  place.textContent = "";
  // Said again only if the element was empty for a moment.
  setTimeout(() => {
    place.textContent = text;
  }, 50);
}
