/* The denoising: a second clock and slider over the steps, and the sigma of each as a curve with a dot on it. */

const STEPS_A_SECOND = 5;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 312, 12, 148]; // of the curve, in the units of its viewBox

class Denoising {
  constructor(page, part, changed) {
    Object.assign(this, { page, part });
    this.clock = new Clock(page.clips.length, STEPS_A_SECOND, changed);
    this.clock.loop = false; // it shows the clip emerge, then stays with it
    part.denoising.hidden = false;
    part.step.max = page.clips.length - 1;
    part.step.addEventListener("input", () => this.clock.seek(part.step.valueAsNumber));
    part.playSteps.addEventListener("click", () => this.clock.toggle());
    this.drawCurve();
  }

  point(step) {
    const { sigmas } = this.page;
    const across = step / Math.max(1, sigmas.length - 1);
    return [LEFT + across * (RIGHT - LEFT), BOTTOM - (sigmas[step] / Math.max(...sigmas, 1e-9)) * (BOTTOM - TOP)];
  }

  drawCurve() {
    const draw = (tag, attributes, text = "") => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      element.textContent = text;
      this.part.curve.append(element);
      return element;
    };
    const label = (x, y, text, anchor = "end") => draw("text", { x, y, "text-anchor": anchor }, text);
    const points = this.page.sigmas.map((_, step) => this.point(step));
    draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` });
    label(LEFT - 8, TOP + 4, Number(Math.max(...this.page.sigmas).toPrecision(3)));
    label(LEFT - 8, (TOP + BOTTOM) / 2 + 4, "sigma");
    label(LEFT - 8, BOTTOM + 4, "0");
    label(LEFT, BOTTOM + 17, "step 0", "start");
    label(RIGHT, BOTTOM + 17, points.length - 1);
    draw("polyline", { class: "line", points: points.join(" ") });
    for (const [x, y] of points) draw("circle", { class: "mark", cx: x, cy: y, r: 2 });
    this.dot = draw("circle", { class: "dot", r: 6 });
  }

  refresh() {
    const { page, part, clock } = this;
    const step = clock.index;
    setRange(part.step, step);
    setPlay(part.playSteps, clock.playing, " the steps");
    part.step.ariaValueText = part.stepCount.textContent = `Step ${step} of 0\u2013${clock.count - 1}`;
    part.caption.textContent = [`sigma ${Number(page.sigmas[step].toPrecision(3))}`, page.clips[step].label].filter(Boolean).join(" · ");
    const [x, y] = this.point(step);
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", y);
  }
}
