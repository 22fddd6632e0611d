"""What goes to a terminal: tables, comma-separated values, and text that cannot command it."""

from __future__ import annotations

import csv
import json
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

_WIDEST = 48  # of a cell in the table


def rows_of(frame: pandas.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    """The rows of these columns, of Python's own types."""
    return list(zip(*(frame[name].astype(object).tolist() for name in columns), strict=True))


def print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print columns as wide as their widest cell."""
    cells = [[_cell(value, name) for name, value in zip(columns, row, strict=True)] for row in rows]
    lines = [[_cut(cell) for cell in line] for line in [[*map(plain, columns)], *cells]]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_csv(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print comma-separated values that no spreadsheet takes for formulas."""
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(map(_harmless, columns))
    for row in rows:
        writer.writerow([value if _is_number(value) else _harmless(_cell(value, "")) for value in row])


def _cell(value: Any, column: str) -> str:
    """A value as one line of text; what is unknown is empty. Seconds and GiB are rounded, settings are not."""
    if isinstance(value, (list, dict)):
        return plain(json.dumps(value, ensure_ascii=False))
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if column.startswith(("seconds", "peak_")) else f"{value:.15g}"
    return plain(str(value))


def plain(text: str) -> str:
    """The text with everything that does not print, above all what would command a terminal, as an escape such as \\x1b."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def plain_lines(text: str) -> str:
    """The same for text of several lines, which stay apart."""
    return "\n".join(map(plain, text.split("\n")))


def _harmless(text: str) -> str:
    """The text such that no spreadsheet takes it for a formula, as one that begins with = + - @, also in full width."""
    text = plain(text)
    return f"'{text}" if unicodedata.normalize("NFKC", text[:1]) in ("=", "+", "-", "@") else text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _width(text: str) -> int:
    """Columns that the text takes in a terminal: Chinese letters take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)
