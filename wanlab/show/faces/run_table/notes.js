/* Stars, tags and notes: shown at once, kept by the kernel, and taken back if it could not keep them. */

class RunNotes {
  #before = new Map(); // what a run had before it was changed, by its id
  #written = new Map(); // what the runs that were last asked for may not hold yet

  constructor(table) {
    this.table = table;
  }

  annotate(row, notes) {
    const { table } = this;
    const id = table.data.ids[row];
    const now = () => Object.fromEntries(Object.keys(notes).map((name) => [name, table.data.value(row, name)]));
    this.#before.set(id, now());
    this.#show(row, Object.entries(notes).map(([name, value]) => [name, value === false || value.length === 0 ? null : value]));
    this.#written.set(id, { ...this.#written.get(id), ...now() });
    const kept = Object.entries(notes).map(([name, value]) => [name, value === false || value === "" ? null : value]);
    table.ask("annotate", { id, notes: Object.fromEntries(kept) });
    table.rowsPart.draw();
  }

  /* The kernel has answered: with a reason, it did not keep them. */
  answered({ noted, reason }) {
    const { table } = this;
    const before = this.#before.get(noted);
    this.#before.delete(noted);
    if (!reason) return;
    this.#written.delete(noted);
    const row = table.data.places.get(noted);
    if (before && row !== undefined) this.#show(row, Object.entries(before));
    table.say(reason);
    table.rowsPart.draw();
  }

  /* Questions are answered in the order in which they are asked: runs that are asked for now will have all of it. */
  asked() {
    this.#written.clear();
  }

  /* Runs that were asked for before the last notes do not have them. */
  renew() {
    const { places } = this.table.data;
    for (const [id, notes] of this.#written) if (places.has(id)) this.#show(places.get(id), Object.entries(notes));
  }

  #show(row, notes) {
    for (const [name, value] of notes) this.table.data.note(row, name, value);
  }
}
