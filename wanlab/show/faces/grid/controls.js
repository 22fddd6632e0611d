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
class ValueSlider {
  constructor(label, texts, changed) {
    this.texts = texts;
    this.range = make("input", { type: "range", min: 0, max: texts.length - 1, step: 1, ariaLabel: label });
    this.text = make("output", { className: "value" });
    const name = make("span", { className: "name", textContent: label, title: label });
    this.element = make("label", { className: "group page" }, name, this.range, this.text);
    this.range.addEventListener("input", () => changed(this.range.valueAsNumber));
  }

  show(place) {
    setRange(this.range, place);
    this.range.ariaValueText = this.text.textContent = this.text.title = this.texts[place];
  }
}

/* A slider for each axis on pages, and one that goes through the stacks if there are any. */
class GridValues {
  constructor(grid, place) {
    Object.assign(this, { grid, place, sliders: [] });
  }

  /* The same sliders stay while they serve: one must not vanish under the pointer. */
  offer(depth) {
    const { pages, averaged, page, flip } = this.grid.places;
    const wanted = JSON.stringify([pages, averaged, depth]);
    if (wanted !== this.offered) this.make(depth);
    this.offered = wanted;
    [...pages.map((axis) => page[axis]), flip].slice(0, this.sliders.length).forEach((value, place) => this.sliders[place].show(value));
  }

  make(depth) {
    const { places } = this.grid;
    const { axes, pages, averaged } = places;
    this.sliders = pages.map((axis) => {
      return new ValueSlider(axes[axis].name, axes[axis].values, (value) => {
        places.page[axis] = value;
        this.grid.arrange();
      });
    });
    if (depth > 1) {
      const texts = Array.from({ length: depth }, (_, place) => this.stackText(place, depth));
      const label = averaged.length ? `${averaged.map((axis) => axes[axis].name).join(", ")} (averaged)` : "stack";
      this.sliders.push(new ValueSlider(label, texts, (place) => this.grid.flipTo(place)));
    }
    this.place.replaceChildren(...this.sliders.map((slider) => slider.element));
  }

  /* Where one axis is averaged and every place has all its values, the place in the stack is a value. */
  stackText(place, depth) {
    const { axes, averaged } = this.grid.places;
    const named = averaged.length === 1 && axes[averaged[0]].values.length === depth;
    return named ? `${axes[averaged[0]].values[place]} (${place + 1} of ${depth})` : `${place + 1} of ${depth}`;
  }
}
