/* What can be done with the selected runs, and what differs between two of them. */

class RunActions {
  constructor(table) {
    this.table = table;
  }

  draw() {
    const { table } = this;
    const { part, selected, live, waiting } = table;
    const count = selected.size;
    part.actions.hidden = !count;
    part.chosen.textContent = `${count} selected`;
    part.compare.disabled = count < 2 || count > MOST_CLIPS || waiting.has("compare");
    part.compare.textContent = waiting.has("compare") ? "Decoding…" : "Compare";
    part.compare.title = count > MOST_CLIPS ? `At most ${MOST_CLIPS} runs can be compared.` : "Play the clips of the selected runs beside each other";
    if (!live) part.compare.hidden = ![...selected].some((id) => table.preview.has(id));
    part.diff.disabled = count !== 2;
    part.diff.title = count === 2 ? "What differs between the two" : "Select two runs to see what differs";
    if (count !== 2) part.diffed.hidden = true;
    else if (!part.diffed.hidden) this.#drawDiff();
    part.diff.ariaExpanded = String(!part.diffed.hidden);
    table.root.dataset.selected = [...selected].join(" ");
  }

  showDiff() {
    const { diffed } = this.table.part;
    diffed.hidden = !diffed.hidden;
    this.draw();
  }

  #drawDiff() {
    const { selected, data, part } = this.table;
    const rows = [...selected].map((id) => data.places.get(id)).sort((one, other) => one - other);
    part.diffed.replaceChildren(new RunDiff(data, rows).element());
  }
}
