/** A text, what the language server finds wrong with it, and what it has to offer. */
import { LanguageServer } from "./lsp.js";
import { Session } from "./plane.js";

const ROOT = "file:///workspace";
const uri = `${ROOT}/main.py`;
const ERROR = 1; // a DiagnosticSeverity; the others are warnings and hints
const PAUSE_MS = 400;

const element = (id) => document.getElementById(id);
const editor = element("editor");
const list = element("completions");

// The connection

const session = new Session(document.baseURI, { onstate: showState });
const server = new LanguageServer(session.websocket("lsp"), { onopen, onnotification });
let version = 0;
let ready = false;

function showState({ phase, message }) {
  if (phase !== "ready") ready = false;
  const words = { booting: "Starting", reconnecting: "Reconnecting", ended: message };
  if (words[phase]) tell(phase === "ended" ? "ended" : "waiting", words[phase]);
  editor.readOnly = phase === "ended";
}

function tell(is, words) {
  element("state").dataset.is = is;
  element("state").textContent = words;
}

async function onopen() {
  tell("waiting", "Starting the language server");
  const textDocument = { completion: {}, hover: { contentFormat: ["plaintext"] } };
  try {
    await server.request("initialize", {
      processId: null,
      rootUri: ROOT,
      capabilities: { textDocument },
    });
  } catch {
    return; // lost again: the next open comes here anew
  }
  server.notify("initialized", {});
  const document = { uri, languageId: "python", version: ++version, text: editor.value };
  server.notify("textDocument/didOpen", { textDocument: document });
  ready = true;
  tell("ready", "Ready");
}

/** Ask about a place in the text; null while nobody answers. */
async function ask(method, offset) {
  if (!ready) return null;
  const parameters = { textDocument: { uri }, position: positionAt(offset) };
  return server.request(`textDocument/${method}`, parameters).catch(() => null);
}

// Places: LSP counts lines from 0, and in them the units of UTF-16 that strings are made of here.

function positionAt(offset) {
  const before = editor.value.slice(0, offset).split("\n");
  return { line: before.length - 1, character: before.at(-1).length };
}

function offsetAt({ line, character }) {
  const before = editor.value.split("\n").slice(0, line);
  return before.reduce((sum, text) => sum + text.length + 1, 0) + character;
}

function put(node, { line, character }) {
  node.style.setProperty("--line-number", line);
  node.style.setProperty("--column", character);
}

// What is wrong

function onnotification(method, params) {
  if (method === "textDocument/publishDiagnostics") showProblems(params.diagnostics);
}

function showProblems(diagnostics) {
  element("none").hidden = diagnostics.length > 0;
  element("marks").replaceChildren(...diagnostics.map(mark));
  element("problems").replaceChildren(...diagnostics.map(problem));
}

function mark({ range: { start, end }, severity }) {
  const node = document.createElement("span");
  node.className = severity === ERROR ? "error" : "";
  put(node, start);
  const width = end.line === start.line ? end.character - start.character : 1;
  node.style.setProperty("--columns", Math.max(width, 1));
  return node;
}

function problem({ range: { start }, severity, message }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.className = severity === ERROR ? "error" : "";
  button.textContent = `Line ${start.line + 1}: ${message}`;
  button.onclick = () => {
    editor.focus();
    editor.setSelectionRange(offsetAt(start), offsetAt(start));
  };
  item.append(button);
  return item;
}

// What could come next

const NOTHING = { start: -1, items: [] };
let offered = NOTHING; // for the word that begins at `start`
let chosen = 0;

function word() {
  return /\w*$/.exec(editor.value.slice(0, editor.selectionStart))[0];
}

async function complete() {
  const start = editor.selectionStart - word().length;
  if (start !== offered.start) {
    const mine = (offered = { start, items: [] });
    const answer = await ask("completion", editor.selectionStart);
    if (mine !== offered) return; // meanwhile another word was begun
    if (!answer) offered = NOTHING; // nobody could say: the next letter asks again
    else mine.items = answer.items ?? answer;
  }
  const begun = word().toLowerCase(); // more of it may have been typed meanwhile
  const items = offered.items.filter(({ label }) => label.toLowerCase().startsWith(begun));
  list.replaceChildren(...items.slice(0, 100).map(offer));
  put(list, positionAt(start));
  list.hidden = items.length === 0;
  choose(0);
}

function offer({ label, insertText = label }) {
  const item = document.createElement("li");
  item.role = "option";
  item.textContent = label;
  item.dataset.text = insertText;
  item.onpointerdown = (event) => {
    event.preventDefault(); // the editor keeps the focus
    take(item);
  };
  return item;
}

function choose(index) {
  chosen = (index + list.children.length) % list.children.length || 0;
  [...list.children].forEach((item, at) => (item.ariaSelected = String(at === chosen)));
  list.children[chosen]?.scrollIntoView({ block: "nearest" });
}

function take(item) {
  editor.selectionStart -= word().length;
  insert(item.dataset.text);
  close();
}

/** As if it had been typed, so that it can be undone: nothing newer than execCommand does that. */
function insert(text) {
  document.execCommand("insertText", false, text);
}

function close() {
  offered = NOTHING;
  list.hidden = true;
}

// The editor

const KEYS = {
  ArrowDown: () => choose(chosen + 1),
  ArrowUp: () => choose(chosen - 1),
  Enter: () => take(list.children[chosen]),
  Tab: () => take(list.children[chosen]),
  Escape: close,
};

editor.onkeydown = (event) => {
  let act = list.hidden ? undefined : KEYS[event.key];
  if (event.ctrlKey && event.key === " ") act = complete;
  if (event.key === "Tab" && !event.shiftKey) act ??= () => insert("    ");
  if (!act) return;
  event.preventDefault();
  act();
};

editor.oninput = ({ data }) => {
  element("hover").hidden = true;
  if (ready) {
    const textDocument = { uri, version: ++version };
    const contentChanges = [{ text: editor.value }];
    server.notify("textDocument/didChange", { textDocument, contentChanges });
  }
  if (/^[\w.]$/.test(data ?? "")) complete();
  else close();
};

editor.onblur = close;

// What is under the pointer

let rest;

editor.onpointermove = (event) => {
  clearTimeout(rest);
  element("hover").hidden = true;
  rest = setTimeout(() => describe(event), PAUSE_MS);
};

editor.onpointerleave = () => clearTimeout(rest);

async function describe({ offsetX, offsetY }) {
  const style = getComputedStyle(editor);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const line = Math.floor(offsetY / parseFloat(style.lineHeight));
  const character = Math.floor(offsetX / pen.measureText("0").width);
  if (!(character < editor.value.split("\n")[line]?.length)) return;
  const answer = await ask("hover", offsetAt({ line, character }));
  const { contents } = answer ?? {};
  element("hover").textContent = contents?.value ?? contents ?? "";
  put(element("hover"), { line, character });
  element("hover").hidden = !element("hover").textContent;
}
