/** What a session wrote, made short and harmless enough to be shown as text. */

/** What of one text is kept and shown. */
const MOST_CHARACTERS = 10_000;

/** Escape sequences of terminals (ECMA-48): CSI, strings such as a window's title, and the rest. */
const ESCAPES =
  /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|[ -/]*[0-~])/g;

/** Controls but for the tab, and what turns the direction of writing or breaks a line. */
const UNSEEN = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * What can be seen of `text`: colours are left out, and other controls are shown by a sign.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(ESCAPES, "").replace(UNSEEN, sign);
}

/**
 * The start of a line as it is shown, and how many characters of it are not.
 * @param {string} line
 * @returns {{text: string, left: number}}
 */
export function shortened(line) {
  const left = Math.max(0, line.length - MOST_CHARACTERS);
  const text = visible(left ? copyOfStart(line) : line);
  return { text: text.length > MOST_CHARACTERS ? copyOfStart(text) : text, left };
}

/**
 * The first `most` characters of a name or a sentence as they are shown, and a sign of more.
 * @param {string} text
 * @param {number} most
 */
export function cut(text, most) {
  const shown = visible(text.slice(0, most));
  return text.length > most ? `${shown}…` : shown;
}

/** A slice of a string keeps all of it in memory, so that the start is written anew. */
function copyOfStart(text) {
  const start = new TextEncoder().encode(text.slice(0, MOST_CHARACTERS));
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(start);
}

function sign(character) {
  const code = character.charCodeAt(0);
  // Unicode has pictures of the first controls, and of DEL.
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
}
