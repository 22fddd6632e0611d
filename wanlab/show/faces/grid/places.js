/* Which axis of a grid stands where, and which cells meet in a place. Axes and values go by their numbers. */

const GRID_PLACES = { rows: "Rows", columns: "Columns", pages: "Pages", averaged: "Averaged" };

class GridPlaces {
  constructor({ axes, rows, columns, pages, averaged }) {
    Object.assign(this, { axes, rows, columns, pages, averaged });
    this.page = axes.map(() => 0); // the value shown of each axis that is on pages
    this.flip = 0; // which cell of every stack is on top
  }

  /* The axes that a person can put somewhere: those with a choice of values. */
  get varied() {
    return [...this.axes.keys()].filter((axis) => this.axes[axis].values.length > 1);
  }

  where(axis) {
    return Object.keys(GRID_PLACES).find((place) => this[place].includes(axis));
  }

  /* It becomes the innermost of its new place. */
  put(axis, where) {
    for (const place of Object.keys(GRID_PLACES)) this[place] = this[place].filter((other) => other !== axis);
    this[where] = [...this[where], axis];
    this.flip = 0;
  }

  swap() {
    [this.rows, this.columns] = [this.columns, this.rows];
  }

  value(axis, number) {
    return this.axes[axis].values[number];
  }

  /* Name and value of each varied setting of a cell: [["cfg", "3"], ...]. */
  settings(cell) {
    return this.varied.map((axis) => [this.axes[axis].name, this.value(axis, cell.at[axis])]);
  }

  /* The grid as it stands: `down` and `across` are lists of value numbers, one for each axis there, of which some cell has each;
   * `at(row, column)` are the cells of one place, one on top of the other. */
  arrange(cells) {
    const key = (cell, axes) => axes.map((axis) => cell.at[axis]).join();
    const order = (axes) => {
      const found = new Map(cells.map((cell) => [key(cell, axes), axes.map((axis) => cell.at[axis])]));
      const before = (a, b) => axes.map((_, level) => a[level] - b[level]).find(Boolean) ?? 0;
      return [...found.values()].sort(before);
    };
    const shown = cells.filter((cell) => this.pages.every((axis) => cell.at[axis] === this.page[axis]));
    const stacks = new Map();
    for (const cell of shown) {
      const place = `${key(cell, this.rows)}|${key(cell, this.columns)}`;
      stacks.set(place, [...(stacks.get(place) ?? []), cell]);
    }
    const depth = Math.max(1, ...[...stacks.values()].map((stack) => stack.length));
    return { down: order(this.rows), across: order(this.columns), depth, at: (row, column) => stacks.get(`${row}|${column}`) ?? [] };
  }
}

/* Mean and spread (of a sample) of the values that are known. */
function meanAndSpread(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { count: known.length, mean: known.length ? mean : null, spread: known.length > 1 ? Math.sqrt(squares / (known.length - 1)) : null };
}

const gridNumber = (value) => short(value, 4);
