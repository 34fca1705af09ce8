/** Does something again whenever it is asked to, but never twice at once, and not too often. */

export class Rounds {
  /**
   * @param {() => Promise<void>} work which does not fail
   * @param {number} leastMs how far the starts of two rounds are apart, at least
   */
  constructor(work, leastMs) {
    this.work = work;
    this.leastMs = leastMs;
    this.last = -Infinity;
    this.asked = false;
    this.running = false;
    this.over = false;
    this.timer = 0;
    this.later = 0;
  }

  /** Have a round begin as soon as it may. */
  ask() {
    this.asked = true;
    this.next();
  }

  /** The same after so many milliseconds. @param {number} ms */
  askLater(ms) {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.ask(), ms);
  }

  stop() {
    this.over = true;
    clearTimeout(this.timer);
    clearTimeout(this.later);
  }

  next() {
    if (this.running || this.over || !this.asked) return;
    clearTimeout(this.timer);
    const wait = this.last + this.leastMs - performance.now();
    if (wait > 0) this.timer = setTimeout(() => this.next(), wait);
    else this.run();
  }

  async run() {
    this.asked = false;
    this.running = true;
    this.last = performance.now();
    await this.work();
    this.running = false;
    this.next();
  }
}
