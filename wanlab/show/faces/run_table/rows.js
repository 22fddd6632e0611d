/* The rows of the table: only those in view are in the document, so that thousands are as quick as ten. */

class RunRows {
  static HEIGHT = 30; // of a row, also in run_table.css
  static SPARE = 8; // rows drawn above and below the view
  static LETTER = 7.2; // pixels of a letter, about
  static WIDTHS = { status: 104, created: 132, prompt: 250, tags: 150, note: 190 };
  static STATUS = { done: "done", running: "running", stopped: "stopped", failed: "failed", crashed: "failed", unreadable: "failed" };

  constructor(table) {
    this.table = table;
    this.head = make("thead");
    this.body = make("tbody");
    this.columns = make("colgroup");
    this.grid = make("table", {}, this.columns, this.head, this.body);
    for (const [name, value] of Object.entries({ role: "grid", "aria-label": "Runs", "aria-multiselectable": "true" })) this.grid.setAttribute(name, value);
    this.empty = make("p", { className: "none", hidden: true });
    this.element = make("div", { className: "scroll" }, this.grid, this.empty);
    this.element.addEventListener("scroll", () => (this.due ??= requestAnimationFrame(() => this.draw())));
    this.#listen();
  }

  /* Other columns or another order: the head is drawn too. */
  update() {
    const { data, shown, rows } = this.table;
    this.widths = ["id", ...shown].map((name) => this.#width(name));
    this.columns.replaceChildren(...this.widths.map((width) => Object.assign(make("col"), { style: `width: ${width}px` })));
    this.grid.style.width = `${this.widths.reduce((sum, width) => sum + width, 0)}px`;
    this.grid.setAttribute("aria-rowcount", rows.length + 1);
    this.grid.setAttribute("aria-colcount", shown.length + 1);
    this.head.replaceChildren(make("tr", {}, ...["id", ...shown].map((name) => this.#headOf(data.columns.get(name)))));
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = data.ids.length ? "No run fits the filter." : "There is no run yet: the first one will be a row here.";
    this.draw();
  }

  /* Of the ids only their ends are shown then: run_table.css has the same width. */
  get narrow() {
    return this.table.root.clientWidth <= 620;
  }

  #width(name) {
    const { data, rows } = this.table;
    if (name === "id") {
      const letters = (id) => (this.narrow ? id.length - id.lastIndexOf("-") - 1 : id.length);
      return 62 + 7.4 * Math.max(6, ...rows.slice(0, 50).map((row) => Math.min(24, letters(data.ids[row]))));
    }
    if (RunRows.WIDTHS[name]) return RunRows.WIDTHS[name];
    const column = data.columns.get(name);
    const letters = rows.slice(0, 100).map((row) => RunData.text(data.value(row, name), column).length);
    const unit = column.part !== "measured" && column.unit ? column.unit.length + 3 : 0;
    const head = 22 + 8 * Math.min(name.length + unit, 26); // bold, with room for the arrow
    return Math.round(18 + Math.max(head, RunRows.LETTER * Math.min(28, Math.max(3, ...letters))));
  }

  #headOf(column) {
    const { sort } = this.table;
    const place = sort.findIndex(([name]) => name === column.name);
    const falling = place >= 0 && sort[place][1];
    const unit = column.unit && column.part !== "measured" ? make("small", { textContent: ` ${column.unit}` }) : "";
    const arrow = place < 0 ? "" : make("span", { className: "arrow", textContent: `${falling ? "↓" : "↑"}${sort.length > 1 ? place + 1 : ""}` });
    const label = make("button", { type: "button", ariaLabel: `Sort by ${column.name}` }, make("span", { className: "name" }, column.name, unit), arrow);
    label.title = [`${column.name}${column.unit ? ` (${column.unit})` : ""}`, column.help, "Click to sort, Shift and click to sort by this too."].filter(Boolean).join("\n");
    label.addEventListener("click", (event) => this.table.sortBy(column.name, event.shiftKey));
    const cell = make("th", { scope: "col", className: column.kind === "number" ? "number" : "" }, label);
    cell.dataset.column = column.name;
    cell.setAttribute("aria-sort", place < 0 ? "none" : falling ? "descending" : "ascending");
    return cell;
  }

  draw() {
    this.due = undefined;
    if (this.editing) return; // the cell that is written in stays
    const { rows } = this.table;
    const { HEIGHT, SPARE } = RunRows;
    const furthest = rows.length * HEIGHT + HEIGHT - (this.element.clientHeight || 400); // fewer rows than a moment ago
    const first = Math.max(0, Math.floor(Math.min(this.element.scrollTop, furthest) / HEIGHT) - SPARE);
    const last = Math.min(rows.length, first + Math.ceil((this.element.clientHeight || 400) / HEIGHT) + 2 * SPARE);
    const focused = this.body.contains(this.grid.getRootNode().activeElement);
    const gap = (count) => {
      const row = make("tr", { className: "gap", ariaHidden: "true" });
      row.style.height = `${count * HEIGHT}px`;
      return row;
    };
    const drawn = rows.slice(first, last).map((row, offset) => this.#row(row, first + offset));
    this.body.replaceChildren(...(first ? [gap(first)] : []), ...drawn, ...(last < rows.length ? [gap(rows.length - last)] : []));
    const active = this.rowOf(this.table.active);
    if (!active && drawn.length) drawn[0].tabIndex = 0;
    if (focused && active) active.focus({ preventScroll: true });
  }

  rowOf(row) {
    return row === null ? null : this.body.querySelector(`tr[data-row="${row}"]`);
  }

  #row(row, place) {
    const { data, shown, selected, active } = this.table;
    const id = data.ids[row];
    const element = make("tr", { tabIndex: row === active ? 0 : -1 }, this.#first(row, id));
    for (const name of shown) element.append(this.#cell(row, data.columns.get(name)));
    element.dataset.row = row;
    element.dataset.run = id;
    element.classList.toggle("active", row === active);
    element.setAttribute("aria-rowindex", place + 2);
    element.setAttribute("aria-selected", selected.has(id));
    return element;
  }

  #first(row, id) {
    const { data, selected, live } = this.table;
    const box = make("input", { type: "checkbox", tabIndex: -1, checked: selected.has(id), ariaLabel: `Select run ${id}` });
    const starred = data.value(row, "star") === true;
    const star = make("button", { type: "button", tabIndex: -1, className: "star", textContent: starred ? "★" : "☆", disabled: !live });
    star.ariaPressed = starred;
    star.ariaLabel = star.title = `Star run ${id}`;
    const end = id.lastIndexOf("-") + 1;
    const name = make("span", { className: "name", title: id }, make("span", { className: "date", textContent: id.slice(0, end) }), id.slice(end));
    return make("th", { scope: "row", className: "id" }, box, star, name);
  }

  #cell(row, column) {
    const value = this.table.data.value(row, column.name);
    const text = RunData.text(value, column);
    const cell = make("td", { title: column.name === "created" ? `${value} (UTC)` : text === "–" ? "unknown" : text });
    cell.dataset.column = column.name;
    cell.classList.toggle("unknown", text === "–");
    cell.classList.toggle("number", column.kind === "number");
    if (column.name === "status") cell.append(make("i", { className: `dot ${RunRows.STATUS[value] ?? "other"}` }), text);
    else if (column.name === "tags" && text !== "–") cell.append(...value.map((tag) => make("span", { className: "tag", textContent: tag })));
    else cell.textContent = text;
    if (this.table.live && (column.name === "tags" || column.name === "note")) this.#offerEditing(cell, text);
    return cell;
  }

  #offerEditing(cell, text) {
    cell.classList.add("editable");
    if (text === "–") cell.textContent = cell.dataset.column === "tags" ? "+ tag" : "+ note";
    cell.title = text === "–" ? "Click to write, or press T for tags and N for the note." : `${text}\n\nClick to change.`;
  }

  /* Write in a cell: Enter and leaving it keep what was written, Escape does not. */
  edit(row, name) {
    const { data } = this.table;
    const cell = this.rowOf(row)?.querySelector(`td[data-column="${name}"]`);
    if (!cell) return this.table.say(`Show the column ${name} to write in it.`);
    const before = data.value(row, name);
    const box = make("input", { value: Array.isArray(before) ? before.join(", ") : (before ?? ""), ariaLabel: `${name === "tags" ? "Tags" : "Note"} of run ${data.ids[row]}` });
    box.placeholder = name === "tags" ? "tags, with commas" : "a note";
    box.maxLength = 4000;
    this.finish = (keep) => {
      if (this.editing !== box) return;
      this.editing = null;
      const written = name === "tags" ? [...new Set(box.value.split(",").map((tag) => tag.trim()).filter(Boolean))] : box.value.trim();
      if (keep && JSON.stringify(written) !== JSON.stringify(before ?? (name === "tags" ? [] : ""))) this.table.annotate(row, { [name]: written });
      this.draw();
      this.rowOf(row)?.focus({ preventScroll: true });
    };
    box.addEventListener("blur", () => this.finish(true));
    this.editing = box;
    cell.replaceChildren(box);
    box.focus();
    box.select();
  }

  /* Point at a row, and bring it into view. */
  go(place) {
    const { rows } = this.table;
    if (!rows.length) return;
    const at = Math.max(0, Math.min(rows.length - 1, place));
    const top = at * RunRows.HEIGHT;
    const head = this.head.offsetHeight;
    const room = this.element.clientHeight - head - RunRows.HEIGHT;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top > this.element.scrollTop + room) this.element.scrollTop = top - room;
    this.table.point(rows[at]);
    this.draw();
    this.rowOf(rows[at])?.focus({ preventScroll: true });
  }

  /* Show which rows are selected and which one is pointed at, without drawing them anew. */
  mark() {
    const { selected, active, data } = this.table;
    for (const row of this.body.querySelectorAll("tr[data-row]")) {
      const chosen = selected.has(data.ids[row.dataset.row]);
      row.setAttribute("aria-selected", chosen);
      row.querySelector("input[type=checkbox]").checked = chosen;
      row.classList.toggle("active", Number(row.dataset.row) === active);
      row.tabIndex = Number(row.dataset.row) === active ? 0 : -1;
    }
  }

  #listen() {
    const at = (event) => {
      const row = event.target.closest("tr[data-row]");
      return row ? Number(row.dataset.row) : null;
    };
    const point = (event) => at(event) !== null && !this.editing && this.table.point(at(event));
    this.body.addEventListener("pointerover", point);
    this.body.addEventListener("focusin", point);
    this.body.addEventListener("click", (event) => {
      const row = at(event);
      if (row === null || event.target === this.editing) return;
      const written = event.target.closest("td.editable")?.dataset.column;
      if (event.target.closest(".star")) this.table.star(row);
      else if (written) this.edit(row, written);
      else if (event.shiftKey) this.table.toggleTo(row);
      else this.table.toggle(row);
    });
    this.body.addEventListener("dblclick", (event) => at(event) !== null && !event.target.closest("button, input, .editable") && this.table.open(at(event)));
  }
}
