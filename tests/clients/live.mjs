// A session from Node, from its boot to its end: `node live.mjs CLIENT URL STATUS_URL STOP_URL`.

const [client, url, statusUrl, stopUrl] = process.argv.slice(2);
const { Session } = await import(client);
const phases = [];
let ended;
const over = new Promise((resolve) => { ended = resolve; });
const onstate = (state) => {
  phases.push(state.phase);
  if (state.phase === "ended") ended(state);
};
const session = new Session(url, { statusUrl, follow: true, onstate });

await session.ready();
const said = await (await session.fetch("say?text=hello")).text();
let heard = "ok"; // of a Node that has no WebSocket nothing more is asked
if (globalThis.WebSocket) {
  const socket = session.websocket("socket");
  socket.onopen = () => socket.send("ping");
  heard = await new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(data); });
}
await fetch(stopUrl, { method: "POST" });
const { reason, message } = await over;

console.log(JSON.stringify({ said, heard, reason, message, last: phases.at(-1) }));
