/* Which columns are shown: all of them by group, found by a part of their name. */

class RunColumns {
  constructor(table) {
    this.table = table;
    this.search = make("input", { type: "search", ariaLabel: "Find a column", placeholder: "Find a column" });
    this.search.addEventListener("input", () => this.draw());
    const usual = make("button", { type: "button", className: "plain", textContent: "As at the beginning" });
    usual.addEventListener("click", () => table.show(table.usual));
    const none = make("button", { type: "button", className: "plain", textContent: "None" });
    none.addEventListener("click", () => table.show([]));
    this.groups = make("div", { className: "groups" });
    this.element = make("section", { className: "columns", ariaLabel: "Columns", hidden: true }, make("div", { className: "bar" }, this.search, usual, none), this.groups);
  }

  draw() {
    const { data, chosen } = this.table;
    const wanted = this.search.value.trim().toLowerCase();
    const groups = new Map();
    for (const column of data.columns.values()) {
      if (column.name === "id" || !column.name.toLowerCase().includes(wanted)) continue;
      groups.set(column.group, [...(groups.get(column.group) ?? []), column]);
    }
    const sections = [...groups].map(([group, columns]) => {
      const boxes = columns.map((column) => this.#box(column, chosen.includes(column.name)));
      return make("fieldset", {}, make("legend", { textContent: group }), ...boxes);
    });
    this.groups.replaceChildren(...(sections.length ? sections : [make("p", { className: "note", textContent: "No column has this in its name." })]));
  }

  #box(column, checked) {
    const box = make("input", { type: "checkbox", checked });
    box.addEventListener("input", () => {
      const { chosen } = this.table;
      this.table.show(box.checked ? [...chosen, column.name] : chosen.filter((name) => name !== column.name), false);
    });
    const label = make("label", { title: [column.help, column.same && "The same in all runs."].filter(Boolean).join("\n") }, box, column.name);
    if (column.same) label.classList.add("same");
    return label;
  }
}
