/* Keys in the table: they work while the focus is in it, and a field keeps those that are typed into it. */

class RunKeys {
  constructor(table) {
    this.table = table;
    const meant = (path) => path.includes(table.shadow) && !path.includes(table.opened.place);
    this.stop = hearKeys(table.root, { keydown: (event) => meant(event.composedPath()) && this.#down(event) });
  }

  #down(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { table } = this;
    const target = event.composedPath()[0];
    if (target.matches?.("input:not([type=checkbox]), select, textarea")) return event.stopPropagation() ?? this.#typed(event, target);
    const point = target.closest?.(".point, .dimension");
    const used = point
      ? (point.matches(".point") ? table.scatter : table.parallel).key(event, point)
      : target.closest?.("tbody tr[data-row]") && !(target.matches("button") && event.key === " ") && this.#rowKey(event);
    if (!used) return;
    event.stopPropagation(); // the notebook would move to another cell
    event.preventDefault();
  }

  /* A field keeps its keys from the notebook; what was stopped on its way is handed to the cell that is written in. */
  #typed(event, target) {
    const { rowsPart } = this.table;
    if (target === rowsPart.editing && ["Enter", "Escape"].includes(event.key)) {
      event.preventDefault();
      rowsPart.finish(event.key === "Enter");
    }
  }

  #rowKey(event) {
    const { table } = this;
    const { rows, active, rowsPart } = table;
    const place = rows.indexOf(active);
    const page = Math.max(1, Math.floor(rowsPart.element.clientHeight / RunRows.HEIGHT) - 2);
    const moves = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: rows.length - 1 };
    if (event.key in moves) return rowsPart.go(moves[event.key]), true;
    const actions = {
      " ": () => table.toggle(active),
      Enter: () => table.open(active),
      s: () => table.star(active),
      t: () => table.live && rowsPart.edit(active, "tags"),
      n: () => table.live && rowsPart.edit(active, "note"),
    };
    const name = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (!(name in actions)) return false;
    actions[name]();
    return true;
  }
}
