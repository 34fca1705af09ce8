/**
 * The Language Server Protocol over a WebSocket of the session: JSON-RPC, a message each.
 *
 * Each connection has a language server of its own, so all it must know is said on every `open`.
 */
export class LanguageServer {
  #socket;
  #last = 0;
  #waiting = new Map();

  /** `onnotification(method, params)` hears what the server says by itself. */
  constructor(socket, { onopen, onnotification }) {
    this.#socket = socket;
    socket.onopen = onopen;
    socket.onmessage = ({ data }) => this.#heard(JSON.parse(data), onnotification);
    socket.ondown = socket.onclose = () => this.#lost();
  }

  /** Its result; rejects when the server refuses, and when the connection is lost. */
  request(method, params) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#send({ id, method, params }); // throws while there is no connection, which rejects this
      this.#waiting.set(id, { resolve, reject });
    });
  }

  notify(method, params) {
    this.#send({ method, params });
  }

  #send(message) {
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", ...message }));
  }

  #heard({ id, method, params, result, error }, onnotification) {
    if (method && id === undefined) return onnotification(method, params);
    if (method) return this.#send({ id, result: null }); // it asks for what this page does not have
    const { resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error) reject?.(new Error(error.message));
    else resolve?.(result);
  }

  #lost() {
    for (const { reject } of this.#waiting.values()) reject(new Error("the connection was lost"));
    this.#waiting.clear();
  }
}
