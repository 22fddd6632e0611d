/* The settings that differ, between the clips: each column stands under its clip where there is room. */

class SettingsTable {
  static MOST_NAME = 180; // pixels for the names before the first clip

  /* The table of the still part that has a column for each clip, if there is one. */
  constructor(place, tables, count) {
    this.place = place;
    const fits = (table) => table.matches("table") && table.tHead?.rows[0].cells.length === count + 1;
    const own = count > 1 ? tables.find(fits) : null;
    this.table = own?.cloneNode(true) ?? null;
    this.rest = tables.filter((table) => table !== own).map((table) => table.cloneNode(true));
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
      for (const cell of [...cells].slice(1)) {
        cell.classList.toggle("other", cell.textContent !== cells[1].textContent);
        if (!cell.textContent) cell.append(make("span", { className: "unset", textContent: "\u2013", title: "Not set" }));
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
    const width = this.name ? 0 : this.table.tBodies[0].rows[0].cells[0].offsetWidth; // 0 while it is not shown
    if (width) this.name = Math.min(SettingsTable.MOST_NAME, width);
    return this.name ?? 0;
  }

  /* Columns as wide as the clips above them, with their gap; without widths a table by itself. */
  align(widths, gap) {
    const { place, table, turned } = this;
    if (!table) return;
    place.toggleAttribute("data-aligned", Boolean(widths));
    const all = widths ? [this.before, ...widths.map((width, index) => width + (index < widths.length - 1 ? gap : 0))] : [];
    this.columns.replaceChildren(...all.map((width) => make("col", { style: `width: ${width}px` })));
    table.style.width = widths ? `${all.reduce((sum, width) => sum + width, 0)}px` : "";
    const shown = widths || this.labels.length < 4 ? table : turned;
    if (this.name && shown.parentNode !== place) place.replaceChildren(shown);
  }
}
