// The client alone, with a network in memory: what it sends, waits for and takes for the end.

import assert from "node:assert/strict";
import { test } from "node:test";

const { NotConnected, Session, SessionEnded, backoff, meaningOf } = await import(process.env.CLIENT);

const URL = "http://sessions.example/token/";
const QUICK = { firstSeconds: 0.001, mostSeconds: 0.002 };

function told(status, kind, headers = {}) {
  const body = kind && JSON.stringify({ kind, message: `it is ${kind}` });
  return () => new Response(body, { status, headers: { "content-type": "application/json", ...headers } });
}

/** A fetch that gives these answers in turn, the last for ever; `asked` is what it was asked. */
function answering(...answers) {
  const fetch = async (url, init = {}) => {
    init.signal?.throwIfAborted();
    fetch.asked.push(`${init.method ?? "GET"} ${url}`);
    return (answers.length > 1 ? answers.shift() : answers[0])();
  };
  fetch.asked = [];
  return fetch;
}

/** WebSockets that do what the test says; `next` resolves with the next that is opened. */
function sockets() {
  const made = [], waiting = [];
  const give = () => made.length && waiting.length && waiting.shift()(made.shift());
  class FakeWebSocket {
    readyState = 0;
    sent = [];
    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      made.push(this);
      give();
    }
    opens() {
      this.readyState = 1;
      this.onopen?.();
    }
    lost(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }
    send(data) {
      this.sent.push(data);
    }
    close(code, reason) {
      this.closedWith = [code, reason];
      this.readyState = 3;
    }
  }
  const next = () => new Promise((resolve) => { waiting.push(resolve); give(); });
  return { WebSocket: FakeWebSocket, next };
}

const once = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));

test("the pause before a retry is drawn from nothing up to a limit that doubles", () => {
  const most = [0, 1, 2, 4, 5, 2000].map((attempt) => backoff(attempt, {}, () => 1));

  assert.deepEqual(most, [0.5, 1, 2, 8, 15, 15]);
  assert.equal(backoff(9, {}, () => 0), 0);
});

for (const [code, reason, is] of [
  [4403, "revoked", "ended"], [1001, "idle", "ended"], [1001, "lifetime", "ended"],
  [1001, "terminated", "ended"], [1001, "exited", "ended"], [1001, "the server stops", "retried"],
  [1001, "", "retried"], [1006, "", "retried"], [1012, "idle", "retried"],
  [1000, "", "closed"], [1008, "", "closed"], [4001, "idle", "closed"],
]) {
  test(`a close with ${code} ${reason} means ${is}`, () => {
    assert.equal(meaningOf(code, reason).is, is);
  });
}

test("a request to a session that boots is made again when it is asked to be", async () => {
  const early = told(503, "SessionNotReady", { "retry-after": "0.01" });
  const fetch = answering(early, early, told(200));
  const session = new Session(URL, { fetch });

  const answer = await session.fetch("/api", { method: "POST", body: "x" });

  assert.equal(answer.status, 200);
  assert.deepEqual(fetch.asked, Array(3).fill(`POST ${URL}api`));
});

for (const [status, kind] of [[410, "NoteGone"], [503, "Busy"], [404, "SessionEnded"]]) {
  test(`a ${status} of the session itself, ${kind}, is passed on`, async () => {
    const session = new Session(URL, { fetch: answering(told(status, kind)) });

    const answer = await session.fetch("api");

    assert.equal((await answer.json()).kind, kind);
    assert.equal(session.ended, null);
  });
}

for (const kind of ["SessionEnded", "UnknownToken"]) {
  test(`${kind} of the proxy ends it`, async () => {
    const session = new Session(URL, { fetch: answering(told(410, kind)) });

    await assert.rejects(session.fetch("api"), SessionEnded);

    assert.deepEqual(session.state, { phase: "ended", reason: "ended", message: `it is ${kind}` });
    assert.throws(() => session.websocket("x"), SessionEnded);
    await assert.rejects(session.ready(), SessionEnded);
  });
}

test("a request that fails is not made again", async () => {
  const fetch = answering(() => { throw new TypeError("fetch failed"); });
  const session = new Session(URL, { fetch });

  await assert.rejects(session.fetch("api"), TypeError);

  assert.equal(fetch.asked.length, 1);
});

test("a WebSocket goes to the same place with the same protocols each time", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session("https://sessions.example/token", { fetch: answering(told(200)), WebSocket, ...QUICK });
  session.websocket("/ws?a=b", ["one"]);

  const first = await next();
  first.lost(1006);
  const second = await next();

  for (const { url, protocols } of [first, second]) {
    assert.deepEqual([url, protocols], ["wss://sessions.example/token/ws?a=b", ["one"]]);
  }
  session.close();
});

test("what is sent while it is down is refused, and never sent", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket, ...QUICK });
  const socket = session.websocket("ws");
  const first = await next();
  assert.throws(() => socket.send("early"), NotConnected);
  first.opens();
  first.lost(1006);
  assert.throws(() => socket.send("late"), NotConnected);

  const second = await next();
  second.opens();
  socket.send("now");

  assert.deepEqual([first.sent, second.sent], [[], ["now"]]);
  session.close();
});

for (const [code, retry, ended] of [
  [1000, undefined, undefined], [4001, undefined, undefined], [4403, undefined, "revoked"],
]) {
  test(`after ${code} it stays closed`, async () => {
    const { WebSocket, next } = sockets();
    const session = new Session(URL, { fetch: answering(told(200)), WebSocket, ...QUICK });
    const socket = session.websocket("ws", [], { retry });
    const first = await next();
    first.opens();

    const closed = once(socket, "close");
    first.lost(code, "said so");

    const event = await closed;
    assert.deepEqual([event.code, event.reason, event.ended?.reason], [code, "said so", ended]);
    session.close();
  });
}

test("an app may have its own codes retried", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket, ...QUICK });
  session.websocket("ws", [], { retry: (code) => code === 4001 });
  const first = await next();
  first.opens();

  first.lost(4001);

  await next();
  session.close();
});

test("after 1001 with a reason the proxy is asked what it knows, and the rest is closed too", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(410, "SessionEnded")), WebSocket, ...QUICK });
  const [one, two] = [session.websocket("one"), session.websocket("two")];
  const [first, second] = [await next(), await next()];
  first.opens();
  second.opens();
  const both = Promise.all([once(one, "close"), once(two, "close")]);

  first.lost(1001, "idle");

  assert.deepEqual((await both).map(({ ended }) => ended.reason), ["idle", "idle"]);
  assert.deepEqual(session.state, { phase: "ended", reason: "idle", message: "it is SessionEnded" });
  assert.deepEqual(second.closedWith, [1000, ""]);
});

test("a signal closes one WebSocket and leaves the session", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket });
  const stop = new AbortController();
  const socket = session.websocket("ws", [], { signal: stop.signal });
  (await next()).opens();
  const closed = once(socket, "close");

  stop.abort();

  assert.equal((await closed).ended, null);
  assert.equal(session.state.phase, "ready");
  session.close();
});

test("statuses are understood however the network cuts them, and told in order", async () => {
  const encoder = new TextEncoder();
  const stream = [
    { status: "loading", detail: "pulls", pull: { image: "café", bytes: 1, total_bytes: 2 }, time: 1 },
    { status: "ready", time: 2 },
  ].map((status) => `data: ${JSON.stringify(status)}\nid: ${status.status}\n\n`);
  const bytes = encoder.encode(`:\n\n${stream.join("")}`);
  const body = () => new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const states = [];
  const session = new Session(URL, {
    statusUrl: "/pub/b/some/status",
    fetch: answering(() => new Response(body())),
    onstate: (state) => states.push(state),
  });

  await session.ready();

  assert.deepEqual(states, [
    { phase: "booting", status: "loading", detail: "pulls", pull: { image: "café", bytes: 1, total_bytes: 2 } },
    { phase: "ready" },
  ]);
});

test("where the statuses are out of reach its URL tells that it is ready", async () => {
  const fetch = async (url) => {
    if (url.includes("/status")) throw new TypeError("fetch failed");
    return new Response("");
  };
  const seldom = { firstSeconds: 1e6, mostSeconds: 1e6 };
  const session = new Session(URL, { statusUrl: "http://away.example/pub/b/some/status", fetch, ...seldom });

  await session.ready();

  assert.deepEqual(session.state, { phase: "ready" });
  session.close();
});

test("a status stream that the server does not know ends it", async () => {
  const session = new Session(URL, { statusUrl: "/pub/b/some/status", fetch: answering(told(404, "NotFound")) });

  await assert.rejects(session.ready(), { name: "SessionEnded", reason: "unknown" });
});

test("after close() nothing is asked and nothing is told", async () => {
  const fetch = answering(told(200));
  const states = [];
  const session = new Session(URL, { fetch, onstate: (state) => states.push(state) });

  session.close();

  await assert.rejects(session.ready(), { name: "AbortError" });
  await assert.rejects(session.fetch(), { name: "AbortError" });
  assert.throws(() => session.websocket(), { name: "AbortError" });
  assert.deepEqual([fetch.asked, states], [[], []]);
});

/** What `act` throws to the process: the test runner would take that for its own. */
async function uncaught(act) {
  const errors = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (task) => {
    try { task(); } catch (error) { errors.push(error.message); }
  };
  try {
    await act();
  } finally {
    globalThis.queueMicrotask = queueMicrotask;
  }
  return errors;
}

test("hooks that throw are told, and keep nothing from coming back", async () => {
  const { WebSocket, next } = sockets();
  const fail = () => { throw new Error("a hook's"); };
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket, onstate: fail, ...QUICK });
  const socket = session.websocket("ws", [], { retry: fail });
  socket.onopen = socket.ondown = fail;

  const errors = await uncaught(async () => {
    const first = await next();
    first.opens();
    first.lost(1006);
    (await next()).opens();
  });

  assert.equal(socket.connected, true);
  assert.deepEqual(new Set(errors), new Set(["a hook's"]));
  session.close();
});

test("ready fails once a session that was ready has ended", async () => {
  const fetch = answering(told(200), told(410, "SessionEnded"));
  const session = new Session(URL, { fetch });
  await session.ready();

  await assert.rejects(session.fetch(), SessionEnded);

  await assert.rejects(session.ready(), SessionEnded);
});

for (const [code, reason] of [[1001, ""], [2999, ""], [5000, ""], [3000, "\u00e9".repeat(62)]]) {
  test(`a close with ${code} and ${reason.length} letters is refused, and closes nothing`, async () => {
    const { WebSocket, next } = sockets();
    const session = new Session(URL, { fetch: answering(told(200)), WebSocket });
    const socket = session.websocket("ws");
    (await next()).opens();

    assert.throws(() => socket.close(code, reason), DOMException);

    assert.equal(socket.connected, true);
    session.close();
  });
}

test("what is closed here while it waits is told with the code that was said", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket });
  const socket = session.websocket("ws");
  const closed = once(socket, "close");
  (await next()).lost(1006);

  socket.close(3001, "enough");

  const { code, reason } = await closed;
  assert.deepEqual([code, reason], [3001, "enough"]);
});

test("a WebSocket that cannot be made is told as closed, and its error to the process", async () => {
  class Refusing { constructor() { throw new Error("no such protocol"); } }
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket: Refusing });
  let closed;

  const errors = await uncaught(async () => {
    closed = await once(session.websocket("ws", ["a b"]), "close");
  });

  assert.deepEqual([closed.code, closed.ended, errors], [1006, null, ["no such protocol"]]);
});

test("one that is given up may still tell an error, as that of the package ws does", async () => {
  const { WebSocket, next } = sockets();
  const session = new Session(URL, { fetch: answering(told(200)), WebSocket });
  session.websocket("ws");
  const first = await next();

  session.close();

  assert.equal(typeof first.onerror, "function");
});

test("options that are undefined are left out, and times without end are no storm", async () => {
  assert.equal(backoff(0, { firstSeconds: undefined }, () => 1), 0.5);
  const fetch = answering(() => { throw new TypeError("fetch failed"); });
  const endless = { firstSeconds: Infinity, mostSeconds: Infinity, attemptSeconds: Infinity };
  const session = new Session(URL, { fetch, ...endless });

  await assert.rejects(session.ready({ signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });

  assert.equal(fetch.asked.length, 1);
  session.close();
});
