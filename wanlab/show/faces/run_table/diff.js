/* What differs between two runs, by what a difference means: their clips, their cost, how they were written or measured. */

class RunDiff {
  static PARTS = [
    ["result", "Settings that change the clip"],
    ["loaded", "The model, as it was loaded"],
    ["clip", "How the clip was written"],
    ["cost", "Settings that change seconds and memory only"],
    ["placed", "Where the model lay: seconds and memory only"],
    ["made", "Where and how it was made"],
    ["measured", "What was measured"],
    ["noted", "What was noted"],
  ];
  static OWN = ["created", "clip", "model.id", "forked_from"]; // differ between any two runs, or follow from what is told

  constructor(data, [one, other]) {
    this.data = data;
    this.rows = [one, other];
    this.names = data.names.filter((name) => !RunDiff.OWN.includes(name) && !name.startsWith("changes.") && data.differs(this.rows, name));
  }

  of(part) {
    return this.names.filter((name) => this.data.columns.get(name).part === part);
  }

  /* What can make the clips different, technique by technique where one of the runs is without it. */
  get causes() {
    const causes = [...this.of("result"), ...this.of("loaded")].map((name) => {
      const [group, rest] = name.split(".", 2);
      const without = rest && group !== "model" && this.rows.some((row) => this.data.value(row, name) === null);
      return without ? group : name;
    });
    return [...new Set(causes)];
  }

  get sentence() {
    const { causes } = this;
    const written = this.of("clip");
    const elsewhere = this.names.filter((name) => /^(device|threads|versions\.(torch|diffusers|numpy))$/.test(name));
    const partly = this.rows.filter((row) => this.data.value(row, "status") !== "done").map((row) => this.data.ids[row]);
    const told = [];
    if (causes.length === 1) told.push(`These two clips can only differ through ${causes[0]}.`);
    else if (causes.length) told.push(`These two clips can only differ through ${causes.slice(0, -1).join(", ")} and ${causes.at(-1)}.`);
    else told.push("Nothing differs that changes a clip: the two are made of the same velocities.");
    if (written.length) told.push(`They are written differently (${written.join(", ")}).`);
    if (elsewhere.length) told.push(`Beside that, another ${elsewhere.join(", ")} can move the last bits.`);
    if (partly.length) told.push(`${partly.join(" and ")} did not come to ${partly.length > 1 ? "their ends" : "its end"}.`);
    return told.join(" ");
  }

  element() {
    const heads = ["", ...this.rows.map((row) => this.data.ids[row])].map((text) => make("th", { scope: "col", textContent: text }));
    const table = make("table", { className: "diff" }, make("thead", {}, make("tr", {}, ...heads)));
    for (const [part, title] of RunDiff.PARTS) {
      const names = this.of(part);
      if (!names.length) continue;
      const body = make("tbody", {}, make("tr", {}, make("th", { colSpan: 3, scope: "rowgroup", className: "part", textContent: title })));
      body.append(...names.map((name) => this.#row(name)));
      table.append(body);
    }
    return make("div", {}, make("p", { className: "sentence", textContent: this.sentence }), make("div", { className: "sideways" }, table));
  }

  #row(name) {
    const column = this.data.columns.get(name);
    const unit = column.unit && column.part !== "measured" ? ` (${column.unit})` : "";
    const cells = this.rows.map((row) => {
      const text = RunData.text(this.data.value(row, name), column);
      const off = text === "–" && name.includes(".") && column.part === "result";
      return make("td", { textContent: off ? "off" : text, className: text === "–" ? "unknown" : "" });
    });
    return make("tr", {}, make("th", { scope: "row", textContent: name + unit, title: column.help }), ...cells);
  }
}
