/* The player in one element.
 *
 * Every page carries these scripts inside its own element, so they run any number of times in one document and touch
 * nothing but that element. What a person wrote is only ever set as text, never as HTML.
 */

const FIT_HEIGHT = 320; // small clips are enlarged by a whole factor, to at most about this height
const LEAST_WIDTH = 380; // of the card, for its row of controls
const GAP = 12;
const FRAME = 2 * GAP + 2; // the card's padding and border, both sides

class Player {
  constructor(root, page) {
    Object.assign(this, { root, page });
    this.clips = this.page.clips.map((clip) => ({ ...clip, stills: unpack(clip, this.page.kind) }));
    this.shadow = root.attachShadow({ mode: "open" }); // from here on the still part is hidden
    this.shadow.innerHTML = TEMPLATE;
    this.shadow.prepend(make("style", { textContent: this.page.css }));
    this.part = {};
    for (const element of this.shadow.querySelectorAll("[data-part]")) this.part[element.dataset.part] = element;

    this.frames = Math.max(...this.clips.map((clip) => clip.stills.length));
    this.decoder = new Decoder(Math.max(2 * this.clips.length, KEPT_BYTES / (4 * this.clips[0].width * this.clips[0].height)));
    this.mode = this.page.mode;
    this.pair = [0, Math.min(1, this.clips.length - 1)];
    this.clock = new Clock(this.frames, this.page.rate, () => this.refresh());

    this.label();
    this.listen();
    this.begin();
  }

  /* The clips that are painted now, by their place. */
  get shown() {
    return this.mode === "side" ? this.clips.map((_, index) => index) : this.pair;
  }

  /* ---- what is set once */

  label() {
    const { root, page, part, clips } = this;
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", page.title || "Player");
    part.title.textContent = page.title;
    part.keys.textContent =
      "Space plays and pauses, ← → go one frame, Home and End to the first and last, L loops, P plays forward and backward.";
    part.frame.max = this.frames - 1;
    Object.assign(part.cut, { max: 1, step: 0.001 });
    setRange(part.cut, 0.5);
    part.gain.value = 8;
    part.speed.value = 1;
    for (const [control, chosen] of [[part.first, 0], [part.second, 1]]) {
      control.append(...clips.map((clip, value) => make("option", { value, textContent: clip.label })));
      control.value = chosen;
    }
    // The still part's own tables, so that there is one of each
    for (const child of root.children) if (child.matches("table, details")) part.tables.append(child.cloneNode(true));
  }

  begin() {
    this.layout();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.clock.set({ playing: true });
    new ResizeObserver(() => this.fit()).observe(this.root);
    // A notebook takes cells out of the document when they leave the view, and puts them back.
    const wake = (entries) => this.clock.set({ awake: entries.at(-1).isIntersecting });
    new IntersectionObserver(wake).observe(this.root);
    // The lists that open are the browser's own: they must follow a dark page, which its light text gives away.
    const follow = () => {
      const [red, green, blue] = getComputedStyle(this.root).color.match(/[\d.]+/g);
      this.part.card.style.colorScheme = 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
    };
    this.root.addEventListener("pointerenter", follow);
    follow();
  }

  /* ---- the stage: canvases in the clips' own pixels, enlarged by css */

  layout() {
    const { mode, clips, shown } = this;
    this.divider = make("div", { className: "divider" });
    const figures = (mode === "side" ? shown : shown.slice(0, 1)).map((index) => {
      const { width, height, label } = clips[index];
      const canvas = make("canvas", { width, height, role: "img" });
      canvas.ariaLabel = mode === "side" ? label : `${MODES[mode]} of ${shown.map((i) => clips[i].label)}`;
      const names = (mode === "side" ? [index] : shown).map((i) => make("span", { textContent: clips[i].label }));
      if (mode === "difference") names.splice(1, 0, "−");
      const picture = make("div", { className: "picture" }, canvas, ...(mode === "wipe" ? [this.divider] : []));
      return make("figure", { className: mode }, make("figcaption", {}, ...names), picture);
    });
    this.canvases = figures.map((figure) => figure.querySelector("canvas"));
    this.part.stage.replaceChildren(...figures);
    this.part.card.dataset.mode = mode;
    this.fit();
    this.refresh();
  }

  /* The card is as wide as the clips side by side need, in every mode, so that it does not jump between modes. */
  fit() {
    const { part, clips, canvases } = this;
    const room = this.root.clientWidth - FRAME;
    if (room <= 0) return; // not in view; the observer calls again
    const height = clips[0].height;
    const widths = clips.map((clip) => (clip.width * height) / clip.height);
    const widest = Math.max(...widths);
    const scaled = (columns) => {
      if (part.zoom.value !== "fit") return Number(part.zoom.value);
      const scale = Math.min(((room + GAP) / columns - GAP) / widest, Math.max(1, FIT_HEIGHT / height));
      return scale > 1 ? Math.floor(scale) : scale;
    };
    const most = Math.max(1, Math.floor(room / 140));
    const columns = Math.ceil(clips.length / Math.ceil(clips.length / most)); // four in rows of two, not three and one
    const scale = scaled(canvases.length > 1 ? columns : 1);
    const needed = columns * (widest * scaled(columns) + GAP) - GAP;
    part.card.style.width = `${Math.min(room, Math.max(LEAST_WIDTH, needed)) + FRAME}px`;
    this.shown.slice(0, canvases.length).forEach((index, place) => {
      const { style } = canvases[place];
      style.width = canvases[place].closest("figure").style.width = `${Math.round(widths[index] * scale)}px`;
      style.height = `${Math.round(height * scale)}px`;
      style.imageRendering = scale >= 1 ? "pixelated" : "auto";
    });
  }

  /* ---- painting: pictures may come late, so one moment at a time, and again if another is due by then */

  async paint() {
    this.stale = true;
    if (this.painting) return;
    this.painting = true;
    try {
      while (this.stale) {
        this.stale = false;
        const { mode, canvases, shown } = this;
        const frame = this.clock.index;
        const stills = shown.map((index) => this.clips[index].stills).map((all) => all[Math.min(frame, all.length - 1)]);
        const pictures = await Promise.all(stills.map((still) => this.decoder.picture(still)));
        this.draw(mode, canvases, pictures);
        Object.assign(this.root.dataset, { frame, frames: this.frames, mode, ready: "1" });
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.painting = false;
    }
  }

  draw(mode, canvases, pictures) {
    const { part, page } = this;
    let readout = "";
    if (mode === "wipe") {
      const cut = paintWipe(canvases[0], pictures, part.cut.value);
      this.divider.style.left = `${100 * cut}%`;
    } else if (mode === "difference") {
      const { mean, largest } = paintDifference(canvases[0], pictures, part.gain.value);
      readout = largest ? `In this frame: ${mean.toFixed(2)} of 255 on average, ${largest} at most.` : "In this frame: identical.";
      if (largest && page.kind === "image/jpeg") readout += " The stills are JPEG: a few levels come from that.";
    } else {
      canvases.forEach((canvas, index) => canvas.getContext("2d").drawImage(pictures[index], 0, 0));
    }
    part.notes.textContent = [readout, ...page.notes].join(" ").trim();
  }

  /* The slot brings the still part back. */
  fail(error) {
    this.clock.playing = false;
    this.root.dataset.ready = "error";
    this.shadow.replaceChildren(make("p", { textContent: `This player stopped: ${error.message}` }), make("slot"));
  }

  /* ---- whatever changes the state ends here: the controls show it, then the picture */

  refresh() {
    const { part, clock, mode, clips } = this;
    setRange(part.frame, clock.index);
    part.frame.ariaValueText = part.count.textContent = `${clock.index + 1} / ${this.frames}`;
    setPlay(part.play, clock.playing);
    for (const option of ["loop", "pingpong"]) part[option].ariaPressed = clock[option];
    for (const each of Object.keys(MODES)) part[each].ariaPressed = each === mode;
    part.modes.hidden = clips.length < 2;
    part.pair.hidden = clips.length < 3 || !["wipe", "difference"].includes(mode);
    part.wiping.hidden = mode !== "wipe";
    part.gaining.hidden = mode !== "difference";
    this.root.dataset.playing = clock.playing;
    this.paint();
  }

  setMode(mode) {
    this.mode = mode;
    this.layout();
  }

  /* ---- what a person does */

  listen() {
    const { part, clock } = this;
    const press = {
      play: () => clock.toggle(),
      back: () => clock.seek(clock.index - 1),
      forward: () => clock.seek(clock.index + 1),
      loop: () => clock.set({ loop: !clock.loop }),
      pingpong: () => clock.set({ pingpong: !clock.pingpong }),
      help: () => (part.help.ariaExpanded = !(part.keys.hidden = !part.keys.hidden)),
      side: () => this.setMode("side"),
      wipe: () => this.setMode("wipe"),
      difference: () => this.setMode("difference"),
    };
    const repair = () => {
      this.pair = [Number(part.first.value), Number(part.second.value)];
      this.layout();
    };
    const change = {
      frame: () => clock.seek(part.frame.valueAsNumber),
      cut: () => this.setCut(part.cut.value),
      gain: () => this.refresh(),
      zoom: () => this.fit(),
      speed: () => clock.set({ speed: Number(part.speed.value) }),
      first: repair,
      second: repair,
    };
    for (const [name, action] of Object.entries(press)) part[name].addEventListener("click", action);
    for (const [name, action] of Object.entries(change)) part[name].addEventListener("input", action);
    part.stage.addEventListener("pointerdown", (event) => this.drag(event));
    part.stage.addEventListener("click", (event) => {
      if (event.target.closest(".picture") && this.mode !== "wipe") clock.toggle();
    });
    // At the window, where nothing comes before it: some versions of JupyterLab take keys on their way down.
    const key = (event) => event.composedPath().includes(this.root) && this.key(event);
    this.root.addEventListener("focusin", () => window.addEventListener("keydown", key, true));
    this.root.addEventListener("focusout", () => window.removeEventListener("keydown", key, true));
  }

  setCut(cut) {
    setRange(this.part.cut, cut);
    this.refresh();
  }

  drag(event) {
    const picture = event.target.closest(".picture");
    if (!picture || this.mode !== "wipe" || event.button) return;
    const { left, width } = picture.getBoundingClientRect();
    const move = ({ clientX }) => this.setCut((clientX - left) / width);
    picture.setPointerCapture(event.pointerId);
    picture.onpointermove = move;
    picture.onpointerup = picture.onpointercancel = () => (picture.onpointermove = null);
    move(event);
  }

  key(event) {
    const { clock } = this;
    const actions = {
      " ": () => clock.toggle(),
      ArrowLeft: () => clock.seek(clock.index - 1),
      ArrowRight: () => clock.seek(clock.index + 1),
      Home: () => clock.seek(0),
      End: () => clock.seek(this.frames - 1),
      l: () => clock.set({ loop: !clock.loop }),
      p: () => clock.set({ pingpong: !clock.pingpong }),
    };
    const name = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (!(name in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation(); // the notebook would move to another cell
    const meant = { INPUT: /^(Arrow|Home|End)/, SELECT: /./, BUTTON: /^ $/, SUMMARY: /^ $/ }[event.composedPath()[0].tagName];
    if (meant?.test(event.key)) return; // the focused control has its own use of this key
    event.preventDefault();
    actions[name]();
  }
}
