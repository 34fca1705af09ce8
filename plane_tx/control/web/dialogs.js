/** Questions that the session page asks before it does something. */

import { el } from "./format.js";

/**
 * Ask whether to do something that cannot be undone; the page it is asked on is `place`.
 * @param {HTMLElement} place
 * @param {{title: string, text: string, yes: string}} question
 * @returns {Promise<boolean>}
 */
export function confirmed(place, { title, text, yes }) {
  const act = el("button", { type: "submit", class: "danger" }, yes);
  // The focus is where a stray Enter does no harm.
  const no = el("button", { type: "button", autofocus: true }, "Cancel");
  return asked(place, title, [el("p", null, text)], [act, no]);
}

/**
 * Ask for a number of seconds.
 * @param {HTMLElement} place
 * @param {{title: string, text: string, yes: string, seconds: number}} question
 * @returns {Promise<number | null>} null: do nothing
 */
export async function askedSeconds(place, { title, text, yes, seconds }) {
  const limits = { min: 1, max: 31_536_000, step: "any", required: true, autofocus: true };
  const input = el("input", { type: "number", id: "asked-seconds", ...limits, value: seconds });
  const label = el("label", { for: "asked-seconds" }, "Seconds");
  const act = el("button", { type: "submit", class: "primary" }, yes);
  const no = el("button", { type: "button" }, "Cancel");
  const said = await asked(place, title, [el("p", null, text), label, input], [act, no]);
  return said ? input.valueAsNumber : null;
}

/**
 * Show a text to be copied by hand, where the browser lets no page copy.
 * @param {HTMLElement} place
 * @param {{title: string, text: string, value: string}} shown
 */
export async function shownToCopy(place, { title, text, value }) {
  const input = el("input", { id: "shown-to-copy", readonly: true, value });
  const label = el("label", { for: "shown-to-copy" }, text);
  const answer = asked(place, title, [label, input], [el("button", { type: "submit" }, "Close")]);
  input.select();
  await answer;
}

/**
 * Show a dialog until it is closed; whether that was by its first button.
 * @returns {Promise<boolean>}
 */
function asked(place, title, content, [act, no]) {
  const heading = el("h2", { id: "asked-title" }, title);
  const form = el("form", null, heading, content, el("div", { class: "buttons" }, act, no));
  const dialog = el("dialog", { class: "asked", "aria-labelledby": "asked-title" }, form);
  return new Promise((resolve) => {
    let said = false;
    no?.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      said = true;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(said);
    });
    place.append(dialog);
    dialog.showModal();
  });
}
