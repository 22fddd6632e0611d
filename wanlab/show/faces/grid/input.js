/* What a person does in a grid: pressing, dragging, keys. */

class GridInput {
  constructor(grid) {
    this.grid = grid;
    this.controls();
    this.cells();
    hearKeys(grid.root, { keydown: (event) => event.composedPath().includes(grid.root) && this.key(event) });
  }

  controls() {
    const { grid } = this;
    const { part, clock } = grid;
    const press = {
      ...buttonsOf(clock),
      sheet: () => saveSheet(grid),
      help: () => (part.help.ariaExpanded = !(part.keys.hidden = !part.keys.hidden)),
    };
    const against = () => {
      if (part.against.value && !grid.reference) grid.setReference(grid.grid.flat().find((cell) => cell?.frames));
      grid.refresh();
    };
    const size = () => {
      grid.size = part.size.valueAsNumber;
      grid.fit();
    };
    const cut = () => {
      setRange(part.cut, part.cut.value);
      grid.paint();
    };
    const change = {
      frame: () => clock.seek(part.frame.valueAsNumber),
      speed: () => clock.set({ speed: Number(part.speed.value) }),
      number: () => grid.numbers(),
      gain: () => grid.paint(),
      against,
      size,
      cut,
    };
    for (const [name, action] of Object.entries(press)) part[name].addEventListener("click", action);
    for (const [name, action] of Object.entries(change)) part[name].addEventListener("input", action);
  }

  /* A click chooses a cell, or no longer; what is chosen is open beneath. */
  cells() {
    const { grid } = this;
    const cellOf = (event) => grid.byElement.get(event.target.closest("td"));
    grid.part.table.addEventListener("click", (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      grid.focusable(cell);
      grid.choose(cell);
    });
    grid.part.table.addEventListener("focusin", (event) => cellOf(event) && grid.focusable(cellOf(event), false));
  }

  /* From cell to cell, over places without one. */
  move(down, across) {
    const { grid } = this;
    let row = grid.grid.findIndex((line) => line.includes(grid.focused));
    let column = grid.grid[row]?.indexOf(grid.focused);
    if (row < 0) return;
    do {
      row += down;
      column += across;
      const cell = grid.grid[row]?.[column];
      if (cell) return grid.focusable(cell);
    } while (grid.grid[row] && column >= 0 && column < grid.grid[row].length);
  }

  toEnd(last) {
    const line = this.grid.grid.find((cells) => cells.includes(this.grid.focused)).filter(Boolean);
    this.grid.focusable(line.at(last ? -1 : 0));
  }

  key(event) {
    const { grid } = this;
    const path = event.composedPath();
    if (event.ctrlKey || event.metaKey || event.altKey || path.some((element) => element.className === "player")) return;
    const name = event.key.length > 1 ? event.key : event.key.toLowerCase();
    const focused = grid.focused;
    const ofCells = {
      ArrowLeft: () => this.move(0, -1),
      ArrowRight: () => this.move(0, 1),
      ArrowUp: () => this.move(-1, 0),
      ArrowDown: () => this.move(1, 0),
      Home: () => this.toEnd(false),
      End: () => this.toEnd(true),
      " ": () => grid.choose(focused),
      Enter: () => grid.open(focused),
      r: () => grid.setReference(focused),
    };
    const { clock } = grid;
    const ofAll = {
      k: () => clock.toggle(),
      ",": () => clock.seek(clock.index - 1),
      ".": () => clock.seek(clock.index + 1),
      l: () => clock.set({ loop: !clock.loop }),
      p: () => clock.set({ pingpong: !clock.pingpong }),
      "[": () => grid.flipTo(grid.places.flip - 1),
      "]": () => grid.flipTo(grid.places.flip + 1),
      Escape: () => grid.chosen.only(),
    };
    const action = (path[0].tagName === "TD" && ofCells[name]) || (path[0].tagName !== "SELECT" && ofAll[name]);
    if (!action) return;
    event.stopPropagation(); // the notebook would move to another cell
    event.preventDefault();
    action();
  }
}
