/* The stage: the clips' canvases, enlarged by css, their captions, and how they share the room that there is. */

class Stage {
  static FIT_HEIGHT = 320; // small clips are enlarged by a whole factor, to at most about this height
  static LEAST_WIDTH = 380; // of the card, for its row of controls
  static MOST_HEIGHT = 760; // of all rows together; the whole of a full screen
  static GAP = 12;
  static FRAME = 2 * Stage.GAP + 2; // the card's padding and border, both sides
  static CAPTION = 30;
  static AHEAD = 3; // moments decoded before they are due

  constructor(player, table) {
    Object.assign(this, { player, table, element: player.part.stage, canvases: [] });
    this.painter = new Painter(() => this.#paintNow(), (error) => player.fail(error));
    const { width, height } = player.clips[0];
    this.decoder = new Decoder(0);
    this.keepDecoded(width * height);
  }

  keepDecoded(pixels) {
    this.decoder.keep = Math.max((2 + Stage.AHEAD) * this.player.clips.length, KEPT_BYTES / (4 * pixels));
  }

  /* New figures, when the mode or the pair is another. */
  layout() {
    const { player } = this;
    const { mode, shown } = player;
    this.divider = make("div", { className: "divider" });
    const figures = mode === "side" ? shown.map((index) => this.#figure([index])) : [this.#figure(shown)];
    this.canvases = figures.map((figure) => figure.querySelector("canvas"));
    this.element.replaceChildren(...figures);
    player.part.card.dataset.mode = mode;
    this.fit();
  }

  #figure(indices) {
    const { mode, clips, several } = this.player;
    const { width, height } = clips[indices[0]];
    const labels = indices.map((index) => clips[index].label);
    const canvas = make("canvas", { width, height, role: "img" });
    canvas.ariaLabel = mode === "side" ? labels[0] : `${MODES[mode]} of ${labels.join(" and ")}`;
    const name = (title, place) => {
      const text = make("span", { className: "clamp", textContent: title });
      return make("span", { className: "named", title }, ...(several ? [badge(indices[place])] : []), text);
    };
    const names = labels.map(name);
    if (mode === "difference") names.splice(1, 0, "\u2212");
    const picture = make("div", { className: "picture" }, canvas, ...(mode === "wipe" ? [this.divider] : []));
    return make("figure", { className: mode }, make("figcaption", {}, ...names), picture);
  }

  /* ---- room: the card is as wide as the clips side by side need, in every mode, so that it does not jump between modes */

  fit() {
    const { player, table } = this;
    const { root, part, clips } = player;
    const filled = player.full.on;
    const room = root.clientWidth - (filled ? 2 * Stage.GAP : Stage.FRAME);
    if (room <= 0) return; // not in view; the observer calls again
    part.card.toggleAttribute("data-filled", filled);
    const height = clips[0].height;
    const widths = clips.map((clip) => (clip.width * height) / clip.height);
    const whole = widths.reduce((sum, width) => sum + width, 0);
    const tall = filled ? this.#heightLeft() : Stage.MOST_HEIGHT;
    const box = { room, height, whole, widest: Math.max(...widths), tall, filled };
    const { all, indent } = this.#placeAll(clips.length, box);
    const { columns } = all;
    const needed = Math.ceil((columns === clips.length ? whole : columns * box.widest) * all.scale + (columns - 1) * Stage.GAP);
    part.card.style.width = filled ? "" : `${Math.min(room, Math.max(Stage.LEAST_WIDTH, needed + indent)) + Stage.FRAME}px`;
    this.#arrange(needed, columns, indent);
    table.align(indent ? widths.map((width) => Math.round(width * all.scale)) : null, Stage.GAP, room);
    this.#size(widths, height, this.canvases.length > 1 ? all.scale : this.#place(1, box).scale);
  }

  /* With the names of the settings before the first clip, if one row has room for that, or needs only a little more. */
  #placeAll(count, box) {
    const all = this.#place(count, box);
    const indent = box.filled ? 0 : this.table.before; // a full screen shows no settings
    const beneath = indent ? this.#place(count, { ...box, room: box.room - indent }) : all;
    const fits = indent && beneath.columns === count && beneath.scale >= 0.75 * all.scale;
    return fits ? { all: beneath, indent } : { all, indent: 0 };
  }

  /* Side by side the clips keep to their columns; the names of the settings stand before the first one. */
  #arrange(needed, columns, indent) {
    const { mode, clips, part } = this.player;
    const { style } = this.element;
    const side = mode === "side";
    this.element.toggleAttribute("data-rows", side && columns < clips.length);
    style.maxWidth = side && part.zoom.value === "fit" ? `${needed + indent}px` : "";
    style.paddingLeft = side && indent ? `${indent}px` : "";
  }

  #size(widths, height, scale) {
    const { player, canvases } = this;
    let changed = false;
    player.shown.slice(0, canvases.length).forEach((index, place) => {
      const canvas = canvases[place];
      const [wide, high] = [Math.round(widths[index] * scale), Math.round(height * scale)];
      canvas.style.width = canvas.closest("figure").style.width = `${wide}px`;
      canvas.style.height = `${high}px`;
      canvas.style.imageRendering = scale >= 1 ? "pixelated" : "auto";
      const [width, rows] = this.#decoded(player.clips[index], wide, high);
      if (width === canvas.width && rows === canvas.height) return;
      Object.assign(canvas, { width, height: rows });
      changed = true;
    });
    if (!canvases.length) return;
    this.keepDecoded(canvases[0].width * canvases[0].height);
    if (changed && player.ready) this.paint();
  }

  /* Large clips are decoded as small as they are drawn, but for the modes that look at single pixels. */
  #decoded({ width, height }, wide, high) {
    const ratio = globalThis.devicePixelRatio || 1;
    const exact = ["wipe", "difference"].includes(this.player.mode) || wide * ratio >= width;
    return exact ? [width, height] : [Math.max(1, Math.round(wide * ratio)), Math.max(1, Math.round(high * ratio))];
  }

  /* Columns and scale for so many clips: more rows only if they make the clips clearly larger and leave few holes. */
  #place(count, { room, height, whole, widest, tall, filled }) {
    const chosen = this.player.part.zoom.value;
    let best = null;
    for (let rows = 1; rows <= count; rows += 1) {
      const columns = Math.ceil(count / rows);
      const across = (room - (columns - 1) * Stage.GAP) / (count > 1 && rows === 1 ? whole : columns * widest);
      const down = (tall / rows - Stage.CAPTION) / height;
      const fitting = Math.min(across, down, filled ? Infinity : Math.max(1, Stage.FIT_HEIGHT / height));
      const worth = fitting * (count / (rows * columns)) ** 2;
      if (!best || worth >= 1.5 * best.worth) best = { columns, worth, fitting };
    }
    if (chosen === "fit") return { columns: best.columns, scale: Stage.#whole(best.fitting) };
    const columns = Math.max(1, Math.min(count, Math.floor((room + Stage.GAP) / (widest * Number(chosen) + Stage.GAP))));
    return { columns: Math.ceil(count / Math.ceil(count / columns)), scale: Number(chosen) };
  }

  /* Small pixels stay square: a whole number of the screen's dots for each; below two that would be too small, so quarters. */
  static #whole(scale) {
    if (scale <= 1) return Math.max(0.02, scale);
    const dots = scale < 2 ? 4 : globalThis.devicePixelRatio || 1;
    return Math.floor(scale * dots) / dots;
  }

  /* What the controls leave of a full screen. */
  #heightLeft() {
    const { root, part } = this.player;
    const others = [...part.card.children].filter((child) => !child.contains(this.element) && child.offsetHeight);
    return Math.max(120, root.clientHeight - others.reduce((sum, child) => sum + child.offsetHeight + 10, 2 * Stage.GAP));
  }

  /* ---- painting */

  paint() {
    this.painter.ask();
  }

  async #paintNow() {
    const { player, canvases } = this;
    const { mode, shown, clock } = player;
    const frame = clock.index;
    const pictures = await Promise.all(this.#pictures(frame));
    if (canvases !== this.canvases) return this.paint(); // another mode by now
    this.#draw(mode, canvases, pictures, frame);
    player.painted(frame, mode, shown);
    if (clock.playing) this.#decodeAhead(clock.ahead(Stage.AHEAD));
  }

  /* What cannot be decoded is told when it is due. */
  #decodeAhead(frames) {
    for (const frame of frames) Promise.all(this.#pictures(frame)).catch(() => {});
  }

  #pictures(frame) {
    const { player, canvases } = this;
    return player.shown.map((index, place) => {
      const { stills, width, height } = player.clips[index];
      const canvas = canvases[Math.min(place, canvases.length - 1)];
      const whole = ["wipe", "difference"].includes(player.mode) || (canvas.width >= width && canvas.height >= height);
      return this.decoder.picture(stills[Math.min(frame, stills.length - 1)], whole ? null : [canvas.width, canvas.height]);
    });
  }

  #draw(mode, canvases, pictures, frame) {
    const { player } = this;
    const { part } = player;
    let readout = "";
    if (mode === "wipe") {
      const cut = paintWipe(canvases[0], pictures, part.cut.value);
      this.divider.style.left = `${100 * cut}%`;
    } else if (mode === "blink") {
      const now = player.blink.index;
      paintWhole(canvases[0], pictures[now]);
      this.element.querySelectorAll(".named").forEach((name, place) => name.toggleAttribute("data-seen", place === now));
    } else if (mode === "difference") {
      readout = player.told(frame, paintDifference(canvases[0], pictures, part.gain.value));
    } else {
      canvases.forEach((canvas, index) => paintWhole(canvas, pictures[index]));
    }
    const notes = [readout, ...player.page.notes].join(" ").trim();
    if (part.notes.textContent !== notes) part.notes.textContent = notes;
  }
}
