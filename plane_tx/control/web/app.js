/** The page itself: follows the server's board, and shows what the address asks for. */

import { board } from "./board.js";
import { startConnection } from "./connection.js";
import { counted } from "./format.js";
import { Overview } from "./overview.js";
import { cut } from "./plaintext.js";
import { showSession } from "./session.js";
import { startSignIn } from "./signin.js";
import { SpawnForm } from "./spawn.js";
import { groupOf } from "./statuses.js";
import { SessionTable } from "./table.js";

const table = new SessionTable();
const spawn = new SpawnForm(document.getElementById("view-spawn"));

const roots = {
  sessions: document.getElementById("view-sessions"),
  session: document.getElementById("view-session"),
  spawn: document.getElementById("view-spawn"),
};

/** What a title says of an address, which may ask for anything. */
const MOST_IN_TITLE = 100;

/** What ends the view that is shown. */
let leave = () => {};

/** Read the address. @returns {{view: "sessions" | "session" | "spawn", id: string}} */
function asked() {
  // An id that nobody can have is asked for all the same, and told to be none.
  const session = /^#\/s\/(.+)$/.exec(location.hash);
  if (session) return { view: "session", id: decoded(session[1]) };
  return { view: location.hash === "#/spawn" ? "spawn" : "sessions", id: "" };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  const { view, id } = asked();
  leave();
  for (const [name, root] of Object.entries(roots)) root.hidden = name !== view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave = { sessions: showTable, session: () => showOne(id), spawn: showForm }[view]();
  showTitle();
  window.scrollTo(0, 0);
}

function showTable() {
  table.enter();
  return () => table.leave();
}

function showForm() {
  spawn.enter();
  return () => {};
}

function showOne(id) {
  return showSession(id, roots.session);
}

/** After a change of view, a screen reader and the keyboard go on at its beginning. */
function focusView() {
  const { view } = asked();
  if (view === "sessions" && table.focus()) return;
  const heading = roots[view].querySelector("h1[tabindex]");
  (heading ?? document.getElementById("main")).focus({ preventScroll: true });
}

function showTitle() {
  const { view, id } = asked();
  const live = [...board.rows.values()].filter((row) => groupOf(row.status) !== "ended").length;
  const titles = {
    sessions: counted(live, "session"),
    session: cut(id, MOST_IN_TITLE),
    spawn: "New session",
  };
  const title = `${titles[view]} · plane_tx`;
  if (document.title !== title) document.title = title;
}

new Overview();
startSignIn();
startConnection();
board.addEventListener("rows", showTitle);
window.addEventListener("hashchange", () => {
  route();
  focusView();
});
document
  .getElementById("skip")
  .addEventListener("click", () => document.getElementById("main").focus());
route();
board.follow(new AbortController().signal);
