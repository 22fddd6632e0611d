/* Filters of runs: the grammar, the meaning and the sentences of wanlab/filters.py, which tells them; tests ask both the same.
 * What a person types is taken apart here and never run. */

class FilterError extends Error {}

class RunFilter {
  static SEARCHED = ["id", "prompt", "status", "tags", "note", "error", "model.name"];
  static #TOKEN =
    /\s*(?:"(?<double>[^"]*)"|'(?<single>[^']*)'|`(?<column>[^`]*)`|(?<sign>==|!=|<=|>=|&&|\|\||[=<>&|!~()[\],])|(?<word>[^\s"'`=<>&|!~()[\],]+)|(?<wrong>\S))/gu;
  static #NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
  static #JOINED = new Map(Object.entries({ and: "and", "&": "and", "&&": "and", or: "or", "|": "or", "||": "or", not: "not", "!": "not", "~": "not" }));
  static #NAMED = new Map([["true", true], ["false", false], ["none", null]]);
  static #ORDERS = new Map([["<", (a, b) => a < b], ["<=", (a, b) => a <= b], [">", (a, b) => a > b], [">=", (a, b) => a >= b]]);
  static #DEEPEST = 100;

  #tokens;
  #columns;
  #at = 0;
  #depth = 0;

  /* A function of a run, itself a function from column to value, that says whether it is meant; FilterError if not understood. */
  static parse(text, columns) {
    return new RunFilter(text, columns).#filter();
  }

  constructor(text, columns) {
    this.#columns = [...columns];
    this.#tokens = [...text.trimEnd().matchAll(RunFilter.#TOKEN)].map(({ groups }) => {
      const [kind, said] = Object.entries(groups).find(([, found]) => found !== undefined);
      if (kind === "wrong") RunFilter.#refuse(`the quote ${said} is not closed`);
      return [kind === "double" || kind === "single" ? "text" : kind, said];
    });
  }

  static #refuse(why) {
    throw new FilterError(`The filter is not understood: ${why}${why.endsWith("?") ? "" : "."}`);
  }

  #filter() {
    const wanted = this.#tokens.length ? this.#either() : () => true;
    if (this.#at < this.#tokens.length) RunFilter.#refuse(`${this.#peek()[1]} has no meaning here`);
    return wanted;
  }

  #peek(ahead = 0) {
    return this.#tokens[this.#at + ahead] ?? ["end", ""];
  }

  #next() {
    this.#at += 1;
    return this.#peek(-1);
  }

  #is(kind, said, token = this.#peek()) {
    return token[0] === kind && token[1].toLowerCase() === said;
  }

  #joins(word) {
    const [kind, said] = this.#peek();
    return (kind === "word" || kind === "sign") && RunFilter.#JOINED.get(said.toLowerCase()) === word;
  }

  #either() {
    this.#depth += 1;
    if (this.#depth > RunFilter.#DEEPEST) RunFilter.#refuse("it is nested too deep");
    const parts = [this.#both()];
    while (this.#joins("or")) {
      this.#next();
      parts.push(this.#both());
    }
    this.#depth -= 1;
    return (row) => parts.some((part) => part(row));
  }

  #both() {
    const parts = [this.#one()];
    while (this.#peek()[0] !== "end" && !this.#is("sign", ")") && !this.#joins("or")) {
      if (this.#joins("and")) this.#next();
      parts.push(this.#one());
    }
    return (row) => parts.every((part) => part(row));
  }

  #one() {
    let negated = false;
    while (this.#joins("not")) {
      this.#next();
      negated = !negated;
    }
    const wanted = this.#positive();
    return negated ? (row) => !wanted(row) : wanted;
  }

  #positive() {
    const [kind, said] = this.#next();
    const word = kind === "word" ? said.toLowerCase() : "";
    if (kind === "end") RunFilter.#refuse("something is missing at its end");
    if (kind === "sign" && said === "(") {
      const wanted = this.#either();
      if (!this.#is("sign", ")", this.#next())) RunFilter.#refuse("a bracket is not closed");
      return wanted;
    }
    if (kind === "sign" || RunFilter.#JOINED.has(word)) RunFilter.#refuse(`${said} has no meaning here`);
    const [after, sign] = this.#peek();
    const compared = after === "sign" && (["==", "=", "!="].includes(sign) || RunFilter.#ORDERS.has(sign));
    const named = after === "word" && ["contains", "in"].includes(sign.toLowerCase()) && this.#peek(1)[0] !== "end";
    if (kind !== "text" && (compared || named)) return this.#comparison(said);
    if (kind === "column") RunFilter.#refuse(`the column ${said} is compared with nothing`);
    if (word === "starred") return (row) => row("star") === true;
    if (word.startsWith("tag:")) {
      const tag = said.slice(4) || RunFilter.#shown(this.#value());
      return (row) => RunFilter.#holds(row("tags"), tag);
    }
    return (row) => RunFilter.SEARCHED.some((name) => RunFilter.#found(row(name), said));
  }

  #comparison(named) {
    const name = named === "tag" ? "tags" : named;
    if (name !== "id" && !this.#columns.includes(name)) {
      const near = RunFilter.nearest(name, this.#columns);
      RunFilter.#refuse(`${name} is no column${near ? `; did you mean ${near}?` : ""}`);
    }
    const how = this.#next()[1].toLowerCase();
    if (how === "in" || (how === "contains" && this.#is("sign", "["))) {
      const values = this.#values();
      const test = how === "in" ? RunFilter.#equal : RunFilter.#holds;
      return (row) => values.some((value) => test(row(name), value));
    }
    const value = this.#value();
    if (how === "contains") return (row) => RunFilter.#holds(row(name), value);
    if (how === "==" || how === "=") return (row) => RunFilter.#equal(row(name), value);
    if (how === "!=") return (row) => !RunFilter.#equal(row(name), value);
    return (row) => RunFilter.#ordered(row(name), value, RunFilter.#ORDERS.get(how));
  }

  #values() {
    if (!this.#is("sign", "[")) return [this.#value()];
    const values = [];
    do {
      this.#next();
      values.push(this.#value());
    } while (this.#is("sign", ","));
    if (!this.#is("sign", "]", this.#next())) RunFilter.#refuse("a list is not closed with ]");
    return values;
  }

  #value() {
    const [kind, said] = this.#next();
    const word = kind === "word" ? said.toLowerCase() : "";
    if (!["word", "text"].includes(kind) || ["and", "or", "not"].includes(word)) RunFilter.#refuse("a comparison lacks its value");
    if (RunFilter.#NAMED.has(word)) return RunFilter.#NAMED.get(word);
    if (kind === "word" && RunFilter.#NUMBER.test(said)) {
      const whole = /^[+-]?\d{1,30}$/.test(said) && !Number.isSafeInteger(Number(said));
      return whole ? BigInt(said.replace("+", "")) : Number(said);
    }
    return said;
  }

  /* The column that was probably meant: one that ends so, or one that differs in two letters at most; else nothing. */
  static nearest(name, columns) {
    const ends = columns.find((column) => column.split(".").at(-1) === name);
    if (ends) return ends;
    let [best, least] = ["", 3];
    for (const column of [...name].length > 2 ? columns : []) {
      const distance = RunFilter.#distance([...name], [...column]);
      if (distance < least) [best, least] = [column, distance];
    }
    return best;
  }

  static #distance(one, other) {
    if (Math.abs(one.length - other.length) > 2) return 3;
    const row = [...Array(other.length + 1).keys()];
    one.forEach((letter, i) => {
      let left = row[0];
      row[0] = i + 1;
      other.forEach((second, j) => {
        [left, row[j + 1]] = [row[j + 1], Math.min(row[j + 1] + 1, row[j] + 1, left + (letter !== second))];
      });
    });
    return row.at(-1);
  }

  static #kind(value) {
    if (value === null || value === undefined) return "none";
    return Array.isArray(value) ? "list" : typeof value === "bigint" ? "number" : typeof value;
  }

  static #equal(value, wanted) {
    // loosely, so that whole numbers too large for a double compare exactly with doubles
    return RunFilter.#kind(value) === RunFilter.#kind(wanted) && (value ?? null) == wanted;
  }

  static #ordered(value, wanted, order) {
    const kind = RunFilter.#kind(value);
    return kind === RunFilter.#kind(wanted) && (kind === "number" || kind === "string") && order(value, wanted);
  }

  static #shown(value) {
    return String(value);
  }

  static #holds(value, wanted) {
    const text = RunFilter.#shown(wanted).toLowerCase();
    if (Array.isArray(value)) return value.some((part) => RunFilter.#shown(part).toLowerCase() === text);
    return RunFilter.#found(value, text);
  }

  static #found(value, text) {
    const wanted = text.toLowerCase();
    return (Array.isArray(value) ? value : [value]).some((part) => typeof part === "string" && part.toLowerCase().includes(wanted));
  }
}
