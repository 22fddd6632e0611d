/* The settings that differ, between the clips: each column stands under its clip where there is room. */

class SettingsTable {
  static MOST_NAME = 180; // pixels for the names before the first clip

  /* The table of the still part that has a column for each clip, if there is one. */
  constructor(place, tables, count) {
    this.place = place;
    const fits = (table) => table.matches("table") && table.tHead?.rows[0].cells.length === count + 1;
    const own = count > 1 ? tables.find(fits) : null;
    this.table = own ?? null;
    this.rest = tables.filter((table) => table !== own);
    if (this.table) this.#mark();
  }

  /* Numbers as in the captions, and whatever differs from the first clip in bold. */
  #mark() {
    const { table, place } = this;
    table.caption = SettingsTable.#caption();
    const heads = [...table.tHead.rows[0].cells].slice(1);
    this.labels = heads.map((cell) => cell.textContent.replace(/^\d+ \u00b7 /, ""));
    heads.forEach((cell, index) => SettingsTable.#head(cell, "col", index, this.labels[index]));
    for (const { cells } of table.tBodies[0].rows) {
      cells[0].scope = "row";
      cells[1].title = cells[1].textContent;
      for (const cell of [...cells].slice(1)) {
        const value = cell.textContent;
        cell.classList.toggle("other", value !== cells[1].title);
        cell.title = value;
        const unset = { className: "unset", textContent: "\u2013", title: "Not set" };
        cell.replaceChildren(value ? make("div", { className: "clamp", textContent: value }) : make("span", unset));
      }
    }
    this.columns = make("colgroup");
    table.prepend(this.columns);
    this.turned = this.#turn();
    place.replaceChildren(table);
  }

  /* A row for each clip, for when the columns cannot stand beneath the clips: there is no room for nine of them. */
  #turn() {
    const rows = [...this.table.tBodies[0].rows];
    const names = rows.map(({ cells }) => make("th", { scope: "col", textContent: cells[0].textContent }));
    const body = this.labels.map((label, index) => {
      const head = SettingsTable.#head(make("th"), "row", index, label);
      return make("tr", {}, head, ...rows.map(({ cells }) => cells[index + 1].cloneNode(true)));
    });
    const head = make("thead", {}, make("tr", {}, make("td"), ...names));
    return make("table", { className: "turned" }, SettingsTable.#caption(), head, make("tbody", {}, ...body));
  }

  static #caption() {
    return make("caption", { className: "unseen", textContent: "Settings that differ" });
  }

  static #head(cell, scope, index, label) {
    Object.assign(cell, { scope, title: label });
    cell.replaceChildren(badge(index), make("span", { className: "clamp", textContent: label }));
    return cell;
  }

  /* How much room the names need before the first clip. */
  get before() {
    if (!this.table) return 0;
    const [first] = this.table.tBodies[0].rows[0].cells;
    const { width } = first.getBoundingClientRect(); // 0 while it is not shown
    if (!this.name && width) this.name = Math.min(SettingsTable.MOST_NAME, Math.ceil(width) + 1);
    return this.name ?? 0;
  }

  /* Columns as wide as the clips above them, with their gap; without widths a table by itself, in so much room. */
  align(widths, gap, room) {
    const { place, table, turned, before } = this;
    if (!before) return;
    place.dataset.aligned = Boolean(widths);
    const clips = widths?.map((width, index) => width + (index < widths.length - 1 ? gap : 0)) ?? [];
    const all = [widths ? before : Math.min(before, 0.35 * room), ...clips];
    this.columns.replaceChildren(...all.map((width) => make("col", { style: `width: ${width}px` })));
    table.style.width = widths ? `${all.reduce((sum, width) => sum + width, 0)}px` : "";
    const shown = widths || this.labels.length < 4 ? table : turned;
    if (shown.parentNode !== place) place.replaceChildren(shown);
  }
}
