/* Curves beneath the clips: a number for each frame of each clip, with a line at the frame that the player's clock shows.
 *
 * The numbers come from Python, measured on the frames themselves; here they are drawn, told for the current frame, and
 * listed in a table. Clicking or dragging on a curve moves the clock.
 */

class FrameCurves {
  static HEIGHT = 150;
  static EDGE = { left: 44, right: 26, top: 10, bottom: 30 };
  static EVERY = 100; // milliseconds between changes of the numbers while it plays: nobody reads faster
  static MEASURES = {
    difference: { text: "Difference", axis: "mean difference, of 255", low: 0 },
    flicker: { text: "Flicker", axis: "mean change since the frame before, of 255", low: 0 },
    colour: { text: "Mean colour", axis: "mean of each colour, of 255" },
    red: { text: "Mean red", axis: "mean red, of 255", channel: 0 },
    green: { text: "Mean green", axis: "mean green, of 255", channel: 1 },
    blue: { text: "Mean blue", axis: "mean blue, of 255", channel: 2 },
  };

  constructor(content, part, clock) {
    Object.assign(this, { curves: content.curves, labels: content.clips.map((clip) => clip.label), part, clock });
    const several = this.labels.length > 1;
    this.measure = several ? "difference" : "flicker";
    this.reference = 0;
    this.#build(several ? ["difference", "flicker", "red", "green", "blue"] : ["flicker", "colour"]);
    part.curves.open = several;
    part.curves.hidden = false;
    part.curves.addEventListener("toggle", () => this.draw());
  }

  #build(measures) {
    const { part, labels } = this;
    const options = measures.map((value) => make("option", { value, textContent: FrameCurves.MEASURES[value].text }));
    this.which = make("select", { ariaLabel: "Curve", title: "Curve" }, ...options);
    this.which.addEventListener("input", () => this.#choose({ measure: this.which.value }));
    this.to = make("select", { ariaLabel: "Reference clip", title: "Reference clip" }, ...optionsOf(labels));
    this.to.addEventListener("input", () => this.#choose({ reference: Number(this.to.value) }));
    this.chooser = make("label", { className: "group" }, "to", this.to);
    this.axis = make("p", { className: "axis-name" });
    this.svg = FrameCurves.shape("svg", { class: "plot", role: "img" });
    this.svg.addEventListener("pointerdown", (event) => this.#drag(event));
    this.legend = make("ul", { className: "legend" });
    this.table = make("details", { className: "numbers" }, make("summary", { textContent: "These numbers as a table" }));
    this.table.addEventListener("toggle", () => this.#fillTable());
    part.curvesBody.replaceChildren(make("div", { className: "bar options" }, this.which, this.chooser), this.axis, this.svg, this.legend, this.table);
  }

  #choose(options) {
    Object.assign(this, options);
    this.draw();
    this.#fillTable();
  }

  /* What is drawn: a name, a mark (whose colour the style sheet has), and a value or null for each frame. */
  get series() {
    const { measure, curves, labels, reference } = this;
    if (measure === "colour") return ["red", "green", "blue"].map((name, channel) => ({ name, mark: name, values: curves.colour[0][channel] }));
    const { channel } = FrameCurves.MEASURES[measure];
    const values = (index) => {
      if (measure === "difference") return index === reference ? null : this.difference(index, reference);
      return measure === "flicker" ? curves.flicker[index] : curves.colour[index][channel];
    };
    return labels.map((name, index) => ({ name, index, mark: `clip-${index + 1}`, values: values(index) })).filter((one) => one.values);
  }

  /* The difference of two clips in each frame. */
  difference(one, other) {
    const [first, second] = [Math.min(one, other), Math.max(one, other)];
    return first === second ? this.curves.flicker[one].map(() => 0) : this.curves.difference[first][second - first - 1];
  }

  /* ---- drawing, whenever the width, the measure or the reference changes */

  draw() {
    const { part, svg, measure, labels } = this;
    this.chooser.hidden = measure !== "difference" || labels.length < 3;
    const width = part.curvesBody.clientWidth;
    if (!part.curves.open || !width) return;
    const { axis } = FrameCurves.MEASURES[measure];
    this.axis.textContent = measure === "difference" ? `${axis}, to ${this.reference + 1} \u00b7 ${labels[this.reference]}` : axis;
    this.axis.title = this.axis.textContent;
    this.drawn = this.series;
    this.width = width;
    svg.setAttribute("viewBox", `0 0 ${width} ${FrameCurves.HEIGHT}`);
    svg.setAttribute("height", FrameCurves.HEIGHT);
    svg.setAttribute("aria-label", `${this.axis.textContent}. ${this.drawn.map(FrameCurves.#told).join("; ")}`);
    this.#setScale();
    this.cursor = FrameCurves.shape("path", { class: "cursor", d: `M0 ${FrameCurves.EDGE.top}V${FrameCurves.HEIGHT - FrameCurves.EDGE.bottom}` });
    svg.replaceChildren(...this.#grid(), ...this.drawn.map((one) => this.#line(one)), ...this.#ends(), this.cursor);
    this.#fillLegend();
    this.refresh();
  }

  #setScale() {
    const all = this.drawn.flatMap((one) => one.values).filter((value) => value !== null);
    const { low } = FrameCurves.MEASURES[this.measure];
    const [from, to] = [low ?? Math.min(...all), Math.max(...all)];
    this.ticks = ticks(from, to > from ? to : from + 1);
  }

  x(frame) {
    const { left, right } = FrameCurves.EDGE;
    return left + (frame / Math.max(1, this.clock.count - 1)) * (this.width - left - right);
  }

  y(value) {
    const { top, bottom } = FrameCurves.EDGE;
    const [low, high] = [this.ticks[0], this.ticks.at(-1)];
    return FrameCurves.HEIGHT - bottom - ((value - low) / (high - low)) * (FrameCurves.HEIGHT - top - bottom);
  }

  #grid() {
    const { shape, EDGE, HEIGHT } = FrameCurves;
    const text = (x, y, words, anchor) => shape("text", { x, y, "text-anchor": anchor }, words);
    const last = this.clock.count;
    const frames = [...new Set([1, ...ticks(1, last, Math.max(2, Math.round(this.width / 110))).filter((tick) => tick > 1 && tick < last && Number.isInteger(tick)), last])];
    const apart = frames.filter((frame) => frame === 1 || frame === last || (this.x(frame - 1) > EDGE.left + 60 && this.x(last - 1) - this.x(frame - 1) > 30));
    return [
      ...this.ticks.map((tick) => shape("path", { class: "grid", d: `M${EDGE.left} ${this.y(tick)}H${this.width - EDGE.right}` })),
      ...this.ticks.map((tick) => text(EDGE.left - 6, this.y(tick) + 4, Number(tick.toPrecision(6)), "end")),
      ...apart.map((frame) => text(this.x(frame - 1), HEIGHT - EDGE.bottom + 14, frame === 1 ? "frame 1" : frame, frame === 1 ? "start" : "middle")),
    ];
  }

  #line({ mark, values }) {
    const points = values.flatMap((value, frame) => (value === null ? [] : [`${this.x(frame)} ${this.y(value)}`]));
    if (points.length > 1) return FrameCurves.shape("path", { class: `line ${mark}`, d: `M${points.join("L")}` });
    const [cx, cy] = (points[0] ?? "0 0").split(" ");
    return FrameCurves.shape("circle", { class: `point ${mark}`, cx, cy, r: points.length ? 3 : 0 });
  }

  /* Each line's number at its end, moved apart where lines end together. */
  #ends() {
    const ends = this.drawn.filter((one) => one.index !== undefined && one.values.at(-1) !== null);
    const places = ends.map((one) => ({ ...one, x: this.x(one.values.length - 1), y: this.y(one.values.at(-1)) })).sort((one, other) => one.y - other.y);
    places.forEach((place, index) => {
      place.y = Math.max(place.y, index ? places[index - 1].y + 11 : 0);
    });
    let floor = FrameCurves.HEIGHT - FrameCurves.EDGE.bottom;
    for (const place of places.reverse()) {
      place.y = Math.min(place.y, floor);
      floor = place.y - 11;
    }
    return places.map(({ x, y, index, mark }) => FrameCurves.shape("text", { class: `end ${mark}`, x: x + 6, y: y + 4 }, index + 1));
  }

  #fillLegend() {
    const rows = this.drawn.map(({ name, index, mark }) => {
      const sign = index === undefined ? make("i", { className: `dot ${mark}` }) : badge(index);
      const value = make("b");
      return [value, make("li", { title: name }, sign, make("span", { className: "name", textContent: name }), value)];
    });
    this.values = rows.map(([value]) => value);
    this.legend.replaceChildren(...rows.map(([, item]) => item));
  }

  /* ---- with every frame: only a line moves, and the numbers change */

  refresh() {
    const { clock, cursor, drawn } = this;
    if (!cursor || !this.part.curves.open) return;
    cursor.setAttribute("transform", `translate(${this.x(clock.index)})`);
    const now = performance.now();
    if (clock.playing && now - this.told < FrameCurves.EVERY) return;
    this.told = now;
    drawn.forEach(({ values }, place) => {
      this.values[place].textContent = shortNumber(values[Math.min(clock.index, values.length - 1)]);
    });
  }

  /* ---- by hand */

  #drag(event) {
    if (event.button) return;
    const { svg, clock } = this;
    const move = ({ clientX }) => {
      const share = (clientX - svg.getBoundingClientRect().left - FrameCurves.EDGE.left) / (this.x(clock.count - 1) - FrameCurves.EDGE.left);
      const frame = Math.round(Math.min(1, Math.max(0, share)) * (clock.count - 1));
      if (frame !== clock.index || clock.playing) clock.seek(frame);
    };
    svg.setPointerCapture(event.pointerId);
    svg.onpointermove = move;
    svg.onpointerup = svg.onpointercancel = () => (svg.onpointermove = null);
    move(event);
  }

  #fillTable() {
    if (!this.table.open) return;
    const { drawn, clock } = this;
    const head = make("tr", {}, make("th", { scope: "col", textContent: "frame" }));
    head.append(...drawn.map(({ name, index }) => make("th", { scope: "col", textContent: index === undefined ? name : `${index + 1} \u00b7 ${name}` })));
    const rows = Array.from({ length: clock.count }, (_, frame) =>
      make("tr", {}, make("th", { scope: "row", textContent: frame + 1 }), ...drawn.map(({ values }) => make("td", { textContent: shortNumber(values[frame]) }))),
    );
    const caption = make("caption", { className: "unseen", textContent: this.axis.textContent });
    const table = make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows));
    this.table.replaceChildren(this.table.firstChild, make("div", { className: "scrolled", tabIndex: 0, role: "group", ariaLabel: "Numbers of each frame" }, table));
  }

  static #told({ name, index, values }) {
    const known = values.filter((value) => value !== null);
    const who = index === undefined ? name : `${index + 1}, ${name}`;
    return known.length ? `${who}: ${shortNumber(Math.min(...known))} to ${shortNumber(Math.max(...known))}` : `${who}: nothing`;
  }

  static shape(tag, attributes, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  }
}

/* Three digits; a number that is not known is a dash. */
function shortNumber(value) {
  if (value === null || value === undefined) return "\u2013";
  return value && Math.abs(value) < 0.01 ? value.toExponential(1) : Number(value.toPrecision(3)).toString();
}

/* Round numbers from one below `low` to one above `high`, about `count` of them. */
function ticks(low, high, count = 3) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  return Array.from({ length: Math.ceil(high / step - 1e-9) - first + 1 }, (_, index) => (first + index) * step);
}
