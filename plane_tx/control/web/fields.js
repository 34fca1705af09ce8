/** The fields of a form, each with a place for what is wrong with it. */

import { el } from "./format.js";

let made = 0;

/**
 * @typedef {object} Field
 * @property {HTMLElement} element
 * @property {string} path the name that errors of the server give it
 * @property {() => any} read throws `RangeError` for what cannot be meant
 * @property {(message: string) => void} complain an empty message takes it back
 * @property {() => void} focus
 */

/**
 * A line of text.
 * @param {object} told
 * @param {string} told.path
 * @param {string} told.label
 * @param {string} [told.hint]
 * @param {(text: string) => any} [told.parse] what is meant by the text; by default itself or null
 * @param {Record<string, string>} [told.attributes] of the input
 */
export function textField({ path, label, hint, parse = textOrNull, attributes }) {
  const input = el("input", {
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    ...attributes,
  });
  return {
    ...wrapped({ path, label, hint, control: input }),
    input,
    read: () => parse(input.value),
  };
}

/**
 * A choice of names.
 * @param {{path: string, label: string, hint?: string}} told
 */
export function choiceField({ path, label, hint }) {
  const select = el("select");
  return {
    ...wrapped({ path, label, hint, control: select }),
    input: select,
    read: () => select.value || null,
    /** Offer these, and keep what was chosen if it is one of them. @param {[string, string][]} options */
    offer(options) {
      const chosen = select.value;
      select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
      if (options.some(([value]) => value === chosen)) select.value = chosen;
    },
  };
}

/**
 * Names with values, as many as are wanted.
 * @param {{path: string, label: string, hint: string, one: string}} told `one`: what one is called
 */
export function pairsField({ path, label, hint, one }) {
  const rows = el("div", { class: "pairs" });
  const add = el("button", { type: "button" }, `Add ${one}`);
  const error = el("p", { class: "error", id: `field-${(made += 1)}-error` });
  const note = el("p", { class: "hint" }, hint);
  const props = { class: "field", "aria-describedby": error.id };
  const element = el("fieldset", props, el("legend", null, label), note, rows, add, error);
  add.addEventListener("click", () => rows.append(pairRow(one, rows, add)));
  rows.addEventListener("click", ({ target }) => target.closest("button") && say(error, ""));
  add.addEventListener("click", () => rows.lastChild.querySelector("input").focus());
  return {
    element,
    path,
    read: () => readPairs(rows),
    complain: (message) => say(error, message),
    focus: () => (rows.querySelector("input") ?? add).focus(),
  };
}

function pairRow(one, rows, add) {
  const attributes = { type: "text", autocomplete: "off", spellcheck: "false" };
  const name = el("input", {
    ...attributes,
    placeholder: "name",
    "aria-label": `Name of the ${one}`,
  });
  const value = el("input", {
    ...attributes,
    placeholder: "value",
    "aria-label": `Value of the ${one}`,
  });
  const remove = el("button", { type: "button", class: "quiet" }, "Remove");
  const row = el("div", { class: "pair" }, name, value, remove);
  name.addEventListener("input", () =>
    remove.setAttribute("aria-label", `Remove ${one} ${name.value}`),
  );
  remove.addEventListener("click", () => {
    row.remove();
    (rows.lastChild?.querySelector("input") ?? add).focus();
  });
  return row;
}

function readPairs(rows) {
  const pairs = [...rows.children].map((row) => [...row.querySelectorAll("input")]);
  const said = pairs.map(([name, value]) => [name.value.trim(), value.value]);
  const given = said.filter(([name, value]) => name || value);
  if (given.some(([name]) => !name)) throw new RangeError("expected a name for each value");
  const read = new Map(given);
  if (read.size < given.length) throw new RangeError("expected every name once");
  return Object.fromEntries(read);
}

function wrapped({ path, label, hint, control }) {
  const id = `field-${(made += 1)}`;
  const error = el("p", { class: "error", id: `${id}-error` });
  const note = hint && el("p", { class: "hint", id: `${id}-hint` }, hint);
  control.id = id;
  control.setAttribute("aria-describedby", note ? `${note.id} ${error.id}` : error.id);
  return {
    path,
    element: el("div", { class: "field" }, el("label", { for: id }, label), control, note, error),
    focus: () => control.focus(),
    complain(message) {
      say(error, message);
      if (message) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
}

function say(error, message) {
  error.textContent = message;
}

function textOrNull(text) {
  return text.trim() || null;
}
