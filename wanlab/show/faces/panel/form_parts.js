/* The parts of a form: its bar, its sections, and the row of a control. */

/* Search, view, presets and what else holds for the whole form. */
class FormBar {
  constructor(form, presets) {
    this.form = form;
    this.presets = presets;
    this.applied = {};
    this.onlyChanged = false;
    this.search = make("input", { type: "search", placeholder: "Search settings", autocomplete: "off", spellcheck: false });
    this.search.ariaLabel = "Search settings";
    this.views = ["simple", "expert"].map((view) => {
      const button = make("button", { type: "button", textContent: view === "simple" ? "Simple" : "Expert" });
      button.addEventListener("click", () => form.view(view));
      return button;
    });
    this.changed = make("button", { type: "button", className: "plain" });
    this.reset = make("button", { type: "button", className: "plain", textContent: "Reset all" });
    this.preset = make("select", { title: "Preset" });
    this.preset.ariaLabel = "Preset";
    this.about = make("p", { className: "about", hidden: true });
    this.status = make("span", { className: "status" });
    this.status.setAttribute("role", "status");
    const views = make("span", { className: "views" }, ...this.views);
    views.setAttribute("role", "group");
    views.ariaLabel = "View";
    const line = make("div", { className: "tools" }, this.search, views, this.preset, this.changed, this.reset, this.status);
    this.element = make("div", { className: "bar" }, line, this.about);
    this.fill();
    this.listen();
  }

  get words() {
    return this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  }

  fill() {
    const first = make("option", { value: "", textContent: "Preset …" });
    const groups = new Map(this.presets.map((preset) => [preset.group, []]));
    for (const preset of this.presets) groups.get(preset.group).push(preset);
    this.preset.append(first);
    for (const [label, presets] of groups) {
      const options = presets.map((preset) => make("option", { value: preset.name, textContent: preset.title, title: preset.help }));
      this.preset.append(make("optgroup", { label }, ...options));
    }
  }

  listen() {
    this.search.addEventListener("input", () => this.form.refresh());
    this.changed.addEventListener("click", () => {
      this.onlyChanged = !this.onlyChanged;
      this.form.refresh();
    });
    this.reset.addEventListener("click", () => {
      this.choose("");
      this.form.reset([...this.form.rows.keys()]);
    });
    this.preset.addEventListener("change", () => this.choose(this.preset.value));
  }

  /* Take a preset: what the one before it set, and nobody changed since, goes back. */
  choose(name) {
    const preset = this.presets.find((one) => one.name === name);
    const { rows, values } = this.form;
    const back = Object.entries(this.applied).filter(([setting, value]) => same(values[setting], value));
    const changes = Object.fromEntries(back.map(([setting]) => [setting, rows.get(setting).control.default]));
    this.applied = preset?.changes ?? {};
    this.preset.value = name;
    this.about.textContent = preset?.help ?? "";
    this.about.hidden = !preset;
    this.form.apply({ ...changes, ...this.applied });
  }

  refresh(found, changed) {
    const { shown, locked } = this.form;
    this.views.forEach((button, index) => (button.ariaPressed = String(shown === ["simple", "expert"][index])));
    this.changed.textContent = `${changed} changed`;
    this.changed.title = this.onlyChanged ? "Show the others too" : "Show only settings that are not as they were";
    this.changed.ariaPressed = String(this.onlyChanged);
    this.changed.hidden = !changed && !this.onlyChanged;
    this.reset.hidden = !changed;
    this.reset.disabled = this.preset.disabled = locked;
    this.status.textContent = this.words.length ? `${counted(found, "setting")} found` : "";
  }
}

const HEIGHTS = { area: 1.3, toggle: 0.6 };

/* A section: a heading that folds, and its rows. */
class FormSection {
  constructor(form, section) {
    this.form = form;
    this.name = section.name;
    this.filtering = false;
    this.state = make("span", { className: "state" });
    const summary = make("summary", {}, make("span", { className: "title", textContent: section.title }), this.state);
    const link = notebookLink(section.notebook, `Notebook ${section.notebook.slice(0, 2)}`);
    const about = make("p", { className: "about" }, `${section.help} `, link);
    this.element = make("details", { className: "section" }, summary, about);
    this.element.dataset.section = section.name;
    this.rows = [];
    this.parts = [];
    let part = "";
    for (const control of section.controls) {
      if (control.part !== part) {
        part = control.part;
        this.parts.push([make("h4", { textContent: part }), part]);
        this.element.append(this.parts.at(-1)[0]);
      }
      const row = new FormRow(form, this, control, section.title);
      this.rows.push(row);
      this.element.append(row.element);
    }
    summary.addEventListener("click", () => {
      if (!this.filtering) form.kept.write(this.key, !this.element.open);
    });
  }

  get key() {
    return `${this.form.shown} ${this.name}`;
  }

  /* Open or folded as somebody left it. */
  fold() {
    this.element.open = this.form.kept.read(this.key) ?? (this.form.shown === "simple" || OPEN.includes(this.name));
  }

  /* About how high it is, in rows. */
  get height() {
    const there = this.rows.filter((row) => !row.element.hidden);
    if (!there.length || !this.element.open) return there.length && 2;
    const parts = this.parts.filter(([heading]) => !heading.hidden).length;
    return there.reduce((sum, row) => sum + (HEIGHTS[row.control.kind] ?? 1), 1.5 + 0.7 * parts);
  }

  refresh(filtering) {
    if (filtering) this.element.open = true;
    else if (this.filtering && !this.rows.some((row) => this.form.wrong[row.control.name])) this.fold();
    this.filtering = filtering;
    this.element.hidden = this.rows.every((row) => row.element.hidden);
    for (const [heading, part] of this.parts) {
      heading.hidden = this.rows.every((row) => row.element.hidden || row.control.part !== part);
    }
    const on = this.rows.filter((row) => row.control.group && this.form.values[row.control.name] === true);
    const changed = this.rows.filter((row) => row.changed).length;
    this.state.replaceChildren(
      ...on.map((row) => make("span", { className: "on", textContent: on.length > 1 || row.control.name !== this.name ? row.control.name : "on" })),
      changed ? `${changed} changed` : "",
    );
  }
}

/* A control with its label, its range, its help, the way back to its default, and what is wrong with it. */
class FormRow {
  constructor(form, section, control, title) {
    Object.assign(this, { form, section, control });
    const { name } = control;
    const id = `wanlab-${name.replaceAll(".", "-")}`;
    this.text = [name, control.label, control.help, control.part, title, ...control.choices].join(" ").toLowerCase();
    this.field = FIELDS[control.kind](control, (value, pace) => form.tell(name, value, pace));
    if (control.kind === "loras") {
      this.field.line.setAttribute("role", "group");
      this.field.line.ariaLabel = name;
    } else this.field.inputs[0].id = id;
    this.problem = make("p", { className: "problem", id: `${id}-problem`, hidden: true });
    this.help = make("div", { className: "help", id: `${id}-help`, hidden: true });
    this.reset = make("button", { type: "button", className: "icon reset", title: "Back to the default", innerHTML: BACK });
    this.reset.ariaLabel = `Reset ${name}`;
    this.reset.addEventListener("click", () => {
      form.reset([name]);
      this.field.inputs[0].focus();
    });
    this.element = make("div", { className: `row ${control.kind}` }, this.head(id), this.field.line, this.help, this.problem);
    this.element.classList.toggle("group", control.group);
    this.element.classList.toggle("member", Boolean(control.switch));
    this.element.dataset.name = name;
    form.rows.set(name, this);
  }

  head(id) {
    const { control } = this;
    const [group, last] = [control.name.slice(0, control.name.lastIndexOf(".") + 1), control.name.split(".").at(-1)];
    const prefix = make("span", { className: "prefix", textContent: group });
    const label = make("label", { htmlFor: id, title: control.help }, prefix, last);
    const [word, meaning] = AFFECTS[control.affects];
    const range = make("span", { className: "range", textContent: control.range, title: control.range });
    const badge = make("span", { className: `badge ${control.affects}`, textContent: word, title: meaning });
    const ask = make("button", { type: "button", className: "icon ask", textContent: "?", title: control.help });
    ask.ariaLabel = `Help on ${control.name}`;
    ask.ariaExpanded = "false";
    ask.setAttribute("aria-controls", this.help.id);
    ask.addEventListener("click", () => {
      if (!this.help.childElementCount) this.explain();
      this.help.hidden = !this.help.hidden;
      ask.ariaExpanded = String(!this.help.hidden);
    });
    return make("div", { className: "head" }, label, range, this.reset, badge, ask);
  }

  /* The help, made when it is first asked for. */
  explain() {
    const { control } = this;
    const fallback = control.default === null || control.default === "" ? "not given" : written(control.default);
    const facts = [
      control.kind === "file" ? "A path on the machine where the kernel runs; a browser cannot look there." : "",
      control.kind === "list" ? "A number, or a list with a value for each step: 7, 5, 3." : "",
      control.usual ? `The slider goes from ${control.usual[0]} to ${control.usual[1]}; the box takes ${control.range}.` : "",
      `Default: ${control.kind === "loras" ? "none" : control.kind === "toggle" ? (control.default ? "on" : "off") : fallback}.`,
      AFFECTS[control.affects][1],
      control.scope === "step" ? "May change in the middle of a run." : "",
    ];
    const link = notebookLink(control.notebook, control.notebook);
    const name = make("code", { textContent: control.name });
    this.help.append(
      make("p", { textContent: control.help }),
      make("p", { className: "facts" }, name, ` · ${facts.filter(Boolean).join(" ")} Notebook: `, link),
    );
  }
}

/* A link to a notebook, seen from the one that shows this form: it lies beside that, or in the folder `notebooks`. */
function notebookLink(file, textContent) {
  const folder = decodeURIComponent(location.pathname).split("/").at(-2);
  const href = folder === "notebooks" ? file : `notebooks/${file}`;
  return make("a", { href, textContent, title: file, target: "_blank", rel: "noopener" });
}

const BACK = icon("M12 5V2L7 6.500 12 11V8a5 5 0 1 1-5 5H4a8 8 0 1 0 8-8z");
