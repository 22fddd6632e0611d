/* What a control is filled in with: one function for each kind, `(control, tell) => { line, inputs, show }`.
 *
 * `line` is the element to place, `inputs` what can be disabled, the first of them the one that the label is for. `show(value)`
 * puts a value in without telling. `tell(value, pace)` says what a person did: at once, while "sliding", or while "typing".
 */

const decimals = (number) => (/e-/.test(String(number)) ? 12 : (String(number).split(".")[1] ?? "").length);
/* The exact decimal that was meant: sums of steps such as 0.1 otherwise end in 0.30000000000000004. */
const exactly = (number, ...like) => Number(number.toFixed(Math.max(...like.map(decimals))));

/* Text as a number, where it is one that can be sent exactly; else the text itself, for Python to refuse or understand. */
function readNumber(text) {
  const trimmed = text.trim();
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(trimmed)) return trimmed;
  const number = Number(trimmed);
  return Number.isFinite(number) && (!Number.isInteger(number) || Number.isSafeInteger(number)) ? number : trimmed;
}

/* "7, 5, 3" as [7, 5, 3], and "7" as 7. */
function readNumbers(text) {
  const numbers = text.trim().replace(/^[[(]|[\])]$/g, "").split(/[,\s]+/).filter(Boolean).map(readNumber);
  if (!numbers.length || numbers.some((one) => typeof one === "string")) return text.trim();
  return numbers.length === 1 ? numbers[0] : numbers;
}

const written = (value) => (value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : String(value));

function numberField(control, tell) {
  const read = control.kind === "list" ? readNumbers : readNumber;
  const box = textInput({ inputMode: control.whole ? "numeric" : "decimal", title: control.range });
  if (control.optional) box.placeholder = "not given";
  const value = () => (control.optional && !box.value.trim() ? null : read(box.value));
  const range = control.usual && usualRange(control, (moved) => {
    box.value = moved;
    tell(moved, "sliding");
  });
  const told = (pace) => {
    range?.follow(value());
    tell(value(), pace);
  };
  box.addEventListener("input", () => told("typing"));
  box.addEventListener("change", () => told());
  box.addEventListener("keydown", (event) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const from = value() ?? control.usual?.[0] ?? control.low;
    if (!way || !control.step || typeof from !== "number") return;
    event.preventDefault();
    const next = exactly(from + way * control.step, from, control.step);
    box.value = Math.min(control.high, Math.max(control.low, next));
    told();
  });
  return {
    line: make("div", { className: `line ${control.kind}${range ? " slid" : ""}` }, ...(range ? [range.input] : []), box),
    inputs: [box, ...(range ? [range.input] : [])],
    show(shown) {
      box.value = written(shown);
      range?.follow(shown);
    },
  };
}

/* A slider over the usual range. It moves by whole steps, and only when a person moves it: what was typed stays as it is. */
function usualRange(control, moved) {
  const [low, high] = control.usual;
  const input = make("input", { type: "range", min: low, max: high, step: control.step, title: `${low} to ${high}` });
  input.ariaLabel = `${control.name} slider`;
  const paint = () => {
    input.style.setProperty("--done", `${(100 * (input.value - low)) / (high - low)}%`);
    input.ariaValueText = `${input.value} ${control.unit}`.trim();
  };
  input.addEventListener("input", () => {
    input.classList.remove("aside");
    paint();
    moved(exactly(Number(input.value), low, control.step));
  });
  const follow = (value) => {
    const single = typeof value === "number";
    input.classList.toggle("aside", !single); // a list, nothing, or text that is no number
    input.value = single ? value : low;
    paint();
  };
  return { input, follow };
}

function textInput(properties = {}) {
  return make("input", { type: "text", autocomplete: "off", spellcheck: false, ...properties });
}

function textField(control, tell) {
  const input = control.kind === "area" ? make("textarea", { rows: 2 }) : textInput();
  input.addEventListener("input", () => tell(input.value, "typing"));
  input.addEventListener("change", () => tell(input.value));
  const line = make("div", { className: `line ${control.kind}` }, input);
  if (control.kind === "file") input.placeholder = control.choices.length ? "a name or a path" : "a path where the kernel runs";
  else if (control.kind === "text" && control.default === "") input.placeholder = "not given";
  if (control.choices.length) line.append(suggestions(control, input));
  return { line, inputs: [input], show: (value) => (input.value = written(value)) };
}

function suggestions(control, input) {
  const list = make("datalist", { id: `choices-${control.name}` });
  list.append(...control.choices.map((value) => make("option", { value })));
  input.setAttribute("list", list.id);
  return list;
}

function choiceField(control, tell) {
  const input = make("select");
  input.append(...control.choices.map((value) => make("option", { value, textContent: value })));
  input.addEventListener("change", () => tell(input.value));
  return { line: make("div", { className: "line choice" }, input), inputs: [input], show: (value) => (input.value = value) };
}

function toggleField(control, tell) {
  const input = make("input", { type: "checkbox", className: "switch" });
  input.setAttribute("role", "switch");
  input.addEventListener("change", () => tell(input.checked));
  return { line: make("div", { className: "line toggle" }, input), inputs: [input], show: (value) => (input.checked = value === true) };
}

function seedField(control, tell) {
  const box = textInput({ inputMode: "numeric", title: control.range });
  const dice = make("button", { type: "button", className: "icon", title: "Another seed", innerHTML: DICE });
  dice.ariaLabel = "Another seed";
  box.addEventListener("input", () => tell(box.value.trim(), "typing"));
  box.addEventListener("change", () => tell(box.value.trim()));
  dice.addEventListener("click", () => {
    box.value = crypto.getRandomValues(new Uint32Array(1))[0];
    tell(box.value);
  });
  return {
    line: make("div", { className: "line seed" }, box, dice),
    inputs: [box, dice],
    show: (value) => (box.value = written(value)),
  };
}

/* LoRAs: a row of small controls for each, declared like all others. A row without a file is not one yet. */
function lorasField(control, tell) {
  const list = make("div", { className: "loras" });
  const add = make("button", { type: "button", className: "plain", textContent: "Add a LoRA" });
  const line = make("div", { className: "line loras" }, list, add);
  const field = { line, inputs: [add], show };
  let rows = [];
  const value = () => rows.filter((row) => row.values.file.trim()).map((row) => row.values);

  function show(loras) {
    rows = loras.map((lora) => loraRow(control.fields, lora, (pace) => tell(value(), pace), remove));
    draw();
  }
  function draw() {
    list.replaceChildren(...rows.map((row) => row.element));
    rows.forEach((row, index) => row.name(`${control.name}[${index}]`));
    field.inputs = [add, ...rows.flatMap((row) => row.inputs)];
  }
  function remove(row) {
    rows = rows.filter((other) => other !== row);
    draw();
    add.focus();
    tell(value());
  }
  add.addEventListener("click", () => {
    const lora = Object.fromEntries(control.fields.map((one) => [one.name, one.default]));
    rows.push(loraRow(control.fields, lora, (pace) => tell(value(), pace), remove));
    draw();
    rows.at(-1).inputs[0].focus();
  });
  return field;
}

function loraRow(fields, lora, told, remove) {
  const row = { values: { ...lora }, inputs: [], element: make("fieldset", { className: "lora" }) };
  const named = [];
  for (const control of fields) {
    const field = FIELDS[control.kind](control, (value, pace) => {
      row.values[control.name] = value;
      told(pace);
    });
    field.show(lora[control.name]);
    const label = make("label", { title: control.help }, make("span", { textContent: control.name }), field.line);
    label.className = `part ${control.kind}`;
    row.element.append(label);
    row.inputs.push(...field.inputs);
    named.push([field, control.name]);
  }
  const away = make("button", { type: "button", className: "plain", textContent: "Remove" });
  away.addEventListener("click", () => remove(row));
  row.element.append(away);
  row.inputs.push(away);
  row.name = (name) => {
    row.element.ariaLabel = name;
    away.ariaLabel = `Remove ${name}`;
    for (const [field, part] of named) {
      field.inputs[0].ariaLabel = `${name}.${part}`;
      if (field.inputs[1]) field.inputs[1].ariaLabel = `${name}.${part} slider`;
    }
  };
  return row;
}

const DICE = icon("M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2zm2.500 3A1.500 1.500 0 0 0 6 7.500 1.500 1.500 0 0 0 7.500 9 1.500 1.500 0 0 0 9 7.500 1.500 1.500 0 0 0 7.500 6zm9 0A1.500 1.500 0 0 0 15 7.500 1.500 1.500 0 0 0 16.500 9 1.500 1.500 0 0 0 18 7.500 1.500 1.500 0 0 0 16.500 6zM12 10.500a1.500 1.500 0 0 0-1.500 1.500 1.500 1.500 0 0 0 1.500 1.500 1.500 1.500 0 0 0 1.500-1.500 1.500 1.500 0 0 0-1.500-1.500zM7.500 15A1.500 1.500 0 0 0 6 16.500 1.500 1.500 0 0 0 7.500 18 1.500 1.500 0 0 0 9 16.500 1.500 1.500 0 0 0 7.500 15zm9 0a1.500 1.500 0 0 0-1.500 1.500 1.500 1.500 0 0 0 1.500 1.500 1.500 1.500 0 0 0 1.500-1.500 1.500 1.500 0 0 0-1.500-1.500z");

const FIELDS = {
  slider: numberField,
  number: numberField,
  list: numberField,
  choice: choiceField,
  toggle: toggleField,
  text: textField,
  area: textField,
  file: textField,
  seed: seedField,
  loras: lorasField,
};
