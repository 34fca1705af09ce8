/** The form that starts a session, or joins the one that has the key. */

import { call } from "./api.js";
import { board } from "./board.js";
import { NOTHING_ALLOWED } from "./firststeps.js";
import { choiceField, pairsField, textField } from "./fields.js";
import { announce, duration, el } from "./format.js";
import { parseBytes, parseNumber, parseSeconds, parseWords } from "./quantities.js";

const EXECUTABLE = "spawn_config.executable";
const RESOURCES = `${EXECUTABLE}.resource_limits`;

/** Where a session listens unless something else is said (plane.md 3.1). */
const DEFAULT_PORT = 8080;

/** What can be run, in the order in which it is offered. */
const KINDS = { app: "App", image: "Image", command: "Command" };

/** The field that a message of the server begins with, as in "spawn_config.labels: expected". */
const NAMED = /^[a-z_]+(?:[.[][^:\s]*)?(?=:)/;

export class SpawnForm {
  kind = "";
  /** The kinds that are offered, to see whether they change. */
  offered = null;
  app = choiceField({ path: `${EXECUTABLE}.app`, label: "App" });
  image = textField({
    path: `${EXECUTABLE}.image`,
    label: "Image",
    attributes: { placeholder: "python:3.12-slim" },
  });
  command = textField({
    path: `${EXECUTABLE}.command`,
    label: "Command",
    hint: "Words as in a shell, quotes too; it is not run by one.",
    parse: parseWords,
    attributes: { placeholder: 'python -m http.server "8080"' },
  });
  port = textField({
    path: `${EXECUTABLE}.port`,
    label: "Port",
    parse: parseNumber,
    attributes: { inputmode: "numeric" },
  });
  keyName = textField({
    path: "key.name",
    label: "Key",
    hint: "A live session with this key is joined instead of a new one.",
  });
  namespace = textField({ path: "key.namespace", label: "Key namespace" });
  user = textField({ path: "user", label: "User" });
  env = pairsField({
    path: `${EXECUTABLE}.env`,
    label: "Environment",
    hint: "Values are never shown again.",
    one: "variable",
  });
  labels = pairsField({
    path: "spawn_config.labels",
    label: "Labels",
    hint: "To find it by.",
    one: "label",
  });
  idle = textField({
    path: "spawn_config.max_idle_seconds",
    label: "Max idle",
    parse: parseSeconds,
  });
  lifetime = textField({
    path: "spawn_config.lifetime_limit_seconds",
    label: "Max lifetime",
    parse: parseSeconds,
    attributes: { placeholder: "no limit" },
  });
  memory = textField({
    path: `${RESOURCES}.memory_limit_bytes`,
    label: "Memory",
    parse: parseBytes,
    attributes: { placeholder: "512 MiB" },
  });
  cpus = textField({
    path: `${RESOURCES}.cpus`,
    label: "CPUs",
    parse: parseNumber,
    attributes: { placeholder: "1.5" },
  });

  /** @param {HTMLElement} root */
  constructor(root) {
    this.image.element.classList.add("whole");
    this.port.element.classList.add("short");
    this.build(root);
    board.addEventListener("hello", () => this.offer());
    this.app.input.addEventListener("change", () => this.choose(this.kind));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  enter() {
    if (board.hello) this.offer();
  }

  get fields() {
    return [
      ...[this.app, this.image, this.command, this.port, this.keyName, this.namespace, this.user],
      ...[this.env, this.labels, this.idle, this.lifetime, this.memory, this.cpus],
    ];
  }

  build(root) {
    this.kinds = el("fieldset", { class: "segments" }, el("legend", null, "Run"));
    this.error = el("p", { class: "error", role: "alert" });
    const button = { type: "submit", class: "primary", "aria-disabled": "true" };
    this.button = el("button", button, "Start session");
    const cancel = el("a", { href: "#/", class: "button" }, "Cancel");
    const whose = [this.keyName.element, this.namespace.element, this.user.element];
    const limits = [
      this.idle.element,
      this.lifetime.element,
      this.memory.element,
      this.cpus.element,
    ];
    this.form = el(
      "form",
      { class: "spawn card", "aria-labelledby": "spawn-title", novalidate: true },
      this.kinds,
      el(
        "div",
        { class: "what" },
        [this.app, this.image, this.command, this.port].map((field) => field.element),
      ),
      group("Whose it is", whose),
      group("Limits", limits),
      el("div", { class: "sides" }, this.env.element, this.labels.element),
      this.error,
      el("div", { class: "buttons" }, this.button, cancel),
    );
    root.append(el("h1", { id: "spawn-title", tabindex: "-1" }, "New session"), this.form);
  }

  /** Offer what the server allows, and keep what was filled in. */
  offer() {
    const { apps, images, commands, defaults } = board.hello;
    const allowed = { app: apps.length > 0, image: images, command: commands };
    const idle = defaults.max_idle_seconds;
    this.idle.input.placeholder = idle ? duration(idle) : "no limit";
    this.app.offer(apps.map((app) => [app.name, described(app)]));
    this.offerKinds(Object.keys(KINDS).filter((kind) => allowed[kind]));
    this.choose(this.kind);
  }

  offerKinds(kinds) {
    // A radio button that is made anew would lose the focus.
    if (String(kinds) === this.offered) return;
    this.offered = String(kinds);
    const chosen = kinds.includes(this.kind) ? this.kind : (kinds[0] ?? "");
    const options = kinds.map((kind) => this.makeKind(kind, kind === chosen));
    this.kinds.replaceChildren(this.kinds.firstChild, ...options);
    this.kinds.hidden = kinds.length < 2;
    this.kind = chosen;
    this.allow(kinds.length > 0);
    this.error.textContent = kinds.length ? "" : NOTHING_ALLOWED;
  }

  makeKind(kind, checked) {
    const on = { change: () => this.choose(kind) };
    const input = el("input", { type: "radio", name: "kind", value: kind, checked, on });
    return el("label", null, input, el("span", null, KINDS[kind]));
  }

  choose(kind) {
    this.kind = kind;
    this.app.element.hidden = kind !== "app";
    this.image.element.hidden = kind !== "image";
    this.command.element.hidden = kind === "app";
    this.port.input.placeholder = String(this.usualPort());
  }

  usualPort() {
    const app = board.hello.apps.find(({ name }) => name === this.app.input.value);
    return (this.kind === "app" && app?.port) || DEFAULT_PORT;
  }

  async submit() {
    // A button that is disabled would lose the focus: it says so, and does nothing.
    if (this.button.getAttribute("aria-disabled") === "true") return;
    const body = this.readBody();
    if (!body) return;
    this.allow(false);
    try {
      const told = await call("POST", "/ctrl/connect", body);
      announce(
        told.spawned ? "The session is being started" : "The session of this key was joined",
      );
      // Whoever has gone elsewhere meanwhile stays there.
      if (this.form.checkVisibility()) location.hash = `#/s/${told.backend_id}`;
    } catch (error) {
      this.complain(error.message);
    } finally {
      this.allow(true);
    }
  }

  allow(allowed) {
    this.button.setAttribute("aria-disabled", String(!allowed));
  }

  /** What is filled in as a request; null when some of it cannot be read. */
  readBody() {
    for (const field of this.fields) field.complain("");
    this.error.textContent = "";
    const read = new Map();
    for (const field of this.fields.filter(({ element }) => !element.hidden)) {
      try {
        read.set(field, field.read());
      } catch (error) {
        field.complain(error.message);
        field.focus();
        return null;
      }
    }
    return this.body((field) => read.get(field));
  }

  body(said) {
    const name = said(this.keyName);
    return {
      key: name ? { name, namespace: said(this.namespace) ?? "" } : null,
      user: said(this.user),
      spawn_config: {
        executable: this.executable(said),
        labels: said(this.labels),
        max_idle_seconds: said(this.idle),
        lifetime_limit_seconds: said(this.lifetime),
      },
    };
  }

  executable(said) {
    const limits = { memory_limit_bytes: said(this.memory), cpus: said(this.cpus) };
    const common = { env: said(this.env), port: said(this.port), resource_limits: limits };
    if (this.kind === "app") return { app: said(this.app), ...common };
    if (this.kind === "image")
      return { image: said(this.image), command: said(this.command), ...common };
    return { command: said(this.command), ...common };
  }

  /** Show what the server says by the field that it names, or else above the button. */
  complain(message) {
    const path = NAMED.exec(message)?.[0];
    const field =
      path && this.fields.find((each) => isPartOf(path, each.path) && !each.element.hidden);
    if (!field) {
      this.error.textContent = message;
      return;
    }
    field.complain(message.slice(path.length + 1).trim());
    field.focus();
  }
}

function isPartOf(path, whole) {
  return path === whole || path.startsWith(`${whole}.`) || path.startsWith(`${whole}[`);
}

function described({ name, image, command }) {
  const what = image ?? command?.join(" ");
  return what ? `${name} (${what})` : name;
}

function group(title, fields) {
  return el(
    "fieldset",
    { class: "group" },
    el("legend", null, title),
    el("div", { class: "grid" }, fields),
  );
}
