/* Curves beneath the clips: a number for each frame of each clip, on the player's clock.
 *
 * The numbers come from Python, measured on the frames themselves; here they are drawn, told for the current frame, and
 * listed in a table.
 */

class FrameCurves {
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
    this.plot = new FramePlot(clock);
    this.#build(several ? ["difference", "flicker", "red", "green", "blue"] : ["flicker", "colour"]);
    part.curves.open = several;
    part.curves.hidden = false;
    part.curves.addEventListener("toggle", () => this.draw());
  }

  #build(measures) {
    const options = measures.map((value) => make("option", { value, textContent: FrameCurves.MEASURES[value].text }));
    const which = make("select", { ariaLabel: "Curve", title: "Curve" }, ...options);
    which.addEventListener("input", () => this.#choose({ measure: which.value }));
    const to = make("select", { ariaLabel: "Reference clip", title: "Reference clip" }, ...optionsOf(this.labels));
    to.addEventListener("input", () => this.#choose({ reference: Number(to.value) }));
    this.chooser = make("label", { className: "group" }, "to", to);
    this.axis = make("p", { className: "axis-name" });
    this.legend = make("ul", { className: "legend" });
    this.table = make("details", { className: "numbers" }, make("summary", { textContent: "These numbers as a table" }));
    this.table.addEventListener("toggle", () => this.#fillTable());
    const bar = make("div", { className: "bar options" }, which, this.chooser);
    this.part.curvesBody.replaceChildren(bar, this.axis, this.plot.svg, this.legend, this.table);
  }

  #choose(options) {
    Object.assign(this, options);
    this.draw();
    this.#fillTable();
  }

  /* What is drawn: a name, a mark, values by frame, and for clips their index. */
  get series() {
    const { measure, curves, labels, reference } = this;
    if (measure === "colour") {
      return ["red", "green", "blue"].map((name, channel) => ({ name, mark: name, values: curves.colour[0][channel] }));
    }
    const { channel } = FrameCurves.MEASURES[measure];
    const values = (index) => {
      if (measure === "difference") return index === reference ? null : this.difference(index, reference);
      return measure === "flicker" ? curves.flicker[index] : curves.colour[index][channel];
    };
    const all = labels.map((name, index) => ({ name, index, mark: `clip-${index + 1}`, values: values(index) }));
    return all.filter((one) => one.values);
  }

  /* The difference of two clips in each frame. */
  difference(one, other) {
    const [first, second] = [Math.min(one, other), Math.max(one, other)];
    return first === second ? [0] : this.curves.difference[first][second - first - 1];
  }

  /* Whenever the width, the measure or the reference changes. */
  draw() {
    const { part, measure, labels, reference } = this;
    const compares = measure === "difference";
    this.chooser.hidden = !compares || labels.length < 3;
    const width = part.curvesBody.clientWidth;
    if (!part.curves.open || !width) return;
    const { axis, low } = FrameCurves.MEASURES[measure];
    this.axis.title = this.axis.textContent = compares ? `${axis}, to ${reference + 1} \u00b7 ${labels[reference]}` : axis;
    this.drawn = this.series;
    this.plot.draw(this.drawn, low, width, `${this.axis.textContent}. ${this.drawn.map(rangeTold).join("; ")}`);
    this.#fillLegend();
    this.refresh();
  }

  /* With every frame: a line moves, and now and then the numbers change. */
  refresh() {
    const { clock, drawn } = this;
    if (!drawn || !this.part.curves.open) return;
    this.plot.follow();
    const now = performance.now();
    if (clock.playing && now - this.told < FrameCurves.EVERY) return;
    this.told = now;
    drawn.forEach(({ values }, place) => {
      this.values[place].textContent = shortNumber(values[Math.min(clock.index, values.length - 1)]);
    });
  }

  #fillLegend() {
    this.values = this.drawn.map(() => make("b"));
    const items = this.drawn.map(({ name, index, mark }, place) => {
      const sign = index === undefined ? make("i", { className: `dot ${mark}` }) : badge(index);
      return make("li", { title: name }, sign, make("span", { className: "name", textContent: name }), this.values[place]);
    });
    this.legend.replaceChildren(...items);
  }

  #fillTable() {
    if (!this.table.open) return;
    const { drawn, clock } = this;
    const names = drawn.map(({ name, index }) => (index === undefined ? name : `${index + 1} \u00b7 ${name}`));
    const head = make("tr", {}, ...["frame", ...names].map((textContent) => make("th", { scope: "col", textContent })));
    const rows = Array.from({ length: clock.count }, (_, frame) => {
      const cells = drawn.map(({ values }) => make("td", { textContent: shortNumber(values[frame]) }));
      return make("tr", {}, make("th", { scope: "row", textContent: frame + 1 }), ...cells);
    });
    const caption = make("caption", { className: "unseen", textContent: this.axis.textContent });
    const table = make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows));
    const scrolled = make("div", { className: "scrolled", tabIndex: 0, role: "group", ariaLabel: "Numbers of frames" }, table);
    this.table.replaceChildren(this.table.firstChild, scrolled);
  }
}

function rangeTold({ name, index, values }) {
  const known = values.filter((value) => value !== null);
  const who = index === undefined ? name : `${index + 1}, ${name}`;
  return known.length ? `${who}: ${shortNumber(Math.min(...known))} to ${shortNumber(Math.max(...known))}` : `${who}: nothing`;
}

/* A number that is not known is a dash. */
const shortNumber = (value) => (value === null || value === undefined ? "\u2013" : short(value));
