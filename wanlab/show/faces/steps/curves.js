/* Curves over the steps: any of them at once, each to its own scale; a click goes to the step. */

const COLOURS = ["#2f7de1", "#d9822b", "#2e9e5b", "#c2459a", "#8a6fd1", "#a8862a", "#2a9d9d", "#d0494a"];
const [CHART_HEIGHT, MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM] = [190, 46, 12, 10, 26];
const ABOVE_ZERO = 0.12; // where the logarithmic axis begins, as a part of its height
const MOST_DECADES = 9; // of the logarithmic axis; smaller values lie on its floor

class Curves {
  step = 0;

  constructor(page, part, seek) {
    Object.assign(this, { page, part, steps: page.pairs.length, width: 360 });
    this.curves = page.curves.map((curve, index) => ({ ...curve, colour: COLOURS[index % COLOURS.length] }));
    for (const curve of this.curves) curve.known = curve.values.filter((value) => value !== null);
    this.part.legend.append(...this.curves.map((curve) => this.entry(curve)));
    const go = ({ clientX }) => seek(this.stepAt(clientX - part.chart.getBoundingClientRect().left));
    part.chart.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      part.chart.setPointerCapture(event.pointerId);
      part.chart.onpointermove = go;
      part.chart.onpointerup = part.chart.onpointercancel = () => (part.chart.onpointermove = null);
      go(event);
    });
    this.draw();
  }

  get on() {
    return this.curves.filter((curve) => curve.shown);
  }

  get floor() {
    const values = this.on.filter((curve) => curve.log).flatMap((curve) => curve.known).filter((value) => value > 0);
    if (!values.length) return [-1, 0]; // runs that never part
    const top = Math.ceil(Math.log10(Math.max(...values)));
    const least = Math.floor(Math.log10(Math.min(...values, 10 ** top)));
    return [Math.max(top - MOST_DECADES, Math.min(least, top - 1)), top];
  }

  entry(curve) {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = curve.colour;
    curve.told = make("span", { className: "told" });
    curve.button = make("button", { type: "button", className: "entry" }, swatch, make("span", { textContent: curve.name }), curve.told);
    curve.button.ariaPressed = curve.shown;
    curve.button.addEventListener("click", () => {
      curve.shown = !curve.shown;
      curve.button.ariaPressed = curve.shown;
      this.draw();
      this.refresh(this.step);
    });
    return curve.button;
  }

  stepAt(x) {
    const across = (x - MARGIN_LEFT) / (this.width - MARGIN_LEFT - MARGIN_RIGHT);
    return Math.max(0, Math.min(this.steps - 1, Math.round(across * (this.steps - 1))));
  }

  x(step) {
    return MARGIN_LEFT + (step / Math.max(1, this.steps - 1)) * (this.width - MARGIN_LEFT - MARGIN_RIGHT);
  }

  y(curve, value) {
    const [low, high] = this.range;
    // A logarithmic axis has no 0: it gets a line of its own beneath
    const logged = () => (value > 0 ? ABOVE_ZERO + (1 - ABOVE_ZERO) * Math.max(0, (Math.log10(value) - low) / (high - low)) : 0);
    const up = curve.log ? logged() : value / (Math.max(...curve.known) || 1);
    return CHART_HEIGHT - MARGIN_BOTTOM - up * (CHART_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM);
  }

  fit(width) {
    if (width < 100 || Math.abs(width - this.width) < 1) return;
    this.width = width;
    this.draw();
    this.refresh(this.step);
  }

  /* ---- drawing: everything anew, which takes under a millisecond */

  draw() {
    const { chart } = this.part;
    chart.setAttribute("viewBox", `0 0 ${this.width} ${CHART_HEIGHT}`);
    chart.replaceChildren();
    this.range = this.floor;
    this.axes();
    this.marks();
    for (const curve of this.on) this.line(curve);
    this.now = this.put("path", { class: "now" });
  }

  put(tag, attributes, ...children) {
    const element = shape(tag, attributes, ...children);
    this.part.chart.append(element);
    return element;
  }

  axes() {
    const [bottom, right] = [CHART_HEIGHT - MARGIN_BOTTOM, this.width - MARGIN_RIGHT];
    this.put("path", { class: "axis", d: `M${MARGIN_LEFT} ${MARGIN_TOP}V${bottom}H${right}` });
    const every = Math.ceil(this.steps / 10);
    for (let step = 0; step < this.steps; step += every) {
      this.put("text", { x: this.x(step), y: bottom + 15, "text-anchor": "middle" }, step || "step 0");
    }
    const tick = (y, text) => this.put("text", { x: MARGIN_LEFT - 6, y: y + 4, "text-anchor": "end" }, text);
    const logs = this.on.some((curve) => curve.log);
    if (logs) {
      const [low, high] = this.range;
      for (let power = low; power <= high; power += Math.ceil((high - low) / 6)) {
        const y = this.y({ log: true }, 10 ** power);
        this.put("path", { class: "grid", d: `M${MARGIN_LEFT} ${y}H${right}` });
        tick(y, power > -4 && power < 4 ? Number((10 ** power).toPrecision(1)) : `1e${power}`);
      }
      tick(bottom, "0");
    } else {
      const most = this.on.length === 1 ? Math.max(...this.on[0].known) : null;
      tick(MARGIN_TOP, most === null ? "max" : short(most));
      if (most !== null) tick((MARGIN_TOP + bottom) / 2, short(most / 2));
      tick(bottom, "0");
    }
  }

  /* Where runs part, and where forks changed settings. */
  marks() {
    const { runs, parted } = this.page;
    const mark = (step, kind, text) => {
      const x = step ? this.x(step - 0.5) : this.x(0);
      this.put("path", { class: kind, d: `M${x} ${MARGIN_TOP}V${CHART_HEIGHT - MARGIN_BOTTOM}` }, shape("title", {}, text));
    };
    if (parted !== null) mark(parted, "parted", `they part at step ${parted}`);
    else for (const run of runs) for (const [step, text] of run.forks) mark(step, "fork", `from step ${step}: ${text}`);
  }

  /* Unknown values leave a gap; marks of reused steps are hollow. */
  line(curve) {
    let path = "";
    curve.values.forEach((value, step) => {
      if (value === null) return;
      const joined = step > 0 && curve.values[step - 1] !== null;
      path += `${joined ? "L" : "M"}${this.x(step)} ${this.y(curve, value)}`;
    });
    this.put("path", { class: "line", d: path, stroke: curve.colour });
    const radius = this.steps > 60 ? 1.5 : 3;
    curve.values.forEach((value, step) => {
      if (value === null) return;
      const hollow = this.page.runs[0].reused[this.page.pairs[step][0]];
      const [cx, cy] = [this.x(step), this.y(curve, value)];
      this.put("circle", { class: hollow ? "hollow" : "mark", cx, cy, r: radius, stroke: curve.colour, fill: hollow ? "none" : curve.colour });
    });
  }

  refresh(step) {
    this.step = step;
    this.now.setAttribute("d", `M${this.x(step)} ${MARGIN_TOP - 4}V${CHART_HEIGHT - MARGIN_BOTTOM}`);
    for (const curve of this.curves) {
      const value = curve.values[step];
      curve.told.textContent = value === null ? "unknown" : `${short(value)} ${curve.unit}`.trim();
      curve.button.title = curve.known.length
        ? `${curve.name}: ${short(Math.min(...curve.known))} to ${short(Math.max(...curve.known))} ${curve.unit}`.trim()
        : `${curve.name}: unknown`;
    }
  }
}
