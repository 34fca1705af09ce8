/** What a session is, in its heading: status, key, user, what runs in it, labels and limits. */

import { bytes, counted, duration, el } from "./format.js";
import { cut } from "./plaintext.js";
import { preciseTime } from "./precise.js";
import { toneOf } from "./statuses.js";

/** Labels that are shown; there may be very many, and very long ones. */
const MOST_LABELS = 20;
const LONGEST = 200;
/** The server has cut what went wrong at 300 characters, and says all of it further down. */
const LONGEST_DETAIL = 320;

/**
 * The status in words, with what is being done or why it ended.
 * @param {any} row of the board
 */
export function statusOf(row) {
  const beside = row.detail ?? row.failure ?? (row.reason && `reason ${row.reason}`);
  return [
    el("span", { class: "status", "data-tone": toneOf(row) }, row.status),
    beside && el("span", { class: "status-detail" }, cut(beside, LONGEST_DETAIL)),
  ].filter(Boolean);
}

/** The last status of a session as the board has it. @param {any} session as /ctrl/b/{id} has it */
export function rowOf(session) {
  const reason = session.status_history.at(-1).termination_reason ?? null;
  const { status, detail, exit_code, failure } = session;
  return { status, detail, reason, exit_code, failure: failure?.message ?? null };
}

/** Terms and what they are. @param {any} session as GET /ctrl/b/{id} tells it */
export function factsOf(session) {
  return factsIn(session)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)));
}

function factsIn(session) {
  const { key, user, app, image, subdomain, created_at: created, traffic } = session;
  return [
    ["Key", key.namespace ? short(`${key.namespace}/${key.name}`) : short(key.name)],
    ["Tag", short(key.tag)],
    ["User", user === null ? null : short(user)],
    ["App", app === null ? null : short(app)],
    ["Image", image === null ? null : short(image)],
    ["Subdomain", subdomain === null ? null : short(subdomain)],
    ["Created", preciseTime(created)],
    ["Limits", limitsOf(session)],
    ["Traffic", passed(traffic)],
    ["Labels", labelsOf(session.labels)],
  ];
}

function passed({ requests, bytes_from_clients: from, bytes_to_clients: to }) {
  return `${counted(requests, "request")}, ${bytes(from)} in, ${bytes(to)} out`;
}

function limitsOf({ limits, resource_limits: resources }) {
  const said = [
    limits.max_idle_seconds !== null && `idle ${duration(limits.max_idle_seconds)}`,
    limits.lifetime_limit_seconds !== null && `lifetime ${duration(limits.lifetime_limit_seconds)}`,
    resources.cpus !== null && counted(resources.cpus, "CPU"),
    resources.memory_limit_bytes !== null && `memory ${bytes(resources.memory_limit_bytes)}`,
    resources.pids_limit !== null && counted(resources.pids_limit, "process", "processes"),
  ];
  return said.filter(Boolean).join(", ") || "none";
}

function labelsOf(labels) {
  const told = Object.entries(labels);
  if (!told.length) return null;
  const shown = told.slice(0, MOST_LABELS).map(([name, value]) => short(`${name}=${value}`));
  if (told.length > shown.length) shown.push(`and ${told.length - shown.length} more`);
  const items = shown.map((text) => el("li", null, text));
  return el("ul", { class: "labels" }, items);
}

function short(text) {
  return cut(text, LONGEST);
}
