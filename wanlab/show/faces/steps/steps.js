/* The denoising: a slider for the step and one for the frame, four views of the steps, curves over them, and times of blocks.
 *
 * One run, or two beside each other with what differs. What a person wrote is only ever set as text, never as HTML.
 */

class Steps {
  view = "clean";
  channel = NORM;

  constructor(root, page) {
    Object.assign(this, { root, page, maps: new Maps(page), both: page.runs.length === 2 });
    const stills = (kind, format) => page.runs.map((run) => run[kind].map((clip) => unpack(clip, format)));
    this.stills = { clean: stills("clean", page.kind), noisy: stills("noisy", "image/jpeg") };
    furnish(this, page.css, STEPS_TEMPLATE);
    this.frames = this.stills.clean[0][0].length;
    this.clock = new Clock(this.frames, page.rate, () => this.refresh());
    this.steps = new Clock(page.pairs.length, STEPS_A_SECOND, () => this.refresh());
    this.steps.loop = false; // it shows the clip emerge, then stays with it
    this.clocks = [this.clock, this.steps];
    this.stage = new StepStage(this);
    this.curves = page.curves.length ? new Curves(page, this.part, (step) => this.steps.seek(step)) : null;
    this.blocks = this.curves && Blocks.in(page) ? new Blocks(page, this.part, this.curves, (step) => this.steps.seek(step)) : null;

    this.label();
    this.listen();
    this.begin();
  }

  /* The step of each run at the place of the slider. */
  get place() {
    return this.page.pairs[this.steps.index];
  }

  /* What is painted beside each other: the runs by their number, and what differs. */
  get columns() {
    return this.both ? [0, 1, "difference"] : [0];
  }

  get mapped() {
    return this.view === "latents" || this.view === "velocity";
  }

  /* ---- what is set once */

  label() {
    const { root, page, part } = this;
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", page.title || "Denoising, step by step");
    part.title.textContent = page.title;
    part.told.textContent = page.told.join(" ");
    part.notes.textContent = page.notes.filter((note) => !page.told.includes(note)).join(" ");
    part.keys.textContent =
      "Space plays and pauses the frames, ← → go one frame, ↑ ↓ one step, Home and End to the first and last frame, 1 to 4 choose the view. " +
      "A click on the curves goes to that step; names of curves switch them on and off.";
    part.step.max = page.pairs.length - 1;
    part.frame.max = this.frames - 1;
    // As strong as the runs are alike, so that what differs is neither black nor all white
    const apart = Math.max(...page.curves.filter((curve) => curve.log).flatMap((curve) => curve.values), 0.02);
    part.gain.value = 2 ** Math.max(0, Math.round(Math.log2(0.5 / apart)));
    part.speed.value = 1;
    part.charted.hidden = !this.curves;
    part.gaining.hidden = !this.both;
    part.card.dataset.runs = page.runs.length;
    for (const view of ["latents", "velocity"]) part[view].hidden = !page.maps.channels;
    if (this.both) part.all.textContent = part.all.ariaLabel = part.all.title = "All steps";
    part.tables.append(...tablesOf(root));
  }

  begin() {
    this.stage.layout();
    this.refresh();
    if (stillWanted()) this.steps.seek(-1);
    else this.clocks.forEach((clock) => clock.set({ playing: true }));
    new ResizeObserver(() => this.fit()).observe(this.root);
    // A notebook takes cells out of the document when they leave the view, and puts them back.
    const wake = (entries) => this.clocks.forEach((clock) => clock.set({ awake: entries.at(-1).isIntersecting }));
    new IntersectionObserver(wake).observe(this.root);
    this.root.addEventListener("pointerenter", () => followPage(this.root, this.part.card));
    followPage(this.root, this.part.card);
  }

  get pixelFrame() {
    return this.clock.index * this.page.pictures.every;
  }

  get latentFrame() {
    return Math.ceil(this.pixelFrame / 4);
  }

  fit() {
    this.curves?.fit(this.part.chart.clientWidth);
    this.blocks?.fit();
    this.stage.fit();
  }

  /* ---- what the stage tells */

  painted(step, frame, view) {
    Object.assign(this.root.dataset, { step, frame, view, channel: this.channel, ready: "1" });
  }

  /* The slot brings the still part back. */
  fail(error) {
    this.clocks.forEach((clock) => (clock.playing = false));
    this.root.dataset.ready = "error";
    this.shadow.replaceChildren(make("p", { textContent: `These steps stopped: ${error.message}` }), make("slot"));
  }

  /* ---- whatever changes the state ends here: the controls show it, then the picture */

  refresh() {
    const { part, clock, steps, page } = this;
    setRange(part.frame, clock.index);
    setRange(part.step, steps.index);
    setPlay(part.play, clock.playing);
    setPlay(part.playSteps, steps.playing, " the steps");
    part.step.ariaValueText = `Step ${steps.index} of 0\u2013${steps.count - 1}`;
    part.stepCount.textContent = `${steps.index} of 0–${steps.count - 1}`;
    part.frame.ariaValueText = part.count.textContent = `${clock.index + 1} / ${this.frames}`;
    part.caption.textContent = this.caption();
    for (const view of Object.keys(STEP_VIEWS)) part[view].ariaPressed = view === this.view;
    part.scale.hidden = part.tiles.hidden = !this.mapped;
    this.curves?.refresh(steps.index);
    this.blocks?.refresh(steps.index);
    part.here.textContent = page.runs.flatMap((run) => run.forks.map(([at, text]) => `${this.both ? `${run.label}, ` : ""}from step ${at}: ${text}`)).join("; ");
    this.root.dataset.playing = clock.playing;
    this.stage.refresh();
  }

  caption() {
    const { page, place, both } = this;
    const sigmas = page.runs.map((run, index) => short(run.sigmas[place[index]]));
    const parts = [sigmas[0] === sigmas.at(-1) ? `sigma ${sigmas[0]}` : `sigma ${sigmas.join(" | ")}`];
    if (both && place[0] !== place[1]) parts.unshift(`steps ${place.join(" | ")}`);
    if (this.mapped) parts.push(`latent frame ${this.latentFrame}`, this.channel === NORM ? "norm over the channels" : `channel ${this.channel}`);
    if (this.view === "all" && this.stage.rows.length > 1) {
      const names = this.stage.rows.map(([kind, run]) => (both ? page.runs[run].label : kind === "noisy" ? "the latents" : "the clean estimate"));
      parts.push(`above ${names[0]}, below ${names[1]}`);
    }
    page.runs.forEach((run, index) => {
      if (run.captions[place[index]]) parts.push(run.captions[place[index]]);
      else if (run.reused[place[index]]) parts.push(both ? `${index ? "second" : "first"} reused` : "reused");
    });
    return parts.join(" · ");
  }

  /* ---- what a person does */

  listen() {
    const { part, clock, steps } = this;
    const press = {
      play: () => clock.toggle(),
      playSteps: () => steps.toggle(),
      help: () => (part.help.ariaExpanded = !(part.keys.hidden = !part.keys.hidden)),
      ...Object.fromEntries(Object.keys(STEP_VIEWS).map((view) => [view, () => this.show(view)])),
    };
    const change = {
      frame: () => clock.seek(part.frame.valueAsNumber),
      step: () => steps.seek(part.step.valueAsNumber),
      gain: () => this.refresh(),
      speed: () => clock.set({ speed: Number(part.speed.value) }),
    };
    for (const [name, action] of Object.entries(press)) part[name].addEventListener("click", action);
    for (const [name, action] of Object.entries(change)) part[name].addEventListener("input", action);
    hearKeys(this.root, { keydown: (event) => event.composedPath().includes(this.root) && this.key(event) });
  }

  show(view) {
    if (this.part[view].hidden) return;
    this.view = view;
    this.stage.layout();
    this.refresh();
  }

  key(event) {
    const { clock, steps } = this;
    const actions = {
      " ": () => clock.toggle(),
      ArrowLeft: () => clock.seek(clock.index - 1),
      ArrowRight: () => clock.seek(clock.index + 1),
      ArrowUp: () => steps.seek(steps.index + 1),
      ArrowDown: () => steps.seek(steps.index - 1),
      Home: () => clock.seek(0),
      End: () => clock.seek(this.frames - 1),
      ...Object.fromEntries(Object.keys(STEP_VIEWS).map((view, index) => [String(index + 1), () => this.show(view)])),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation(); // the notebook would move to another cell
    const meant = { INPUT: /^(Arrow|Home|End)/, SELECT: /./, BUTTON: /^ $/, SUMMARY: /^ $/ }[event.composedPath()[0].tagName];
    if (meant?.test(event.key)) return; // the focused control has its own use of this key
    event.preventDefault();
    actions[event.key]();
  }
}
