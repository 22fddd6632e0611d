/* The table of a grid: headers that span what they hold for, and between them the cells' own elements. */

/* The head and the body for what stands down, across and between. */
function gridTable({ places, down, across, grid }) {
  const rows = grid.map((line, row) => make("tr", {}, ...rowHeads(places, down, row), ...line.map((cell) => cell?.element ?? emptyPlace())));
  const heads = columnHeads(places, across);
  for (const row of [...heads, ...rows]) row.setAttribute("role", "row");
  return [make("thead", {}, ...heads), make("tbody", {}, ...rows)];
}

function columnHeads(places, across) {
  return places.columns.map((axis, level) => {
    const corner = make("td", { className: "corner", colSpan: Math.max(1, places.rows.length), role: "presentation" });
    const heads = headerSpans(across, level).map(({ value, count }) => {
      return gridHeader(places, axis, value, { colSpan: count, scope: count > 1 ? "colgroup" : "col" });
    });
    const row = make("tr", {}, ...(places.rows.length ? [corner] : []), ...heads);
    row.style.setProperty("--level", level);
    return row;
  });
}

function rowHeads(places, down, row) {
  return places.rows.flatMap((axis, level) => {
    const span = headerSpans(down, level).find(({ place }) => place === row);
    if (!span) return [];
    const head = gridHeader(places, axis, span.value, { rowSpan: span.count, scope: span.count > 1 ? "rowgroup" : "row" });
    head.style.setProperty("--level", level);
    return [head];
  });
}

function gridHeader(places, axis, value, properties) {
  const [name, text] = [places.axes[axis].name, places.value(axis, value)];
  const parts = name.split(/(?<=[._])/).flatMap((part) => [part, make("wbr")]); // a long name breaks between its words
  const label = make("div", { className: "label" }, make("span", { className: "name" }, ...parts), " ", make("b", { textContent: text }));
  return make("th", { ...properties, title: `${name} ${text}` }, label);
}

function emptyPlace() {
  const element = make("td", { className: "hole", title: "No run of the sweep is here", ariaLabel: "No run" });
  element.setAttribute("role", "gridcell");
  return element;
}

/* Runs of equal beginnings, for headers that span: the value, where it begins and for how many, at a level from the outside in. */
function headerSpans(combinations, level) {
  const spans = [];
  combinations.forEach((values, place) => {
    const same = place > 0 && values.slice(0, level + 1).every((value, index) => value === combinations[place - 1][index]);
    if (same) spans.at(-1).count += 1;
    else spans.push({ value: values[level], place, count: 1 });
  });
  return spans;
}
