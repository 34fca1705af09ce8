/** How the first session is started, for a page that has none to show. */

import { key } from "./api.js";
import { announce, el } from "./format.js";

export const NOTHING_ALLOWED = "This server has no apps, and lets no request say what to run.";

/** How long a button says that it has copied. */
const COPIED_MS = 2000;

/**
 * What stands in place of the table.
 * @param {any} hello what the server said of itself
 */
export function firstSteps(hello) {
  const said = el("p", null, "There are no sessions yet.");
  const executable = exampleOf(hello);
  if (!executable)
    return [said, el("p", null, `${NOTHING_ALLOWED} Add an app to its configuration.`)];
  const start = el("a", { href: "#/spawn", class: "button primary" }, "Start one");
  const url = el("code", null, "url");
  const or = ["Or by the API, whose answer has a link to the session as ", url, ":"];
  return [said, start, el("p", { class: "or" }, or), toCopy(commandFor(executable))];
}

function toCopy(command) {
  const code = el("code", null, command);
  const label = "A command that starts a session";
  const shown = el("pre", { tabindex: "0", role: "region", "aria-label": label }, code);
  const on = { click: ({ currentTarget }) => copy(code, currentTarget) };
  return el("div", { class: "command" }, shown, el("button", { type: "button", on }, "Copy"));
}

/** Something that this server would run, null when it runs nothing. */
function exampleOf({ engine, apps, images, commands }) {
  const fits = (app) => (engine.kind === "process") === (app.image === null);
  if (apps.length) return { app: (apps.find(fits) ?? apps[0]).name };
  if (images) return { image: "your-image:latest" };
  return commands ? { command: ["sh", "-c", "exec python3 -m http.server $PORT"] } : null;
}

function commandFor(executable) {
  const url = new URL("ctrl/connect", location.href).href;
  const body = JSON.stringify({ spawn_config: { executable } });
  const lines = [
    `curl ${quoted(url)}`,
    "  -H 'content-type: application/json'",
    `  -d ${quoted(body)}`,
  ];
  if (key.get()) lines.splice(1, 0, '  -H "authorization: Bearer $PLANE_TX_KEY"');
  return lines.join(" \\\n");
}

/** As one word of a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
    announce("Copied");
  } catch {
    // Only pages of https and of this box may write to the clipboard.
    getSelection().selectAllChildren(code);
    announce("The browser lets this page copy nothing: it is selected for you to copy");
  }
}
