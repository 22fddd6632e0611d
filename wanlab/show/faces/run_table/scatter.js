/* A point for each run: any column against any other, coloured by a third. Pointing shows the clip, a click selects the run. */

class RunScatter {
  static HEIGHT = 320;
  static MOST_WIDTH = 900;
  static EDGES = { left: 78, right: 14, top: 12, bottom: 46 };

  constructor(table) {
    this.table = table;
    const picker = (part, label) => make("label", { className: "group" }, label, this.#select(part, label));
    const log = (part, label) => {
      const box = make("input", { type: "checkbox", ariaLabel: label });
      box.addEventListener("input", () => this.draw());
      this[part] = box;
      return make("label", { className: "group" }, box, "log");
    };
    const bar = make("div", { className: "bar options" }, picker("x", "Horizontal"), log("logX", "Horizontal logarithmic"));
    bar.append(picker("y", "Vertical"), log("logY", "Vertical logarithmic"), picker("colour", "Colour"));
    this.drawing = shape("svg", { role: "group", "aria-label": "Scatter of runs", class: "scatter" });
    this.legend = make("p", { className: "legend" });
    this.note = make("p", { className: "note" });
    this.element = make("section", { className: "chart", ariaLabel: "Scatter" }, bar, this.drawing, this.legend, this.note);
    this.#listen();
  }

  #select(part, label) {
    const control = make("select", { ariaLabel: label });
    control.addEventListener("input", () => this.draw());
    return (this[part] = control);
  }

  /* Offer these columns, and keep what was chosen. */
  offer(names, chosen) {
    for (const part of ["x", "y", "colour"]) {
      const before = this[part].value || chosen[part];
      const none = part === "colour" ? [make("option", { value: "", textContent: "none" })] : [];
      this[part].replaceChildren(...none, ...names.map((name) => make("option", { value: name, textContent: name })));
      this[part].value = names.includes(before) || !before ? before : "";
      if (!this[part].value && part !== "colour") this[part].selectedIndex = 0;
    }
  }

  get width() {
    return Math.max(280, Math.min(RunScatter.MOST_WIDTH, this.element.clientWidth - 20));
  }

  get height() {
    return RunScatter.HEIGHT;
  }

  draw() {
    const { data, rows } = this.table;
    const { width, height } = this;
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { left, right, top, bottom } = RunScatter.EDGES;
    const values = (name) => rows.map((row) => data.value(row, name));
    const axis = (part, log) => new RunAxis(data.columns.get(this[part].value), values(this[part].value), this[log].checked);
    const [x, y] = [axis("x", "logX"), axis("y", "logY")];
    const colours = new RunColours(data.columns.get(this.colour.value), this.colour.value ? values(this.colour.value) : []);
    const across = (at) => left + 8 + at * (width - left - right - 16);
    const down = (at) => height - bottom - 8 - at * (height - top - bottom - 16);
    const points = [];
    this.radius = rows.length > 300 ? 3 : 5.5;
    this.places = new Map();
    for (const row of rows) {
      const at = [x.position(data.value(row, x.column.name)), y.position(data.value(row, y.column.name))];
      if (at.some((one) => one === null || !Number.isFinite(one))) continue;
      const [cx, cy] = [across(at[0]), down(at[1])];
      this.places.set(row, [cx, cy]);
      const colour = colours.of(this.colour.value ? data.value(row, this.colour.value) : null);
      points.push(this.#point(row, cx, cy, colour, [x.column, y.column]));
    }
    const held = this.drawing.querySelector(".point:focus")?.dataset.row; // the focus outlives a new drawing
    const first = points.find((point) => point.dataset.row === held) ?? points[0];
    first?.setAttribute("tabindex", "0");
    this.drawing.replaceChildren(...this.#frame(x, y, across, down), ...points);
    if (held !== undefined && first?.dataset.row === held) first.focus();
    this.drawing.classList.toggle("many", rows.length > 300);
    this.legend.replaceChildren(...colours.legend());
    const missing = rows.length - points.length;
    const logs = [[this.logX, x], [this.logY, y]].filter(([box, one]) => box.checked && !one.log).map(([, one]) => one.column.name);
    const notes = [missing && `${missing} of ${rows.length} runs lack a value and are not drawn.`];
    notes.push(logs.length && `${logs.join(" and ")} cannot be logarithmic: it is not a number above 0 everywhere.`);
    this.note.textContent = notes.filter(Boolean).join(" ");
    this.mark();
  }

  #point(row, cx, cy, fill, columns) {
    const { data } = this.table;
    const told = columns.map((column) => `${column.name} ${RunData.text(data.value(row, column.name), column)}`).join(", ");
    const point = shape("circle", { cx, cy, r: this.radius, fill, class: "point", tabindex: "-1", role: "checkbox", "data-row": row });
    point.setAttribute("aria-label", `Run ${data.ids[row]}: ${told}`);
    return point;
  }

  #frame(x, y, across, down) {
    const { width, height } = this;
    const { left, right, top, bottom } = RunScatter.EDGES;
    const parts = [shape("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` })];
    for (const mark of y.marks) {
      parts.push(shape("path", { class: "grid", d: `M${left} ${down(mark.at)}H${width - right}` }));
      parts.push(RunScatter.text(mark.text, left - 7, down(mark.at) + 4, "end", 11));
    }
    const room = Math.max(6, Math.floor((width - left - right) / Math.max(1, x.marks.length) / 6.5));
    for (const mark of x.marks) {
      parts.push(shape("path", { class: "grid", d: `M${across(mark.at)} ${top}V${height - bottom}` }));
      parts.push(RunScatter.text(mark.text, across(mark.at), height - bottom + 16, "middle", room));
    }
    parts.push(RunScatter.text(x.label, (left + width - right) / 2, height - 8, "middle", 70, "name"));
    const name = RunScatter.text(y.label, 0, 0, "middle", 40, "name");
    name.setAttribute("transform", `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`);
    return [...parts, name];
  }

  /* Text that is at most so many letters long, all of it when pointed at. */
  static text(text, x, y, anchor, most, kind = "mark") {
    const element = shape("text", { x, y, "text-anchor": anchor, class: kind });
    const letters = [...text];
    element.textContent = letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
    if (letters.length > most) element.append(Object.assign(shape("title"), { textContent: text }));
    return element;
  }

  /* Show which runs are selected, and which one is pointed at. */
  mark() {
    const { selected, active, data } = this.table;
    for (const point of this.drawing.querySelectorAll(".point")) {
      const row = Number(point.dataset.row);
      point.setAttribute("aria-checked", selected.has(data.ids[row]));
      point.classList.toggle("active", row === active);
    }
  }

  #listen() {
    const row = (event) => (event.target.classList.contains("point") ? Number(event.target.dataset.row) : null);
    const point = (event) => row(event) !== null && this.table.point(row(event));
    this.drawing.addEventListener("pointerover", point);
    this.drawing.addEventListener("focusin", point);
    this.drawing.addEventListener("click", (event) => row(event) !== null && this.table.toggle(row(event)));
  }

  /* Arrows go to the nearest point in that direction; true if the key was used. */
  key(event, point) {
    const row = Number(point.dataset.row);
    if (event.key === " ") return this.table.toggle(row), true;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return false;
    const here = this.places.get(row);
    let [best, least] = [null, Infinity];
    for (const [other, [x, y]] of this.places) {
      const [along, aside] = [(x - here[0]) * way[0] + (y - here[1]) * way[1], Math.abs((x - here[0]) * way[1]) + Math.abs((y - here[1]) * way[0])];
      if (other !== row && along > 0.01 && along + 2 * aside < least) [best, least] = [other, along + 2 * aside];
    }
    const next = best === null ? null : this.drawing.querySelector(`.point[data-row="${best}"]`);
    if (next) {
      point.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
    return true;
  }
}
