/* The table of runs: what is filtered, sorted, shown and selected, and the parts that show it. What a person wrote is only ever
 * set as text. With a line to the kernel it also keeps stars, tags and notes, and deletes, compares and opens runs. */

class RunTable {
  static TELL_EVERY = 250; // milliseconds between two messages about the view

  constructor(root, content, live) {
    Object.assign(this, { root, content, live });
    this.shadow = root.attachShadow({ mode: "open" });
    this.selected = new Set();
    this.active = null; // the row one points at
    this.chosen = content.shown;
    this.usual = content.shown;
    this.sort = content.sort.map((name) => (name.startsWith("-") ? [name.slice(1), true] : [name, false]));
    this.where = content.where;
    this.onlyDiffering = false;
    this.notes = new RunNotes(this);
    this.waiting = new Set();
    this.data = new RunData(content);
    this.preview = new RunPreview(content.previews, (id) => live?.send({ ask: "preview", id }));
    this.side = new RunSide(this);
    this.bin = new RunTrash(this);
    this.opened = new RunOpened(this);
    this.actions = new RunActions(this);
    this.rowsPart = new RunRows(this);
    this.columnsPart = new RunColumns(this);
    this.parallel = new RunParallel(this);
    this.scatter = new RunScatter(this);
    this.#build();
    this.#listen();
    this.bin.show(content.trash);
    this.#load();
  }

  /* ---- what is set once */

  #build() {
    this.part = runTableParts(this);
    this.part.filter.value = this.where;
    this.parallel.element.hidden = this.scatter.element.hidden = true;
    this.shadow.replaceChildren(make("style", { textContent: this.content.css }), this.part.card);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", this.content.title || "Runs");
  }

  /* ---- from state to what is seen */

  /* New runs, or the first ones. What was selected stays so, as far as it is still there. */
  #load() {
    const names = this.data.names;
    this.chosen = this.chosen.filter((name) => names.includes(name));
    this.sort = this.sort.filter(([name]) => this.data.columns.has(name));
    for (const id of this.selected) if (!this.data.places.has(id)) this.selected.delete(id);
    this.active = null;
    const all = this.data.ids.map((_, row) => row);
    const plotted = names.filter((name) => ["number", "text", "flag"].includes(this.data.columns.get(name).kind) && name !== "note");
    const varied = plotted.filter((name) => this.data.differs(all, name));
    const asked = (name) => ["result", "clip", "loaded"].includes(this.data.columns.get(name).part) && name !== "model.id" && name !== "prompt";
    const axes = this.usual.filter((name) => varied.includes(name) && !["status", "prompt"].includes(name));
    this.parallel.offer(plotted, axes.length > 1 ? axes : ["steps", "cfg", "seed", "seconds"]);
    const numbers = varied.filter((name) => asked(name) && this.data.columns.get(name).kind === "number");
    this.scatter.offer(plotted, { x: numbers[0] ?? "steps", y: "seconds", colour: numbers[1] ?? "" });
    this.changed();
    if (this.rows.length) this.point(this.rows.at(-1), false);
  }

  /* Whatever decides which rows are shown ends here. */
  changed() {
    const { part, data } = this;
    try {
      const wanted = RunFilter.parse(part.filter.value, data.names);
      this.filtered = data.ids.map((_, row) => row).filter((row) => wanted((name) => data.value(row, name)));
      this.where = part.filter.value;
      part.problem.hidden = true;
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      part.problem.textContent = error.message; // the rows of the last filter that was understood stay
      part.problem.hidden = false;
      this.filtered ??= data.ids.map((_, row) => row);
    }
    part.filter.setAttribute("aria-invalid", !part.problem.hidden);
    this.rows = this.#sorted(this.parallel.kept(this.filtered));
    const settings = (name) => ["result", "cost", "clip", "loaded", "placed"].includes(data.columns.get(name).part);
    const differing = this.onlyDiffering && data.names.filter((name) => settings(name) && !["model.id", "forks", "engine"].includes(name) && data.differs(this.rows, name));
    const others = (name) => !settings(name);
    this.shown = differing ? [...this.chosen.filter((name) => name === "status"), ...differing, ...this.chosen.filter((name) => others(name) && name !== "status")] : this.chosen;
    this.#draw();
    this.#tell();
  }

  #sorted(rows) {
    const { data, sort } = this;
    const order = (one, other) => {
      for (const [name, falling] of sort) {
        const found = RunData.order(data.value(one, name), data.value(other, name), falling);
        if (found) return found;
      }
      return one - other;
    };
    return sort.length ? [...rows].sort(order) : rows;
  }

  #draw() {
    const { part, data, rows, root } = this;
    const brushed = this.parallel.brushes.size ? ` (${this.filtered.length} before the brushes)` : "";
    const all = counted(data.ids.length, "run");
    part.count.textContent = rows.length === data.ids.length ? all : `${rows.length} of ${all}${brushed}`;
    this.rowsPart.update();
    if (!this.parallel.element.hidden) this.parallel.draw(this.filtered);
    if (!this.scatter.element.hidden) this.scatter.draw();
    this.actions.draw();
    followPage(this.root, this.part.card);
    Object.assign(root.dataset, { ready: "1", rows: rows.length, runs: data.ids.length });
  }

  #mark() {
    this.rowsPart.mark();
    if (!this.parallel.element.hidden) this.parallel.mark();
    if (!this.scatter.element.hidden) this.scatter.mark();
  }

  /* ---- the run one points at */

  point(row, moving = true) {
    if (row === this.active && moving) return;
    this.active = row;
    const id = this.data.ids[row];
    this.side.show(row);
    this.#mark();
    this.preview.show(id, this.clipOf(row));
    this.root.dataset.active = id;
  }

  /* The size of a run's clip, for its preview. */
  clipOf(row) {
    const value = (name) => this.data.value(row, name);
    return { width: value("width") ?? 64, height: value("height") ?? 64, frames: value("frames") ?? 1 };
  }

  /* ---- what a person chooses */

  toggle(row) {
    const id = this.data.ids[row];
    if (!this.selected.delete(id)) this.selected.add(id);
    this.last = row;
    this.select([...this.selected]);
  }

  /* All rows between the one chosen last and this one. */
  toggleTo(row) {
    const [from, to] = [this.rows.indexOf(this.last ?? row), this.rows.indexOf(row)];
    const between = this.rows.slice(Math.max(0, Math.min(from, to)), Math.max(from, to) + 1);
    this.select([...this.selected, ...between.map((each) => this.data.ids[each])]);
  }

  select(ids) {
    this.selected = new Set(ids);
    this.#mark();
    this.actions.draw();
    this.#tell();
  }

  sortBy(name, further) {
    const place = this.sort.findIndex(([one]) => one === name);
    const before = place < 0 ? null : this.sort[place];
    const next = !before ? [name, false] : before[1] ? null : [name, true]; // rising, falling, as the log has it
    const others = further ? [...this.sort] : before ? [before] : [];
    const at = others.findIndex(([one]) => one === name);
    if (at < 0) this.sort = next ? [...others, next] : others;
    else this.sort = others.flatMap((one, index) => (index !== at ? [one] : next ? [next] : []));
    this.changed();
    this.rowsPart.head.querySelector(`th[data-column="${CSS.escape(name)}"] button`)?.focus({ preventScroll: true });
  }

  show(names, redraw = true) {
    this.chosen = names;
    this.changed();
    if (redraw) this.columnsPart.draw();
  }

  showColumns() {
    if (!unfold(this.columnsPart.element, this.part.columnsButton)) return;
    this.columnsPart.draw();
    this.columnsPart.search.focus();
  }

  showDiffering(only) {
    this.onlyDiffering = only;
    this.rowsPart.element.scrollLeft = 0;
    this.changed();
  }

  chart(name) {
    const chart = this[name];
    chart.element.hidden = !chart.element.hidden;
    this.part[`${name}Button`].ariaPressed = String(!chart.element.hidden);
    this.changed();
  }

  /* ---- with the kernel */

  ask(ask, more = {}) {
    if (!this.live) return;
    this.waiting.add(ask);
    if (["refresh", "delete", "restore"].includes(ask)) this.notes.asked();
    this.live.send({ ask, ...more });
  }

  star(row) {
    if (this.live) this.annotate(row, { star: this.data.value(row, "star") !== true });
  }

  annotate(row, notes) {
    this.notes.annotate(row, notes);
  }

  open(row) {
    this.ask("compare", { ids: [this.data.ids[row]] });
    if (this.live) this.say("Decoding the clip…");
  }

  compare() {
    if (!this.live) return this.opened.showPreviews([...this.selected]);
    this.ask("compare", { ids: [...this.selected] });
    this.actions.draw();
  }

  say(text, ...buttons) {
    this.part.message.hidden = !text;
    this.part.message.replaceChildren(text, ...buttons);
  }

  #heard(message) {
    if ("problem" in message && !("answered" in message)) return; // shown above the face
    this.waiting.delete(message.answered);
    if ("content" in message) this.#take(message.content);
    if ("sheet" in message) this.preview.bring(message.preview, message.sheet);
    if ("noted" in message) this.notes.answered(message);
    if ("opened" in message) this.opened.showPage(message.opened);
    this.bin.heard(message);
    if (message.answered === "compare") this.say("");
    this.actions.draw();
  }

  #take(content) {
    const active = this.active === null ? null : this.data.ids[this.active];
    this.data = new RunData(content);
    this.bin.show(content.trash);
    this.notes.renew();
    this.#load();
    const row = this.data.places.get(active);
    if (row !== undefined) this.point(row, false);
  }

  /* Python hears what is shown and selected, seldom enough not to be in its way. */
  #tell() {
    if (!this.live || this.telling) return;
    this.telling = setTimeout(() => {
      this.telling = null;
      const view = { columns: this.chosen, where: this.where, selected: [...this.selected], sort: this.sort.map(([name, falling]) => (falling ? `-${name}` : name)) };
      const said = JSON.stringify(view);
      if (said !== this.said) this.live.send({ ask: "view", ...view });
      this.said = said;
    }, RunTable.TELL_EVERY);
  }

  /* ---- what a person does */

  #listen() {
    const { part, root } = this;
    part.filter.addEventListener("input", () => this.changed());
    root.addEventListener("pointerenter", () => followPage(root, part.card));
    this.forget = this.live?.listen((message) => this.#heard(message));
    this.keys = new RunKeys(this);
    let width = 0;
    new ResizeObserver(() => {
      followPage(root, part.card);
      if (width === root.clientWidth) return; // only taller: nothing is drawn otherwise, and no focus lost
      width = root.clientWidth;
      this.rowsPart.update();
      if (!this.scatter.element.hidden) this.scatter.draw();
    }).observe(root);
    if (this.live) this.ask("refresh");
  }

  stop() {
    this.forget?.();
    this.preview.stop();
    clearTimeout(this.telling);
  }
}
