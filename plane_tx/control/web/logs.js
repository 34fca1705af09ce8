/** The log of one session as it comes: followed, searched, paused, and saved. */

import { stream } from "./api.js";
import { announce, count, counted, el, say } from "./format.js";
import { LogLines } from "./loglines.js";
import { LogWindow } from "./logwindow.js";

/** How many of the last lines are asked for at first. */
const TAIL = 2000;
/** What is shown, and what may come while it is paused: 10 000 lines and 5 MiB together. */
const SHOWN = { lines: 8000, bytes: 4 * 1024 * 1024 };
const HELD = { lines: 2000, bytes: 1024 * 1024 };
/** Nobody reads faster: what comes by the thousand is not drawn with every frame. */
const LEAST_MS = 50;

/**
 * Show the log of a session in `root`.
 * @param {HTMLElement} root
 * @param {string} id
 * @param {() => boolean} ended whether the session has ended, after which no line comes
 * @returns {() => void} ends it
 */
export function showLogs(root, id, ended) {
  const panel = new LogPanel(root, id);
  const stopping = new AbortController();
  panel.say("connecting");
  stream(`/ctrl/b/${encodeURIComponent(id)}/logs?follow=true&tail=${TAIL}`, {
    onEvent: (_name, line) => panel.take(line),
    onOpen: () => panel.say("live"),
    onDown(error) {
      const over = ended() && !error;
      panel.say(over ? "complete: the session has ended" : wordsOf(error));
      if (over) stopping.abort();
    },
    signal: stopping.signal,
  });
  return () => {
    stopping.abort();
    panel.destroy();
  };
}

function wordsOf(error) {
  return error ? `not live: ${error.message}` : "connecting again";
}

class LogPanel {
  constructor(root, id) {
    this.id = id;
    this.lines = new LogLines(SHOWN.lines, SHOWN.bytes);
    /** What came while it is paused. @type {LogLines | null} */
    this.held = null;
    this.window = new LogWindow(this.lines, `Log of session ${id}`);
    this.state = "";
    this.told = el("p", { class: "log-told" });
    this.frame = 0;
    this.drawn = -Infinity;
    root.replaceChildren(this.searchBar(), this.buttons(), this.window.view, this.told);
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.window.destroy();
  }

  searchBar() {
    const on = {
      input: () => this.search(),
      keydown: (event) => {
        if (event.key === "Enter") this.go(event.shiftKey ? -1 : 1);
      },
    };
    this.words = el("input", { type: "search", "aria-label": "Search the log", on });
    this.words.placeholder = "Search the log";
    this.found = el("span", { class: "log-found" });
    return el(
      "div",
      { class: "log-search", role: "search" },
      this.words,
      button("Previous", () => this.go(-1), { "aria-label": "Previous match" }),
      button("Next", () => this.go(1), { "aria-label": "Next match" }),
      this.found,
    );
  }

  buttons() {
    return el(
      "div",
      { class: "log-buttons" },
      toggle("Pause", false, (on) => (on ? this.pause() : this.resume())),
      toggle("Wrap", false, (on) => this.window.setWrap(on)),
      toggle("Times", true, (on) => this.window.setTimes(on)),
      button("To the end", () => this.window.follow()),
      button("Download", () => this.save(), { "aria-label": "Download these lines" }),
    );
  }

  /** Say how it stands with the stream. */
  say(state) {
    this.state = state;
    this.request();
  }

  take(line) {
    (this.held ?? this.lines).add(line);
    this.request();
  }

  /** Draw what came with one of the next frames, all of it at once. */
  request() {
    this.frame ||= requestAnimationFrame((now) => this.draw(now));
  }

  draw(now) {
    this.frame = 0;
    if (now - this.drawn < LEAST_MS) return this.request();
    this.drawn = now;
    if (!this.held) this.window.draw();
    this.tell();
  }

  pause() {
    this.held = new LogLines(HELD.lines, HELD.bytes);
    this.request();
  }

  resume() {
    const { dropped, kept } = this.held;
    this.held = null;
    if (dropped) {
      const text = `${counted(dropped, "line")} came while it was paused, and were not kept`;
      this.lines.keep({ at: null, stream: "note", text, left: 0 });
      this.lines.dropped += dropped;
    }
    for (const line of kept) this.lines.keep(line);
    this.request();
  }

  search() {
    this.lines.search(this.words.value);
    this.window.current = -1;
    this.window.remake();
    this.request();
  }

  /** Go to the next line that the search finds, or to the one before. */
  go(step) {
    const { current } = this.window;
    const { first, last } = this.window.seen();
    const seen = step > 0 ? first : last;
    const from = current < 0 ? seen : this.lines.indexOf(current) + step;
    const line = this.lines.hitFrom(from, step);
    if (!line) return announce(this.words.value ? "No line has this" : "Nothing to search for");
    this.window.show(line);
    this.tell();
    announce(`${this.found.textContent}: ${line.text.slice(0, 200)}`);
  }

  tell() {
    const { lines, window } = this;
    const current = lines.kept[lines.indexOf(window.current)];
    const at = current?.serial === window.current ? `${count(lines.rank(current))} of ` : "";
    const found = `${at}${counted(lines.hits, "line")}`;
    say(this.found, lines.pattern ? found : "");
    say(this.told, `${this.summary()}.`);
  }

  summary() {
    const { kept, dropped } = this.lines;
    const without = dropped ? `, ${count(dropped)} older ones dropped` : "";
    const paused = this.held ? `; paused: ${counted(this.held.came, "line")} came since` : "";
    return `${counted(kept.length, "line")}${without}${paused}; ${this.state}`;
  }

  /** Have the browser save the lines that are here. */
  save() {
    const lines = [...this.lines.kept, ...(this.held?.kept ?? [])].map(asText);
    const url = URL.createObjectURL(new Blob(lines, { type: "text/plain;charset=utf-8" }));
    el("a", { href: url, download: `${this.id}.log` }).click();
    // The click has only queued the download, which still needs the address.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function asText({ at, stream, text, left }) {
  const when = at === null ? "" : `${new Date(at).toISOString()} `;
  return `${when}${stream} ${text}${left ? ` … ${left} more characters` : ""}\n`;
}

function button(label, click, attributes = {}) {
  return el("button", { type: "button", ...attributes, on: { click } }, label);
}

function toggle(label, pressed, change) {
  const click = () => {
    const on = element.getAttribute("aria-pressed") !== "true";
    element.setAttribute("aria-pressed", String(on));
    change(on);
  };
  const element = button(label, click, { "aria-pressed": String(pressed) });
  return element;
}
