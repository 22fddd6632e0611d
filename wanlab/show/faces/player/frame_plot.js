/* One plot: lines over the frames of a clip, with a line at the frame that the clock shows. Clicking or dragging moves it. */

class FramePlot {
  static HEIGHT = 150;
  static EDGE = { left: 44, right: 26, top: 10, bottom: 30 };
  static LETTERS = 11; // pixels between two lines of text

  constructor(clock) {
    this.clock = clock;
    this.svg = shape("svg", { class: "plot", role: "img", height: FramePlot.HEIGHT });
    this.svg.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  /* `series`: each a mark (whose colour the style sheet has), values or null by frame, and for clips their index. `low` is
   * where the axis begins; without it, near the least value. */
  draw(series, low, width, told) {
    const { svg } = this;
    const { top, bottom } = FramePlot.EDGE;
    const known = series.flatMap((one) => one.values).filter((value) => value !== null);
    const [from, to] = [low ?? Math.min(...known), Math.max(...known)];
    this.ticks = roundNumbers(from, to > from ? to : from + 1);
    this.width = width;
    this.cursor = shape("path", { class: "cursor", d: `M0 ${top}V${FramePlot.HEIGHT - bottom}` });
    svg.setAttribute("viewBox", `0 0 ${width} ${FramePlot.HEIGHT}`);
    svg.setAttribute("aria-label", told);
    const lines = series.map((one) => this.#line(one));
    svg.replaceChildren(...this.#values(), ...this.#frames(), ...lines, ...this.#ends(series), this.cursor);
    this.follow();
  }

  /* With every frame: only the line moves. */
  follow() {
    this.cursor?.setAttribute("transform", `translate(${this.#x(this.clock.index)})`);
  }

  #x(frame) {
    const { left, right } = FramePlot.EDGE;
    return left + (frame / Math.max(1, this.clock.count - 1)) * (this.width - left - right);
  }

  #y(value) {
    const { top, bottom } = FramePlot.EDGE;
    const [low, high] = [this.ticks[0], this.ticks.at(-1)];
    return FramePlot.HEIGHT - bottom - ((value - low) / (high - low)) * (FramePlot.HEIGHT - top - bottom);
  }

  #values() {
    const { left, right } = FramePlot.EDGE;
    return this.ticks.flatMap((tick) => [
      shape("path", { class: "grid", d: `M${left} ${this.#y(tick)}H${this.width - right}` }),
      shape("text", { x: left - 6, y: this.#y(tick) + 4, "text-anchor": "end" }, Number(tick.toPrecision(6))),
    ]);
  }

  /* The first and the last frame, and round ones where there is room between. */
  #frames() {
    const last = this.clock.count;
    const [begin, end] = [this.#x(0) + 60, this.#x(last - 1) - 30];
    const free = (frame) => Number.isInteger(frame) && this.#x(frame - 1) > begin && this.#x(frame - 1) < end;
    const between = last > 2 ? roundNumbers(1, last, Math.max(2, Math.round(this.width / 110))).filter(free) : [];
    const y = FramePlot.HEIGHT - FramePlot.EDGE.bottom + 14;
    return [...new Set([1, ...between, last])].map((frame) => {
      const [anchor, text] = frame === 1 ? ["start", "frame 1"] : ["middle", frame];
      return shape("text", { x: this.#x(frame - 1), y, "text-anchor": anchor }, text);
    });
  }

  #line({ mark, values }) {
    const points = values.flatMap((value, frame) => (value === null ? [] : [`${this.#x(frame)} ${this.#y(value)}`]));
    if (points.length > 1) return shape("path", { class: `line ${mark}`, d: `M${points.join("L")}` });
    const [cx, cy] = points.length ? points[0].split(" ") : [0, 0];
    return shape("circle", { class: `point ${mark}`, cx, cy, r: points.length ? 3 : 0 });
  }

  /* Each clip's number at the end of its line: moved down where lines end together, then up from the bottom. */
  #ends(series) {
    const places = series
      .filter(({ index, values }) => index !== undefined && values.at(-1) !== null)
      .map(({ index, mark, values }) => ({ index, mark, x: this.#x(values.length - 1) + 6, y: this.#y(values.at(-1)) }))
      .sort((one, other) => one.y - other.y);
    places.forEach((place, index) => {
      place.y = Math.max(place.y, index ? places[index - 1].y + FramePlot.LETTERS : 0);
    });
    let lowest = FramePlot.HEIGHT - FramePlot.EDGE.bottom;
    for (const place of places.reverse()) {
      place.y = Math.min(place.y, lowest);
      lowest = place.y - FramePlot.LETTERS;
    }
    return places.map(({ index, mark, x, y }) => shape("text", { class: `end ${mark}`, x, y: y + 4 }, index + 1));
  }

  #drag(event) {
    if (event.button) return;
    const { svg, clock } = this;
    const last = clock.count - 1;
    const move = ({ clientX }) => {
      const across = (clientX - svg.getBoundingClientRect().left - this.#x(0)) / (this.#x(last) - this.#x(0) || 1);
      const frame = Math.round(Math.min(1, Math.max(0, across)) * last);
      if (frame !== clock.index || clock.playing) clock.seek(frame);
    };
    svg.setPointerCapture(event.pointerId);
    svg.onpointermove = move;
    svg.onpointerup = svg.onpointercancel = () => (svg.onpointermove = null);
    move(event);
  }
}
