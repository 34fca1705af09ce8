/**
 * A session of plane_tx, from the page that uses it: when it is ready, requests and WebSockets to
 * it, and whether one that was lost is to be had again. For browsers, workers, Deno and Node 18.
 */

/** What a WebSocket is closed with, by 1001, when its session has ended or is about to. */
const ENDINGS = new Map([
  ["idle", "nobody used it"],
  ["unclaimed", "nobody came"],
  ["lifetime", "its lifetime is over"],
  ["terminated", "it was stopped by request"],
  ["exited", "its process ended by itself"],
  ["oom", "it used more memory than its limit"],
  ["lost", "the engine no longer knew it"],
  ["failed", "it could not be made"],
  ["startuptimeout", "its server did not answer HTTP in time"],
  ["swept", "nobody used it, or its lifetime is over"], // a status stream knows no more
]);
const REVOKED = 4403;

/** What the proxy itself answers: that there is no session any more, and that there is none yet. */
const DEAD = new Set(["SessionEnded", "UnknownToken"]);
const NOT_READY = "SessionNotReady";

/** The codes (RFC 6455 section 7.4) after which a WebSocket is opened again. */
const RETRIED = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015]);

/** After so long open, the next loss is a new one and its first retry comes early. */
const STABLE_SECONDS = 5;

/** The server breaks each silence of a status stream after 15 s. */
const SILENT_STREAM_SECONDS = 45;

/** Who has trouble beside the WebSockets: what waits for ready by the URL, and by the statuses. */
const KNOCK = "knock";
const STATUS = "status";

const DEFAULTS = { firstSeconds: 0.5, mostSeconds: 15, attemptSeconds: 45 };

/** A timer that is set for longer ends at once (HTML section 8.6). */
const MOST_MILLISECONDS = 2 ** 31 - 1;

/** The reason of a close is no longer than this in UTF-8 (RFC 6455 section 5.5). */
const MOST_REASON_BYTES = 123;

/** The session is over, or the link to it was taken back: no retry will bring it back. */
export class SessionEnded extends Error {
  constructor(reason, message) {
    super(message);
    this.name = "SessionEnded";
    this.reason = reason;
  }
}

/** There is no connection at the moment, so nothing was sent, and nothing is kept for later. */
export class NotConnected extends Error {
  constructor() {
    super("the WebSocket is not open: what is sent now would be lost; send again after `open`");
    this.name = "NotConnected";
  }
}

/** What a `SessionSocket` tells: of type open, message, down or close. */
export class SocketEvent extends Event {
  constructor(type, fields) {
    super(type);
    Object.assign(this, fields);
  }
}

/** How many seconds to wait before the retry after `attempt` others: full jitter, from 0 up. */
export function backoff(attempt, options = {}, random = Math.random) {
  const { firstSeconds, mostSeconds } = chosen(DEFAULTS, options);
  return random() * Math.min(mostSeconds, firstSeconds * 2 ** Math.min(attempt, 30));
}

/** What the close of a WebSocket means: {is: "ended", reason}, {is: "retried"} or {is: "closed"}. */
export function meaningOf(code, reason) {
  if (code === REVOKED) return { is: "ended", reason: "revoked" };
  if (code === 1001 && ENDINGS.has(reason)) return { is: "ended", reason };
  return { is: RETRIED.has(code) ? "retried" : "closed" };
}

export class Session {
  #base;
  #options;
  #fetch;
  #over = new AbortController();
  #state = { phase: "booting" };
  #told = JSON.stringify(this.#state);
  #detail = {};
  #troubles = new Map();
  #isReady = false;
  #ended = null;
  #readiness = settledLater();
  #knocking = false;

  constructor(url, options = {}) {
    this.#base = new URL(url, globalThis.location?.href);
    this.#base.search = this.#base.hash = "";
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#options = chosen(DEFAULTS, options);
    this.#fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
    if (options.signal?.aborted) this.close();
    options.signal?.addEventListener("abort", () => this.close(), { signal: this.#over.signal });
    if (options.statusUrl && !this.#over.signal.aborted) this.#follow(options.statusUrl);
  }

  get url() {
    return this.#base.href;
  }

  get state() {
    return this.#state;
  }

  /** The SessionEnded that every call fails with by now; null while there is hope. */
  get ended() {
    return this.#ended;
  }

  /** Wait until the session can be used. Rejects with SessionEnded, or when `signal` aborts. */
  async ready({ signal } = {}) {
    this.#check();
    if (!this.#options.statusUrl && !this.#isReady) this.#knock();
    return unlessAborted(this.#readiness.promise, signal);
  }

  /** As the global fetch, to a path below the session's URL; while it boots, asks again. */
  async fetch(path = "", init = {}) {
    const url = this.#below(path);
    for (;;) {
      this.#check();
      const response = await this.#fetch(url, init);
      const kind = await kindOf(response);
      if (DEAD.has(kind.kind)) throw this.#end("ended", kind.message);
      if (kind.kind !== NOT_READY || init.body instanceof ReadableStream) return response;
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await pause(seconds, this.#over.signal, init.signal);
      init.signal?.throwIfAborted();
    }
  }

  /** A WebSocket to a path below the session's URL, opened again whenever it is lost. */
  websocket(path = "", protocols = [], options = {}) {
    this.#check();
    const address = new URL(this.#below(path));
    address.protocol = address.protocol.replace("http", "ws");
    return new SessionSocket(address.href, protocols, chosen(this.#options, options), {
      over: this.#over.signal,
      ended: () => this.#ended,
      ask: (signal) => this.#ask(signal),
      dead: (message) => this.#end("ended", message),
      end: (reason) => this.#endAndTellWhy(reason),
      opened: (socket) => this.#came(socket),
      trouble: (socket, trouble) => this.#trouble(socket, trouble),
      left: (socket) => this.#noTrouble(socket),
    });
  }

  /** Let go of the session, which lives on: its WebSockets close, and no state is told any more. */
  close() {
    this.#readiness.reject(closedHere());
    this.#over.abort();
  }

  #check() {
    if (this.#ended) throw this.#ended;
    if (this.#over.signal.aborted) throw closedHere();
  }

  #below(path) {
    const url = new URL(String(path).replace(/^\/+/, ""), this.#base);
    if (!url.href.startsWith(this.#base.href)) {
      throw new TypeError(`${path}: expected a path below the session's URL`);
    }
    return url.href;
  }

  // What is told

  #refresh() {
    if (this.#over.signal.aborted && !this.#ended) return;
    const state = this.#stateNow();
    const told = JSON.stringify(state);
    if (told === this.#told) return;
    this.#told = told;
    this.#state = state;
    guarded(() => this.#options.onstate?.(state));
  }

  #stateNow() {
    if (this.#ended) {
      return { phase: "ended", reason: this.#ended.reason, message: this.#ended.message };
    }
    const troubles = [...this.#troubles.values()];
    const lost = troubles.filter((each) => this.#isReady || each.cause !== "booting").at(-1);
    if (lost) return { phase: "reconnecting", ...lost };
    return this.#isReady ? { phase: "ready" } : { phase: "booting", ...this.#detail };
  }

  #came(source) {
    this.#troubles.delete(source);
    this.#troubles.delete(KNOCK);
    if (!this.#options.follow) this.#troubles.delete(STATUS);
    this.#isReady = true;
    this.#readiness.resolve();
    this.#refresh();
  }

  #trouble(source, trouble) {
    this.#troubles.delete(source);
    this.#troubles.set(source, trouble);
    this.#refresh();
  }

  #noTrouble(source) {
    if (this.#troubles.delete(source)) this.#refresh();
  }

  #end(reason, message) {
    const ended = new SessionEnded(reason, message ?? "this session has ended");
    if (!this.#over.signal.aborted) {
      this.#ended = ended;
      this.#readiness.reject(ended);
      this.#over.abort();
      this.#refresh();
    }
    return this.#ended ?? ended;
  }

  /** The proxy knows more than the one word of a close: ask it, but not for long. */
  async #endAndTellWhy(reason) {
    if (reason === "revoked") {
      this.#end(reason, "this link to the session was taken back");
      return;
    }
    const soon = deadline(5, this.#over.signal);
    const { message } = await this.#ask(soon.signal);
    soon.clear();
    this.#end(reason, message ?? `this session has ended: ${ENDINGS.get(reason)}`);
  }

  // What is asked

  /**
   * Whether the session is live, booting, dead, or nobody can be reached (away). A request that
   * finds it booting is held by the proxy, so that to ask again at once is no storm.
   */
  async #ask(signal) {
    try {
      const asked = { cache: "no-store", signal };
      const head = { ...asked, method: "HEAD", redirect: "manual" };
      const { status } = await this.#fetch(this.url, head);
      if (status === 503) return { is: "booting" };
      if (status !== 410) return { is: "live" };
      const told = await kindOf(await this.#fetch(this.url, asked));
      return { is: DEAD.has(told.kind) ? "dead" : "live", message: told.message };
    } catch {
      return { is: "away" };
    }
  }

  async #knock() {
    if (this.#knocking) return;
    this.#knocking = true;
    const { signal } = this.#over;
    for (let attempt = 0; !signal.aborted && !this.#isReady; attempt++) {
      const limit = deadline(this.#options.attemptSeconds, signal);
      const news = await this.#ask(limit.signal);
      limit.clear();
      if (this.#isReady) return;
      if (news.is === "live") this.#came(KNOCK);
      else if (news.is === "dead") this.#end("ended", news.message);
      else await this.#waitFor(KNOCK, attempt, news.is === "away" ? "network" : "booting");
    }
  }

  async #waitFor(source, attempt, cause) {
    const seconds = delay(attempt, this.#options);
    this.#trouble(source, { attempt, cause, retryAt: inMilliseconds(seconds) });
    await pause(seconds, this.#over.signal);
  }

  /** Follow the statuses until it is ready, or with `follow` until it ends. */
  async #follow(statusUrl) {
    const url = new URL(statusUrl, this.#base);
    url.pathname = url.pathname.replace(/\/status$/, "/status-stream");
    url.searchParams.set("detail", "true");
    const isDone = () => this.#over.signal.aborted || (this.#isReady && !this.#options.follow);
    for (let attempt = 0; !isDone(); attempt++) {
      const limit = deadline(SILENT_STREAM_SECONDS, this.#over.signal);
      const told = () => {
        attempt = 0;
        limit.renew();
        this.#noTrouble(STATUS);
      };
      await this.#readStatuses(url, limit.signal, told, isDone).catch(() => {});
      limit.abort();
      if (isDone()) return;
      this.#knock(); // the session may be within reach where its control listener is not
      await this.#waitFor(STATUS, attempt, "network");
    }
  }

  async #readStatuses(url, signal, told, isDone) {
    const response = await this.#fetch(url.href, { cache: "no-store", signal });
    if (response.status === 404) this.#end("unknown", "the server knows no such session any more");
    if (!response.ok) return;
    for await (const data of eventsOf(response.body)) {
      told();
      if (data) this.#statusCame(JSON.parse(data));
      if (isDone()) return;
    }
  }

  #statusCame({ status, detail, pull, termination_reason: reason = "exited" }) {
    if (status === "ready") {
      this.#came(STATUS);
    } else if (/terminat/.test(status)) {
      this.#endAndTellWhy(reason === "external" ? "terminated" : reason);
    } else {
      this.#detail = { status, ...(detail && { detail }), ...(pull && { pull }) };
      this.#refresh();
    }
  }
}

/**
 * A WebSocket that comes back. Nothing is queued: `send` throws NotConnected while it is down, and
 * what was sent right before a loss may not have arrived, so that an app says on `open` what counts.
 */
export class SessionSocket extends EventTarget {
  binaryType = "blob";
  onopen = null;
  onmessage = null;
  ondown = null;
  onclose = null;
  #address;
  #protocols;
  #options;
  #session;
  #socket = null;
  #stop = new AbortController();
  #said = [1000, ""];
  #opens = 0;

  constructor(address, protocols, options, session) {
    super();
    if (!(options.WebSocket ?? globalThis.WebSocket)) {
      throw new TypeError("there is no WebSocket here: pass one to Session as its option WebSocket");
    }
    this.#address = address;
    this.#protocols = protocols;
    this.#options = options;
    this.#session = session;
    const once = { signal: this.#stop.signal };
    session.over.addEventListener("abort", () => this.close(), once);
    options.signal?.addEventListener("abort", () => this.close(), once);
    if (options.signal?.aborted) this.close();
    this.#run();
  }

  get url() {
    return this.#address;
  }

  /** Whether `send` would send. */
  get connected() {
    return this.#socket?.readyState === 1;
  }

  /** What the session chose of the offered protocols. */
  get protocol() {
    return this.#socket?.protocol ?? "";
  }

  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(data) {
    if (!this.connected) throw new NotConnected();
    this.#socket.send(data);
  }

  /** Close for good. Throws as a WebSocket does, of a code or a reason that cannot be sent. */
  close(code = 1000, reason = "") {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`${code}: expected 1000 or 3000 to 4999`, "InvalidAccessError");
    }
    if (new TextEncoder().encode(reason).length > MOST_REASON_BYTES) {
      throw new DOMException(`the reason is over ${MOST_REASON_BYTES} bytes`, "SyntaxError");
    }
    if (this.#stop.signal.aborted) return;
    this.#said = [code, reason];
    this.#stop.abort();
  }

  async #run() {
    await null; // so that whoever made it can set its handlers first
    let lost = { code: 1000, reason: "" };
    for (let attempt = 0, cause = ""; !this.#stop.signal.aborted; attempt++) {
      lost = await this.#connection();
      if (this.#stop.signal.aborted || lost.isHopeless) break;
      const meaning = guarded(() => this.#options.retry?.(lost.code, lost.reason))
        ? { is: "retried" }
        : meaningOf(lost.code, lost.reason);
      if (meaning.is === "ended") await this.#session.end(meaning.reason);
      if (meaning.is !== "retried") break;
      if (lost.seconds >= STABLE_SECONDS) attempt = 0;
      const before = cause;
      cause = await this.#causeOf(lost, attempt);
      // What was away is there again: those who come are spread by when they asked.
      if (cause === "refused" && (before === "network" || before === "booting")) attempt = 0;
      await this.#wait(attempt, cause);
    }
    this.#finish(lost);
  }

  /** One connection, from its attempt to its loss. */
  #connection() {
    return new Promise((resolve) => {
      const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
      const socket = guarded(() => new WebSocket(this.#address, this.#protocols));
      if (!socket) {
        // Protocols that are none, or ws: on a page of https: no retry would do better.
        resolve({ code: 1006, reason: "", isHopeless: true });
        return;
      }
      this.#socket = socket;
      socket.binaryType = this.binaryType;
      const limit = deadline(this.#options.attemptSeconds, this.#stop.signal);
      let openedAt = null;
      const lose = ({ code = 1006, reason = "" } = {}) => {
        limit.clear();
        // Not onerror: one of the package ws that is given up has still to tell an error.
        socket.onopen = socket.onmessage = socket.onclose = null;
        if (this.#socket === socket) this.#socket = null;
        const seconds = openedAt === null ? 0 : (Date.now() - openedAt) / 1000;
        resolve({ code, reason, opened: openedAt !== null, seconds });
      };
      // A connection that says nothing is not waited for: its own close would be as slow.
      limit.signal.addEventListener("abort", () => {
        const [code, reason] = this.#stop.signal.aborted ? this.#said : [4408, "silent"];
        lose({ code: this.#stop.signal.aborted ? code : 1006, reason });
        socket.close(code, reason);
      });
      socket.onopen = () => {
        openedAt = Date.now();
        limit.set(this.#options.silentSeconds);
        this.#session.opened(this);
        this.#tell("open", { again: this.#opens++ > 0 });
      };
      socket.onmessage = ({ data }) => {
        limit.renew();
        this.#tell("message", { data });
      };
      socket.onerror = () => {};
      socket.onclose = lose;
    });
  }

  /** Tell that the connection is lost, and find out why. */
  async #causeOf({ code, reason, opened }, attempt) {
    const unknown = opened ? "lost" : "refused";
    this.#session.trouble(this, { attempt, cause: unknown, retryAt: null });
    if (opened) this.#tell("down", { code, reason });
    const limit = deadline(this.#options.attemptSeconds, this.#stop.signal);
    const news = await this.#session.ask(limit.signal);
    limit.clear();
    if (news.is === "dead") this.#session.dead(news.message);
    return { away: "network", booting: "booting" }[news.is] ?? unknown;
  }

  async #wait(attempt, cause) {
    if (this.#stop.signal.aborted) return;
    const seconds = delay(attempt, this.#options);
    this.#session.trouble(this, { attempt, cause, retryAt: inMilliseconds(seconds) });
    await pause(seconds, this.#stop.signal);
  }

  #finish(lost) {
    const isOurs = this.#stop.signal.aborted && !this.#session.ended();
    const [code, reason] = isOurs ? this.#said : [lost.code, lost.reason];
    this.#stop.abort();
    this.#session.left(this);
    this.#tell("close", { code, reason, ended: this.#session.ended() });
  }

  #tell(type, fields) {
    const event = new SocketEvent(type, fields);
    this.dispatchEvent(event);
    guarded(() => this[`on${type}`]?.(event));
  }
}

/** The data of each server-sent event, and "" for each comment. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (unread + value).split("\n\n");
    unread = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

/** What kind of error the proxy answers with; nothing for what the session itself answers. */
async function kindOf(response) {
  const isJson = /^application\/json/.test(response.headers.get("content-type") ?? "");
  if ((response.status !== 410 && response.status !== 503) || !isJson) return {};
  const told = await response.clone().json().catch(() => null);
  return told ?? {};
}

/** Whoever is offline anyway asks as seldom as may be; `online` ends the pause. */
function delay(attempt, options) {
  return backoff(globalThis.navigator?.onLine === false ? 30 : attempt, options);
}

/** What `hook` returns; what it throws is told to the page or process, and stops nothing here. */
function guarded(hook) {
  try {
    return hook();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
    return undefined;
  }
}

/** `options` over `others`; one that is undefined counts as left out. */
function chosen(others, options) {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...others, ...Object.fromEntries(given) };
}

function atMost(seconds) {
  return Math.min(seconds * 1000, MOST_MILLISECONDS);
}

function inMilliseconds(seconds) {
  return Math.round(Date.now() + seconds * 1000);
}

/** Ends early when the network is back, when the page is looked at again, or by `signal`. */
function pause(seconds, ...signals) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const wake = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(wake, atMost(seconds));
    const once = { signal: over.signal };
    const { document } = globalThis;
    globalThis.addEventListener?.("online", wake, once);
    const seen = () => document.visibilityState === "visible" && wake();
    document?.addEventListener("visibilitychange", seen, once);
    for (const signal of signals) {
      signal?.addEventListener("abort", wake, once);
      if (signal?.aborted) wake();
    }
  });
}

/** A signal that aborts after `seconds` (never without), or with `outer`. */
function deadline(seconds, outer) {
  const inner = new AbortController();
  let timer;
  const abort = () => {
    clearTimeout(timer);
    outer.removeEventListener("abort", abort);
    inner.abort();
  };
  const set = (allowed) => {
    clearTimeout(timer);
    seconds = allowed;
    if (seconds) timer = setTimeout(abort, atMost(seconds));
  };
  const clear = () => {
    clearTimeout(timer);
    outer.removeEventListener("abort", abort);
  };
  outer.addEventListener("abort", abort);
  if (outer.aborted) abort();
  else set(seconds);
  return { signal: inner.signal, abort, clear, set, renew: () => set(seconds) };
}

function settledLater() {
  const settled = {};
  settled.promise = new Promise((resolve, reject) => Object.assign(settled, { resolve, reject }));
  settled.promise.catch(() => {}); // nobody need wait for it
  return settled;
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function closedHere() {
  return new DOMException("the session was closed here, by close() or a signal", "AbortError");
}
