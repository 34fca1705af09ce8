/** What one session takes of the box and moves through the proxy, as charts. */

import { stream } from "./api.js";
import { lineChart } from "./charts.js";
import { bytes, count, counted, el } from "./format.js";

const SECONDS = 600;

const percent = { unit: "%", least: 5, format: (n) => `${n.toFixed(n < 10 ? 1 : 0)} %` };
const size = { unit: "B", format: bytes };
const rate = { unit: "B/s", least: 1024, format: (n) => `${bytes(n)}/s` };

/** @typedef {(sample: any, before: any) => (number | null)[]} Values */

/** @type {{title: string, series: any[], values: Values}[]} */
const CHARTS = [
  {
    title: "CPU, of one core",
    series: [{ label: "cpu", ...percent }],
    values: (sample) => [sample.cpu_percent],
  },
  {
    title: "Memory",
    series: [
      { label: "in use", ...size },
      { label: "limit", ceiling: true, ...size },
    ],
    values: (sample) => [sample.memory_bytes, sample.memory_limit_bytes],
  },
  {
    title: "Network of the session",
    series: [
      { label: "received", ...rate },
      { label: "sent", ...rate },
    ],
    values: (sample, before) => rates(sample, before, "network", "received_bytes", "sent_bytes"),
  },
  {
    title: "Through the proxy",
    series: [
      { label: "from clients", ...rate },
      { label: "to clients", ...rate },
    ],
    values: (sample, before) =>
      rates(sample, before, "proxy", "bytes_from_clients", "bytes_to_clients"),
  },
];

/** Bytes a second since the sample before; null for what is not told. */
function rates(sample, before, part, ...names) {
  const now = sample[part];
  const then = before?.[part];
  const seconds = before ? (sample.time - before.time) / 1000 : 0;
  if (!now || !then || seconds <= 0) return names.map(() => null);
  return names.map((name) => Math.max(0, now[name] - then[name]) / seconds);
}

/**
 * Show charts of a session in `root` for as long as it lives.
 * @param {HTMLElement} root
 * @param {string} id
 * @param {() => boolean} ended
 * @returns {() => void} ends it
 */
export function showStats(root, id, ended) {
  const panel = new StatsPanel(root);
  const stopping = new AbortController();
  stream(`/ctrl/b/${encodeURIComponent(id)}/stats?stream=true`, {
    onEvent: (_name, sample) => panel.take(sample),
    onDown(error) {
      const over = ended() && !error;
      panel.say(over ? "The session has ended: there are no more samples." : wordsOf(error));
      if (over) stopping.abort();
    },
    signal: stopping.signal,
  });
  return () => {
    stopping.abort();
    panel.destroy();
  };
}

function wordsOf(error) {
  return error ? `No samples: ${error.message}.` : "Connecting again.";
}

class StatsPanel {
  constructor(root) {
    this.before = null;
    /** The charts of what the engine tells, by their place among all. */
    this.charts = new Map();
    this.told = el("p", { class: "stats-told" }, "The first sample takes a second.");
    this.places = CHARTS.map(() => el("div", { class: "chart-place" }));
    root.replaceChildren(el("div", { class: "charts" }, this.places), this.told);
  }

  say(text) {
    this.told.textContent = text;
  }

  take(sample) {
    CHARTS.forEach(({ title, series, values }, index) => {
      const numbers = values(sample, this.before);
      const told = numbers.some((number) => number !== null);
      if (told && !this.charts.has(index)) {
        const wanted = { title, series, seconds: SECONDS };
        this.charts.set(index, lineChart(this.places[index], wanted));
      }
      this.charts.get(index)?.push(sample.time, numbers);
    });
    this.before = sample;
    this.say(inWords(sample));
  }

  destroy() {
    for (const chart of this.charts.values()) chart.destroy();
  }
}

/** What has no chart of its own. */
function inWords({ pids, cpu_seconds: cpu, proxy }) {
  const said = [
    pids !== null && counted(pids, "process or thread", "processes or threads"),
    cpu !== null && `${cpu.toFixed(1)} s of CPU time so far`,
    counted(proxy.requests, "request"),
    `${counted(proxy.messages_from_clients, "message")} from clients`,
    `${count(proxy.messages_to_clients)} to them`,
  ];
  return `${said.filter(Boolean).join(", ")}.`;
}
