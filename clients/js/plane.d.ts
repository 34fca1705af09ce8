/** Types of plane.js; times are in seconds, but for `retryAt`. */

/** Why it ended: a word of the server's, or one of these. */
export type EndReason =
  | "idle"
  | "unclaimed"
  | "lifetime"
  | "terminated"
  | "exited"
  | "oom"
  | "lost"
  | "failed"
  | "startuptimeout"
  /** Idle, unclaimed or lifetime: a status stream does not say which. */
  | "swept"
  /** The link was taken back; the session may live on for others. */
  | "revoked"
  /** The server knows no such session any more. */
  | "unknown"
  /** An HTTP 410 says so; `message` tells more. */
  | "ended"
  | (string & {});

/** What a session that boots is doing, as far as a status stream tells. */
export interface Booting {
  phase: "booting";
  status?: "scheduled" | "loading" | "starting" | "waiting";
  /** Half a sentence, for people. */
  detail?: string;
  pull?: { image: string; bytes: number; total_bytes: number | null };
}

export interface Ready {
  phase: "ready";
}

export interface Reconnecting {
  phase: "reconnecting";
  /** How many retries there were since it was last well. */
  attempt: number;
  /**
   * network: nobody answers. lost: the connection was, and the session answers HTTP.
   * refused: the session answers HTTP, but no WebSocket there. booting: it boots, or is looked for.
   */
  cause: "network" | "lost" | "refused" | "booting";
  /** When the next one is, in milliseconds since epoch; null while it is found out why. */
  retryAt: number | null;
}

export interface Ended {
  phase: "ended";
  reason: EndReason;
  /** A sentence, for people. */
  message: string;
}

export type State = Booting | Ready | Reconnecting | Ended;

export interface RetryOptions {
  /** The first retry comes within this time. Default 0.5. */
  firstSeconds?: number;
  /** The pause before a retry is never longer. Default 15. */
  mostSeconds?: number;
  /**
   * A request about the session, or the opening of a WebSocket, is given up after so long; more
   * than the proxy's `hold_seconds`, which is how long it holds both while a session boots.
   * Default 45.
   */
  attemptSeconds?: number;
}

export interface SessionOptions extends RetryOptions {
  /** `status_url` of the answer to /ctrl/connect: `ready` and `onstate` then tell of the boot. */
  statusUrl?: string | URL;
  /** Follow the statuses until the session ends, by one open request; else until it is ready. */
  follow?: boolean;
  /** Called with each new state. */
  onstate?: (state: State) => void;
  /** Its abort is a `close()`. */
  signal?: AbortSignal;
  fetch?: typeof globalThis.fetch;
  /** Needed where there is no global one: Node before 22. */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
}

export interface SocketOptions extends RetryOptions {
  /** Its abort is a `close()`. */
  signal?: AbortSignal;
  /**
   * A connection by which nothing came for so long is taken for lost; for sessions that say
   * something regularly. Default: never.
   */
  silentSeconds?: number;
  /** True to open it again after a close that is final by default: 1000, 1008, your own codes. */
  retry?: (code: number, reason: string) => boolean;
}

export class Session {
  /** `url` as /ctrl/connect answers it. */
  constructor(url: string | URL, options?: SessionOptions);
  /** Ends with a slash. */
  readonly url: string;
  readonly state: State;
  /** What every call fails with once the session is over. */
  readonly ended: SessionEnded | null;
  /** Wait until it can be used. Rejects with `SessionEnded`, or when `signal` aborts. */
  ready(options?: { signal?: AbortSignal }): Promise<void>;
  /**
   * As the global fetch, to a path below the session's URL; while the session boots it waits and
   * asks again. Rejects with `SessionEnded` too.
   */
  fetch(path?: string, init?: RequestInit): Promise<Response>;
  /** Throws `SessionEnded`. */
  websocket(path?: string, protocols?: string | string[], options?: SocketOptions): SessionSocket;
  /** Let go of the session, which lives on; its WebSockets close, no state is told any more. */
  close(): void;
}

/** Each time that it is open; `again` but for the first. */
export interface OpenEvent extends Event {
  readonly type: "open";
  readonly again: boolean;
}

export interface SocketMessage extends Event {
  readonly type: "message";
  readonly data: any;
}

/** It was lost and will be opened again. */
export interface DownEvent extends Event {
  readonly type: "down";
  readonly code: number;
  readonly reason: string;
}

/** It is over. */
export interface SocketClose extends Event {
  readonly type: "close";
  readonly code: number;
  readonly reason: string;
  /** Set when that is because the session is. */
  readonly ended: SessionEnded | null;
}

export interface SocketEvents {
  open: OpenEvent;
  message: SocketMessage;
  down: DownEvent;
  close: SocketClose;
}

/** A WebSocket that comes back, made by `Session.websocket`; nothing sent is queued or repeated. */
export class SessionSocket extends EventTarget {
  private constructor();
  readonly url: string;
  readonly connected: boolean;
  readonly protocol: string;
  readonly bufferedAmount: number;
  /** Set it before the first `open`. */
  binaryType: BinaryType;
  onopen: ((event: OpenEvent) => void) | null;
  onmessage: ((event: SocketMessage) => void) | null;
  ondown: ((event: DownEvent) => void) | null;
  onclose: ((event: SocketClose) => void) | null;
  /** Throws `NotConnected` while it is down: nothing is kept for later. */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void;
  /** Close for good; throws, as a WebSocket does, of a code but 1000 and 3000 to 4999. */
  close(code?: number, reason?: string): void;
  addEventListener<K extends keyof SocketEvents>(
    type: K,
    listener: (event: SocketEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof SocketEvents>(
    type: K,
    listener: (event: SocketEvents[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** What a `SessionSocket` tells. */
export class SocketEvent extends Event {
  constructor(type: keyof SocketEvents, fields: object);
}

/** The session is over, or the link to it was taken back: no retry will bring it back. */
export class SessionEnded extends Error {
  constructor(reason: EndReason, message: string);
  readonly reason: EndReason;
}

/** There is no connection at the moment, so nothing was sent. */
export class NotConnected extends Error {
  constructor();
}

/** How many seconds to wait before the retry after `attempt` others: full jitter, from 0 up. */
export function backoff(attempt: number, options?: RetryOptions, random?: () => number): number;

/** What the close of a WebSocket means. */
export function meaningOf(
  code: number,
  reason: string,
): { is: "ended"; reason: EndReason } | { is: "retried" } | { is: "closed" };
