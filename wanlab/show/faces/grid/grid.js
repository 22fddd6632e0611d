/* The grid in one element: cells where their axes put them, one clock for all, and what is chosen beneath them.
 *
 * A cell that is not in view is neither decoded nor painted. In a page all cells are there from the start; in a widget each is a
 * trait of the kernel's side, so that it comes, and changes, alone.
 */

const [LEAST_CELL, LARGEST_CELL, USUAL_CELL] = [56, 480, 208]; // of the size slider, in pixels
const [NARROW, NARROW_HEAD, ROW_HEAD] = [600, 76, 124]; // below that room the row headers are narrow; each level's width
const TOLD_LINE = 15; // of the reason in a cell, in pixels
const MOST_AT_ONCE = 6; // columns and rows for which there is room before a grid scrolls
const [SHARE_OF_WINDOW, AROUND_CELL] = [0.74, 34]; // the height that a grid takes at first; a cell's caption and gaps

class Grid {
  constructor(root, page, live) {
    Object.assign(this, { root, page, live });
    furnish(this, page.css, GRID_TEMPLATE);
    this.places = new GridPlaces(page);
    this.painter = new Painter(() => this.#paintNow());
    this.visible = new Set();
    this.byElement = new WeakMap();
    this.clock = new Clock(1, page.rate, () => this.refresh());
    this.chosen = new GridChosen(this, this.part.chosen);
    this.values = new GridValues(this, this.part.values);
    this.label();
    this.watch();
    this.fill();
    this.place();
    new GridInput(this);
    if (!stillWanted()) this.clock.set({ playing: true });
  }

  /* ---- cells: all at once in a page, one by one in a widget */

  fill() {
    this.decoder = new Decoder(0); // `count` says how many pictures it keeps
    this.forget = [];
    this.cells = [];
    const take = (content) => {
      const cell = new GridCell(content);
      this.byElement.set(cell.element, cell);
      this.cells.push(cell);
    };
    if (!this.live) this.page.cells.forEach(take);
    for (let number = 0; this.live && number < this.page.count; number += 1) {
      const heard = (content) => (this.cells[number] ? this.change(this.cells[number], content) : take(content));
      this.forget.push(this.live.follow(`cell${number}`, heard));
    }
    this.focused = this.cells[0];
    this.count();
  }

  /* The kernel has something new of a cell. */
  change(cell, content) {
    const hadClip = cell.frames;
    cell.set(content);
    this.chosen.changed(cell);
    this.count();
    if (!hadClip && cell.frames) this.fit();
    this.numbers();
    this.refresh();
  }

  count() {
    const { cells, part, clock } = this;
    const states = Object.keys(GRID_STATES).map((state) => [state, cells.filter((cell) => cell.content.state === state).length]);
    const told = states.filter(([, count]) => count).map(([state, count]) => `${count} ${(GRID_STATES[state] || "done").toLowerCase()}`);
    part.progress.textContent = told.join(", ");
    const frames = Math.max(1, ...cells.map((cell) => cell.frames));
    if (frames !== clock.count) clock.set({ count: frames });
    part.frame.max = frames - 1;
    const clips = cells.filter((cell) => cell.frames);
    const largest = Math.max(1, ...clips.map(({ content }) => 4 * content.width * content.height));
    this.decoder.keep = Math.max(2 * cells.length, KEPT_BYTES / largest);
    part.notes.textContent = [...new Set([...this.page.notes, ...clips.map(({ content }) => content.note)])].join(" ").trim();
    Object.assign(this.root.dataset, { frames, cells: cells.length, clips: clips.length });
  }

  stop() {
    this.clock.set({ playing: false });
    this.seen.disconnect();
    this.forget.forEach((forget) => forget());
  }

  /* ---- what is set once */

  label() {
    const { root, page, part } = this;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", page.title || "Grid of runs");
    part.table.setAttribute("aria-label", page.title || "Grid of runs");
    part.title.textContent = page.title;
    part.keys.textContent = GRID_KEYS;
    part.gain.value = 8;
    part.speed.value = 1;
    Object.assign(part.cut, { max: 1, step: 0.001 });
    Object.assign(part.size, { min: LEAST_CELL, max: LARGEST_CELL, step: 8 });
    setRange(part.cut, 0.5);
    part.tables.append(...tablesOf(root));
  }

  watch() {
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const cell = this.byElement.get(target);
        isIntersecting ? this.visible.add(cell) : this.visible.delete(cell);
      }
      this.looked = true;
      this.paint();
    });
    // A notebook takes cells out of the document when they leave the view, and puts them back.
    new IntersectionObserver((entries) => this.clock.set({ awake: entries.at(-1).isIntersecting })).observe(this.root);
    new ResizeObserver(() => {
      followPage(this.root, this.part.card);
      this.fit();
    }).observe(this.root);
    this.root.addEventListener("pointerenter", () => followPage(this.root, this.part.card));
  }

  /* ---- the table: headers and cells moved to where the axes have them now */

  place() {
    const { part, places } = this;
    const put = (axis, where) => (places.put(axis, where), this.place());
    part.placing.replaceChildren(...placingControls(places, put, () => (places.swap(), this.place())));
    this.arrange();
    this.fit();
  }

  arrange() {
    const { part, places, cells } = this;
    const { down, across, depth, at } = places.arrange(cells);
    const hadFocus = this.shadow.activeElement?.tagName === "TD";
    this.seen.disconnect();
    this.visible.clear();
    this.looked = false;
    places.flip %= depth;
    Object.assign(this, { down, across, depth, at });
    this.values.offer(depth);
    this.grid = down.map((row) => across.map((column) => at(row, column)[places.flip % Math.max(1, at(row, column).length)] ?? null));
    part.table.replaceChildren(...gridTable(this));
    const levels = { levels: places.rows.length, above: places.columns.length };
    for (const [name, value] of Object.entries(levels)) part.table.style.setProperty(`--${name}`, value);
    const shown = this.grid.flat().filter(Boolean);
    for (const cell of shown) this.seen.observe(cell.element);
    Object.assign(this.root.dataset, { rows: down.length, columns: across.length });
    this.focusable(shown.find((cell) => this.stackOf(cell).includes(this.focused)) ?? shown[0], hadFocus);
    this.numbers();
    this.refresh();
  }

  /* What a screen reader says of a cell. */
  describe(cell) {
    const { places } = this;
    const settings = places.settings(cell).map(([name, value]) => `${name} ${value}`);
    const { state, caption, problem } = cell.content;
    cell.element.ariaLabel = [...settings, GRID_STATES[state] || "done", problem, caption, cell.told].filter(Boolean).join(", ");
    const place = this.chosen.cells.indexOf(cell);
    cell.element.ariaSelected = String(place >= 0);
    const several = this.chosen.cells.length > 1 && place >= 0; // then each has its number, in the order of the player
    cell.badge.textContent = [several && place + 1, cell === this.reference && "reference"].filter(Boolean).join(" · ");
    cell.badge.hidden = !cell.badge.textContent;
  }

  /* ---- numbers: a colour at the edge of every cell, and the scale of the colours */

  stackOf(cell) {
    const key = (axes) => axes.map((axis) => cell.at[axis]).join();
    return this.at(key(this.places.rows), key(this.places.columns));
  }

  numbers() {
    const { part, cells } = this;
    const names = [...new Set(cells.flatMap((cell) => [...cell.numbers.keys()]))];
    part.numbering.hidden = !names.length;
    if (part.number.options.length !== names.length + 1) {
      const chosen = part.number.value;
      const options = names.map((name) => make("option", { value: name, textContent: name }));
      part.number.replaceChildren(make("option", { value: "", textContent: "nothing" }), ...options);
      part.number.value = names.includes(chosen) ? chosen : "";
    }
    const name = part.number.value;
    const shown = this.grid?.flat().filter(Boolean) ?? [];
    const means = shown.map((cell) => meanAndSpread(this.stackOf(cell).map((each) => each.numbers.get(name))).mean).filter((mean) => mean !== null);
    const range = means.length ? [Math.min(...means), Math.max(...means)] : [0, 0];
    for (const cell of shown) {
      const stack = this.stackOf(cell);
      cell.tell(name, stack, range);
      this.describe(cell);
      cell.depth.hidden = stack.length < 2;
      cell.depth.textContent = `${stack.indexOf(cell) + 1}/${stack.length}`;
    }
    part.legend.hidden = !means.length;
    [part.least.textContent, part.largest.textContent] = range.map(gridNumber);
  }

  /* ---- sizes */

  fit() {
    const { part, places } = this;
    const room = part.scroll.clientWidth;
    if (room <= 0 || !this.across) return; // not in view; the observer calls again
    const head = room < NARROW ? NARROW_HEAD : ROW_HEAD;
    const clip = this.cells.find((cell) => cell.frames)?.content;
    const ratio = clip ? clip.height / clip.width : 1;
    const wide = Math.floor((room - head * places.rows.length) / Math.min(this.across.length, MOST_AT_ONCE)) - 10;
    const high = ((SHARE_OF_WINDOW * innerHeight) / Math.min(this.down.length, MOST_AT_ONCE) - AROUND_CELL) / ratio;
    const size = this.size ?? Math.max(Math.min(USUAL_CELL, wide, Math.round(high)), room < NARROW ? 80 : 104);
    setRange(part.size, size);
    const lines = Math.floor((size * ratio) / TOLD_LINE) - 3;
    const measures = { cell: `${size}px`, head: `${head}px`, usual: clip ? `${clip.width} / ${clip.height}` : "1", lines: Math.max(1, lines) };
    for (const [name, value] of Object.entries(measures)) part.table.style.setProperty(`--${name}`, value);
    part.table.classList.toggle("crisp", Boolean(clip) && size * devicePixelRatio >= clip.width);
  }

  /* ---- painting */

  paint() {
    this.painter.ask();
  }

  async #paintNow() {
    const frame = this.clock.index;
    const due = [...this.visible].filter((cell) => cell.frames);
    const how = { against: this.part.against.value, cut: this.part.cut.value, gain: this.part.gain.value };
    const reference = how.against && this.reference?.frames ? await this.decoder.picture(this.reference.still(frame)) : null;
    const pictures = await Promise.allSettled(due.map((cell) => this.decoder.picture(cell.still(frame))));
    due.forEach((cell, place) => {
      const { value, reason } = pictures[place];
      if (reason) cell.fail(reason);
      else cell.paint(value, cell === this.reference ? null : reference, how);
    });
    Object.assign(this.root.dataset, { frame, painted: due.length });
    if (this.looked) this.root.dataset.ready = "1";
  }

  refresh() {
    const { part, clock } = this;
    const compared = part.against.value;
    setRange(part.frame, clock.index);
    part.frame.ariaValueText = part.count.textContent = `${clock.index + 1} / ${clock.count}`;
    setPlay(part.play, clock.playing);
    for (const option of ["loop", "pingpong"]) part[option].ariaPressed = clock[option];
    part.comparing.hidden = this.cells.filter((cell) => cell.frames).length < 2;
    part.wiping.hidden = compared !== "wipe";
    part.gaining.hidden = compared !== "difference";
    Object.assign(this.root.dataset, { playing: clock.playing, against: compared });
    this.paint();
  }

  /* ---- what a person chooses */

  /* The one cell that the tabulator reaches; arrows make it another. */
  focusable(cell, focus = true) {
    this.focused?.element.setAttribute("tabindex", -1);
    this.focused = cell;
    if (!cell) return;
    cell.element.tabIndex = 0;
    if (focus) cell.element.focus();
  }

  /* This one alone, where a person who asked for it sees it. */
  open(cell) {
    this.chosen.only(cell);
    this.part.chosen.scrollIntoView({ block: "nearest" });
  }

  /* Another cell of every stack on top. */
  flipTo(place) {
    this.places.flip = (place + this.depth) % this.depth;
    this.arrange();
  }

  /* The head of what is open comes into view, and no more: the cell to choose next must not run away. */
  choose(cell) {
    this.part.told.textContent = this.chosen.toggle(cell);
    this.part.chosen.firstElementChild?.scrollIntoView({ block: "nearest" });
  }

  choiceShown() {
    for (const cell of this.cells) this.describe(cell);
    this.part.card.classList.toggle("open", this.chosen.cells.length > 0);
    this.root.dataset.chosen = this.chosen.cells.length;
  }

  /* What the others are compared with; a second time, nothing is. */
  setReference(cell) {
    const before = this.reference;
    this.reference = cell === before ? null : cell;
    for (const each of [before, cell].filter(Boolean)) this.describe(each);
    this.refresh();
  }
}
