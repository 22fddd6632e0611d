/* Parallel coordinates: an axis for each column, a line for each run. A stretch of an axis keeps the runs that pass through it. */

class RunParallel {
  static HEIGHT = 300;
  static EDGES = { top: 46, bottom: 22, side: 70 };
  static WIDTH = 130; // between two axes
  static MOST = 10;
  static STEP = 0.05; // of an axis: what a key moves a brush by

  constructor(table) {
    this.table = table;
    this.names = [];
    this.brushes = new Map(); // column to [low, high], as fractions of its axis
    this.drawing = shape("svg", { role: "group", "aria-label": "Parallel coordinates of runs", class: "parallel" });
    this.add = make("select", { ariaLabel: "Add an axis" });
    this.chips = make("span", { className: "chips" });
    this.colour = make("select", { ariaLabel: "Colour of the lines" });
    const bar = make("div", { className: "bar options" }, make("label", { className: "group" }, "Axes", this.chips, this.add));
    bar.append(make("label", { className: "group" }, "Colour", this.colour));
    const hint = "Drag along an axis to keep the runs that pass there; click it to let go. With the keyboard: arrows move the stretch, Shift with arrows makes it longer or shorter, Escape lets go.";
    const scroll = make("div", { className: "sideways" }, this.drawing);
    this.legend = make("p", { className: "legend" });
    this.element = make("section", { className: "chart", ariaLabel: "Parallel coordinates" }, bar, scroll, this.legend, make("p", { className: "note", textContent: hint }));
    this.#listen();
  }

  /* Offer these columns; begin with those chosen, and keep what was. */
  offer(names, chosen) {
    this.offered = names;
    this.names = (this.names.length ? this.names : chosen).filter((name) => names.includes(name)).slice(0, RunParallel.MOST);
    const before = this.colour.value;
    this.colour.replaceChildren(make("option", { value: "", textContent: "none" }), ...names.map((name) => make("option", { value: name, textContent: name })));
    this.colour.value = names.includes(before) ? before : "";
    for (const name of [...this.brushes.keys()]) if (!this.names.includes(name)) this.brushes.delete(name);
  }

  /* The rows that pass through every brush. */
  kept(rows) {
    this.axes = new Map(this.names.map((name) => [name, this.#axis(name, rows)]));
    if (!this.brushes.size) return rows;
    const { data } = this.table;
    return rows.filter((row) => [...this.brushes].every(([name, [low, high]]) => {
      const at = this.axes.get(name).position(data.value(row, name));
      return at !== null && at >= low - 1e-9 && at <= high + 1e-9;
    }));
  }

  #axis(name, rows) {
    const { data } = this.table;
    return new RunAxis(data.columns.get(name), rows.map((row) => data.value(row, name)));
  }

  get width() {
    return 2 * RunParallel.EDGES.side + Math.max(1, this.names.length - 1) * RunParallel.WIDTH;
  }

  #across(place) {
    return RunParallel.EDGES.side + place * RunParallel.WIDTH;
  }

  #down(at) {
    const { top, bottom } = RunParallel.EDGES;
    return RunParallel.HEIGHT - bottom - at * (RunParallel.HEIGHT - top - bottom);
  }

  /* `rows` are those of the filter, before the brushes. */
  draw(rows) {
    const kept = new Set(this.table.rows);
    const { data } = this.table;
    const values = this.colour.value ? rows.map((row) => data.value(row, this.colour.value)) : [];
    const colours = new RunColours(data.columns.get(this.colour.value), values);
    const lines = rows.map((row) => {
      const colour = colours.of(this.colour.value ? data.value(row, this.colour.value) : null);
      return shape("path", { d: this.#path(row), stroke: colour, class: kept.has(row) ? "run" : "run faint", "data-row": row });
    });
    lines.sort((one, other) => other.classList.contains("faint") - one.classList.contains("faint"));
    const focused = this.drawing.getRootNode().activeElement?.dataset?.axis;
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${RunParallel.HEIGHT}`);
    this.drawing.style.width = `${this.width}px`;
    this.drawing.style.setProperty("--ink", Math.max(0.08, Math.min(0.7, 40 / rows.length))); // many lines are thinner, each
    this.drawing.replaceChildren(...lines, ...this.names.map((name, place) => this.#drawAxis(name, place)));
    if (focused) this.drawing.querySelector(`[data-axis="${CSS.escape(focused)}"]`)?.focus();
    this.legend.replaceChildren(...colours.legend());
    this.#drawChips();
    this.mark();
  }

  /* What is unknown leaves a gap. */
  #path(row) {
    let path = "";
    let drawing = false;
    this.names.forEach((name, place) => {
      const at = this.axes.get(name).position(this.table.data.value(row, name));
      const known = at !== null && Number.isFinite(at);
      if (known) path += `${drawing ? "L" : "M"}${this.#across(place)} ${this.#down(at).toFixed(1)}h0.01`;
      drawing = known;
    });
    return path || "M0 0";
  }

  #drawAxis(name, place) {
    const axis = this.axes.get(name);
    const x = this.#across(place);
    const brush = this.brushes.get(name);
    const range = brush ? `${axis.told(axis.value(brush[0]))} to ${axis.told(axis.value(brush[1]))}` : "everything";
    const group = shape("g", { class: "dimension", tabindex: "0", role: "slider", "data-axis": name, "aria-orientation": "vertical" });
    const now = brush ? (brush[0] + brush[1]) / 2 : 0.5;
    for (const [key, value] of Object.entries({ label: `Stretch of ${name}`, valuetext: range, valuemin: 0, valuemax: 1, valuenow: now.toFixed(2) })) group.setAttribute(`aria-${key}`, value);
    group.append(shape("rect", { class: "grip", x: x - 14, y: this.#down(1) - 8, width: 28, height: this.#down(0) - this.#down(1) + 16 }));
    group.append(shape("path", { class: "axis", d: `M${x} ${this.#down(1)}V${this.#down(0)}` }));
    for (const mark of axis.marks) {
      group.append(shape("path", { class: "axis", d: `M${x - 4} ${this.#down(mark.at)}h4` }));
      group.append(RunScatter.text(mark.text, x - 7, this.#down(mark.at) + 4, "end", 9));
    }
    if (brush) group.append(shape("rect", { class: "brush", x: x - 7, y: this.#down(brush[1]) - 2, width: 14, height: this.#down(brush[0]) - this.#down(brush[1]) + 4, rx: 3 }));
    group.append(RunScatter.text(name, x, 14, "middle", 19, "name"));
    group.append(RunScatter.text(brush ? range : axis.unit, x, 29, "middle", 20, brush ? "range" : "mark"));
    if (axis.unknown) group.append(RunScatter.text(`${axis.unknown} unknown`, x, RunParallel.HEIGHT - 4, "middle", 16));
    return group;
  }

  #drawChips() {
    const chip = (name) => {
      const away = make("button", { type: "button", className: "chip", ariaLabel: `Remove the axis ${name}`, title: `Remove the axis ${name}`, textContent: `${name} ×` });
      away.addEventListener("click", () => this.choose(this.names.filter((one) => one !== name)));
      return away;
    };
    this.chips.replaceChildren(...this.names.map(chip));
    const more = this.offered.filter((name) => !this.names.includes(name));
    this.add.replaceChildren(make("option", { value: "", textContent: "Add…" }), ...more.map((name) => make("option", { value: name, textContent: name })));
    this.add.disabled = this.names.length >= RunParallel.MOST;
  }

  choose(names) {
    this.names = names;
    for (const name of [...this.brushes.keys()]) if (!names.includes(name)) this.brushes.delete(name);
    this.table.changed();
  }

  brush(name, range) {
    if (range) this.brushes.set(name, [Math.max(0, Math.min(...range)), Math.min(1, Math.max(...range))]);
    else this.brushes.delete(name);
    this.table.changed();
  }

  mark() {
    const { selected, active, data } = this.table;
    for (const line of this.drawing.querySelectorAll(".run")) {
      const row = Number(line.dataset.row);
      line.classList.toggle("selected", selected.has(data.ids[row]));
      line.classList.toggle("active", row === active);
    }
  }

  #listen() {
    this.add.addEventListener("input", () => this.add.value && this.choose([...this.names, this.add.value]));
    this.colour.addEventListener("input", () => this.table.changed());
    this.drawing.addEventListener("pointerover", (event) => event.target.matches(".run") && this.table.point(Number(event.target.dataset.row)));
    this.drawing.addEventListener("click", (event) => event.target.matches(".run") && this.table.toggle(Number(event.target.dataset.row)));
    this.drawing.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  #drag(event) {
    const name = event.target.closest(".dimension")?.dataset.axis;
    if (!name || event.button) return;
    const at = ({ clientY }) => {
      const box = this.drawing.getBoundingClientRect();
      const y = ((clientY - box.top) / box.height) * RunParallel.HEIGHT;
      return (this.#down(0) - y) / (this.#down(0) - this.#down(1));
    };
    const from = at(event);
    let [moved, due, to] = [false, 0, from];
    const move = (later) => {
      to = at(later);
      if (!moved && Math.abs(to - from) < 0.02) return;
      moved = true;
      due ||= requestAnimationFrame(() => {
        due = 0;
        this.brush(name, [from, to]);
      });
    };
    const up = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", up);
      window.removeEventListener("pointercancel", up);
      cancelAnimationFrame(due);
      this.brush(name, moved ? [from, to] : null);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up);
    window.addEventListener("pointercancel", up);
  }

  /* True if the key was used. */
  key(event, axis) {
    const name = axis.dataset.axis;
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const [low, high] = this.brushes.get(name) ?? [0, 1];
    if (event.key === "Escape" && this.brushes.has(name)) return this.brush(name, null), true;
    if (!way) return false;
    const step = way * RunParallel.STEP;
    if (event.shiftKey) this.brush(name, [low, Math.max(low, Math.min(1, high + step))]);
    else if (high - low >= 1) this.brush(name, way > 0 ? [0.5, 1] : [0, 0.5]);
    else if (low + step >= -1e-9 && high + step <= 1 + 1e-9) this.brush(name, [low + step, high + step]);
    return true;
  }
}
