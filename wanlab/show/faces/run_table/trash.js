/* Deleted runs: they can be brought back until the trash is emptied, which is asked twice. */

class RunTrash {
  constructor(table) {
    this.table = table;
    this.undo = []; // the runs deleted last
    this.element = make("div", { className: "bar trash", hidden: true });
  }

  static #button(textContent, action, className = "plain") {
    const control = make("button", { type: "button", className, textContent });
    control.addEventListener("click", action);
    return control;
  }

  static #runs(count) {
    return counted(count, "run");
  }

  static #size(bytes) {
    const units = ["bytes", "KB", "MB", "GB", "TB"];
    const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
    return `${Number((bytes / 1000 ** power).toPrecision(2))} ${units[power]}`;
  }

  /* What is in it: `ids` and `bytes`. */
  show(trash, sure = false) {
    const { ids, bytes } = trash;
    this.element.hidden = !this.table.live || !ids?.length;
    if (this.element.hidden) return;
    const runs = RunTrash.#runs(ids.length);
    const remove = RunTrash.#button(`Remove ${runs} for good`, () => this.table.ask("empty"), "plain danger");
    const keep = RunTrash.#button("Keep", () => this.show(trash));
    const restore = RunTrash.#button("Restore all", () => this.table.ask("restore", { ids }));
    const empty = RunTrash.#button("Empty the trash…", () => this.show(trash, true));
    this.element.replaceChildren(`In the trash: ${runs}, ${RunTrash.#size(bytes)}.`, ...(sure ? [remove, keep] : [restore, empty]));
    if (sure) keep.focus();
  }

  /* What the kernel did. */
  heard({ deleted, restored, freed, trash, reason }) {
    if (deleted) {
      if (deleted.length) this.undo = deleted;
      const undo = RunTrash.#button("Undo", () => this.table.ask("restore", { ids: this.undo }));
      const told = deleted.length ? `${RunTrash.#runs(deleted.length)} moved to the trash.` : "";
      this.table.say(`${told} ${reason}`.trim(), ...(deleted.length ? [undo] : []));
    }
    if (restored) this.table.say(`${restored.length ? "Restored." : ""} ${reason}`.trim());
    if (freed !== undefined) {
      this.table.say(`The trash is empty: ${RunTrash.#size(freed)} freed.`);
      this.show(trash);
    }
  }
}
