/* The plan of a run as a drawing: noise levels over steps, calls of the model, techniques, caches, context windows.
 *
 * It draws what Python planned and computes nothing itself. Hollow is reused, hatched is decided on the way, and while a run
 * is made its finished steps are marked.
 */

const PLAN = { left: 98, right: 8, curve: 104, row: 22, box: 16, gap: 8, axis: 30 };
const SHADES = 4; // weights of windows are drawn in so many steps, so that a long clip needs few shapes

class PlanDrawing {
  plan = null;
  done = 0;

  constructor(parent) {
    this.summary = make("p", { className: "summary" });
    this.svg = shape("svg", { class: "plan", role: "img" });
    this.key = make("p", { className: "note key" });
    parent.append(this.summary, this.svg, this.key);
    new ResizeObserver(() => this.width !== this.svg.clientWidth && this.draw()).observe(this.svg);
  }

  show(plan) {
    this.plan = plan;
    this.draw();
  }

  /* Mark so many steps as made. */
  progress(done) {
    this.done = done;
    if (!this.column) return; // not drawn yet
    this.svg.querySelectorAll("[data-step]").forEach((box) => box.classList.toggle("made", Number(box.dataset.step) < done));
    this.head?.setAttribute("x1", this.x(done - 0.5));
    this.head?.setAttribute("x2", this.x(done - 0.5));
    this.head?.classList.toggle("off", done === 0);
  }

  /* The middle of a step; levels that the run leaves out lie before its first. */
  x(step) {
    return PLAN.left + (step + this.plan.first + 0.5) * this.column;
  }

  draw() {
    const { plan, svg } = this;
    this.width = svg.clientWidth;
    if (!plan || !this.width) return;
    this.column = (this.width - PLAN.left - PLAN.right) / plan.levels.length;
    this.parts = [];
    let top = this.curve(8) + PLAN.gap;
    top = this.boxes(top, "model calls", plan.made, plan.reused, true);
    for (const [name, acts] of Object.entries(plan.techniques)) top = this.strip(top, name, acts);
    if (plan.answered) top = this.boxes(top, "cache answers", plan.answered, null, false);
    if (plan.windows) top = this.windows(top + PLAN.gap / 2);
    top = this.axis(top);
    this.head = shape("line", { class: "head off", y1: 4, y2: top - PLAN.axis, x1: 0, x2: 0 });
    svg.setAttribute("viewBox", `0 0 ${this.width} ${top}`);
    svg.setAttribute("height", top);
    svg.replaceChildren(this.hatching(), ...this.parts, this.head, ...this.columns(top));
    this.tell();
    this.progress(this.done);
  }

  put(tag, attributes, ...children) {
    const element = shape(tag, attributes, ...children);
    this.parts.push(element);
    return element;
  }

  label(y, text) {
    this.put("text", { x: PLAN.left - 8, y: y + 4, class: "name" }, text);
  }

  /* ---- the parts, each from its top to the top of the next */

  curve(top) {
    const { plan } = this;
    const y = (sigma) => top + (1 - sigma) * (PLAN.curve - top);
    for (const sigma of [0, 0.5, 1]) {
      this.put("line", { x1: PLAN.left, x2: this.width - PLAN.right, y1: y(sigma), y2: y(sigma), class: "grid" });
      this.put("text", { x: PLAN.left - 8, y: y(sigma) + 4, class: "name" }, sigma ? String(sigma) : "0");
    }
    this.put("text", { x: 12, y: y(0.5), class: "turned", transform: `rotate(-90 12 ${y(0.5)})` }, "noise (sigma)");
    const line = (sigmas, first) => sigmas.map((sigma, index) => `${this.x(index - first)},${y(sigma)}`).join(" ");
    if (plan.levels.length > plan.sigmas.length) this.put("polyline", { points: line(plan.levels, plan.first), class: "left-out" });
    this.put("polyline", { points: line(plan.sigmas, 0), class: "line" });
    const radius = Math.max(1.5, Math.min(4, this.column / 3));
    plan.sigmas.slice(0, -1).forEach((sigma, step) => {
      this.put("circle", { cx: this.x(step), cy: y(sigma), r: radius, class: plan.reused[step] ? "dot hollow" : "dot" });
    });
    return PLAN.curve;
  }

  boxes(top, name, shares, reused, marked) {
    const width = Math.max(1, Math.min(this.column - 1, this.column * 0.86));
    this.label(top + PLAN.box / 2, name);
    shares.forEach((share, step) => {
      if (!marked && share === 0) return;
      const [x, height] = [this.x(step) - width / 2, PLAN.box];
      const mark = marked ? { "data-step": step } : {};
      const kind = share === null && !reused?.[step] ? "box unknown" : "box";
      this.put("rect", { x, y: top, width, height, class: kind, rx: 1.5, ...mark });
      if (share && !reused?.[step]) this.put("rect", { x, y: top + (1 - share) * height, width, height: share * height, class: "full", rx: 1.5 });
    });
    return top + PLAN.row;
  }

  strip(top, name, acts) {
    this.label(top + PLAN.box / 2, name);
    for (let begin = 0; begin < acts.length; begin += 1) {
      if (!acts[begin]) continue;
      let end = begin;
      while (acts[end + 1]) end += 1;
      const x = this.x(begin) - this.column / 2;
      this.put("rect", { x, y: top + 4, width: (end - begin + 1) * this.column, height: PLAN.box - 8, class: "strip", rx: 2 });
      begin = end;
    }
    return top + PLAN.row;
  }

  /* Latent frames downwards; each step holds its windows side by side, as dark as their weight at a frame. */
  windows(top) {
    const { frames, kinds, step } = this.plan.windows;
    const height = Math.min(132, Math.max(48, frames * 4));
    const cell = height / frames;
    this.put("rect", { x: PLAN.left, y: top, width: this.width - PLAN.left - PLAN.right, height, class: "field" });
    [0, frames - 1].forEach((frame) => this.label(top + (frame + 0.5) * cell, String(frame)));
    const y = top + height / 2;
    this.put("text", { x: 12, y, class: "turned", transform: `rotate(-90 12 ${y})` }, "latent frame");
    step.forEach((kind, index) => {
      const found = kinds[kind];
      const wide = (this.column * 0.92) / found.length;
      found.forEach(([covered, weights], place) => {
        const x = this.x(index) - this.column * 0.46 + place * wide;
        for (const [first, count, shade] of segments(covered, weights)) {
          const box = { x, y: top + first * cell, width: Math.max(0.8, wide * 0.84), height: count * cell };
          this.put("rect", { ...box, class: place % 2 ? "window odd" : "window", "fill-opacity": 0.2 + 0.8 * shade });
        }
      });
    });
    return top + height + PLAN.gap;
  }

  axis(top) {
    const steps = this.plan.sigmas.length - 1;
    const every = Math.max(1, roundStep(Math.max(1, steps - 1) / Math.max(2, Math.floor(this.width / 70))));
    for (let tick = 0; tick < Math.max(1, steps); tick += every) {
      this.put("text", { x: this.x(tick), y: top + 8, class: "tick" }, String(tick));
    }
    this.put("text", { x: (PLAN.left + this.width - PLAN.right) / 2, y: top + 24, class: "tick" }, "step");
    return top + PLAN.axis;
  }

  /* What a pointer that rests on a step is told. */
  columns(height) {
    const { plan } = this;
    return plan.reused.map((reused, step) => {
      const column = shape("rect", { x: this.x(step) - this.column / 2, y: 0, width: this.column, height, class: "hover" });
      const calls = reused ? "reused from the store" : `${plan.made[step] === null ? "at most " : ""}${counted(plan.passes[step], "model call")}`;
      const acting = Object.keys(plan.techniques).filter((name) => plan.techniques[name][step]);
      column.append(shape("title", {}, [`step ${step}: sigma ${plan.sigmas[step].toFixed(3)}`, calls, ...acting].join(", ")));
      return column;
    });
  }

  hatching() {
    const pattern = shape("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    pattern.append(shape("rect", { width: 2, height: 5, class: "full" }));
    const definitions = shape("defs", {});
    definitions.append(pattern);
    return definitions;
  }

  tell() {
    const { plan } = this;
    const steps = plan.reused.length;
    const reused = plan.reused.filter(Boolean).length;
    const calls = plan.fewest === plan.most ? counted(plan.most, "model call") : `${plan.fewest} to ${counted(plan.most, "model call")}`;
    const parts = [counted(steps, "step"), calls];
    if (plan.rounds > 1) parts.push(`${plan.rounds} rounds`);
    if (reused) parts.push(reused === steps ? "all steps are in the store" : `${reused} of ${steps} steps are in the store`);
    if (Math.abs(plan.work - 1) > 0.005 && !reused) parts.push(`${Math.round(100 * plan.work)} % of the plain run's work`);
    this.summary.replaceChildren(...parts.map((text) => make("span", { textContent: text })));
    this.svg.setAttribute("aria-label", `The plan: ${parts.join(", ")}; sigma from ${plan.sigmas[0]} to ${plan.sigmas.at(-1)}.`);
    const marks = [reused ? "Hollow: reused from the store." : "", plan.fewest !== plan.most ? "Hatched: the cache decides on the way." : ""];
    if (plan.windows) marks.push(`Windows of ${counted(plan.windows.kinds[0][0][0].length, "latent frame")}, as dark as they weigh.`);
    this.key.textContent = marks.filter(Boolean).join(" ");
  }
}

/* Frames of a window as [first, count, weight], neighbours of about the same weight together. */
function segments(frames, weights) {
  const found = [];
  frames.forEach((frame, index) => {
    const shade = Math.round(weights[index] * SHADES) / SHADES;
    const last = found.at(-1);
    if (last && last[0] + last[1] === frame && last[2] === shade) last[1] += 1;
    else found.push([frame, 1, shade]);
  });
  return found;
}
