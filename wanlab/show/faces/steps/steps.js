/* The denoising: a slider for the step and one for the frame, four views of the steps, and curves over them.
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
    this.shadow = root.attachShadow({ mode: "open" }); // from here on the still part is hidden
    this.shadow.innerHTML = STEPS_TEMPLATE;
    this.shadow.prepend(make("style", { textContent: page.css }));
    this.part = {};
    for (const element of this.shadow.querySelectorAll("[data-part]")) this.part[element.dataset.part] = element;

    this.frames = this.stills.clean[0][0].length;
    this.decoder = new Decoder(Math.max(64, KEPT_BYTES / (4 * page.pictures.width * page.pictures.height)));
    this.clock = new Clock(this.frames, page.rate, () => this.refresh());
    this.steps = new Clock(page.pairs.length, STEPS_A_SECOND, () => this.refresh());
    this.steps.loop = false; // it shows the clip emerge, then stays with it
    this.clocks = [this.clock, this.steps];
    this.curves = page.curves.length ? new Curves(page, this.part, (step) => this.steps.seek(step)) : null;

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
    // The still part's own tables, so that there is one of each
    for (const child of root.children) if (child.matches("table, details")) part.tables.append(child.cloneNode(true));
    const names = ["all", ...Array(page.maps.channels).keys()];
    this.tiles = names.map((name, index) => {
      const canvas = make("canvas");
      const tile = make("button", { type: "button", ariaLabel: index ? `Channel ${name}` : "All channels" }, canvas, make("span", { textContent: name }));
      tile.title = index ? `channel ${name}` : "all channels: the root of the sum of squares";
      tile.addEventListener("click", () => {
        this.channel = index - 1;
        this.refresh();
      });
      return { tile, canvas, channel: index - 1 };
    });
    this.tiles[0].tile.style.gridRow = `span ${Math.max(1, Math.ceil(page.maps.channels / 8))}`; // the others stand eight in a row
    part.tiles.append(...this.tiles.map(({ tile }) => tile));
  }

  begin() {
    this.layout();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.steps.seek(-1);
    else this.clocks.forEach((clock) => clock.set({ playing: true }));
    new ResizeObserver(() => this.fit()).observe(this.root);
    // A notebook takes cells out of the document when they leave the view, and puts them back.
    const wake = (entries) => this.clocks.forEach((clock) => clock.set({ awake: entries.at(-1).isIntersecting }));
    new IntersectionObserver(wake).observe(this.root);
    // The lists that open are the browser's own: they must follow a dark page, which its light text gives away.
    const follow = () => {
      const [red, green, blue] = getComputedStyle(this.root).color.match(/[\d.]+/g);
      this.part.card.style.colorScheme = 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
    };
    this.root.addEventListener("pointerenter", follow);
    follow();
  }

  /* ---- the stage of a view: its canvases, made anew when the view changes */

  layout() {
    const { part, page, view } = this;
    part.stage.dataset.view = view;
    if (view === "all") this.layoutAll();
    else {
      const names = this.columns.map((which) => (which === "difference" ? "difference" : page.runs[which].label));
      this.canvases = names.map((name) => {
        const canvas = make("canvas", { width: page.pictures.width, height: page.pictures.height, role: "img" });
        canvas.ariaLabel = [STEP_VIEWS[view], name].filter(Boolean).join(": ");
        return canvas;
      });
      const figures = this.canvases.map((canvas, index) => {
        const caption = make("figcaption", { textContent: this.both ? names[index] : "", title: names[index] });
        return make("figure", {}, caption, make("div", { className: "picture" }, canvas));
      });
      part.stage.replaceChildren(...figures);
    }
    this.fit();
    this.refresh();
  }

  /* A button for each step: its latents above its clean estimate; of two runs both estimates. */
  layoutAll() {
    const { page, part } = this;
    const { width, height } = page.pictures;
    this.thumbs = page.pairs.map((_, step) => {
      const canvases = this.rows.map(() => make("canvas", { width, height }));
      const thumb = make("button", { type: "button", ariaLabel: `Step ${step}`, className: "thumb" }, ...canvases);
      thumb.append(make("span", { textContent: step }));
      thumb.addEventListener("click", () => this.steps.seek(step));
      return { thumb, canvases };
    });
    part.stage.replaceChildren(...this.thumbs.map(({ thumb }) => thumb));
  }

  /* The rows of the view of all steps: which stills, of which run. */
  get rows() {
    if (this.both) return [["clean", 0], ["clean", 1]];
    return this.stills.noisy[0].length ? [["noisy", 0], ["clean", 0]] : [["clean", 0]];
  }

  fit() {
    const room = this.part.stage.clientWidth;
    this.curves?.fit(this.part.chart.clientWidth);
    if (room <= 0 || this.view === "all") return;
    const { width, height } = this.page.pictures;
    const columns = !this.both ? 1 : room > 400 ? 3 : 2;
    const side = this.both ? PAIRED_SIDE : PICTURE_SIDE;
    const scale = Math.min(side / Math.max(height, width * 0.6), ((room + GAP) / columns - GAP) / width);
    const shown = scale > 1 ? Math.floor(scale) : scale;
    for (const canvas of this.canvases) {
      canvas.style.width = canvas.closest("figure").style.width = `${Math.round(width * shown)}px`;
      canvas.style.height = `${Math.round(height * shown)}px`;
      canvas.style.imageRendering = this.mapped || shown >= 1 ? "pixelated" : "auto";
    }
  }

  /* ---- painting: pictures may come late, so one moment at a time, and again if another is due by then */

  async paint() {
    this.stale = true;
    if (this.painting) return;
    this.painting = true;
    try {
      while (this.stale) {
        this.stale = false;
        const [step, frame, view] = [this.steps.index, this.clock.index, this.view];
        if (this.mapped) this.paintMaps();
        else if (view === "all") await this.paintAll();
        else await this.paintClean();
        Object.assign(this.root.dataset, { step, frame, view, channel: this.channel, ready: "1" });
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.painting = false;
    }
  }

  picture(kind, run, step) {
    const stills = this.stills[kind][run][step];
    const shown = Math.min(this.clock.index, this.frames - 1);
    // Of noisy pictures there are fewer: one for each latent frame
    return this.decoder.picture(stills[stills.length === this.frames ? shown : Math.min(stills.length - 1, this.latentFrame)]);
  }

  async paintClean() {
    const [canvases, place] = [this.canvases, this.place];
    const pictures = await Promise.all(this.page.runs.map((_, run) => this.picture("clean", run, place[run])));
    pictures.forEach((picture, run) => canvases[run].getContext("2d").drawImage(picture, 0, 0));
    if (this.both) paintDifference(canvases[2], pictures, this.part.gain.value);
  }

  async paintAll() {
    const [thumbs, rows, pairs] = [this.thumbs, this.rows, this.page.pairs];
    await Promise.all(
      thumbs.flatMap(({ canvases }, step) =>
        rows.map(async ([kind, run], row) => {
          const picture = await this.picture(kind, run, pairs[step][run]);
          canvases[row].getContext("2d").drawImage(picture, 0, 0, canvases[row].width, canvases[row].height);
        }),
      ),
    );
  }

  paintMaps() {
    const { maps, view, place, channel, part } = this;
    const frame = maps.frameOf(this.pixelFrame);
    const limit = (which, each) => maps.limit(view, each) / (which === "difference" ? Number(part.gain.value) : 1);
    this.canvases.forEach((canvas, index) => {
      const which = this.columns[index];
      maps.paint(canvas, maps.tile(view, place, frame, channel, which), limit(which, channel), channel);
    });
    const which = this.columns.at(-1);
    for (const each of this.tiles) {
      maps.paint(each.canvas, maps.tile(view, place, frame, each.channel, which), limit(which, each.channel), each.channel);
      each.tile.ariaPressed = each.channel === channel;
    }
    const most = short(limit(0, channel));
    part.low.textContent = channel === NORM ? "0" : `≤ −${most}`;
    part.high.textContent = channel === NORM ? `≥ ${most}` : `≥ +${most}`;
    part.ramp.className = channel === NORM ? "norms" : "signed";
  }

  get pixelFrame() {
    return this.clock.index * this.page.pictures.every;
  }

  get latentFrame() {
    return Math.ceil(this.pixelFrame / 4);
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
    if (this.view === "all") this.thumbs.forEach(({ thumb }, step) => (thumb.ariaPressed = step === steps.index));
    this.curves?.refresh(steps.index);
    part.here.textContent = page.runs.flatMap((run) => run.forks.map(([at, text]) => `${this.both ? `${run.label}, ` : ""}from step ${at}: ${text}`)).join("; ");
    this.root.dataset.playing = clock.playing;
    this.paint();
  }

  caption() {
    const { page, place, both } = this;
    const sigmas = page.runs.map((run, index) => short(run.sigmas[place[index]]));
    const parts = [sigmas[0] === sigmas.at(-1) ? `sigma ${sigmas[0]}` : `sigma ${sigmas.join(" | ")}`];
    if (both && place[0] !== place[1]) parts.unshift(`steps ${place.join(" | ")}`);
    if (this.mapped) parts.push(`latent frame ${this.latentFrame}`, this.channel === NORM ? "norm over the channels" : `channel ${this.channel}`);
    if (this.view === "all" && this.rows.length > 1) {
      const names = this.rows.map(([kind, run]) => (both ? page.runs[run].label : kind === "noisy" ? "the latents" : "the clean estimate"));
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
    // At the window, where nothing comes before it: some versions of JupyterLab take keys on their way down.
    const key = (event) => event.composedPath().includes(this.root) && this.key(event);
    this.root.addEventListener("focusin", () => window.addEventListener("keydown", key, true));
    this.root.addEventListener("focusout", () => window.removeEventListener("keydown", key, true));
  }

  show(view) {
    if (this.part[view].hidden) return;
    this.view = view;
    this.layout();
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
