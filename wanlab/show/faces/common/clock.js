/* One clock: which of `count` pictures is due. Everything that is shown together asks the same clock. */

class Clock {
  playing = false; // what the person wants
  awake = false; // whether the page is in view: nothing is animated for nobody
  speed = 1;
  loop = true;
  pingpong = false;
  #position = 0; // counts on through a pingpong's way back
  #request = 0;

  /* `changed(moved)`: only another picture is due (true), or something else may have changed as well. */
  constructor(count, rate, changed) {
    Object.assign(this, { count, rate, changed });
  }

  get period() {
    return this.pingpong && this.count > 1 ? 2 * this.count - 2 : this.count;
  }

  get index() {
    return this.#indexAt(this.#position);
  }

  /* Where it stops if it does not loop: a pingpong comes back to its first picture. */
  get end() {
    return this.pingpong && this.count > 1 ? this.period : this.count - 1;
  }

  /* The pictures that are due after this one, at most `most`. */
  ahead(most) {
    const count = Math.min(most, this.period - 1);
    return Array.from({ length: count }, (_, place) => this.#indexAt((this.#position + place + 1) % this.period));
  }

  set(options) {
    this.#position = this.index; // a pingpong that is switched off on its way back must not jump
    Object.assign(this, options);
    this.#schedule();
    this.changed(false);
  }

  seek(index) {
    this.#position = ((index % this.count) + this.count) % this.count;
    this.set({ playing: false });
  }

  toggle() {
    if (!this.playing && !this.loop && this.#position === this.count - 1) this.#position = 0;
    this.set({ playing: !this.playing });
  }

  stop() {
    cancelAnimationFrame(this.#request);
    this.playing = false;
  }

  #indexAt(position) {
    return position < this.count ? position : this.period - position;
  }

  #schedule() {
    cancelAnimationFrame(this.#request);
    if (!this.playing || !this.awake || this.count < 2) return;
    const start = this.#position;
    // From the first tick's own time on: it may lie before the performance.now() of the click.
    let [before, passed] = [null, 0];
    const tick = (now) => {
      passed += wholeIfNearly(((now - (before ?? now)) / 1000) * this.rate * this.speed);
      before = now;
      const reached = start + Math.floor(passed + CLOSE);
      const ended = !this.loop && reached >= this.end;
      const position = (ended ? this.end : reached) % this.period;
      const moved = position !== this.#position;
      this.#position = position;
      if (ended) return this.set({ playing: false });
      this.#request = requestAnimationFrame(tick);
      if (moved) this.changed(true);
    };
    this.#request = requestAnimationFrame(tick);
  }
}

/* A display draws at 59.94 or 60.01 a second, and its ticks come a little early or late: without this, clips of 60 frames a
 * second would show one picture twice and leave out the next whenever a tick falls on the other side of a frame's begin. */
const CLOSE = 0.03; // of a frame
function wholeIfNearly(frames) {
  const whole = Math.round(frames);
  return whole && Math.abs(frames - whole) < CLOSE * whole ? whole : frames;
}
