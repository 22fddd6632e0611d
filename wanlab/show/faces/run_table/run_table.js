/* The table of runs: what is filtered, sorted, shown and selected, and the parts that show it. What a person wrote is only ever
 * set as text. With a line to the kernel it also keeps stars, tags and notes, and deletes, compares and opens runs. */

class RunTable {
  static MOST_COMPARED = 9;
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
    this.written = new Map(); // notes that the runs that were last asked for may not hold yet
    this.waiting = new Set();
    this.data = new RunData(content);
    this.preview = new RunPreview(content.previews, (id) => live?.send({ ask: "preview", id }));
    this.side = new RunSide(this);
    this.bin = new RunTrash(this);
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
    const part = (this.part = {});
    const press = (name, textContent, action, title = "") => {
      part[name] = make("button", { type: "button", className: "plain", textContent, title });
      part[name].addEventListener("click", action);
      return part[name];
    };
    part.count = make("span", { className: "count" });
    part.filter = make("input", { type: "search", ariaLabel: "Filter", placeholder: "Filter: a word, or cfg > 3 and prompt contains circle", spellcheck: false, autocomplete: "off" });
    part.filter.value = this.where;
    part.problem = make("p", { className: "problem", hidden: true });
    part.problem.setAttribute("role", "alert");
    part.message = make("p", { className: "message", hidden: true });
    part.message.setAttribute("role", "status");
    part.help = make("p", { className: "note", hidden: true, textContent: RunTable.#HELP });
    const live = Boolean(this.live);
    const top = make("div", { className: "bar top" }, make("h3", { textContent: this.content.title }), part.count);
    if (live) top.append(press("refresh", "Refresh", () => this.ask("refresh"), "Read the log again: runs and notes of other kernels too"));
    const tools = make("div", { className: "bar options tools" }, part.filter, press("helpButton", "?", () => this.#unfold("help", "helpButton"), "What a filter may say"));
    part.helpButton.ariaLabel = "Help for filters and keys";
    const differing = make("input", { type: "checkbox" });
    differing.addEventListener("input", () => this.#differing(differing.checked));
    tools.append(press("columnsButton", "Columns", () => this.#columns()), make("label", { className: "group" }, differing, "Only differing settings"));
    tools.append(make("span", { className: "group end" }, press("parallelButton", "Parallel coordinates", () => this.#chart("parallel")), press("scatterButton", "Scatter", () => this.#chart("scatter"))));
    part.actions = make("div", { className: "bar actions", hidden: true });
    part.chosen = make("b");
    part.actions.append(part.chosen, press("compare", "Compare", () => this.compare()), press("diff", "Diff", () => this.#diff()));
    if (live) part.actions.append(press("delete", "Delete", () => this.ask("delete", { ids: [...this.selected] })));
    part.actions.append(press("clear", "Clear selection", () => this.select([])));
    part.opened = make("section", { className: "opened", ariaLabel: "Opened", hidden: true });
    part.diffed = make("section", { className: "diffed", ariaLabel: "Difference of two runs", hidden: true });
    const split = make("div", { className: "split" }, this.rowsPart.element, this.side.element);
    this.parallel.element.hidden = this.scatter.element.hidden = true;
    part.card = make("div", { className: "card" }, top, tools, part.problem, part.help, this.columnsPart.element, this.parallel.element, this.scatter.element, part.actions, part.message, split, this.bin.element, part.diffed, part.opened);
    this.shadow.replaceChildren(make("style", { textContent: this.content.css }), part.card);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", this.content.title || "Runs");
  }

  static #HELP =
    'A word or "some words" are found in the prompt, id, status, tags, note and error. Columns compare: cfg > 3, status == done, ' +
    "prompt contains circle, seed in [1, 2], feta.weight != none. Also tag:good, starred; join them with and, or, not, brackets. " +
    "Keys in the rows: ↑ ↓ Page Home End move, Space selects, S stars, T and N write tags and the note, Enter opens.";

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
    const all = data.ids.length === 1 ? "1 run" : `${data.ids.length} runs`;
    part.count.textContent = rows.length === data.ids.length ? all : `${rows.length} of ${all}${brushed}`;
    this.rowsPart.update();
    if (!this.parallel.element.hidden) this.parallel.draw(this.filtered);
    if (!this.scatter.element.hidden) this.scatter.draw();
    this.#drawActions();
    this.#follow();
    Object.assign(root.dataset, { ready: "1", rows: rows.length, runs: data.ids.length });
  }

  #drawActions() {
    const { part, selected, live } = this;
    const count = selected.size;
    part.actions.hidden = !count;
    part.chosen.textContent = `${count} selected`;
    part.compare.disabled = count < 2 || count > RunTable.MOST_COMPARED || this.waiting.has("compare");
    part.compare.textContent = this.waiting.has("compare") ? "Decoding…" : "Compare";
    part.compare.title = count > RunTable.MOST_COMPARED ? `At most ${RunTable.MOST_COMPARED} runs can be compared.` : "Play the clips of the selected runs beside each other";
    if (!live) part.compare.hidden = ![...selected].some((id) => this.preview.has(id));
    part.diff.disabled = count !== 2;
    part.diff.title = count === 2 ? "What differs between the two" : "Select two runs to see what differs";
    if (count !== 2) part.diffed.hidden = true;
    else if (!part.diffed.hidden) this.#drawDiff();
    part.diff.ariaExpanded = String(!part.diffed.hidden);
    this.root.dataset.selected = [...selected].join(" ");
  }

  #mark() {
    this.rowsPart.mark();
    if (!this.parallel.element.hidden) this.parallel.mark();
    if (!this.scatter.element.hidden) this.scatter.mark();
  }

  /* The browser's own lists must follow a dark page, which its light text gives away. */
  #follow() {
    const colour = getComputedStyle(this.root).color.match(/[\d.]+/g);
    if (!colour) return; // not in the document yet
    const [red, green, blue] = colour;
    this.part.card.style.colorScheme = 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
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
    this.#drawActions();
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

  #unfold(name, by) {
    this.part[name].hidden = !this.part[name].hidden;
    this.part[by].ariaExpanded = String(!this.part[name].hidden);
  }

  #columns() {
    const { element } = this.columnsPart;
    element.hidden = !element.hidden;
    this.part.columnsButton.ariaExpanded = String(!element.hidden);
    if (element.hidden) return;
    this.columnsPart.draw();
    this.columnsPart.search.focus();
  }

  #differing(only) {
    this.onlyDiffering = only;
    this.rowsPart.element.scrollLeft = 0;
    this.changed();
  }

  #chart(name) {
    const chart = this[name];
    chart.element.hidden = !chart.element.hidden;
    this.part[`${name}Button`].ariaPressed = String(!chart.element.hidden);
    this.changed();
  }

  #diff() {
    this.part.diffed.hidden = !this.part.diffed.hidden;
    this.#drawActions();
  }

  #drawDiff() {
    const rows = [...this.selected].map((id) => this.data.places.get(id)).sort((one, other) => one - other);
    this.part.diffed.replaceChildren(new RunDiff(this.data, rows).element());
  }

  /* ---- with the kernel */

  ask(ask, more = {}) {
    if (!this.live) return;
    this.waiting.add(ask);
    if (["refresh", "delete", "restore"].includes(ask)) this.written.clear(); // answered in the order in which they are asked
    this.live.send({ ask, ...more });
  }

  star(row) {
    if (this.live) this.annotate(row, { star: this.data.value(row, "star") !== true });
  }

  /* Shown at once, and taken back if the kernel could not keep it. */
  annotate(row, notes) {
    const id = this.data.ids[row];
    const before = Object.fromEntries(Object.keys(notes).map((name) => [name, this.data.value(row, name)]));
    (this.notes ??= new Map()).set(id, before);
    for (const [name, value] of Object.entries(notes)) this.data.note(row, name, value === false || value.length === 0 ? null : value);
    this.written.set(id, { ...this.written.get(id), ...Object.fromEntries(Object.keys(notes).map((name) => [name, this.data.value(row, name)])) });
    const kept = Object.fromEntries(Object.entries(notes).map(([name, value]) => [name, value === false || value === "" ? null : value]));
    this.ask("annotate", { id, notes: kept });
    this.rowsPart.draw();
  }

  open(row) {
    this.ask("compare", { ids: [this.data.ids[row]] });
    if (this.live) this.say("Decoding the clip…");
  }

  compare() {
    if (!this.live) return this.#comparePreviews();
    this.ask("compare", { ids: [...this.selected] });
    this.#drawActions();
  }

  say(text, ...buttons) {
    this.part.message.hidden = !text;
    this.part.message.replaceChildren(text, ...buttons);
  }

  /* Without a kernel: the small clips beside each other. */
  #comparePreviews() {
    const figures = [...this.selected].map((id) => {
      const preview = new RunPreview({}, () => {});
      preview.sheets = this.preview.sheets;
      const row = this.data.places.get(id);
      preview.show(id, this.clipOf(row));
      return make("figure", {}, preview.canvas, make("figcaption", { textContent: id, title: RunData.text(this.data.value(row, "prompt")) }));
    });
    this.#opened(make("div", { className: "small" }, ...figures));
  }

  #opened(...children) {
    const close = make("button", { type: "button", className: "plain", textContent: "Close" });
    close.addEventListener("click", () => {
      this.part.opened.hidden = true;
      this.place?.remove();
    });
    this.part.opened.replaceChildren(close, ...children);
    this.part.opened.hidden = false;
  }

  /* A page that the kernel made: beneath this face's own element, where its script finds its place, and shown through a slot. */
  #showPage(html) {
    this.place?.remove();
    this.place = make("div", { slot: "opened" });
    this.place.innerHTML = html; // made by build_page, in which all text is escaped; scripts set so do not run
    this.#opened(make("slot", { name: "opened" }));
    this.root.append(this.place);
    for (const script of this.place.querySelectorAll("script")) script.replaceWith(make("script", { textContent: script.textContent }));
    this.part.opened.scrollIntoView({ block: "nearest" });
  }

  #heard(message) {
    if ("problem" in message && !("answered" in message)) return; // shown above the face
    this.waiting.delete(message.answered);
    if ("content" in message) this.#take(message.content);
    if ("sheet" in message) this.preview.bring(message.preview, message.sheet);
    if ("noted" in message) this.#noted(message);
    if ("opened" in message) this.#showPage(message.opened);
    this.bin.heard(message);
    if (message.answered === "compare") this.say("");
    this.#drawActions();
  }

  #take(content) {
    const active = this.active === null ? null : this.data.ids[this.active];
    this.data = new RunData(content);
    this.bin.show(content.trash);
    for (const [id, notes] of this.written) {
      const row = this.data.places.get(id);
      for (const [name, value] of row === undefined ? [] : Object.entries(notes)) this.data.note(row, name, value);
    }
    this.#load();
    const row = this.data.places.get(active);
    if (row !== undefined) this.point(row, false);
  }

  #noted({ noted, reason }) {
    const before = this.notes?.get(noted);
    this.notes?.delete(noted);
    if (!reason) return;
    this.written.delete(noted);
    const row = this.data.places.get(noted);
    if (before && row !== undefined) for (const [name, value] of Object.entries(before)) this.data.note(row, name, value);
    this.say(reason);
    this.rowsPart.draw();
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
    root.addEventListener("pointerenter", () => this.#follow());
    this.forget = this.live?.listen((message) => this.#heard(message));
    // At the window, where nothing comes before it: some versions of JupyterLab take keys on their way down.
    const key = (event) => event.composedPath().includes(this.shadow) && !event.composedPath().includes(this.place) && this.#key(event);
    this.root.addEventListener("focusin", () => window.addEventListener("keydown", key, true));
    this.root.addEventListener("focusout", () => window.removeEventListener("keydown", key, true));
    let width = 0;
    new ResizeObserver(() => {
      this.#follow();
      if (width === root.clientWidth) return; // only taller: nothing is drawn otherwise, and no focus lost
      width = root.clientWidth;
      this.rowsPart.update();
      if (!this.scatter.element.hidden) this.scatter.draw();
    }).observe(root);
    if (this.live) this.ask("refresh");
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.composedPath()[0];
    if (target.matches?.("input:not([type=checkbox]), select, textarea")) return event.stopPropagation() ?? this.#typed(event, target);
    const point = target.closest?.(".point, .dimension");
    const used = point
      ? (point.matches(".point") ? this.scatter : this.parallel).key(event, point)
      : target.closest?.("tbody tr[data-row]") && !(target.matches("button") && event.key === " ") && this.#rowKey(event);
    if (!used) return;
    event.stopPropagation(); // the notebook would move to another cell
    event.preventDefault();
  }

  /* A field keeps its keys from the notebook; what was stopped on its way is handed to the cell that is written in. */
  #typed(event, target) {
    if (target === this.rowsPart.editing && ["Enter", "Escape"].includes(event.key)) {
      event.preventDefault();
      this.rowsPart.finish(event.key === "Enter");
    }
  }

  #rowKey(event) {
    const { rows, active, rowsPart } = this;
    const place = rows.indexOf(active);
    const page = Math.max(1, Math.floor(rowsPart.element.clientHeight / RunRows.HEIGHT) - 2);
    const moves = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: rows.length - 1 };
    if (event.key in moves) return rowsPart.go(moves[event.key]), true;
    const actions = {
      " ": () => this.toggle(active),
      Enter: () => this.open(active),
      s: () => this.star(active),
      t: () => this.live && rowsPart.edit(active, "tags"),
      n: () => this.live && rowsPart.edit(active, "note"),
    };
    const name = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (!(name in actions)) return false;
    actions[name]();
    return true;
  }

  stop() {
    this.forget?.();
    this.preview.stop();
    clearTimeout(this.telling);
  }
}
