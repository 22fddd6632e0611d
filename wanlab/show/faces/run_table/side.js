/* Beside the rows: the run one points at, with its clip moving. */

class RunSide {
  static FACTS = ["status", "cfg", "steps", "seed", "seconds"];

  constructor(table) {
    this.table = table;
    this.none = make("p", { className: "note nothing", textContent: "No picture of this run is here." });
    this.element = make("aside", { className: "side", ariaLabel: "The run pointed at" });
    const { canvas } = table.preview;
    canvas.addEventListener("shown", () => (this.none.hidden = !canvas.hidden));
    this.element.addEventListener("click", (event) => event.target === canvas && table.preview.clock?.toggle());
  }

  show(row) {
    const { data, preview, live } = this.table;
    const value = (name) => data.value(row, name);
    const fact = (name) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: RunData.text(value(name), data.columns.get(name)) }));
    const parts = [preview.canvas, this.none, make("p", { className: "prompt", textContent: RunData.text(value("prompt")) })];
    parts.push(make("dl", {}, ...RunSide.FACTS.filter((name) => data.columns.has(name)).map(fact)));
    if (value("error")) parts.push(make("p", { className: "problem", textContent: String(value("error")) }));
    if (value("note")) parts.push(make("p", { className: "note", textContent: String(value("note")) }));
    const open = make("button", { type: "button", className: "plain", textContent: "Open", hidden: !live });
    open.addEventListener("click", () => this.table.open(row));
    preview.canvas.setAttribute("aria-label", `The clip of run ${data.ids[row]}, small`);
    this.element.replaceChildren(...parts, open);
  }
}
