/* The settings that differ, between the clips: each column stands under its clip where there is room. */

class SettingsTable {
  static MOST_NAME = 180; // pixels for the names before the first clip

  /* The table of the still part that has a column for each clip, if there is one. */
  constructor(place, tables, count) {
    this.place = place;
    const own = tables.find((table) => table.matches("table") && count > 1 && table.tHead?.rows[0].cells.length === count + 1);
    this.table = own?.cloneNode(true) ?? null;
    this.rest = tables.filter((table) => table !== own).map((table) => table.cloneNode(true));
    if (this.table) this.#mark();
  }

  /* Numbers as in the captions, and whatever differs from the first clip in bold. */
  #mark() {
    const { table, place } = this;
    table.caption = make("caption", { className: "unseen", textContent: "Settings that differ" });
    [...table.tHead.rows[0].cells].slice(1).forEach((cell, index) => {
      const label = cell.textContent.replace(/^\d+ \u00b7 /, "");
      cell.scope = "col";
      cell.title = label;
      cell.replaceChildren(badge(index), make("span", { className: "clamp", textContent: label }));
    });
    for (const { cells } of table.tBodies[0].rows) {
      cells[0].scope = "row";
      for (const cell of [...cells].slice(1)) {
        cell.classList.toggle("other", cell.textContent !== cells[1].textContent);
        if (!cell.textContent) cell.append(make("span", { className: "unset", textContent: "\u2013", title: "This clip has no such setting" }));
      }
    }
    this.columns = make("colgroup");
    table.prepend(this.columns);
    place.replaceChildren(table);
  }

  /* How much room the names need before the first clip. */
  get before() {
    if (!this.table) return 0;
    this.name ??= Math.min(SettingsTable.MOST_NAME, this.table.tBodies[0].rows[0].cells[0].offsetWidth);
    return this.name;
  }

  /* Columns as wide as the clips above them; or as the browser likes, without widths. */
  align(widths) {
    this.place.toggleAttribute("data-aligned", Boolean(widths));
    if (!this.table) return;
    const all = widths ? [this.before, ...widths] : [];
    this.columns.replaceChildren(...all.map((width) => Object.assign(make("col"), { style: `width: ${width}px` })));
    this.table.style.width = widths ? `${all.reduce((sum, width) => sum + width, 0)}px` : "";
  }
}
