/* One cell of a grid: its clip, or what keeps it from having one. The element stays the same wherever the axes put it. */

const GRID_STATES = { waiting: "Waiting", running: "Running", done: "", stopped: "Stopped", failed: "Failed", unfit: "Does not fit" };
const HEAT = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]; // viridis: even steps of lightness, also without colours

class GridCell {
  #stills = null; // unpacked when the cell is first seen

  constructor(content) {
    this.canvas = make("canvas", { width: 1, height: 1, hidden: true });
    this.state = make("span", { className: "state" });
    this.problem = make("span", { className: "problem" });
    this.badge = make("span", { className: "badge", hidden: true });
    this.depth = make("span", { className: "depth", hidden: true });
    this.number = make("span", { className: "number", hidden: true });
    this.caption = make("span", { className: "caption" });
    this.box = make("div", { className: "box" }, this.canvas, make("div", { className: "told" }, this.state, this.problem), this.badge, this.depth);
    this.element = make("td", { tabIndex: -1, ariaSelected: "false" }, make("div", { className: "cell" }, this.box, this.number, this.caption));
    this.element.setAttribute("role", "gridcell");
    this.set(content);
  }

  get at() {
    return this.content.at;
  }

  get frames() {
    return this.broken ? 0 : (this.content.sizes?.length ?? 0);
  }

  set(content) {
    const sameClip = this.content?.stills === content.stills;
    this.content = content;
    this.numbers = new Map(content.numbers);
    if (!sameClip) Object.assign(this, { broken: false }).#stills = null;
    this.element.dataset.state = content.state;
    this.element.dataset.key = content.key;
    this.state.textContent = GRID_STATES[content.state];
    this.problem.textContent = content.problem;
    this.caption.textContent = this.caption.title = content.caption;
    this.element.title = content.problem;
    this.canvas.hidden = !this.frames;
    if (this.frames && (this.canvas.width !== content.width || this.canvas.height !== content.height)) {
      Object.assign(this.canvas, { width: content.width, height: content.height });
    }
    this.box.style.setProperty("--ratio", this.frames ? `${content.width} / ${content.height}` : "");
  }

  /* Of a shorter clip the last frame stays. */
  still(frame) {
    this.#stills ??= unpack(this.content, this.content.kind);
    return this.#stills[Math.min(frame, this.frames - 1)];
  }

  /* A pixel of the clip is a pixel of the canvas; against a reference as the player does it. */
  paint(picture, reference, { against, cut, gain }) {
    if ((against === "difference") !== Boolean(this.readable)) this.renew(against === "difference");
    if (reference && against === "wipe") paintWipe(this.canvas, [reference, picture], cut);
    else if (reference && against === "difference") paintDifference(this.canvas, [picture, reference], gain);
    else this.canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  /* A canvas that is read at every frame lies in memory, one that is only shown on the graphics card; neither can change. */
  renew(readable) {
    const { width, height } = this.canvas;
    const canvas = make("canvas", { width, height });
    canvas.getContext("2d", { willReadFrequently: readable });
    this.canvas.replaceWith(canvas);
    Object.assign(this, { canvas, readable });
  }

  /* The pictures cannot be decoded: the cell says so, the others play on. */
  fail(error) {
    this.broken = this.canvas.hidden = true;
    this.state.textContent = "Damaged";
    this.problem.textContent = `Its pictures cannot be read: ${error.message}`;
  }

  /* Its value of a number, and its place between the least and the largest as a colour; of a stack mean and spread. */
  tell(name, stack, [least, largest]) {
    const { mean, spread, count } = meanAndSpread(stack.map((cell) => cell.numbers.get(name)));
    const known = mean !== null;
    this.number.hidden = !name;
    const value = !known ? "unknown" : gridNumber(mean) + (spread === null ? "" : ` ± ${gridNumber(spread)}`);
    const part = known && count < stack.length ? ` (${count} of ${stack.length})` : "";
    this.number.textContent = value + part;
    this.number.title = this.told = name ? `${name} ${value}${part}` : "";
    this.element.style.setProperty("--heat", known && name ? heatOf(largest > least ? (mean - least) / (largest - least) : 0.5) : "transparent");
    this.element.classList.toggle("heated", Boolean(name) && known);
  }
}

/* A colour for 0 to 1, straight between the two nearest of the scale. */
function heatOf(share) {
  const place = Math.min(HEAT.length - 2, Math.floor(share * (HEAT.length - 1)));
  const within = share * (HEAT.length - 1) - place;
  return `color-mix(in srgb, ${HEAT[place + 1]} ${(100 * within).toFixed(1)}%, ${HEAT[place]})`;
}
