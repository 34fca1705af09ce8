/** Why a session is alive and what ends it next, or why it is not alive any more: in words. */

import { ago, count, countdown, duration, el, serverNow, time } from "./format.js";
import { shortened, visible } from "./plaintext.js";
import { preciseTime } from "./precise.js";

/** How many of its holds are told one by one. */
const MOST_HOLDS = 20;

const KINDS = { request: "Request", websocket: "WebSocket", hold: "Held request", lease: "Lease" };

export class Why {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** What is counted from now: each writes its text anew. @type {(() => void)[]} */
    this.tickers = [];
  }

  /**
   * @param {any} why as GET /ctrl/b/{id}/why tells it
   * @param {any} session as GET /ctrl/b/{id} tells it
   */
  show(why, session) {
    this.tickers = [];
    const asOf = why.alive && el("span", { class: "as-of" }, `(at ${time(serverNow())})`);
    const parts = [
      el("p", { class: "summary" }, `${visible(why.summary)} `, asOf),
      this.next(why),
      this.uses("What keeps it in use", why.holds, why.hold_count),
      this.uses("Open, and no use by itself", why.passive, why.passive_count),
      causes(why),
      failure(session, why),
    ];
    this.root.replaceChildren(...parts.filter(Boolean));
    this.tick();
  }

  tick() {
    for (const ticker of this.tickers) ticker();
  }

  next({ next }) {
    if (!next.length) return null;
    const items = next.map((end) => el("li", null, this.countdownOf(end), visible(end.message)));
    return el("div", null, el("h3", null, "What ends it"), el("ul", { class: "next" }, items));
  }

  countdownOf({ cause, at }) {
    const left = el("span", { class: "left" });
    this.tickers.push(() => {
      const seconds = at === null ? null : (at - serverNow()) / 1000;
      left.textContent = seconds === null ? "clock not running" : wordsOfLeft(seconds);
    });
    return [el("span", { class: "cause" }, cause), left];
  }

  uses(title, uses, all) {
    if (!all) return null;
    const items = uses.slice(0, MOST_HOLDS).map((use) => el("li", null, this.useOf(use)));
    if (all > items.length) items.push(el("li", null, `and ${count(all - items.length)} more`));
    const heading = el("h3", null, `${title} (${count(all)})`);
    return el("div", null, heading, el("ul", { class: "uses" }, items));
  }

  useOf(use) {
    const age = el("span", { class: "age" });
    this.tickers.push(() => {
      age.textContent = ageOf(use, serverNow());
    });
    return [el("b", null, KINDS[use.kind] ?? use.kind), visible(aboutUse(use)), age];
  }
}

function wordsOfLeft(seconds) {
  return seconds > 0 ? `in ${countdown(seconds)}` : "now";
}

function aboutUse({ path, reason, user, peer }) {
  const said = [path && ` to ${path}`, reason && ` for ${reason}`];
  const who = [user && ` by ${user}`, peer && ` from ${peer}`];
  return [...said, ...who].filter(Boolean).join("");
}

function ageOf({ since, last_data: heard, until }, now) {
  const silent = heard === null ? "" : `, last byte ${ago(heard, now)}`;
  const left = until === null ? "" : `, ${countdown((until - now) / 1000)} left`;
  return `, for ${duration(Math.max(0, Math.floor((now - since) / 1000)))}${silent}${left}`;
}

function causes({ causes: chain, summary }) {
  // One alone mostly says what the summary has said.
  if (!chain.some(({ message }) => !summary.includes(message))) return null;
  const items = chain.map(({ at, what, message }) =>
    el("li", null, preciseTime(at), el("b", null, what), el("span", null, visible(message))),
  );
  const heading = el("h3", null, "How it came to that");
  return el("div", null, heading, el("ol", { class: "causes" }, items));
}

function failure({ failure: told }, { summary }) {
  if (!told) return null;
  const lines = told.log_tail.map((line) => shortened(line).text);
  const log = el("pre", { class: "log-tail", tabindex: "0", "aria-label": "Its last lines" });
  log.textContent = lines.join("\n");
  return el(
    "div",
    { class: "failure" },
    el("h3", null, `What went wrong: ${told.kind}`),
    !summary.includes(told.message) && el("p", null, visible(told.message)),
    lines.length > 0 && log,
  );
}
