/* One clock: which of `count` pictures is due. Everything that is shown together asks the same clock. */

class Clock {
  playing = false; // what the person wants
  awake = false; // whether the page is in view: nothing is animated for nobody
  speed = 1;
  loop = true;
  pingpong = false;
  #position = 0; // counts on through a pingpong's way back
  #request = 0;

  constructor(count, rate, changed) {
    Object.assign(this, { count, rate, changed });
  }

  get period() {
    return this.pingpong && this.count > 1 ? 2 * this.count - 2 : this.count;
  }

  get index() {
    return this.#position < this.count ? this.#position : this.period - this.#position;
  }

  /* Where it stops if it does not loop: a pingpong comes back to its first picture. */
  get end() {
    return this.pingpong && this.count > 1 ? this.period : this.count - 1;
  }

  set(options) {
    this.#position = this.index; // a pingpong that is switched off on its way back must not jump
    Object.assign(this, options);
    this.#schedule();
    this.changed();
  }

  seek(index) {
    this.#position = ((index % this.count) + this.count) % this.count;
    this.set({ playing: false });
  }

  toggle() {
    if (!this.playing && !this.loop && this.#position === this.count - 1) this.#position = 0;
    this.set({ playing: !this.playing });
  }

  #schedule() {
    cancelAnimationFrame(this.#request);
    if (!this.playing || !this.awake || this.count < 2) return;
    const start = this.#position;
    let origin = null; // the first tick's own time: it may lie before the performance.now() of the click
    const tick = (now) => {
      origin ??= now;
      const reached = start + Math.floor(((now - origin) / 1000) * this.rate * this.speed);
      const ended = !this.loop && reached >= this.end;
      const position = (ended ? this.end : reached) % this.period;
      const moved = position !== this.#position;
      this.#position = position;
      if (ended) return this.set({ playing: false });
      this.#request = requestAnimationFrame(tick);
      if (moved) this.changed();
    };
    this.#request = requestAnimationFrame(tick);
  }
}
