/** The statuses of a session in the order of its life, and what the page makes of them. */

/** What the page tells apart; the names stand on its chips. */
export const GROUPS = ["booting", "ready", "ending", "ended"];

const GROUP_OF = new Map([
  ["scheduled", "booting"],
  ["loading", "booting"],
  ["starting", "booting"],
  ["waiting", "booting"],
  ["ready", "ready"],
  ["terminating", "ending"],
  ["hard-terminating", "ending"],
  ["terminated", "ended"],
]);

const ORDER = new Map([...GROUP_OF.keys()].map((status, place) => [status, place]));

/** The ends that nobody wished for. */
const BAD_REASONS = new Set(["failed", "oom", "lost", "startuptimeout"]);

/** @param {string} status */
export function groupOf(status) {
  return GROUP_OF.get(status) ?? "booting";
}

/** @param {string} status */
export function placeOf(status) {
  return ORDER.get(status) ?? -1;
}

/** Whether this session ended, or ends, by a fault. @param {any} row */
export function isFailed(row) {
  return BAD_REASONS.has(row.reason) || Boolean(row.failure) || Boolean(row.exit_code);
}

/** The tone of a status: `good`, `busy`, `warn`, `bad` or `over`. @param {any} row */
export function toneOf(row) {
  const group = groupOf(row.status);
  if (group === "ready") return "good";
  if (group === "booting") return "busy";
  if (isFailed(row)) return "bad";
  return group === "ending" ? "warn" : "over";
}
