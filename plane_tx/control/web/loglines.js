/** The last lines of a log, as many as there is room for, and which of them a search finds. */

import { shortened } from "./plaintext.js";

/** A string takes up to so many bytes for each of its characters. */
const BYTES_A_CHARACTER = 2;

/**
 * @typedef {object} Line
 * @property {number} serial counts all lines that ever came
 * @property {number | null} at when it came, in ms since epoch
 * @property {"stdout" | "stderr" | "note"} stream a note is the page's own
 * @property {string} text
 * @property {number} left how many of its characters are not kept
 * @property {boolean} hit whether the search finds it
 * @property {number} height in pixels
 * @property {number} layout for which layout of the window the height was measured
 */

export class LogLines {
  /**
   * @param {number} mostLines
   * @param {number} mostBytes
   */
  constructor(mostLines, mostBytes) {
    this.mostLines = mostLines;
    this.mostBytes = mostBytes;
    /** @type {Line[]} */
    this.kept = [];
    this.bytes = 0;
    this.came = 0;
    this.dropped = 0;
    this.hits = 0;
    /** @type {RegExp | null} */
    this.pattern = null;
  }

  /** @param {{time: number | null, stream: string, text: string}} told as the server tells it */
  add({ time, stream, text }) {
    this.keep({ at: time, stream, ...shortened(text) });
  }

  /** @param {Pick<Line, "at" | "stream" | "text" | "left">} line */
  keep({ at, stream, text, left }) {
    const hit = this.finds(text);
    this.kept.push({ serial: this.came, at, stream, text, left, hit, height: 0, layout: -1 });
    this.came += 1;
    this.bytes += text.length * BYTES_A_CHARACTER;
    if (hit) this.hits += 1;
    while (this.kept.length > this.mostLines || this.bytes > this.mostBytes) this.drop();
  }

  drop() {
    const line = this.kept.shift();
    this.bytes -= line.text.length * BYTES_A_CHARACTER;
    this.dropped += 1;
    if (line.hit) this.hits -= 1;
  }

  /** Find the lines with `words` in them, in large or small letters; none for no words. */
  search(words) {
    // A pattern of a user's own could take for ever on a line that was made for it.
    const literal = words.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    this.pattern = words ? new RegExp(literal, "iu") : null;
    for (const line of this.kept) line.hit = this.finds(line.text);
    this.hits = this.kept.filter((line) => line.hit).length;
  }

  finds(text) {
    return this.pattern !== null && this.pattern.test(text);
  }

  /** The place of the line of this serial, or of the first one kept if it was dropped. */
  indexOf(serial) {
    if (!this.kept.length) return 0;
    return Math.min(Math.max(serial - this.kept[0].serial, 0), this.kept.length - 1);
  }

  /** How many hits there are up to `line`, and with it. */
  rank(line) {
    const until = this.indexOf(line.serial);
    let rank = 0;
    for (let index = 0; index <= until; index += 1) if (this.kept[index].hit) rank += 1;
    return rank;
  }

  /**
   * The next hit from `index` on, and at the end from the start again; backwards if `step` is -1.
   * @returns {Line | null}
   */
  hitFrom(index, step) {
    const { length } = this.kept;
    for (let tried = 0; tried < length; tried += 1) {
      const line = this.kept[(((index + tried * step) % length) + length) % length];
      if (line.hit) return line;
    }
    return null;
  }
}
