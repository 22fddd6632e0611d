/* What stands around the table of a grid. Only constants are ever set as HTML here. */

const AGAINST = [["", "off"], ["wipe", "wipe"], ["difference", "difference"]];

const GRID_TEMPLATE = `
  <div class="card" data-part="card">
    <div class="head"><h3 data-part="title"></h3><span class="progress" role="status" data-part="progress"></span></div>
    <div class="bar options" data-part="placing" role="group" aria-label="Where the axes stand"></div>
    <div class="values" data-part="values" role="group" aria-label="What is shown of the other axes"></div>
    <div class="scroll" data-part="scroll"><table role="grid" aria-multiselectable="true" data-part="table"></table></div>
    <div class="bar">
      ${button("back", "One frame back")}${button("play", "Play")}${button("forward", "One frame forward")}
      ${slider("frame", "Frame")}<span class="count" data-part="count"></span>
    </div>
    <div class="bar options">
      <label class="group" data-part="numbering">colour by ${select("number", "Colour by")}</label>
      <span class="legend" data-part="legend" hidden><span data-part="least"></span><i></i><span data-part="largest"></span></span>
      <label class="group" data-part="comparing">against the reference ${select("against", "Against the reference", AGAINST)}</label>
      <span class="group" data-part="wiping">${slider("cut", "Wipe position")}</span>
      <span class="group" data-part="gaining">${select("gain", "Amplification", GAINS)}</span>
      <span class="group end">
        ${button("loop", "Loop")}${button("pingpong", "Forward and backward")}
        <label class="group">speed ${select("speed", "Speed", SPEEDS)}</label>
        <label class="group size">size ${slider("size", "Cell size")}</label>
        ${button("sheet", "Save as a picture", icon("M5 20h14v-2H5zM13 4h-2v7H8l4 4 4-4h-3z"))}
        ${button("help", "Keys")}
      </span>
    </div>
    <p class="note" data-part="keys" hidden></p>
    <section class="chosen" data-part="chosen" aria-label="Chosen clips" hidden></section>
    <p class="note" role="status" data-part="told"></p>
    <p class="note" data-part="notes"></p>
    <div class="tables" data-part="tables"></div>
  </div>`;

const GRID_KEYS =
  "Arrows move from cell to cell, Home and End along the row. Space chooses a cell for comparing, Enter opens it alone, Escape " +
  "closes what is open. R makes a cell the reference. K plays and pauses, comma and full stop go one frame, [ and ] go through a stack, " +
  "L loops, P plays forward and backward.";

/* A select for each axis, and the button that swaps rows and columns. `changed(axis, where)`. */
function placingControls(places, changed, swap) {
  const controls = places.varied.map((axis) => {
    const { name } = places.axes[axis];
    const options = Object.entries(GRID_PLACES).map(([value, textContent]) => make("option", { value, textContent }));
    const control = make("select", { ariaLabel: `Place of ${name}`, title: `Place of ${name}` }, ...options);
    control.value = places.where(axis);
    control.addEventListener("input", () => changed(axis, control.value));
    return make("label", { className: "group" }, make("span", { className: "name", textContent: name, title: name }), control);
  });
  if (controls.length < 1) return [];
  const button = make("button", { type: "button", className: "text", textContent: "Swap rows and columns" });
  button.addEventListener("click", swap);
  return [...controls, button];
}

/* A slider that goes through `texts`, with the text that is chosen beside it. */
function valueSlider(label, texts, chosen, changed) {
  const range = make("input", { type: "range", min: 0, max: texts.length - 1, step: 1, ariaLabel: label });
  const value = make("output", { className: "value" });
  const show = () => {
    setRange(range, range.valueAsNumber);
    range.ariaValueText = value.textContent = value.title = texts[range.valueAsNumber];
  };
  range.value = chosen;
  show();
  range.addEventListener("input", () => {
    show();
    changed(range.valueAsNumber);
  });
  return make("label", { className: "group page" }, make("span", { className: "name", textContent: label, title: label }), range, value);
}
