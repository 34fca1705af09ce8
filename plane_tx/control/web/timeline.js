/** The life of one session: the phases of its boot as a bar, and its statuses with their times. */

import { duration, el, serverNow } from "./format.js";
import { visible } from "./plaintext.js";
import { preciseTime } from "./precise.js";
import { groupOf, toneOf } from "./statuses.js";

/** The phases of a boot in their order, and what is said of each. */
const PHASES = [
  ["pull", "image looked up and pulled"],
  ["create", "container or process made"],
  ["start", "started"],
  ["ready", "waited for its first answer"],
];

/** A part of the bar that takes less of it has no room for its name. */
const ROOM_FOR_NAME = 0.16;

export class Timeline {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.boot = el("div", { class: "boot" });
    this.history = el("ol", { class: "history" });
    root.replaceChildren(this.boot, this.history);
    /** Draws the phase that is under way once more. @type {() => void} */
    this.tick = () => {};
  }

  /** @param {any} session as GET /ctrl/b/{id} tells it */
  show(session) {
    this.tick = () => this.boot.replaceChildren(...bootBar(session, serverNow()));
    this.tick();
    if (unfinished(session)?.left !== null) this.tick = () => {};
    this.history.replaceChildren(...session.status_history.map((entry) => entryOf(entry, session)));
  }
}

/**
 * The phase that a boot is in, or was in when the session ended; null when it came to its end.
 * @returns {{name: string, entered: number, left: number | null} | null} `left`: when it ended
 */
function unfinished({ status_history: history, boot_seconds: seconds }) {
  const place = history.findLastIndex(({ status }) => groupOf(status) === "booting");
  const entry = history[place];
  const next = history[place + 1];
  if (!entry || next?.status === "ready") return null;
  const started = seconds.create === null ? "create" : "start";
  const name = { loading: "pull", starting: started, waiting: "ready" }[entry.status];
  return name ? { name, entered: entry.time, left: next?.time ?? null } : null;
}

/** Each phase that has begun, with its seconds, of which the last may go on until `now`. */
function phasesOf(session, now) {
  const current = unfinished(session);
  return PHASES.map(([name, words]) => {
    const told = session.boot_seconds[name];
    if (name !== current?.name) return { name, words, seconds: told, state: "" };
    const before = name === "start" ? session.boot_seconds.create : 0;
    const seconds = Math.max(0, ((current.left ?? now) - current.entered) / 1000 - before);
    return { name, words, seconds, state: current.left === null ? "so far" : "until it ended" };
  }).filter(({ seconds }) => seconds !== null);
}

function bootBar(session, now) {
  const phases = phasesOf(session, now);
  if (!phases.length) return [el("p", { class: "nothing-told" }, "Nothing of its boot is known.")];
  const whole = phases.reduce((sum, { seconds }) => sum + seconds, 0);
  const state = phases.at(-1).state || "in all";
  const said = phases.map(({ name, seconds }) => `${name} ${duration(seconds)}`).join(", ");
  const label = `Boot, ${duration(whole)} ${state}: ${said}`;
  const parts = phases.map((phase) => part(phase, whole));
  const sum = el("li", null, el("b", null, duration(whole)), ` ${state}`);
  return [
    el("div", { class: "boot-bar", role: "img", "aria-label": label }, parts),
    el("ul", { class: "boot-key" }, phases.map(keyOf), sum),
  ];
}

function part({ name, seconds, state }, whole) {
  const share = whole > 0 ? seconds / whole : 0;
  const classes = `boot-part boot-${name}${state ? " boot-unfinished" : ""}`;
  const element = el("span", { class: classes }, share > ROOM_FOR_NAME && name);
  element.style.flexGrow = String(Math.max(share, 0.004));
  return element;
}

function keyOf({ name, words, seconds, state }) {
  return el(
    "li",
    { title: words },
    el("span", { class: `boot-swatch boot-${name}`, "aria-hidden": "true" }),
    `${name} `,
    el("b", null, duration(seconds)),
    state && ` ${state}`,
  );
}

function entryOf(entry, session) {
  const since = (entry.time - session.created_at) / 1000;
  return el(
    "li",
    null,
    preciseTime(entry.time),
    el("span", { class: "since" }, since > 0 ? `+${duration(since)}` : ""),
    el("span", { class: "status", "data-tone": toneOfEntry(entry, session) }, entry.status),
    el("span", { class: "history-words" }, visible(wordsOf(entry, session))),
  );
}

function toneOfEntry({ status, termination_reason: reason }, session) {
  const last = status === session.status;
  return toneOf({ status, reason, exit_code: last ? session.exit_code : null });
}

function wordsOf(entry, session) {
  const code = entry.status === "terminated" ? session.exit_code : null;
  const said = [
    entry.termination_reason && `reason ${entry.termination_reason}`,
    entry.termination_kind && `${entry.termination_kind} termination`,
    entry.by && `by ${entry.by}`,
    code !== null && `exit code ${code}`,
    entry.status === "terminated" && session.oom && "out of memory",
  ];
  return said.filter(Boolean).join(", ");
}
