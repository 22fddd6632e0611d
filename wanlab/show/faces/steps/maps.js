/* Latents and velocities as maps: numbers that travel as bytes and are painted as colours. */

const ZERO = 127; // the byte that stands for 0; 0 and 254 are the two ends of the scale
const NORM = -1; // all channels together: the root of the sum of their squares
const [BLUE, WHITE, RED] = [[33, 102, 172], [247, 247, 247], [178, 24, 43]];

const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

class Maps {
  #norms = {}; // the norm of each kind that gets the strongest colour

  constructor(page) {
    Object.assign(this, page.maps); // channels, frames, height, width, every
    Object.assign(this, { scales: page.scales, limits: page.limits });
    this.runs = page.runs.map((run) => ({ latents: toBytes(run.latents), velocity: toBytes(run.velocity) }));
    this.cells = this.height * this.width;
  }

  /* The latent frame, among those that are here, to which a frame of pixels belongs: 0 is alone, then four share one. */
  frameOf(pixelFrame) {
    return Math.min(this.frames - 1, Math.floor(Math.ceil(pixelFrame / 4) / this.every));
  }

  /* The numbers of a tile at a place, one step a run; of two runs also what the first has more than the second. */
  tile(kind, place, frame, channel, which) {
    if (channel !== NORM) return this.channel(kind, place, frame, channel, which);
    const sums = new Float32Array(this.cells);
    for (let each = 0; each < this.channels; each += 1) {
      this.channel(kind, place, frame, each, which).forEach((value, cell) => (sums[cell] += value * value));
    }
    return sums.map(Math.sqrt);
  }

  channel(kind, place, frame, channel, which) {
    if (which !== "difference") return this.numbers(kind, which, place[which], frame, channel);
    const [values, others] = [0, 1].map((run) => this.numbers(kind, run, place[run], frame, channel));
    return values.map((value, cell) => value - others[cell]);
  }

  numbers(kind, run, step, frame, channel) {
    const begin = ((step * this.channels + channel) * this.frames + frame) * this.cells;
    const unit = this.scales[kind] / ZERO;
    return Float32Array.from(this.runs[run][kind].subarray(begin, begin + this.cells), (byte) => (byte - ZERO) * unit);
  }

  /* The number that gets the strongest colour: one for all steps, so that they can be compared. One in 200 is larger. */
  limit(kind, channel) {
    return channel === NORM ? (this.#norms[kind] ??= this.largeNorm(kind)) : this.limits[kind];
  }

  largeNorm(kind) {
    const block = this.frames * this.cells; // of one channel
    const norms = this.runs.flatMap(({ [kind]: bytes }) => {
      const found = [];
      for (let step = 0; step < bytes.length; step += block * this.channels) {
        for (let cell = step; cell < step + block; cell += 1) {
          let sum = 0;
          for (let at = cell; at < step + block * this.channels; at += block) sum += (bytes[at] - ZERO) ** 2;
          found.push(sum);
        }
      }
      return found;
    });
    norms.sort((one, other) => one - other);
    return (Math.sqrt(norms[Math.floor(0.995 * (norms.length - 1))]) * this.scales[kind]) / ZERO || 1;
  }

  /* Channels from blue over white to red, norms from black to white. */
  paint(canvas, values, limit, channel) {
    Object.assign(canvas, { width: this.width, height: this.height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.width, this.height);
    values.forEach((value, cell) => {
      const part = Math.min(1, Math.abs(value) / limit);
      const end = value < 0 ? BLUE : RED;
      const colour = channel === NORM ? [255 * part, 255 * part, 255 * part] : WHITE.map((from, i) => from + part * (end[i] - from));
      image.data.set([...colour, 255], 4 * cell);
    });
    context.putImageData(image, 0, 0);
  }
}
