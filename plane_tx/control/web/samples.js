/** What the sessions that are looked at take of the box, as the server samples them. */

import { stream } from "./api.js";
import { SHOWN } from "./sparkline.js";

/** How many sessions the server takes in one question. */
export const MOST_WATCHED = 50;

/** Scrolling, and sessions that come and go, change what is in sight more often than is asked. */
const SETTLE_MS = 400;
const LEAST_APART_MS = 2000;

/**
 * @typedef {object} Samples
 * @property {(number | null)[]} cpu percent of one processor, oldest first
 * @property {(number | null)[]} memory bytes, oldest first
 */

export class SampleFeed {
  /** @type {Map<string, Samples>} */
  samples = new Map();
  /** The ids that are to be asked for, and that are, as parts of a URL. */
  wanted = "";
  asked = "";
  askedAt = -LEAST_APART_MS;
  /** @type {AbortController | null} */
  asking = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  settling = undefined;

  /** @param {(id: string) => void} onSample */
  constructor(onSample) {
    this.onSample = onSample;
  }

  /** @param {string} id @returns {Samples | undefined} */
  of(id) {
    return this.samples.get(id);
  }

  /** Ask for these sessions from now on, and for no others. @param {string[]} ids */
  watch(ids) {
    this.wanted = [...ids]
      .sort()
      .map((id) => `id=${id}`)
      .join("&");
    if (this.wanted === this.asked || this.settling !== undefined) return;
    const rest = LEAST_APART_MS - (performance.now() - this.askedAt);
    this.settling = setTimeout(() => this.settle(), Math.max(SETTLE_MS, rest));
  }

  /** Forget what there is of sessions that are no more. @param {Iterable<string>} ids */
  forget(ids) {
    for (const id of ids) this.samples.delete(id);
  }

  settle() {
    this.settling = undefined;
    if (this.wanted === this.asked) return;
    this.asked = this.wanted;
    this.askedAt = performance.now();
    this.asking?.abort();
    if (this.asked) this.ask();
  }

  ask() {
    this.asking = new AbortController();
    const onEvent = (_name, sample) => this.take(sample);
    stream(`/ctrl/stats?${this.asked}&stream=true`, { onEvent, signal: this.asking.signal });
  }

  take(sample) {
    const { backend_id: id } = sample;
    const known = this.samples.get(id) ?? { cpu: [], memory: [] };
    push(known.cpu, sample.cpu_percent);
    push(known.memory, sample.memory_bytes);
    this.samples.set(id, known);
    this.onSample(id);
  }
}

function push(values, value) {
  values.push(value ?? null);
  if (values.length > SHOWN) values.shift();
}
