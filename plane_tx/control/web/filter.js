/** What the filter box says, as a test of rows: words, and terms such as `status:ready`. */

import { groupOf } from "./statuses.js";

const FIELDS = {
  status: (row) => [row.status, groupOf(row.status)],
  reason: (row) => [row.reason],
  id: (row) => [row.id],
  key: (row) => [row.key?.name],
  namespace: (row) => [row.key?.namespace],
  user: (row) => [row.user],
  app: (row) => [row.app],
  image: (row) => [row.image],
  label: (row) => Object.entries(row.labels).map(([name, value]) => `${name}=${value}`),
};

/** A term: `-` before it, a field and a colon, and a value that may stand in quotes. */
const TERM = /(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/g;

/** What words are looked for in, made once for each row. @type {WeakMap<object, string>} */
const texts = new WeakMap();

/**
 * Read the filter box.
 * @param {string} text
 * @returns {{test: (row: any) => boolean, asksForEnded: boolean, isEmpty: boolean}}
 */
export function parseFilter(text) {
  const terms = [...text.toLowerCase().matchAll(TERM)].map(readTerm).filter(isWhole);
  return {
    test: (row) => terms.every((term) => matches(term, row) !== term.not),
    asksForEnded: terms.some((term) => term.field === "status" && !term.not && isEnd(term.value)),
    isEmpty: terms.length === 0,
  };
}

function readTerm([, minus, field, quoted, word]) {
  const value = quoted ?? word;
  // "http://x" is a word, and no term of a field named http.
  if (field && !Object.hasOwn(FIELDS, field))
    return { not: minus !== "", value: `${field}:${value}` };
  return { not: minus !== "", field, value };
}

/** Whether there is more than the name of a field, to which a value is yet to be typed. */
function isWhole({ field, value }) {
  return field || !(value.endsWith(":") && Object.hasOwn(FIELDS, value.slice(0, -1)));
}

function matches({ field, value }, row) {
  if (!field) return textOf(row).includes(value);
  return FIELDS[field](row).some((told) => told?.toLowerCase().startsWith(value));
}

function isEnd(value) {
  return value !== "" && ["terminated", "ended"].some((status) => status.startsWith(value));
}

function textOf(row) {
  let text = texts.get(row);
  if (text === undefined) {
    const told = [row.id, row.key?.name, row.key?.namespace, row.user, row.app, row.image];
    text = [...told, row.status, row.reason, ...FIELDS.label(row)].join("\n").toLowerCase();
    texts.set(row, text);
  }
  return text;
}
