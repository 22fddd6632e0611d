/* Axes of charts: where a value lies between 0 and 1, and which marks are written beside it. Numbers, times and categories. */

class RunAxis {
  static MOST_MARKS = 12;

  /* `values` are those of the rows in the chart; `log` is taken only where all of them are above 0. */
  constructor(column, values, log = false) {
    this.column = column;
    const known = values.filter((value) => value !== null);
    this.unknown = values.length - known.length;
    this.times = column.name === "created";
    const numbers = known.every((value) => ["number", "bigint"].includes(typeof value));
    if (this.times || (numbers && known.length)) this.#numeric(known.map((value) => this.#number(value)), log);
    else this.#categories(known);
  }

  get unit() {
    return [this.column.unit, this.log && "log"].filter(Boolean).join(", ");
  }

  get label() {
    return this.unit ? `${this.column.name} (${this.unit})` : this.column.name;
  }

  #number(value) {
    return this.times ? new Date(value).valueOf() : Number(value);
  }

  #numeric(numbers, log) {
    const finite = numbers.filter(Number.isFinite);
    let low = finite.reduce((least, number) => Math.min(least, number), Infinity);
    let high = finite.reduce((most, number) => Math.max(most, number), -Infinity);
    if (low > high) [low, high] = [0, 1];
    this.log = log && low > 0 && !this.times;
    const scale = this.log ? Math.log10 : (number) => number;
    const whole = finite.every(Number.isInteger) && !this.times;
    if (low === high) [low, high] = this.log ? [low / 2, high * 2] : [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
    const [first, last] = [scale(low), scale(high)];
    this.position = (value) => (value === null ? null : (scale(this.#number(value)) - first) / (last - first));
    this.value = (position) => (this.log ? 10 ** (first + position * (last - first)) : first + position * (last - first));
    this.marks = (this.log ? RunAxis.#powers(low, high) : RunAxis.#even(low, high, this.times, whole)).map((number) => ({
      at: (scale(number) - first) / (last - first),
      text: this.told(number),
    }));
  }

  #categories(known) {
    const text = (value) => RunData.text(value, this.column);
    const levels = [...new Set(known.map(text))].sort((one, other) => one.localeCompare(other, undefined, { numeric: true }));
    const places = new Map(levels.map((level, place) => [level, levels.length > 1 ? place / (levels.length - 1) : 0.5]));
    const every = Math.ceil(levels.length / RunAxis.MOST_MARKS);
    this.levels = levels;
    this.position = (value) => (value === null ? null : (places.get(text(value)) ?? null));
    this.marks = levels.filter((_, place) => place % every === 0).map((level) => ({ at: places.get(level), text: level }));
    this.value = (position) => levels[Math.round(position * (levels.length - 1))];
  }

  /* A value of this axis as text, for marks and ranges. */
  told(value) {
    if (typeof value !== "number") return String(value);
    return this.times ? RunData.time(new Date(value).toISOString()).slice(5) : short(value);
  }

  static #even(low, high, times, whole) {
    const rough = Math.max((high - low) / 5, whole ? 1 : 0);
    const minutes = [60e3, 300e3, 900e3, 36e5, 144e5, 432e5, 864e5, 6048e5, 2592e6];
    const step = times
      ? (minutes.find((each) => each >= rough) ?? Math.ceil(rough / 2592e6) * 2592e6)
      : roundStep(rough);
    const marks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && marks.length < 20; k += 1) marks.push(k * step);
    return marks;
  }

  static #powers(low, high) {
    const marks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const factor of high / low > 300 ? [1] : [1, 2, 5]) marks.push(factor * 10 ** power);
    }
    const inside = marks.filter((mark) => mark >= low * 0.999 && mark <= high * 1.001);
    return inside.length ? inside : [low, high];
  }
}

/* A colour for each value of a column: of a few for categories, between two for numbers. */
class RunColours {
  static FEW = ["#2f7de1", "#e0662f", "#2a9d5c", "#b455d6", "#c9a01d", "#d6336c", "#1aa5a5", "#8a7a6a"];
  static UNKNOWN = "#8888";

  constructor(column, values) {
    this.axis = column ? new RunAxis(column, values) : null;
  }

  of(value) {
    if (!this.axis) return RunColours.FEW[0];
    const at = this.axis.position(value);
    if (at === null || !Number.isFinite(at)) return RunColours.UNKNOWN;
    if (!this.axis.levels) return RunColours.between(at);
    return RunColours.FEW[this.axis.levels.indexOf(RunData.text(value, this.axis.column)) % RunColours.FEW.length];
  }

  /* Blue to red by way of violet: dark enough on white, light enough on black. */
  static between(at) {
    return `hsl(${Math.round(215 + 160 * at)} 75% 55%)`;
  }

  legend() {
    if (!this.axis) return [];
    const key = (colour, text) => {
      const entry = make("span", { className: "key" }, make("i"), text);
      entry.firstChild.style.background = colour;
      return entry;
    };
    const name = make("b", { textContent: this.axis.label });
    const few = RunColours.FEW;
    if (this.axis.levels) {
      const levels = this.axis.levels.slice(0, few.length).map((level, place) => key(few[place], level));
      const more = this.axis.levels.length - few.length;
      return [name, ...levels, ...(more > 0 ? [`and ${more} more, in the same colours again`] : [])];
    }
    const [low, high] = [0, 1].map((end) => this.axis.told(this.axis.value(end)));
    const ramp = make("i", { className: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(RunColours.between).join(", ")})`;
    return [name, make("span", { className: "key" }, low, ramp, high)];
  }
}
