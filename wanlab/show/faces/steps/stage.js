/* The stage of the steps: its canvases, made anew when the view changes, and what is painted on them. */

class StepStage {
  constructor(face) {
    this.face = face;
    const { width, height } = face.page.pictures;
    this.decoder = new Decoder(Math.max(64, KEPT_BYTES / (4 * width * height)));
    this.painter = new Painter(() => this.#paint(), (error) => face.fail(error));
    this.#makeTiles();
  }

  /* A small map for each channel, and one for all together: pressed, it is the large one. */
  #makeTiles() {
    const { face } = this;
    const { part, page: { maps: { channels } } } = face;
    const names = ["all", ...Array(channels).keys()];
    this.tiles = names.map((name, index) => {
      const canvas = make("canvas");
      const tile = make("button", { type: "button", ariaLabel: index ? `Channel ${name}` : "All channels" }, canvas, make("span", { textContent: name }));
      tile.title = index ? `channel ${name}` : "all channels: the root of the sum of squares";
      tile.addEventListener("click", () => {
        face.channel = index - 1;
        face.refresh();
      });
      return { tile, canvas, channel: index - 1 };
    });
    this.tiles[0].tile.style.gridRow = `span ${Math.max(1, Math.ceil(channels / 8))}`; // the others stand eight in a row
    part.tiles.append(...this.tiles.map(({ tile }) => tile));
  }

  layout() {
    const { page, part, view, both, columns } = this.face;
    part.stage.dataset.view = view;
    if (view === "all") this.#layoutAll();
    else {
      const names = columns.map((which) => (which === "difference" ? "difference" : page.runs[which].label));
      this.canvases = names.map((name) => {
        const canvas = make("canvas", { width: page.pictures.width, height: page.pictures.height, role: "img" });
        canvas.ariaLabel = [STEP_VIEWS[view], name].filter(Boolean).join(": ");
        return canvas;
      });
      const figures = this.canvases.map((canvas, index) => {
        const caption = make("figcaption", { textContent: both ? names[index] : "", title: names[index] });
        return make("figure", {}, caption, make("div", { className: "picture" }, canvas));
      });
      part.stage.replaceChildren(...figures);
    }
    this.fit();
  }

  /* A button for each step: its latents above its clean estimate; of two runs both estimates. */
  #layoutAll() {
    const { page, part, steps } = this.face;
    const { width, height } = page.pictures;
    this.thumbs = page.pairs.map((_, step) => {
      const canvases = this.rows.map(() => make("canvas", { width, height }));
      const thumb = make("button", { type: "button", ariaLabel: `Step ${step}`, className: "thumb" }, ...canvases);
      thumb.append(make("span", { textContent: step }));
      thumb.addEventListener("click", () => steps.seek(step));
      return { thumb, canvases };
    });
    part.stage.replaceChildren(...this.thumbs.map(({ thumb }) => thumb));
  }

  /* The rows of the view of all steps: which stills, of which run. */
  get rows() {
    if (this.face.both) return [["clean", 0], ["clean", 1]];
    return this.face.stills.noisy[0].length ? [["noisy", 0], ["clean", 0]] : [["clean", 0]];
  }

  fit() {
    const { page, part, view, both, mapped } = this.face;
    const room = part.stage.clientWidth;
    if (room <= 0 || view === "all") return;
    const { width, height } = page.pictures;
    const columns = !both ? 1 : room > 400 ? 3 : 2;
    const side = both ? PAIRED_SIDE : PICTURE_SIDE;
    const scale = Math.min(side / Math.max(height, width * 0.6), ((room + GAP) / columns - GAP) / width);
    const shown = scale > 1 ? Math.floor(scale) : scale;
    for (const canvas of this.canvases) {
      canvas.style.width = canvas.closest("figure").style.width = `${Math.round(width * shown)}px`;
      canvas.style.height = `${Math.round(height * shown)}px`;
      canvas.style.imageRendering = mapped || shown >= 1 ? "pixelated" : "auto";
    }
  }

  /* ---- painting */

  refresh() {
    const { view, steps } = this.face;
    if (view === "all") this.thumbs.forEach(({ thumb }, step) => (thumb.ariaPressed = step === steps.index));
    this.painter.ask();
  }

  async #paint() {
    const { face } = this;
    const [step, frame, view] = [face.steps.index, face.clock.index, face.view];
    if (face.mapped) this.#paintMaps();
    else if (view === "all") await this.#paintAll();
    else await this.#paintClean();
    face.painted(step, frame, view);
  }

  #picture(kind, run, step) {
    const { clock, frames, latentFrame } = this.face;
    const stills = this.face.stills[kind][run][step];
    const shown = Math.min(clock.index, frames - 1);
    // Of noisy pictures there are fewer: one for each latent frame
    return this.decoder.picture(stills[stills.length === frames ? shown : Math.min(stills.length - 1, latentFrame)]);
  }

  async #paintClean() {
    const { canvases } = this;
    const { page, place, both, part } = this.face;
    const pictures = await Promise.all(page.runs.map((_, run) => this.#picture("clean", run, place[run])));
    pictures.forEach((picture, run) => canvases[run].getContext("2d").drawImage(picture, 0, 0));
    if (both) paintDifference(canvases[2], pictures, part.gain.value);
  }

  async #paintAll() {
    const { thumbs, rows } = this;
    const { pairs } = this.face.page;
    await Promise.all(
      thumbs.flatMap(({ canvases }, step) =>
        rows.map(async ([kind, run], row) => {
          const picture = await this.#picture(kind, run, pairs[step][run]);
          canvases[row].getContext("2d").drawImage(picture, 0, 0, canvases[row].width, canvases[row].height);
        }),
      ),
    );
  }

  #paintMaps() {
    const { maps, view, place, channel, part, columns, pixelFrame } = this.face;
    const frame = maps.frameOf(pixelFrame);
    const limit = (which, each) => maps.limit(view, each) / (which === "difference" ? Number(part.gain.value) : 1);
    this.canvases.forEach((canvas, index) => {
      const which = columns[index];
      maps.paint(canvas, maps.tile(view, place, frame, channel, which), limit(which, channel), channel);
    });
    const which = columns.at(-1);
    for (const each of this.tiles) {
      maps.paint(each.canvas, maps.tile(view, place, frame, each.channel, which), limit(which, each.channel), each.channel);
      each.tile.ariaPressed = each.channel === channel;
    }
    const most = short(limit(0, channel));
    part.low.textContent = channel === NORM ? "0" : `≤ −${most}`;
    part.high.textContent = channel === NORM ? `≥ ${most}` : `≥ +${most}`;
    part.ramp.className = channel === NORM ? "norms" : "signed";
  }
}
