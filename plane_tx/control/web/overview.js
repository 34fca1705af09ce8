/** What the server counts of all sessions: the tiles above the table, the bars beside it. */

import { Bars } from "./bars.js";
import { board } from "./board.js";
import { count, counted, duration, el, say } from "./format.js";
import { groupOf, isFault } from "./statuses.js";

const PHASES = { pull: "pull", create: "create", start: "start", ready: "until ready" };

/** A turn of the reactor that takes longer is felt. */
const LATE_SECONDS = 0.05;

export class Overview {
  tiles = new Map();
  boots = new Bars("Boot time", "Nothing has booted yet.");
  phases = new Bars("Boot phases, on average", "Nothing has booted yet.");
  spawns = new Bars("Spawns by outcome", "Nothing was spawned yet.");
  ends = new Bars("Ends by reason", "Nothing has ended yet.");
  refusals = new Bars("Refusals", "Nothing was refused.");
  lag = new Bars("Reactor lag", "Not measured yet.");

  constructor() {
    const cards = [this.boots, this.phases, this.spawns, this.ends, this.refusals, this.lag];
    document.getElementById("rail").append(...cards.map((card) => card.element));
    for (const title of ["Live", "Booting", "Connections", "Spawns", "Refusals", "Reactor lag"]) {
      this.addTile(title);
    }
    board.addEventListener("overview", () => this.draw());
  }

  addTile(title) {
    const value = el("span", { class: "figure" }, "–");
    const note = el("span", { class: "note" });
    document
      .getElementById("tiles")
      .append(el("div", null, el("dt", null, title), el("dd", null, value, note)));
    this.tiles.set(title, { value, note });
  }

  tell(title, value, note = "") {
    const tile = this.tiles.get(title);
    say(tile.value, value);
    say(tile.note, note);
  }

  draw() {
    const told = board.overview;
    this.drawTiles(told);
    this.drawBoots(told);
    this.spawns.draw(byCount(told.spawns, (outcome) => (outcome === "ready" ? "good" : "bad")));
    const ends = byCount(told.ends, (reason) => (isFault(reason) ? "bad" : "plain"));
    this.ends.draw(ends, reaped(told.reaps));
    this.refusals.draw(byCount(told.refusals, () => "warn"));
    this.lag.draw(histogram(told.lag), `At worst ${duration(told.lag.last)} in the last second.`);
  }

  drawTiles(told) {
    const live = groups(told.statuses);
    const spawned = total(told.spawns);
    const failed = spawned - (told.spawns.ready ?? 0);
    const { clients, sessions } = told.connections;
    this.tell("Live", count(live.booting + live.ready + live.ending), `${count(live.ready)} ready`);
    this.tell("Booting", count(live.booting), live.ending ? `${count(live.ending)} ending` : "");
    this.tell("Connections", count(clients), `${count(sessions)} to sessions`);
    this.tell(
      "Spawns",
      count(spawned),
      failed ? `${count(failed)} failed` : counted(told.joins, "join"),
    );
    this.tell("Refusals", count(total(told.refusals)), errors(told.upstream_errors));
    this.tell(
      "Reactor lag",
      duration(told.lag.last),
      told.lag.last > LATE_SECONDS ? "late" : "last second",
    );
  }

  drawBoots({ boot, phases }) {
    const mean = boot.count ? boot.seconds / boot.count : 0;
    this.boots.draw(
      histogram(boot),
      `${counted(boot.count, "boot")}, ${duration(mean)} on average.`,
    );
    const averages = Object.entries(phases).filter(([, phase]) => phase.count);
    this.phases.draw(
      averages.map(([name, phase]) => {
        const value = phase.seconds / phase.count;
        return { name: PHASES[name] ?? name, value, text: duration(value), tone: "busy" };
      }),
    );
  }
}

/** Which of the ends a clock of the server brought about. */
function reaped(reaps) {
  const told = byCount(reaps, () => "plain").map(({ name, text }) => `${name} ${text}`);
  return told.length ? `Reaped by a clock of the server: ${told.join(", ")}.` : "";
}

function errors(number) {
  return number ? counted(number, "upstream error") : "";
}

function groups(statuses) {
  const sums = { booting: 0, ready: 0, ending: 0, ended: 0 };
  for (const [status, number] of Object.entries(statuses)) sums[groupOf(status)] += number;
  return sums;
}

function total(counts) {
  return Object.values(counts).reduce((sum, number) => sum + number, 0);
}

/** Counts as bars, most first. */
function byCount(counts, toneOf) {
  return Object.entries(counts)
    .filter(([, value]) => value)
    .sort(([, one], [, other]) => other - one)
    .map(([name, value]) => ({ name, value, text: count(value), tone: toneOf(name) }));
}

/** The buckets from the first that has anything to the last. */
function histogram({ bounds, counts }) {
  const filled = counts.map((number) => number > 0);
  const first = filled.indexOf(true);
  if (first < 0) return [];
  const bars = counts.map((value, place) => ({
    name: bucketName(bounds, place),
    value,
    text: count(value),
  }));
  return bars.slice(first, filled.lastIndexOf(true) + 1);
}

function bucketName(bounds, place) {
  return place < bounds.length ? `≤ ${duration(bounds[place])}` : `> ${duration(bounds.at(-1))}`;
}
