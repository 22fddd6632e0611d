/* The player in one element.
 *
 * Every page carries these scripts inside its own element, so they run any number of times in one document and touch
 * nothing but that element. What a person wrote is only ever set as text, never as HTML.
 */

const BLINKS = 2; // changes a second to begin with; what flashes more than three times a second can cause seizures

class Player {
  constructor(root, page) {
    Object.assign(this, { root, page });
    this.clips = this.page.clips.map((clip) => ({ ...clip, stills: unpack(clip, this.page.kind) }));
    furnish(this, page.css, PLAYER_TEMPLATE);
    this.frames = Math.max(...this.clips.map((clip) => clip.stills.length));
    this.mode = this.page.mode;
    this.pair = [0, Math.min(1, this.clips.length - 1)];
    this.clock = new Clock(this.frames, this.page.rate, (moved) => (moved ? this.moved() : this.refresh()));
    this.blink = new Clock(2, BLINKS, () => this.refresh());
    this.clocks = [this.clock, this.blink];
    this.several = this.clips.length > 1;

    this.table = new SettingsTable(this.part.settings, tablesOf(root), this.clips.length);
    this.part.tables.append(...this.table.rest);
    this.full = new FullScreen(root, () => this.filled());
    this.stage = new Stage(this, this.table);
    this.curves = this.page.curves ? new FrameCurves(this.page, this.part, this.clock) : null;
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
    part.title.textContent = part.title.title = page.title;
    part.summary.textContent = page.summary ?? "";
    const help = [Keys.HELP, this.several && Keys.HELP_OF_TWO, this.several && clips.length > 2 && Keys.HELP_OF_MORE];
    part.keys.textContent = help.filter(Boolean).join("");
    part.frame.max = this.frames - 1;
    Object.assign(part.cut, { max: 1, step: 0.001 });
    setRange(part.cut, 0.5);
    part.gain.value = 8;
    part.speed.value = 1;
    part.rate.value = BLINKS;
    for (const control of [part.first, part.second]) control.append(...optionsOf(clips.map((clip) => clip.label)));
  }

  begin() {
    this.stage.layout();
    this.refresh();
    if (!stillWanted()) {
      this.clock.set({ playing: true });
      if (this.mode === "blink") this.blink.set({ playing: true });
    }
    // A notebook takes cells out of the document when they leave the view, and puts them back.
    const wake = (entries) => this.clocks.forEach((clock) => clock.set({ awake: entries.at(-1).isIntersecting }));
    this.observers = [new ResizeObserver(() => this.fit()), new IntersectionObserver(wake)];
    this.observers.forEach((observer) => observer.observe(this.root));
    this.root.addEventListener("pointerenter", () => this.follow());
    this.follow();
  }

  /* A full screen has no page behind it: it takes that page's ground and ink along. */
  follow() {
    const dark = this.full.on ? null : followPage(this.root, this.part.card);
    if (dark === null) return;
    this.root.style.setProperty("--ink", getComputedStyle(this.root).color);
    this.root.style.setProperty("--ground", groundOf(this.root) ?? (dark ? "#111" : "#fff"));
  }

  fit() {
    this.stage.fit();
    this.curves?.draw();
  }

  /* A full screen is for the pictures: the curves fold themselves up, and can be opened again. */
  filled() {
    const { curves } = this.part;
    if (this.full.on) this.unfolded = curves.open;
    curves.open = !this.full.on && (this.unfolded ?? curves.open);
    this.fit();
    this.refresh();
  }

  /* For who takes it away: nothing goes on behind its back. */
  stop() {
    this.clocks.forEach((clock) => clock.stop());
    this.observers.forEach((observer) => observer.disconnect());
    this.full.stop();
    this.keys.stop();
  }

  /* ---- what the stage tells */

  painted(frame, mode, shown) {
    this.ready = true;
    Object.assign(this.root.dataset, { frame, frames: this.frames, mode, ready: "1" });
    if (mode === "blink") this.root.dataset.blink = this.blink.index;
  }

  /* The difference in numbers: the mean of the frames themselves where it is known, else that of the stills. */
  told(frame, { mean, largest }) {
    const exact = this.curves?.difference(...this.pair);
    const known = exact ? exact[Math.min(frame, exact.length - 1)] : mean;
    if (!known) return "In this frame: identical.";
    const coded = this.page.kind === "image/jpeg" ? " The stills are JPEG: a few levels of the picture come from that." : "";
    const average = known < 0.01 ? known.toPrecision(1) : known.toFixed(2);
    return `In this frame: ${average} of 255 on average, ${largest} at most.${coded}`;
  }

  /* The slot brings the still part back. */
  fail(error) {
    this.stop();
    this.root.dataset.ready = "error";
    this.shadow.replaceChildren(make("p", { textContent: `This player stopped: ${error.message}` }), make("slot"));
  }

  /* ---- whatever changes the state ends here: the controls show it, then the picture */

  refresh() {
    const { part, clock, blink, mode, pair, several } = this;
    setPlay(part.play, clock.playing);
    for (const option of ["loop", "pingpong"]) part[option].ariaPressed = clock[option];
    for (const each of Object.keys(MODES)) part[each].ariaPressed = each === mode;
    part.modes.hidden = !several;
    part.pair.hidden = this.clips.length < 3 || !several || mode === "side";
    part.wiping.hidden = mode !== "wipe";
    part.gaining.hidden = mode !== "difference";
    part.blinking.hidden = mode !== "blink";
    [part.first.value, part.second.value] = pair;
    setPlay(part.playBlink, blink.playing, " blinking");
    part.full.ariaPressed = this.full.on;
    this.root.dataset.playing = clock.playing;
    this.moved();
  }

  /* With every frame: as little as possible. */
  moved() {
    const { part, clock } = this;
    setRange(part.frame, clock.index);
    part.frame.ariaValueText = part.count.textContent = `${clock.index + 1} / ${this.frames}`;
    this.curves?.refresh();
    this.stage.paint();
  }

  setMode(mode) {
    this.mode = mode;
    this.blink.stop();
    this.stage.layout();
    this.blink.seek(0);
    if (mode === "blink" && !stillWanted()) this.blink.set({ playing: true });
    this.refresh();
  }

  /* Another clip for the pair: the older of the two makes room. */
  choose(index) {
    if (index !== this.pair[1]) this.setPair([this.pair[1], index]);
  }

  setPair(pair) {
    this.pair = pair;
    if (this.mode !== "side") this.stage.layout();
    this.refresh();
  }

  /* The second clip while a key is held, the first when it is let go. */
  holdSecond(held) {
    if (this.mode !== "blink") {
      if (!held) return;
      this.setMode("blink");
    }
    this.blink.seek(held ? 1 : 0);
  }

  /* ---- what a person does */

  listen() {
    const { part, clock, blink } = this;
    const press = {
      ...buttonsOf(clock),
      playBlink: () => blink.toggle(),
      full: () => this.full.toggle(),
      help: () => (part.help.ariaExpanded = !(part.keys.hidden = !part.keys.hidden)),
      ...Object.fromEntries(Object.keys(MODES).map((mode) => [mode, () => this.setMode(mode)])),
    };
    const repair = () => this.setPair([Number(part.first.value), Number(part.second.value)]);
    const change = {
      frame: () => clock.seek(part.frame.valueAsNumber),
      cut: () => this.setCut(part.cut.value),
      gain: () => this.refresh(),
      zoom: () => this.fit(),
      speed: () => clock.set({ speed: Number(part.speed.value) }),
      rate: () => blink.set({ rate: Number(part.rate.value) }),
      first: repair,
      second: repair,
    };
    for (const [name, action] of Object.entries(press)) part[name].addEventListener("click", action);
    for (const [name, action] of Object.entries(change)) part[name].addEventListener("input", action);
    part.stage.addEventListener("pointerdown", (event) => this.drag(event));
    part.stage.addEventListener("click", (event) => {
      if (event.target.closest(".picture") && this.mode !== "wipe") clock.toggle();
    });
    this.keys = new Keys(this);
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
}

/* The colour behind an element: that of the nearest ancestor that has one, also across the borders of shadow roots. */
function groundOf(element) {
  for (let each = element; each; each = each.parentElement ?? each.getRootNode().host) {
    const ground = getComputedStyle(each).backgroundColor;
    if (!/^(transparent|rgba\(.*, 0\))$/.test(ground)) return ground;
  }
  return null;
}
