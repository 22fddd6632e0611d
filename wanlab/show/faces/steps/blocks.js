/* A map of the seconds of each block, a column a step, under the curves and on their axis. Of two runs one beneath the other. */

const BLOCKS_HEIGHT = [48, 120]; // of the map of one run: at least, and at most
const BLOCK_HEIGHT = 6;
const BETWEEN_RUNS = 22;

class Blocks {
  step = 0;
  drawn = 0; // the width it was drawn for

  /* Whether the page knows the times of any block. */
  static in(page) {
    return page.runs.some((run) => run.block_seconds.some((step) => step.length));
  }

  constructor(page, part, curves, seek) {
    Object.assign(this, { page, part, curves });
    const all = page.runs.flatMap((run) => run.block_seconds.flat()).filter((value) => value > 0);
    all.sort((one, other) => one - other);
    this.full = all[Math.floor(0.98 * (all.length - 1))] ?? 1; // the first step is often slow, and would make all others pale
    this.count = Math.max(...page.runs.flatMap((run) => run.block_seconds.map((step) => step.length)));
    this.high = Math.min(Math.max(this.count * BLOCK_HEIGHT, BLOCKS_HEIGHT[0]), BLOCKS_HEIGHT[1]);
    part.blocking.hidden = false;
    part.blocks.addEventListener("pointermove", (event) => this.tell(this.at(event)));
    part.blocks.addEventListener("pointerleave", () => this.tell(null));
    part.blocks.addEventListener("click", (event) => seek(this.at(event).place));
    this.fit();
  }

  top(run) {
    return MARGIN_TOP + run * (this.high + BETWEEN_RUNS);
  }

  get height() {
    return this.top(this.page.runs.length) - (this.page.runs.length > 1 ? 0 : BETWEEN_RUNS - 2);
  }

  seconds(run, place) {
    return this.page.runs[run].block_seconds[this.page.pairs[place][run]] ?? [];
  }

  /* What is at a place of the picture: run, block and place of the slider. */
  at({ clientX, clientY }) {
    const box = this.part.blocks.getBoundingClientRect();
    const y = clientY - box.top;
    const run = this.page.runs.length > 1 && y >= this.top(1) - BETWEEN_RUNS / 2 ? 1 : 0;
    const block = Math.floor(((y - this.top(run)) / this.high) * this.count);
    return { run, block: Math.max(0, Math.min(this.count - 1, block)), place: this.curves.stepAt(clientX - box.left) };
  }

  fit() {
    if (this.drawn === this.curves.width) return;
    this.drawn = this.curves.width;
    this.draw();
    this.mark();
  }

  draw() {
    const { part, page, count, high, curves } = this;
    const [left, right] = [MARGIN_LEFT, curves.width - MARGIN_RIGHT];
    part.blocks.setAttribute("viewBox", `0 0 ${curves.width} ${this.height}`);
    part.blocks.style.height = `${this.height}px`;
    part.blocks.replaceChildren();
    const put = (tag, attributes, ...children) => part.blocks.append(shape(tag, attributes, ...children));
    page.runs.forEach((run, index) => {
      const top = this.top(index);
      page.pairs.forEach((_, place) => {
        const [from, to] = [place - 0.5, place + 0.5].map((edge) => Math.max(left, Math.min(right, curves.x(edge))));
        this.seconds(index, place).forEach((value, block) => {
          const opacity = Math.min(1, value / this.full);
          if (!opacity) return;
          const [y, height] = [top + (block / count) * high, high / count];
          put("rect", { x: from, y, width: to - from, height, "fill-opacity": opacity.toFixed(2) });
        });
      });
      put("rect", { class: "ground", x: left, y: top, width: right - left, height: high });
      put("text", { x: left - 6, y: top + 9, "text-anchor": "end" }, "block 0");
      put("text", { x: left - 6, y: top + high, "text-anchor": "end" }, count - 1);
      put("text", { x: left, y: top + high + 14 }, run.label);
    });
    this.now = shape("path", { class: "now" });
    part.blocks.append(this.now);
  }

  /* Told at every frame that plays, of which only few are another step. */
  refresh(step) {
    if (step === this.step) return;
    this.step = step;
    this.mark();
  }

  mark() {
    const x = this.curves.x(this.step);
    this.now.setAttribute("d", `M${x} ${MARGIN_TOP - 4}V${this.top(this.page.runs.length - 1) + this.high + 4}`);
    this.tell(null);
  }

  /* What the pointer is on; otherwise what the step took in all blocks, and what the colours mean. */
  tell(on) {
    const { page, part } = this;
    const spent = (value) => (value === undefined ? "unknown" : value ? `${short(value * 1000)} ms` : "left out");
    if (on) {
      const value = this.seconds(on.run, on.place)[on.block];
      const of = page.runs.length > 1 ? `${page.runs[on.run].label}, ` : "";
      part.blockTold.textContent = `${of}block ${on.block}, step ${page.pairs[on.place][on.run]}: ${spent(value)}`;
      return;
    }
    const totals = page.runs.map((_, run) => this.total(this.seconds(run, this.step)));
    part.blockTold.textContent = `Time of each block, ${spent(this.full)} or more in full colour. Here ${totals.join(" | ")}.`;
  }

  total(seconds) {
    const sum = seconds.reduce((total, value) => total + value, 0);
    return seconds.length ? `${short(sum * 1000)} ms in ${counted(seconds.filter((value) => value).length, "block")}` : "unknown";
  }
}
