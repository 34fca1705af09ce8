/** The columns of the table of sessions: what each is sorted by, and how its cells are drawn. */

import { ago, bytes, count, countdown, el, say, time } from "./format.js";
import { cut } from "./plaintext.js";
import { Sparkline } from "./sparkline.js";
import { groupOf, placeOf, toneOf } from "./statuses.js";

/** A line of nearly nothing is not to look like a busy one. */
const LEAST_TOP_PERCENT = 10;
const LEAST_TOP_BYTES = 32 * 1024 * 1024;

/** What is shown of a name or of all labels, in a cell and when it is pointed at. */
const LONGEST = 200;
const LONGEST_TITLE = 2000;

/** A session that ends within so many seconds is marked. */
const SOON_SECONDS = 30;

/**
 * @typedef {object} Cell
 * @property {(Node | string)[]} parts
 * @property {(row: any) => void} [draw] called when the row has changed
 * @property {(row: any, now: number) => void} [tick] called every second as well
 * @property {(samples: import("./samples.js").Samples | undefined) => void} [sample]
 */

/**
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {(row: any, samples?: import("./samples.js").Samples) => string | number | null} sortBy
 * @property {() => Cell} make
 * @property {string} [note] what its heading says when it is pointed at
 */

/** @type {Column[]} */
export const COLUMNS = [
  { id: "status", title: "Status", sortBy: (row) => placeOf(row.status), make: statusCell },
  { id: "id", title: "Session", sortBy: (row) => row.id, make: idCell },
  { id: "key", title: "Key", sortBy: (row) => lower(keyText(row)), make: textCell(keyText) },
  {
    id: "user",
    title: "User",
    sortBy: (row) => lower(row.user),
    make: textCell((row) => row.user),
  },
  {
    id: "app",
    title: "App or image",
    sortBy: (row) => lower(whatRuns(row)),
    make: textCell(whatRuns),
  },
  {
    id: "labels",
    title: "Labels",
    sortBy: (row) => lower(labelText(row)),
    make: textCell(labelText),
  },
  { id: "uses", title: "In use", sortBy: (row) => row.connections + row.leases, make: usesCell },
  { id: "ends", title: "Ends in", sortBy: (row) => row.ends?.at ?? row.ended_at, make: endsCell },
  {
    id: "cpu",
    title: "CPU",
    sortBy: (_row, samples) => samples?.cpu.at(-1) ?? null,
    make: cpuCell,
    note: "Sampled of the rows in sight; sorts by the last sample",
  },
  {
    id: "memory",
    title: "Memory",
    sortBy: (_row, samples) => samples?.memory.at(-1) ?? null,
    make: memoryCell,
    note: "Sampled of the rows in sight; sorts by the last sample",
  },
  { id: "age", title: "Age", sortBy: (row) => -row.created_at, make: ageCell },
];

/** Say what of it a cell has room for, and show more when it is pointed at. */
function sayInFull(node, text) {
  say(node, cut(text, LONGEST));
  const title = cut(text, LONGEST_TITLE);
  if (node.title !== title) node.title = title;
}

function lower(text) {
  return text ? text.toLowerCase() : null;
}

function keyText(row) {
  if (!row.key) return null;
  return row.key.namespace ? `${row.key.namespace}/${row.key.name}` : row.key.name;
}

function whatRuns(row) {
  return row.app ?? row.image;
}

function labelText(row) {
  const labels = Object.entries(row.labels).map(([name, value]) => `${name}=${value}`);
  return labels.join(" ") || null;
}

/** @param {(row: any) => string | null} textOf */
function textCell(textOf) {
  return () => {
    const text = el("span");
    return { parts: [text], draw: (row) => sayInFull(text, textOf(row) ?? "") };
  };
}

function statusCell() {
  const status = el("span", { class: "status" });
  const detail = el("span", { class: "detail" });
  return {
    parts: [status, " ", detail],
    draw(row) {
      status.dataset.tone = toneOf(row);
      say(status, row.status);
      const why = row.detail ?? endText(row);
      sayInFull(detail, why);
      if (row.failure) detail.title = cut(row.failure, LONGEST_TITLE);
    },
  };
}

/** "oom", or "exited (3)". */
function endText({ reason, exit_code: code }) {
  return reason === "exited" && code !== null ? `exited (${code})` : (reason ?? "");
}

function idCell() {
  const link = el("a", { class: "id", tabindex: "-1" });
  // Narrow screens have no columns for these.
  const beside = el("span", { class: "beside" });
  return {
    parts: [link, " ", beside],
    draw(row) {
      link.href = `#/s/${row.id}`;
      say(link, row.id);
      const told = [keyText(row), row.user, whatRuns(row)].filter(Boolean);
      say(beside, told.map((text) => cut(text, LONGEST)).join(" · "));
    },
  };
}

function usesCell() {
  const text = el("span");
  return {
    parts: [text],
    draw(row) {
      const leases = row.leases ? ` + ${row.leases}` : "";
      say(text, groupOf(row.status) === "ended" ? "" : `${count(row.connections)}${leases}`);
      text.title = `Connections: ${row.connections}, leases: ${row.leases}`;
    },
  };
}

function endsCell() {
  const left = el("span", { class: "left" });
  const cause = el("span", { class: "detail" });
  return {
    parts: [left, " ", cause],
    draw(row) {
      say(cause, row.ends ? row.ends.cause : "");
      left.title = row.ends ? time(row.ends.at) : time(row.ended_at);
    },
    tick(row, now) {
      const seconds = row.ends ? (row.ends.at - now) / 1000 : Infinity;
      left.classList.toggle("soon", seconds < SOON_SECONDS);
      say(left, whatIsLeft(row, seconds, now));
    },
  };
}

function whatIsLeft(row, seconds, now) {
  if (row.ends) return countdown(seconds);
  if (row.ended_at) return ago(row.ended_at, now);
  if (groupOf(row.status) !== "ready") return "";
  return row.connections + row.leases > 0 ? "in use" : "never";
}

function cpuCell() {
  return sampleCell(
    "cpu",
    (percent) => `${percent < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`,
    (samples) => Math.max(LEAST_TOP_PERCENT, ...samples.cpu.map((value) => value ?? 0)),
  );
}

function memoryCell() {
  return sampleCell("memory", bytes, (samples) =>
    Math.max(LEAST_TOP_BYTES, ...samples.memory.map((value) => 1.25 * (value ?? 0))),
  );
}

/** A line and its last value. */
function sampleCell(field, format, topOf) {
  const line = new Sparkline();
  const value = el("span", { class: "value" });
  return {
    parts: [el("div", { class: "sampled" }, line.element, value)],
    sample(samples) {
      const last = samples?.[field].at(-1) ?? null;
      line.draw(samples?.[field] ?? [], samples ? topOf(samples) : 1);
      say(value, last === null ? "" : format(last));
    },
  };
}

function ageCell() {
  const text = el("span");
  return {
    parts: [text],
    draw(row) {
      text.title = time(row.created_at);
    },
    tick(row, now) {
      const until = row.ended_at ?? now;
      say(text, countdown(Math.floor((until - row.created_at) / 1000)));
    },
  };
}
