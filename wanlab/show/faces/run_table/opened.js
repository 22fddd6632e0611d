/* What is opened beneath the table: a page that the kernel made of some runs, or without a kernel their small clips. */

class RunOpened {
  constructor(table) {
    this.table = table;
  }

  get element() {
    return this.table.part.opened;
  }

  /* Without a kernel: the small clips beside each other. */
  showPreviews(ids) {
    const { table } = this;
    const figures = ids.map((id) => {
      const preview = new RunPreview({}, () => {});
      preview.sheets = table.preview.sheets;
      const row = table.data.places.get(id);
      preview.show(id, table.clipOf(row));
      return make("figure", {}, preview.canvas, make("figcaption", { textContent: id, title: RunData.text(table.data.value(row, "prompt")) }));
    });
    this.#fill(make("div", { className: "small" }, ...figures));
  }

  /* A page that the kernel made: beneath the face's own element, where its script finds its place, and shown through a slot. */
  showPage(html) {
    this.place?.remove();
    this.place = make("div", { slot: "opened" });
    this.place.innerHTML = html; // made by build_page, in which all text is escaped; scripts set so do not run
    this.#fill(make("slot", { name: "opened" }));
    this.table.root.append(this.place);
    for (const script of this.place.querySelectorAll("script")) script.replaceWith(make("script", { textContent: script.textContent }));
    this.element.scrollIntoView({ block: "nearest" });
  }

  #fill(shown) {
    const close = make("button", { type: "button", className: "plain", textContent: "Close" });
    close.addEventListener("click", () => {
      this.element.hidden = true;
      this.place?.remove();
    });
    this.element.replaceChildren(close, shown);
    this.element.hidden = false;
  }
}
