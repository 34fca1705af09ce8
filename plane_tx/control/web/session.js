/** The page of one session: what it is, why, how it booted, what it says, takes and moves. */

import { Actions } from "./actions.js";
import { ApiError, call } from "./api.js";
import { board } from "./board.js";
import { Connections } from "./connections.js";
import { factsOf, rowOf, statusOf } from "./facts.js";
import { announce, el } from "./format.js";
import { showLogs } from "./logs.js";
import { Rounds } from "./rounds.js";
import { showStats } from "./stats.js";
import { cut } from "./plaintext.js";
import { askForKey } from "./signin.js";
import { groupOf } from "./statuses.js";
import { Timeline } from "./timeline.js";
import { Why } from "./why.js";

/** An address may ask for anything; ids are shorter. */
const MOST_OF_ID = 100;

const ROUND_MS = 1000;
const TICK_MS = 1000;
/** A round that failed is tried again, though nothing has changed since. */
const RETRY_MS = 5000;

/**
 * Show the session `id` in `root`, and keep it up to date.
 * @param {string} id
 * @param {HTMLElement} root
 * @returns {() => void} ends that, and frees all it took
 */
export function showSession(id, root) {
  const page = new SessionPage(id, root);
  return () => page.stop();
}

class SessionPage {
  constructor(id, root) {
    this.id = id;
    this.root = root;
    this.path = `/ctrl/b/${encodeURIComponent(id)}`;
    this.status = null;
    this.streams = [];
    this.listening = new AbortController();
    this.rounds = new Rounds(() => this.fetchAll(), ROUND_MS);
    this.build();
    this.listen();
    this.ticking = setInterval(() => this.tick(), TICK_MS);
    this.rounds.ask();
  }

  build() {
    this.state = el("p", { class: "session-state" }, "Loading");
    this.facts = el("dl", { class: "facts" });
    this.notice = el("div", { class: "session-notice" });
    const actions = el("div", { class: "actions", role: "group", "aria-label": "Actions" });
    const head = el("header", { class: "session-head" }, this.heading(), actions, this.facts);
    const sections = this.sections();
    /** What there is only of a session that is known. */
    this.known = [actions, sections];
    this.root.classList.add("session-page");
    this.root.replaceChildren(head, this.notice, sections);
    this.actions = new Actions(actions, this.id);
  }

  heading() {
    const id = el("code", null, cut(this.id, MOST_OF_ID));
    const heading = el("h1", { id: "session-title", tabindex: "-1" }, "Session ", id);
    const back = el("a", { class: "back", href: "#/" }, "All sessions");
    return el("div", { class: "session-title" }, back, heading, this.state);
  }

  sections() {
    const why = section("Why", "why");
    const timeline = section("Timeline", "timeline");
    const logs = section("Log", "logs");
    const stats = section("Charts", "stats");
    const connections = section("Connections", "connections");
    this.why = new Why(why.body);
    this.timeline = new Timeline(timeline.body);
    this.connections = new Connections(connections.body);
    this.places = { logs: logs.body, stats: stats.body };
    const on = { click: () => this.rounds.ask() };
    const refresh = el("button", { type: "button", class: "quiet", on }, "Refresh");
    connections.element.firstChild.append(refresh);
    const all = [why, timeline, logs, stats, connections];
    return el(
      "div",
      { class: "session-sections" },
      all.map(({ element }) => element),
    );
  }

  /** Whatever may have changed the session makes the page ask for it again. */
  listen() {
    const { signal } = this.listening;
    board.addEventListener("rows", ({ detail }) => this.rowsChanged(detail), { signal });
    board.addEventListener("hello", () => this.rounds.ask(), { signal });
    window.addEventListener("plane:key", () => this.rounds.ask(), { signal });
    const row = board.rows.get(this.id);
    if (row) this.showStatus(row);
  }

  stop() {
    this.listening.abort();
    this.rounds.stop();
    clearInterval(this.ticking);
    for (const stop of this.streams) stop();
    this.streams = [];
    this.root.classList.remove("session-page");
    this.root.replaceChildren();
  }

  tick() {
    if (document.hidden) return;
    this.why.tick();
    this.timeline.tick();
  }

  rowsChanged({ changed, gone }) {
    if (gone.has(this.id)) this.forgotten();
    if (!changed.has(this.id)) return;
    this.showStatus(board.rows.get(this.id));
    this.rounds.ask();
  }

  async fetchAll() {
    try {
      const parts = ["", "/why", "/connections"].map((part) => call("GET", `${this.path}${part}`));
      const [session, why, connections] = await Promise.all(parts);
      if (!this.listening.signal.aborted) this.show(session, why, connections);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!this.listening.signal.aborted) this.failed(error);
    }
  }

  show(session, why, connections) {
    this.notice.replaceChildren();
    // An answer can be older than what the board has told meanwhile.
    this.showStatus((board.up && board.rows.get(this.id)) || rowOf(session));
    this.facts.replaceChildren(...factsOf(session));
    this.why.show(why, session);
    this.timeline.show(session);
    this.connections.show(connections);
    if (!this.streams.length) this.begin();
  }

  /** Follow its log and its stats, now that it is known to be there. */
  begin() {
    const ended = () => groupOf(this.status) === "ended";
    this.streams.push(showLogs(this.places.logs, this.id, ended));
    if (ended()) {
      const text = "Unavailable: the session has ended, and nothing is measured any more.";
      this.places.stats.replaceChildren(el("p", { class: "nothing-told" }, text));
    } else this.streams.push(showStats(this.places.stats, this.id, ended));
  }

  showStatus(row) {
    if (this.status !== null && this.status !== row.status) announce(`Session is ${row.status}`);
    this.status = row.status;
    this.state.replaceChildren(...statusOf(row));
    this.actions.show(row.status);
  }

  failed(error) {
    if (error.status === 404) return this.forgotten();
    if (error.status === 401) return this.refused(error);
    // That the server is away is told by the whole page too.
    if (error.status !== 0) this.warn(error.message);
    this.rounds.askLater(RETRY_MS);
  }

  /** The key is asked for by the whole page, which tells when there is another. */
  refused({ message }) {
    const on = { click: () => askForKey(message) };
    this.warn(`${message} `, el("button", { type: "button", on }, "Sign in"));
  }

  warn(text, ...more) {
    const banner = el("p", { class: "banner", "data-tone": "warn" }, text, more);
    // One that is met in every round is said once.
    if (this.notice.textContent === banner.textContent) return;
    announce(text);
    this.notice.replaceChildren(banner);
  }

  /** The server knows it no more: what was seen of it stays, and nothing can be done to it. */
  forgotten() {
    this.rounds.stop();
    this.actions.end();
    const text = "There is no such session: it never was, or has ended and is forgotten.";
    this.warn(`${text} `, el("a", { href: "#/" }, "Back to all sessions"));
    if (this.status !== null) return;
    this.state.textContent = "Not found";
    for (const part of this.known) part.remove();
  }
}

function section(title, name) {
  const body = el("div", { class: "section-body" });
  const heading = el("h2", { id: `session-${name}` }, title);
  const head = el("div", { class: "section-head" }, heading);
  const named = { class: `session-${name}`, "aria-labelledby": `session-${name}` };
  return { body, element: el("section", named, head, body) };
}
