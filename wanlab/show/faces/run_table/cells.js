/* The runs as columns, and how a value of a column is shown, compared and measured. */

class RunData {
  constructor(content) {
    this.ids = content.ids;
    this.places = new Map(this.ids.map((id, place) => [id, place]));
    this.columns = new Map();
    const id = { name: "id", group: "run", part: "made", unit: "", help: "", kind: "text", get: (row) => this.ids[row], same: false };
    for (const column of [...content.columns.map((one) => RunData.#unpacked(one)), id]) this.columns.set(column.name, column);
    this.changed = new Map(); // stars, tags and notes that were changed here: row, then name
  }

  static #unpacked(column) {
    const big = (value) => (typeof value === "string" && column.kind === "number" ? BigInt(value) : value);
    if ("codes" in column) {
      const { levels, codes } = column;
      return { ...column, same: false, get: (row) => levels[codes[row]] };
    }
    if ("values" in column) {
      const values = column.values.map(big);
      return { ...column, same: false, get: (row) => values[row] };
    }
    const value = big(column.same);
    return { ...column, same: true, get: () => value };
  }

  get names() {
    return [...this.columns.keys()].filter((name) => name !== "id");
  }

  value(row, name) {
    const changed = this.changed.get(row);
    if (changed && name in changed) return changed[name];
    return this.columns.get(name)?.get(row) ?? null;
  }

  note(row, name, value) {
    this.changed.set(row, { ...this.changed.get(row), [name]: value });
  }

  /* Whether these rows have different values in a column. */
  differs(rows, name) {
    if (this.columns.get(name)?.same && !this.changed.size) return false;
    const key = (row) => JSON.stringify(RunData.plain(this.value(row, name)));
    const first = rows.length ? key(rows[0]) : "";
    return rows.some((row) => key(row) !== first);
  }

  static plain(value) {
    return typeof value === "bigint" ? String(value) : value;
  }

  /* A value as text, with its unit if it was measured: settings have theirs in the column's head. */
  static text(value, column) {
    if (value === null || value === undefined || value === "") return "–";
    if (typeof value === "number") {
      const measured = column?.part === "measured";
      if (measured && column.unit === "s" && value > 0 && value < 1e-3) return "<0.001 s";
      const number = Number.isInteger(value) ? String(value) : short(value);
      return measured && column.unit ? `${number} ${column.unit}` : number;
    }
    if (column?.name === "created") return RunData.time(value);
    if (Array.isArray(value)) {
      const told = value.slice(0, 12).map((one) => RunData.#part(one));
      return (value.length > 12 ? [...told, `… ${value.length} in all`] : told).join(", ") || "–";
    }
    return String(value);
  }

  static #part(one) {
    if (Array.isArray(one) && one.length === 2 && typeof one[0] === "number" && one[1] && typeof one[1] === "object") {
      const changes = Object.entries(one[1]).map(([name, value]) => `${name} ${value}`); // of a fork
      return `from step ${one[0]}: ${changes.join(", ")}`;
    }
    return one !== null && typeof one === "object" ? JSON.stringify(one) : RunData.text(one);
  }

  static time(iso) {
    const date = new Date(iso);
    if (Number.isNaN(date.valueOf())) return iso;
    const two = (number) => String(number).padStart(2, "0");
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
  }

  /* The order of two values: numbers, then text; what is unknown is last in either direction. */
  static order(one, other, falling) {
    if (one === null || other === null) return (one === null) - (other === null);
    const numbers = [one, other].map((value) => ["number", "bigint", "boolean"].includes(typeof value));
    const [left, right] = numbers[0] && numbers[1] ? [one, other] : [one, other].map((value) => (typeof value === "string" ? value : RunData.text(value)));
    const rising = numbers[1] - numbers[0] || (left > right) - (left < right);
    return falling ? -rising : rising;
  }
}
