/* A form with a control for every setting: sections that fold, search, presets, and each problem beside its control.
 *
 * `new Form(parent, form, changed)` builds it in `parent`, an element of some shadow root that has form.css. `form` is what
 * `wanlab.controls.form` makes. `changed({name: value})` hears what a person changed; the form knows no kernel.
 */

const PACES = { sliding: 40, typing: 400 }; // milliseconds until what is under way is told
const AFFECTS = {
  result: ["picture", "Changes the picture: another value is another run."],
  cost: ["cost", "Changes only time and memory; the picture stays."],
  clip: ["file", "Changes only the file; no step is computed again."],
};
const NARROW = 340; // pixels that a column of sections wants
const OPEN = ["prompt", "sampler"]; // sections that are open in the expert view before anybody folded one

class Form {
  constructor(parent, form, changed) {
    Object.assign(this, { parent, form, changed });
    this.rows = new Map(); // by name: { control, element, field, section, ... }
    this.values = {};
    this.pending = {};
    this.wrong = {};
    this.locked = false;
    this.kept = new Kept("wanlab.form");
    this.root = make("div", { className: "form" });
    this.columns = make("div", { className: "columns" });
    this.sections = form.sections.map((section) => new FormSection(this, section));
    this.bar = new FormBar(this, form.presets);
    this.top = make("p", { className: "problem top", hidden: true });
    this.root.append(this.bar.element, this.top, this.columns);
    for (const row of this.rows.values()) this.put(row, row.control.default);
    this.view(this.kept.read("view") ?? "simple");
    parent.append(this.root);
    this.watch();
    this.root.dataset.ready = "1";
  }

  /* ---- for its owner */

  /* Put in values without telling. */
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      if (this.rows.has(name)) this.put(this.rows.get(name), value);
      delete this.pending[name];
    }
    this.refresh();
  }

  /* Show each sentence beside its control, that of "" at the top, and no others. */
  problems(sentences) {
    this.wrong = sentences;
    let first = true;
    const show = (place, sentence) => {
      place.hidden = !sentence;
      place.textContent = sentence ?? "";
      if (sentence && first) place.setAttribute("role", "alert"); // one is read aloud, not a list of them
      else place.removeAttribute("role");
      first &&= !sentence;
    };
    show(this.top, sentences[""]);
    for (const [name, row] of this.rows) {
      show(row.problem, sentences[name]);
      const input = row.field.inputs[0];
      if (sentences[name]) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", row.problem.id);
        row.section.element.open = true;
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
      }
    }
    this.refresh();
  }

  /* Let nothing be changed, or let it again. */
  lock(locked) {
    this.locked = locked;
    this.refresh();
  }

  /* "simple" shows the settings to begin with, "expert" all. */
  view(name) {
    this.shown = name === "expert" ? "expert" : "simple";
    this.root.dataset.view = this.shown;
    this.kept.write("view", this.shown);
    for (const section of this.sections) section.fold();
    this.refresh();
    this.layout(true);
  }

  /* ---- what people do */

  tell(name, value, pace) {
    this.values[name] = value;
    this.pending[name] = value;
    this.mark(this.rows.get(name));
    clearTimeout(this.timer);
    if (PACES[pace]) this.timer = setTimeout(() => this.flush(), PACES[pace]);
    else this.flush();
  }

  /* Put in values and tell them, as one change. */
  apply(values) {
    for (const [name, value] of Object.entries(values)) {
      const row = this.rows.get(name);
      if (!row || same(this.values[name], value)) continue;
      this.put(row, value);
      this.pending[name] = this.values[name];
    }
    this.flush();
  }

  flush() {
    clearTimeout(this.timer);
    const told = this.pending;
    this.pending = {};
    this.refresh();
    if (Object.keys(told).length) this.changed(told);
  }

  reset(names) {
    this.apply(Object.fromEntries(names.map((name) => [name, this.rows.get(name).control.default])));
  }

  /* ---- how it looks */

  put(row, value) {
    this.values[row.control.name] = row.control.kind === "seed" ? String(value) : value;
    row.field.show(value);
    this.mark(row);
  }

  mark(row) {
    row.changed = !same(this.values[row.control.name], row.control.default);
    row.element.dataset.changed = row.changed ? "1" : "0";
    row.reset.hidden = !row.changed;
  }

  /* Which rows are there, and which of them can be used. */
  refresh() {
    const words = this.bar.words;
    const found = [...this.rows.values()].filter((row) => {
      const off = row.control.switch && this.values[row.control.switch] !== true;
      const there = words.length
        ? words.every((word) => row.text.includes(word))
        : (this.shown === "expert" || (row.control.simple && !off)) && (!this.bar.onlyChanged || row.changed);
      row.element.hidden = !there && !this.wrong[row.control.name];
      row.element.classList.toggle("off", Boolean(off));
      for (const input of row.field.inputs) input.disabled = this.locked || Boolean(off);
      row.reset.disabled = this.locked || Boolean(off);
      return !row.element.hidden;
    });
    const filtering = words.length > 0 || this.bar.onlyChanged;
    for (const section of this.sections) section.refresh(filtering);
    this.bar.refresh(found.length, [...this.rows.values()].filter((row) => row.changed).length);
  }

  /* As many columns as there is room for, at most three. Sections keep their order, and their column while they fold. */
  layout(anew = false) {
    const wanted = Math.max(1, Math.min(3, Math.floor(this.root.clientWidth / NARROW)));
    if (!anew && wanted === this.columns.childElementCount) return;
    const active = this.root.getRootNode().activeElement;
    const columns = Array.from({ length: wanted }, () => make("div", { className: "column" }));
    spread(this.sections.map((section) => section.height), wanted).forEach((column, index) => {
      columns[column].append(this.sections[index].element);
    });
    this.columns.replaceChildren(...columns);
    if (active && this.root.contains(active)) active.focus();
  }

  watch() {
    const follow = () => followPage(this.parent, this.root);
    new ResizeObserver(() => {
      this.layout();
      follow();
    }).observe(this.root);
    this.layout();
    this.root.addEventListener("pointerenter", follow);
    follow();
    // A notebook takes letters, arrows and Enter for commands of its own unless they stay here.
    this.root.addEventListener("keydown", (event) => {
      const pressed = event.target.matches("button, summary, [type=checkbox]") ? [" ", "Enter"].includes(event.key) : event.key !== "Tab";
      if (pressed && !event.ctrlKey && !event.metaKey && event.key !== "Control") event.stopPropagation();
    });
  }
}

/* Which column each of these goes to, one after the other, so that the columns are as even as can be. */
function spread(heights, columns) {
  const square = (part) => part.reduce((sum, height) => sum + height, 0) ** 2;
  const best = (rest, left) => {
    if (left === 1) return [square(rest), [rest.length]];
    const cuts = rest.map((_, cut) => {
      const [cost, lengths] = best(rest.slice(cut), left - 1);
      return [cost + square(rest.slice(0, cut)), [cut, ...lengths]];
    });
    return cuts.reduce((one, other) => (other[0] < one[0] ? other : one));
  };
  return best(heights, columns)[1].flatMap((length, column) => Array(length).fill(column));
}

const same = (first, second) => JSON.stringify(first) === JSON.stringify(second);

/* What a browser keeps for the next time, where it may. */
class Kept {
  constructor(key) {
    this.key = key;
    this.values = {};
    try {
      this.values = JSON.parse(localStorage.getItem(key)) ?? {};
    } catch {
      this.values = {}; // a page without storage begins as declared
    }
  }

  read(name) {
    return this.values[name];
  }

  write(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(this.key, JSON.stringify(this.values));
    } catch {
      this.key = ""; // kept until the page closes
    }
  }
}
