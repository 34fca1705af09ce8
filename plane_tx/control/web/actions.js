/** What can be done to a session from its page: reach it, keep it, end it, and take its autopsy. */

import { call, download } from "./api.js";
import { askedSeconds, confirmed, shownToCopy } from "./dialogs.js";
import { announce, duration, el, time } from "./format.js";
import { groupOf } from "./statuses.js";

const KEEP_SECONDS = 600;

const SOFT = {
  title: "End this session?",
  text: "It is asked to end and given its grace. Connections that are open are closed.",
  yes: "Soft terminate",
};
const HARD = {
  title: "End this session by force?",
  text: "It is killed at once, and what it has not saved is lost.",
  yes: "Hard terminate",
};
const KEEP = {
  title: "Keep this session alive",
  text: "A lease counts as use until its time is over, with nobody connected.",
  yes: "Keep alive",
  seconds: KEEP_SECONDS,
};

const OVER = ["ending", "ended"];

/** Each with the groups of statuses in which there is nothing to be had from it. */
const ACTIONS = [
  { name: "Open", not: OVER, act: open, class: "primary" },
  { name: "Copy link", not: OVER, act: copyLink },
  { name: "Keep alive", not: OVER, act: keepAlive },
  { name: "Autopsy", not: [], act: autopsy },
  { name: "Soft terminate", not: OVER, act: (at) => terminate(at, SOFT, "soft") },
  {
    name: "Hard terminate",
    not: ["ended"],
    act: (at) => terminate(at, HARD, "hard"),
    class: "danger",
  },
];

export class Actions {
  /**
   * @param {HTMLElement} root
   * @param {string} id
   */
  constructor(root, id) {
    // Dialogs stand in the page's own part, and go with it.
    this.at = { id, path: `/ctrl/b/${encodeURIComponent(id)}`, place: root };
    this.told = el("p", { class: "action-told", role: "status" });
    /** The names of those that are under way. @type {Set<string>} */
    this.running = new Set();
    this.buttons = ACTIONS.map((action) => this.buttonFor(action));
    root.replaceChildren(el("div", { class: "action-buttons" }, this.buttons), this.told);
  }

  buttonFor(action) {
    const on = { click: (event) => this.run(action, event.currentTarget) };
    const classes = { class: action.class };
    // A button that is disabled loses the focus to nowhere: it says so, and does nothing.
    return el("button", { type: "button", ...classes, "aria-disabled": "true", on }, action.name);
  }

  /** Offer what can be done with a session of this status. @param {string} status */
  show(status) {
    const group = groupOf(status);
    ACTIONS.forEach(({ not }, index) => {
      this.buttons[index].setAttribute("aria-disabled", String(not.includes(group)));
    });
  }

  /** Offer nothing: the session is gone. */
  end() {
    for (const button of this.buttons) button.setAttribute("aria-disabled", "true");
  }

  async run({ name, act }, button) {
    if (button.getAttribute("aria-disabled") === "true" || this.running.has(name)) return;
    // A double click asks once.
    this.running.add(name);
    this.say("");
    try {
      this.say((await act(this.at)) ?? "");
    } catch (error) {
      this.say(`${name}: ${error.message}`, "bad");
    } finally {
      this.running.delete(name);
    }
  }

  say(text, tone = "") {
    this.told.dataset.tone = tone;
    this.told.textContent = text;
  }
}

async function linkTo({ path }) {
  // As a connect has to, a link names the tag under which the session was made.
  const { key } = await call("GET", path);
  const { url } = await call("POST", `${path}/link`, { tag: key.tag });
  if (!/^https?:$/.test(new URL(url).protocol)) throw new Error("the link is none of a web page");
  return url;
}

async function open(at) {
  // Opened within the click, for later the browser takes it for a pop-up.
  const page = window.open("", "_blank");
  if (page) page.opener = null;
  try {
    const url = await linkTo(at);
    if (!page) return await offer(at, url, "The browser did not open it: this is its link.");
    page.location.replace(url);
    return "Opened in a new tab.";
  } catch (error) {
    page?.close();
    throw error;
  }
}

async function copyLink(at) {
  const url = await linkTo(at);
  try {
    await navigator.clipboard.writeText(url);
  } catch {
    // Only pages of https and of this box may write to the clipboard.
    return offer(at, url, "The browser lets this page copy nothing: copy it from here.");
  }
  return "Copied a link to this session: whoever has it can use the session.";
}

async function offer({ place }, value, text) {
  await shownToCopy(place, { title: "Link to this session", text, value });
}

async function keepAlive({ path, place }) {
  const seconds = await askedSeconds(place, KEEP);
  if (seconds === null) return "";
  const { until } = await call("POST", `${path}/keepalive`, { seconds, reason: "dashboard" });
  return `Kept alive for ${duration(seconds)}, until ${time(until)}.`;
}

async function terminate({ path, place }, question, kind) {
  if (!(await confirmed(place, question))) return "";
  await call("POST", `${path}/${kind}-terminate`, {});
  return kind === "soft" ? "It was asked to end." : "It is being ended by force.";
}

async function autopsy({ id, path }) {
  announce("The autopsy is being made");
  await download(`${path}/autopsy.tar.gz`, `${id}.tar.gz`);
  return "The autopsy was downloaded.";
}
