/** What stands between the page and its sessions: no server, no engine, or a server that drains. */

import { key } from "./api.js";
import { board } from "./board.js";
import { announce, el, say } from "./format.js";
import { askForKey } from "./signin.js";

const NAMES = { connecting: "Connecting", live: "Live", down: "Reconnecting", refused: "Refused" };

const indicator = document.getElementById("connection");
const server = document.getElementById("server");
const banners = document.getElementById("banners");

/** What the banners say now: they are only made anew when it changes, as they are read aloud. */
let said = "";

export function startConnection() {
  board.addEventListener("hello", show);
  board.addEventListener("state", show);
  show();
}

function show() {
  showState();
  showServer();
  const wanted = wantedBanners();
  const text = JSON.stringify(wanted);
  if (text === said) return;
  said = text;
  banners.replaceChildren(...wanted.map(makeBanner));
}

function showState() {
  const state = stateOf();
  if (state === "live" && indicator.dataset.state !== "live") announce("Connected to the server");
  indicator.dataset.state = state;
  say(indicator, NAMES[state]);
}

function stateOf() {
  if (board.up) return "live";
  if (!board.error) return "connecting";
  return board.error.status === 401 || board.error.status === 403 ? "refused" : "down";
}

function showServer() {
  const { hello } = board;
  if (!hello) return;
  const text = [hello.cluster, hello.engine.kind, hello.version].filter(Boolean).join(" · ");
  say(server, text);
  server.title = `Run ${hello.run}`;
}

/** @returns {{tone: string, title: string, text: string, asks: boolean}[]} */
function wantedBanners() {
  const { hello } = board;
  const wanted = board.error ? [refusal(board.error)] : [];
  if (hello && !hello.engine.ok) {
    const why = sentence(hello.engine.message || "it does not answer");
    const text = `${why} No session can be started until it answers.`;
    wanted.push({
      tone: "bad",
      title: `The engine (${hello.engine.kind}) is lost`,
      text,
      asks: false,
    });
  }
  if (hello?.draining) {
    const text = "It refuses new sessions and goes on with those that live.";
    wanted.push({ tone: "warn", title: "The server drains", text, asks: false });
  }
  return wanted;
}

function refusal({ status, message }) {
  if (status === 401)
    return { tone: "warn", title: "Not signed in", text: sentence(message), asks: true };
  if (status === 403)
    return { tone: "bad", title: "Not allowed", text: sentence(message), asks: key.get() !== null };
  const text = board.hello
    ? "What is shown is what was last known; it goes on by itself."
    : "It goes on by itself.";
  return { tone: "bad", title: "Reconnecting", text: `${sentence(message)} ${text}`, asks: false };
}

function sentence(message) {
  const text = `${message.charAt(0).toUpperCase()}${message.slice(1)}`;
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

function makeBanner({ tone, title, text, asks }) {
  const on = { click: () => askForKey() };
  const ask = asks && el("button", { type: "button", on }, "Sign in");
  return el(
    "p",
    { class: "banner", "data-tone": tone },
    el("strong", null, title),
    " ",
    text,
    " ",
    ask,
  );
}
