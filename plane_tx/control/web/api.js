/**
 * The server's API as the page calls it: JSON, downloads, and streams of server-sent events.
 *
 * Streams are read by fetch(), as EventSource sends no Authorization header.
 */

const KEY_NAME = "plane-tx-key";
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
/** A stream that was up for so long was no failure: the next attempt is soon again. */
const STEADY_MS = 10_000;
/** The server breaks every silence after 15 s, so that one of 40 s is a dead connection. */
const SILENCE_MS = 40_000;
/** The server answers a call at once: what takes longer is lost. */
const CALL_MS = 60_000;
/** A browser has six connections for all its tabs: one that nobody sees gives its own back. */
const HIDDEN_MS = 30_000;
const TELL_MS = 200;
/** By which a tab that is looked at asks the others for theirs at once. */
const looked = new BroadcastChannel("plane-tx-looked-at");

/** An answer that is a refusal; `status` is 0 when no answer came. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string} kind
   */
  constructor(message, status, kind) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** The API key of this tab; a change of it fires `plane:key` on window. */
export const key = {
  /** For a browser that lets pages store nothing. @type {string | null} */
  unstored: null,
  /** @returns {string | null} */
  get() {
    try {
      return sessionStorage.getItem(KEY_NAME);
    } catch {
      return this.unstored;
    }
  },
  /** @param {string} secret */
  set(secret) {
    try {
      sessionStorage.setItem(KEY_NAME, secret);
    } catch {
      this.unstored = secret;
    }
    window.dispatchEvent(new Event("plane:key"));
  },
  forget() {
    this.unstored = null;
    try {
      sessionStorage.removeItem(KEY_NAME);
    } catch {
      // Nothing was stored.
    }
    window.dispatchEvent(new Event("plane:key"));
  },
};

/**
 * Make one call and read its JSON. Throws `ApiError`.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] sent as JSON
 */
export async function call(method, path, body) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const signal = AbortSignal.timeout(CALL_MS);
  return readJson(await request(path, { method, headers, body: sent, signal }));
}

/**
 * Have the browser save what is at `path`. Throws `ApiError`.
 * @param {string} path
 * @param {string} filename
 */
export async function download(path, filename) {
  const response = await request(path, {});
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = filename;
  link.click();
  // The click has only queued the download, which still needs the address.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * Read a stream of server-sent events with JSON in them for as long as `signal` allows.
 *
 * It is opened again whenever it ends, after 0.5 to 10 s, from the last event that had an id; not
 * after 204 and 404. After 401 it waits for another key. While nobody sees the page it is closed.
 * @param {string} path
 * @param {object} told
 * @param {(name: string, data: any, id: string) => void} told.onEvent
 * @param {() => void} [told.onOpen] called whenever the server begins to answer
 * @param {(error: ApiError | null) => void} [told.onDown] null: the server ended it in good order;
 *   whoever has all then aborts, for otherwise it is opened again
 * @param {AbortSignal} told.signal
 */
export async function stream(path, { onEvent, onOpen, onDown, signal }) {
  let delay = FIRST_DELAY_MS;
  const place = { lastId: "" };
  while (!signal.aborted) {
    await untilSeen(signal);
    if (signal.aborted) return;
    const began = performance.now();
    const { error, left } = await readOnce(path, place, { onEvent, onOpen }, signal);
    if (signal.aborted) return;
    if (left) continue;
    onDown?.(error);
    if (error && (error.status === 204 || error.status === 404)) return;
    if (error?.status === 401) await untilEvent(window, "plane:key", signal);
    delay = performance.now() - began > STEADY_MS ? FIRST_DELAY_MS : delay;
    await pause(delay * (0.5 + Math.random() / 2), signal);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

/** Read one answer to its end; `left` says that it ended because nobody sees the page. */
async function readOnce(path, place, { onEvent, onOpen }, signal) {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  signal.addEventListener("abort", stop);
  const watch = watchConnection(attempt);
  try {
    const headers = { accept: "text/event-stream" };
    if (place.lastId) headers["last-event-id"] = place.lastId;
    const response = await request(path, { headers, signal: attempt.signal });
    if (response.status === 204) throw new ApiError("there is no more", 204, "NoContent");
    onOpen?.();
    await readEvents(response.body, place, onEvent, watch.heard);
    return { error: null, left: false };
  } catch (error) {
    return { error: asApiError(error), left: watch.left() };
  } finally {
    watch.stop();
    signal.removeEventListener("abort", stop);
  }
}

function tellOthers() {
  // By then the tab that was looked at before knows that it is hidden.
  if (!document.hidden) setTimeout(() => looked.postMessage(null), TELL_MS);
}

document.addEventListener("visibilitychange", tellOthers);
tellOthers();

/**
 * Abort `attempt` when nothing was heard for too long, or the page was hidden for too long or
 * while another is looked at.
 */
function watchConnection(attempt) {
  let silence = setTimeout(() => attempt.abort(), SILENCE_MS);
  let hidden;
  let left = false;
  const leave = () => {
    left = true;
    attempt.abort();
  };
  const look = () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(leave, HIDDEN_MS);
  };
  const yieldIfHidden = () => {
    if (document.hidden) leave();
  };
  document.addEventListener("visibilitychange", look);
  looked.addEventListener("message", yieldIfHidden);
  look();
  return {
    left: () => left,
    heard() {
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(), SILENCE_MS);
    },
    stop() {
      clearTimeout(silence);
      clearTimeout(hidden);
      document.removeEventListener("visibilitychange", look);
      looked.removeEventListener("message", yieldIfHidden);
    },
  };
}

async function readEvents(body, place, onEvent, heard) {
  const parser = new EventParser((name, data, id) => {
    if (id) place.lastId = id;
    try {
      onEvent(name, JSON.parse(data), id);
    } catch (error) {
      // A fault of ours in one event is to be seen, but not to end the stream for ever.
      reportError(error);
    }
  });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    parser.feed(value);
  }
}

/** Parses server-sent events whose lines end in LF, as this server's do. */
class EventParser {
  /** @param {(name: string, data: string, id: string) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
    // A line of megabytes comes in many parts, and is put together once.
    this.parts = [];
    this.reset();
  }

  reset() {
    this.name = "message";
    this.id = "";
    this.data = [];
  }

  /** @param {string} text */
  feed(text) {
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      this.parts.push(text.slice(from, end));
      const line = this.parts.join("");
      this.parts = [];
      this.line(line);
      from = end + 1;
    }
    if (from < text.length) this.parts.push(text.slice(from));
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent(this.name, this.data.join("\n"), this.id);
      this.reset();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.data.push(value);
    else if (field === "event") this.name = value;
    else if (field === "id") this.id = value;
  }
}

async function request(path, options) {
  const secret = key.get();
  const headers = { ...options.headers };
  if (secret) headers.authorization = `Bearer ${secret}`;
  let response;
  try {
    // Relative to the page, which a proxy may serve below a path of its own.
    response = await fetch(`.${path}`, { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw asApiError(error);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  const message = told.message ?? `the server answered ${response.status}`;
  const error = new ApiError(message, response.status, told.kind ?? "Other");
  if (error.status === 401) {
    window.dispatchEvent(new CustomEvent("plane:unauthorized", { detail: error }));
  }
  return error;
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw asApiError(error);
    throw new ApiError("the answer is not JSON: is this address the server's?", 0, "Unreadable");
  }
}

function asApiError(error) {
  if (error instanceof ApiError) return error;
  const late = error.name === "TimeoutError";
  const message = late ? "the server does not answer" : "the server cannot be reached";
  return new ApiError(message, 0, "Unreachable");
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    window.addEventListener("online", done);
  });
}

function untilEvent(target, name, signal) {
  return new Promise((resolve) => {
    const done = () => {
      target.removeEventListener(name, done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    target.addEventListener(name, done);
    signal.addEventListener("abort", done);
  });
}

async function untilSeen(signal) {
  while (document.hidden && !signal.aborted) {
    await untilEvent(document, "visibilitychange", signal);
  }
}
