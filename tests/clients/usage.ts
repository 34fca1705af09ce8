// What an app writes, and what the compiler is to refuse: only ever compiled.

import {
  NotConnected, Session, SessionEnded, SessionSocket, SocketEvent, backoff, meaningOf,
  type SocketClose, type State,
} from "plane-tx";

function show(state: State): string {
  switch (state.phase) {
    case "booting":
      return state.pull ? `${state.pull.bytes} of ${state.pull.total_bytes ?? "?"}` : state.detail ?? "";
    case "ready":
      return "";
    case "reconnecting":
      return state.retryAt === null ? state.cause : `${state.attempt} at ${new Date(state.retryAt)}`;
    case "ended":
      return `${state.reason}: ${state.message}`;
  }
}

export async function use(url: string, signal: AbortSignal): Promise<SessionSocket | null> {
  const session = new Session(url, {
    statusUrl: new URL("/pub/b/x/status", url), follow: true, signal, fetch, WebSocket,
    onstate: (state) => console.log(show(state)), firstSeconds: 1, mostSeconds: 2, attemptSeconds: 3,
  });
  try {
    await session.ready({ signal });
  } catch (error) {
    if (error instanceof SessionEnded) console.log(error.reason === "idle", error.message);
    return null;
  }
  const answer: Response = await session.fetch("api", { method: "POST", body: "x", signal });
  const socket = session.websocket("ws", ["one"], {
    signal, silentSeconds: 9, retry: (code, reason) => code === 4001 && reason !== "",
  });
  socket.binaryType = "arraybuffer";
  socket.onopen = ({ again }) => again || socket.send(new Uint8Array(1));
  socket.onclose = ({ code, ended }: SocketClose) => console.log(code, ended?.reason);
  socket.addEventListener("down", ({ code, reason }) => console.log(code, reason));
  socket.addEventListener("message", ({ data }) => console.log(data, answer.status));
  socket.close(3000, "enough");
  const meaning = meaningOf(1001, "idle");
  console.log(meaning.is === "ended" && meaning.reason, backoff(1, {}, () => 0.5));
  console.log(new NotConnected().name, new SocketEvent("open", {}).type, session.ended?.message);
  return socket;
}

export function refused(session: Session, state: State): void {
  // @ts-expect-error  a state is read by its phase
  state.message;
  // @ts-expect-error  there is no such phase
  state.phase === "closed";
  // @ts-expect-error  what it is told
  session.state = state;
  // @ts-expect-error  a session makes them
  new SessionSocket();
  // @ts-expect-error  no such option
  new Session("", { status: "" });
}
