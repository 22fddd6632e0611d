/* What is open beneath a grid: one clip with its facts, or up to nine in the player, with the settings in which they differ. */

const [LEAST_OPENED, OPENED_HEIGHT, AROUND] = [410, 320, 30]; // the player around one clip, as wide as it makes itself

const clipWidth = ({ width, height }) => width * Math.max(1, Math.floor(OPENED_HEIGHT / height)) + AROUND;

class GridChosen {
  cells = [];

  constructor(grid, place) {
    Object.assign(this, { grid, place });
  }

  has(cell) {
    return this.cells.includes(cell);
  }

  /* Only this one; or none. */
  only(...cells) {
    this.cells = cells;
    this.show();
  }

  /* One more or one less; returns what speaks against it. */
  toggle(cell) {
    if (!this.has(cell) && this.cells.length >= MOST_CLIPS) return `At most ${MOST_CLIPS} clips are compared. Take one away first.`;
    this.only(...(this.has(cell) ? this.cells.filter((other) => other !== cell) : [...this.cells, cell]));
    return "";
  }

  /* A live cell has changed: what is open follows. */
  changed(cell) {
    if (this.has(cell)) this.show();
  }

  show() {
    const { place, cells } = this;
    this.player?.stop?.();
    this.player = null;
    place.hidden = !cells.length;
    place.replaceChildren();
    this.grid.choiceShown();
    if (!cells.length) return;
    const playable = cells.filter((cell) => cell.frames);
    const root = make("div", { className: "player" });
    const beside = cells.length === 1 ? [this.facts(cells[0])] : playable.length ? [] : [this.differing(cells)];
    place.append(this.heading(), make("div", { className: "opened" }, ...(playable.length ? [root] : []), ...beside));
    if (playable.length) this.play(root, playable); // now that it is in the document, whose colours it follows
  }

  heading() {
    const { cells, grid } = this;
    const close = make("button", { type: "button", className: "text", textContent: "Close" });
    close.addEventListener("click", () => this.only());
    const buttons = [close];
    if (cells.length === 1) {
      const reference = make("button", { type: "button", className: "text", textContent: "Make it the reference" });
      reference.addEventListener("click", () => grid.setReference(cells[0]));
      if (cells[0].frames) buttons.unshift(reference);
    }
    const text = cells.length === 1 ? "One clip. Choose another to compare." : `${cells.length} clips compared`;
    return make("div", { className: "head" }, make("strong", { textContent: text }), make("span", { className: "group end" }, ...buttons));
  }

  /* The player as it is everywhere else, in an element of its own. */
  play(root, cells) {
    const { grid } = this;
    if (cells.length > 1) root.append(this.differing(cells));
    else root.style.maxWidth = `${Math.max(LEAST_OPENED, clipWidth(cells[0].content))}px`; // so that the facts stand close by
    const clips = cells.map((cell) => {
      const { height, width, sizes, stills } = cell.content;
      return { label: this.name(cell), height, width, sizes, stills };
    });
    const content = { kind: cells[0].content.kind, rate: grid.page.rate, mode: "side", title: "", notes: [], css: grid.page.playerCss, clips };
    this.player = new Player(root, content, null);
  }

  /* What tells a cell from the others that are open; of one alone, where it stands. */
  name(cell) {
    const differences = this.differences(this.cells).map(([name, value]) => [name, value(cell)]);
    const settings = differences.length ? differences : this.grid.places.settings(cell);
    return settings.map((pair) => pair.join(" ")).join(", ") || cell.content.caption || cell.content.key;
  }

  /* The varied settings in which these cells differ: [name, cell => value]. */
  differences(cells) {
    const { places } = this.grid;
    return places.varied
      .filter((axis) => cells.some((cell) => cell.at[axis] !== cells[0].at[axis]))
      .map((axis) => [places.axes[axis].name, (cell) => places.value(axis, cell.at[axis])]);
  }

  differing(cells) {
    const numbers = [...new Set(cells.flatMap((cell) => [...cell.numbers.keys()]))];
    const number = (name) => (cell) => (typeof cell.numbers.get(name) === "number" ? gridNumber(cell.numbers.get(name)) : "unknown");
    const facts = [...new Set(cells.flatMap((cell) => cell.content.facts.map(([name]) => name)))];
    const fact = (name) => (cell) => cell.content.facts.find(([other]) => other === name)?.[1] ?? "";
    const unequal = facts.filter((name) => new Set(cells.map(fact(name))).size > 1);
    const rows = [...this.differences(cells), ...numbers.map((name) => [name, number(name)]), ...unequal.map((name) => [name, fact(name)])];
    const body = rows.map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row", textContent: name }), ...cells.map((cell) => make("td", { textContent: value(cell) }))),
    );
    const heads = cells.map((cell) => make("th", { scope: "col", textContent: this.name(cell) }));
    return make("table", {}, make("thead", {}, make("tr", {}, make("th"), ...heads)), make("tbody", {}, ...body));
  }

  facts(cell) {
    const { content } = cell;
    const numbers = content.numbers.map(([name, value]) => [name, value === null ? "unknown" : gridNumber(value)]);
    const state = [["state", [GRID_STATES[content.state] || "Done", content.problem].filter(Boolean).join(": ")]];
    const rows = [...this.grid.places.settings(cell), ...state, ["caption", content.caption], ...numbers, ...content.facts];
    const body = rows
      .filter(([, value]) => value)
      .map(([name, value]) => make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: value })));
    return make("div", { className: "facts" }, make("table", {}, make("tbody", {}, ...body)));
  }
}
