/** Which sessions the table shows, and in which order. */

import { GROUPS, groupOf } from "./statuses.js";

/**
 * @typedef {object} Wanted
 * @property {ReturnType<typeof import("./filter.js").parseFilter>} filter
 * @property {Set<string>} groups the only ones to be shown; none: all
 * @property {boolean} ended whether those that have ended are shown
 * @property {import("./columns.js").Column} column
 * @property {boolean} descending
 */

/**
 * The rows to show in their order, and how many of each group the filter's words leave.
 * @param {Iterable<any>} rows
 * @param {Wanted} wanted
 * @param {(id: string) => import("./samples.js").Samples | undefined} samplesOf
 */
export function arrange(rows, wanted, samplesOf) {
  const counts = Object.fromEntries(GROUPS.map((group) => [group, 0]));
  const keyed = [];
  for (const row of rows) {
    if (!wanted.filter.test(row)) continue;
    const group = groupOf(row.status);
    counts[group] += 1;
    if (isShown(group, wanted))
      keyed.push({ row, key: wanted.column.sortBy(row, samplesOf(row.id)) });
  }
  const sign = wanted.descending ? -1 : 1;
  keyed.sort((one, other) => compare(one, other, sign));
  return { order: keyed.map(({ row }) => row), counts };
}

function isShown(group, { filter, groups, ended }) {
  if (group === "ended") return ended || filter.asksForEnded;
  return groups.size === 0 || groups.has(group);
}

/** What has no key comes last either way; equals stand newest first, so that none jumps about. */
function compare(one, other, sign) {
  if (one.key !== other.key) {
    if (one.key === null || one.key === undefined) return 1;
    if (other.key === null || other.key === undefined) return -1;
    return one.key < other.key ? -sign : sign;
  }
  const later = other.row.created_at - one.row.created_at;
  return later || (one.row.id < other.row.id ? -1 : 1);
}
