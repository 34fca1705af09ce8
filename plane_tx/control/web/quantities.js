/** Quantities and commands as people write them: "15 min", "512 MiB", `python -m "my app"`. */

const SECONDS = new Map([
  ["", 1],
  ["s", 1],
  ["sec", 1],
  ["m", 60],
  ["min", 60],
  ["h", 3600],
  ["d", 86_400],
]);

const BYTES = new Map([
  ["", 1],
  ["b", 1],
  ["k", 2 ** 10],
  ["kb", 1e3],
  ["kib", 2 ** 10],
  ["m", 2 ** 20],
  ["mb", 1e6],
  ["mib", 2 ** 20],
  ["g", 2 ** 30],
  ["gb", 1e9],
  ["gib", 2 ** 30],
]);

const PART = /(\d+(?:\.\d+)?)\s*([a-z]*)/g;
const WORD = /(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/g;

/** Seconds, as in "90", "15 min" or "1 h 30 m"; null for nothing. Throws `RangeError`. @param {string} text */
export function parseSeconds(text) {
  return parse(text, SECONDS, 'expected a time such as "90 s", "15 min" or "2 h"');
}

/** Bytes, as in "512 MiB"; null for nothing. Throws `RangeError`. @param {string} text */
export function parseBytes(text) {
  const size = parse(text, BYTES, 'expected a size such as "512 MiB" or "2 GB"');
  return size === null ? null : Math.round(size);
}

/** A number; null for nothing. Throws `RangeError`. @param {string} text */
export function parseNumber(text) {
  return parse(text, new Map([["", 1]]), 'expected a number such as "1.5"');
}

function parse(text, units, expected) {
  const said = text.trim().toLowerCase();
  if (!said) return null;
  const parts = [...said.matchAll(PART)];
  const rest = said.replaceAll(PART, "").trim();
  if (rest || !parts.length || parts.some(([, , unit]) => !units.has(unit))) {
    throw new RangeError(expected);
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * units.get(unit), 0);
}

/**
 * The words of a command as a shell would part them, with its quotes and backslashes and nothing
 * else of it; null for none. Throws `RangeError`.
 * @param {string} text
 */
export function parseWords(text) {
  const rest = text.replaceAll(WORD, "").trim();
  if (rest) throw new RangeError(`expected quotes in pairs, got ${rest} alone`);
  const words = [...text.matchAll(WORD)].map(([word]) => unquoted(word));
  return words.length ? words : null;
}

function unquoted(word) {
  return word.replaceAll(
    /\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/g,
    (_all, escaped, double, single) => {
      if (double !== undefined) return double.replaceAll(/\\(["\\])/g, "$1");
      return escaped ?? single;
    },
  );
}
