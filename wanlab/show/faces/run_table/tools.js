/* What stands around the rows of the table: the filter, buttons, sentences, and the places for what opens. */

const RUN_HELP =
  'A word or "some words" are found in the prompt, id, status, tags, note and error. Columns compare: cfg > 3, status == done, ' +
  "prompt contains circle, seed in [1, 2], feta.weight != none. Also tag:good, starred; join them with and, or, not, brackets. " +
  "Keys in the rows: ↑ ↓ Page Home End move, Space selects, S stars, T and N write tags and the note, Enter opens.";

/* The elements of a table by their names, each doing what a person asks for. `card` holds them all. */
function runTableParts(table) {
  const { live, content } = table;
  const part = runSentences();
  const press = (name, textContent, action, title = "") => {
    part[name] = make("button", { type: "button", className: "plain", textContent, title });
    part[name].addEventListener("click", action);
    return part[name];
  };
  const top = make("div", { className: "bar top" }, make("h3", { textContent: content.title }), part.count);
  if (live) top.append(press("refresh", "Refresh", () => table.ask("refresh"), "Read the log again: runs and notes of other kernels too"));
  const asked = press("helpButton", "?", () => unfold(part.help, part.helpButton), "What a filter may say");
  asked.ariaLabel = "Help for filters and keys";
  const tools = make("div", { className: "bar options tools" }, part.filter, asked, press("columnsButton", "Columns", () => table.showColumns()));
  const differing = make("input", { type: "checkbox" });
  differing.addEventListener("input", () => table.showDiffering(differing.checked));
  const charts = [press("parallelButton", "Parallel coordinates", () => table.chart("parallel")), press("scatterButton", "Scatter", () => table.chart("scatter"))];
  tools.append(make("label", { className: "group" }, differing, "Only differing settings"), make("span", { className: "group end" }, ...charts));
  part.actions.append(part.chosen, press("compare", "Compare", () => table.compare()), press("diff", "Diff", () => table.actions.showDiff()));
  if (live) part.actions.append(press("delete", "Delete", () => table.ask("delete", { ids: [...table.selected] })));
  part.actions.append(press("clear", "Clear selection", () => table.select([])));
  const split = make("div", { className: "split" }, table.rowsPart.element, table.side.element);
  const charted = [table.columnsPart, table.parallel, table.scatter].map(({ element }) => element);
  const beneath = [table.bin.element, part.diffed, part.opened];
  part.card = make("div", { className: "card" }, top, tools, part.problem, part.help, ...charted, part.actions, part.message, split, ...beneath);
  return part;
}

/* What is written and told, without a button in it. */
function runSentences() {
  const told = (className, role) => {
    const element = make("p", { className, hidden: true });
    element.setAttribute("role", role);
    return element;
  };
  const placeholder = "Filter: a word, or cfg > 3 and prompt contains circle";
  return {
    count: make("span", { className: "count" }),
    filter: make("input", { type: "search", ariaLabel: "Filter", placeholder, spellcheck: false, autocomplete: "off" }),
    problem: told("problem", "alert"),
    message: told("message", "status"),
    help: make("p", { className: "note", hidden: true, textContent: RUN_HELP }),
    actions: make("div", { className: "bar actions", hidden: true }),
    chosen: make("b"),
    opened: make("section", { className: "opened", ariaLabel: "Opened", hidden: true }),
    diffed: make("section", { className: "diffed", ariaLabel: "Difference of two runs", hidden: true }),
  };
}

/* Show or hide what a button opens; returns whether it is shown now. */
function unfold(element, by) {
  element.hidden = !element.hidden;
  by.ariaExpanded = String(!element.hidden);
  return !element.hidden;
}
