/* The clip of the run one points at, moving: its frames are cut out of the contact sheet that the run left. */

class RunPreview {
  static RATE = 12; // frames a second: to recognise a clip, not to judge its motion
  static CELL = 64; // pixels that a frame on the sheet is high
  static ROW = 6; // frames beside each other on it

  /* `ask(id)` has the sheet brought, if it can be had: `bring` is then called. */
  constructor(sheets, ask) {
    this.sheets = new Map(Object.entries(sheets).map(([id, sheet]) => [id, RunPreview.#picture(sheet)]));
    this.ask = ask;
    this.asked = new Set();
    this.canvas = make("canvas", { width: 1, height: 1, hidden: true });
    this.canvas.setAttribute("role", "img");
    this.clock = null;
    this.still = stillWanted();
  }

  static #picture(sheet) {
    if (!sheet) return Promise.resolve(null); // there is none
    const bytes = Uint8Array.from(atob(sheet), (letter) => letter.charCodeAt(0));
    return createImageBitmap(new Blob([bytes], { type: "image/webp" })).catch(() => null);
  }

  has(id) {
    return this.sheets.has(id);
  }

  bring(id, sheet) {
    this.sheets.set(id, RunPreview.#picture(sheet));
    if (id === this.id) this.show(id, this.facts);
  }

  /* Show this run's clip; facts are its width, height and number of frames. */
  async show(id, facts) {
    Object.assign(this, { id, facts });
    clearTimeout(this.later); // who passes over many rows asks for the one where he stays
    if (!this.sheets.has(id) && !this.asked.has(id)) {
      this.later = setTimeout(() => {
        this.asked.add(id);
        this.ask(id);
      }, 120);
    }
    const sheet = await this.sheets.get(id);
    if (this.id !== id) return;
    this.canvas.hidden = !sheet;
    this.clock?.set({ awake: false });
    this.clock = null;
    if (sheet) this.#play(sheet);
    this.canvas.dispatchEvent(new CustomEvent("shown", { bubbles: true }));
  }

  #play(sheet) {
    const { width = 64, height = 64, frames = 1 } = this.facts;
    const cell = Math.max(1, Math.round((width * RunPreview.CELL) / height));
    const columns = Math.max(1, Math.min(RunPreview.ROW, Math.round(sheet.width / cell)));
    const count = Math.max(1, Math.min(frames, columns * Math.max(1, Math.round(sheet.height / RunPreview.CELL))));
    Object.assign(this.canvas, { width: cell, height: RunPreview.CELL });
    const context = this.canvas.getContext("2d");
    this.clock = new Clock(count, RunPreview.RATE, () => {
      const frame = this.clock.index;
      const [left, top] = [(frame % columns) * cell, Math.floor(frame / columns) * RunPreview.CELL];
      context.drawImage(sheet, left, top, cell, RunPreview.CELL, 0, 0, cell, RunPreview.CELL);
      Object.assign(this.canvas.dataset, { run: this.id, frame, frames: count });
    });
    this.clock.set({ awake: true, playing: !this.still });
  }

  stop() {
    clearTimeout(this.later);
    this.clock?.set({ awake: false });
  }
}
