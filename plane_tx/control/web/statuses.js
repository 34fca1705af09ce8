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

/** The reasons of ends that nobody wished for; what exits by itself may have done its work. */
const FAULTS = new Set(["failed", "oom", "lost", "startuptimeout"]);

/** @param {string} status */
export function groupOf(status) {
  return GROUP_OF.get(status) ?? "booting";
}

/** @param {string} status */
export function placeOf(status) {
  return ORDER.get(status) ?? -1;
}

/** Whether this reason of an end is a fault, whatever else is known of the session. */
export function isFault(reason) {
  return FAULTS.has(reason);
}

/** Whether this session ended, or ends, by a fault. @param {any} row */
function isFailed({ reason, failure, exit_code: code }) {
  // The exit code of one that was stopped tells only by which signal.
  return isFault(reason) || Boolean(failure) || (reason === "exited" && Boolean(code));
}

/** The tone of a status: `good`, `busy`, `warn`, `bad` or `over`. @param {any} row */
export function toneOf(row) {
  const group = groupOf(row.status);
  if (group === "ready") return "good";
  if (group === "booting") return "busy";
  if (isFailed(row)) return "bad";
  return group === "ending" ? "warn" : "over";
}
