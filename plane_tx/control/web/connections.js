/** The WebSockets and tunnels of one session, open and closed, with what became of each. */

import { bytes, count, counted, duration, el } from "./format.js";
import { visible } from "./plaintext.js";
import { preciseTime } from "./precise.js";

const COLUMNS = [
  "Kind",
  "Client",
  "Path",
  "Opened",
  "Lasted",
  "From client",
  "To client",
  "Round trip",
  "What became of it",
];

export class Connections {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.open = new Table("Open");
    this.closed = new Table("Closed");
    this.none = el("p", { class: "nothing-told" });
    root.replaceChildren(this.none, this.open.place, this.closed.place);
  }

  /** @param {any} told as GET /ctrl/b/{id}/connections tells it */
  show({ open, open_count: all, closed }) {
    this.open.show(open, `Open now: ${count(all)}${more(open, all)}`);
    this.closed.show(closed, `Closed: the last ${count(closed.length)}, last closed first`);
    const none = !open.length && !closed.length;
    this.none.textContent = none ? "No WebSocket or tunnel was opened to it." : "";
    this.none.hidden = !none;
  }
}

function more(open, all) {
  return all > open.length ? `, of which the newest ${count(open.length)}` : "";
}

class Table {
  constructor(label) {
    this.caption = el("caption");
    this.body = el("tbody");
    const heads = COLUMNS.map((name) => el("th", { scope: "col" }, name));
    const head = el("thead", null, el("tr", null, heads));
    const table = el("table", null, this.caption, head, this.body);
    const said = { role: "region", "aria-label": `${label} connections`, tabindex: "0" };
    this.place = el("div", { class: "connections", hidden: true, ...said }, table);
    /** Rows by all that is told in them. @type {Map<string, HTMLElement>} */
    this.rows = new Map();
  }

  /** Show these rows; one that says the same as before is not made again. */
  show(connections, caption) {
    this.caption.textContent = caption;
    this.place.hidden = !connections.length;
    const rows = new Map();
    const elements = connections.map((connection) => {
      const told = JSON.stringify(connection);
      const before = rows.has(told) ? undefined : this.rows.get(told);
      const row = before ?? rowOf(connection);
      rows.set(told, row);
      return row;
    });
    this.rows = rows;
    this.body.replaceChildren(...elements);
  }
}

function rowOf(connection) {
  const { kind, path, opened, verdict } = connection;
  const cells = [
    kind === "websocket" ? "WebSocket" : kind,
    clientOf(connection),
    el("span", { class: "path" }, visible(path)),
    preciseTime(opened),
    duration(connection.duration_seconds),
    passed(connection, "from_client", "backlog_to_session_bytes"),
    passed(connection, "to_client", "backlog_to_client_bytes"),
    roundTrip(connection),
    el("span", { class: "verdict" }, visible(verdict)),
  ];
  return el(
    "tr",
    null,
    cells.map((cell) => el("td", null, cell)),
  );
}

function clientOf({ user, peer }) {
  return user === null ? visible(peer) : `${visible(user)}, ${visible(peer)}`;
}

/** What passed one way; a tunnel has no messages. */
function passed(connection, way, backlog) {
  const messages = connection[`messages_${way}`];
  const waited = connection[backlog];
  const said = [
    bytes(connection[`bytes_${way}`]),
    connection.kind === "websocket" && counted(messages, "message"),
    waited > 0 && `at most ${bytes(waited)} waited`,
  ];
  return said.filter(Boolean).map((text) => el("span", { class: "passed" }, text));
}

function roundTrip({ round_trip_seconds: last, best_round_trip_seconds: best }) {
  if (last === null) return "–";
  return [
    el("span", { class: "passed" }, duration(last)),
    el("span", { class: "passed" }, `best ${duration(best)}`),
  ];
}
