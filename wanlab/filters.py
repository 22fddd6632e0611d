"""Filters of runs: "cfg > 3 and prompt contains circle" as something that says of a run whether it is meant. No torch.

The table of runs filters in the browser too; `show/faces/run_table/filter.js` follows the same grammar and gives the same
sentences, and the tests ask both the same questions. Nothing that a person types is ever evaluated as code.

    filter     = [ either ]                       nothing means every run
    either     = both { ("or" | "|" | "||") both }
    both       = one { [ "and" | "&" | "&&" ] one }
    one        = ("not" | "!" | "~") one | "(" either ")" | comparison | "starred" | "tag:" text | text
    comparison = column ("==" | "=" | "!=" | "<" | "<=" | ">" | ">=") value
               | column ("contains" | "in") (value | "[" value { "," value } "]")
    value      = number | text | "true" | "false" | "none"
    text       = a word, or anything in "double" or 'single' quotes
    column     = its name with dots, in `backticks` if it holds other signs; also tag for tags, and id

A text by itself is found in the id, prompt, status, tags, note, error and name of the model, in capital letters or small.
`contains` looks into text in the same way and into lists for an entry; `in` wants a value of the list. Numbers compare with
numbers and text with text; what is unknown fits no comparison but `== none`, and so it fits every `!=` but `!= none`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from wanlab.errors import SettingsError

Row = Mapping[str, Any]
Filter = Callable[[Row], bool]

SEARCHED = ("id", "prompt", "status", "tags", "note", "error", "model.name")
_TOKEN = re.compile(
    r"""\s*(?: "(?P<double>[^"]*)" | '(?P<single>[^']*)' | `(?P<column>[^`]*)`
      | (?P<sign>==|!=|<=|>=|&&|\|\||[=<>&|!~()\[\],]) | (?P<word>[^\s"'`=<>&|!~()\[\],]+) | (?P<wrong>\S) )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_JOINED = {"and": "and", "&": "and", "&&": "and", "or": "or", "|": "or", "||": "or", "not": "not", "!": "not", "~": "not"}
_NAMED = {"true": True, "false": False, "none": None}
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_DEEPEST = 100

_Token = tuple[str, str]  # its kind (text, column, sign, word) and what it says


def parse(text: str, columns: Collection[str]) -> Filter:
    """What `text` asks of a run, whose values are given by column, also `id`; raises SettingsError for what is no filter.

    >>> wanted = parse("cfg > 3 and circle", ["cfg", "prompt"])
    >>> wanted({"cfg": 5.0, "prompt": "a red Circle"}), wanted({"cfg": None, "prompt": "a circle"})
    (True, False)
    """
    return _Parser(_tokens(text), {*columns, "id"}, columns).filter()


def _tokens(text: str) -> list[_Token]:
    tokens = []
    for found in _TOKEN.finditer(text.rstrip()):
        kind = str(found.lastgroup)
        if kind == "wrong":
            _refuse(f"the quote {found['wrong']} is not closed")
        tokens.append(({"double": "text", "single": "text"}.get(kind, kind), found[kind]))
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token], known: Collection[str], order: Collection[str]) -> None:
        self.tokens, self.known, self.order = tokens, known, [*order]
        self.at, self.depth = 0, 0

    def filter(self) -> Filter:
        wanted = self.either() if self.tokens else lambda row: True
        if self.at < len(self.tokens):
            _refuse(f"{self.peek()[1]} has no meaning here")
        return wanted

    def peek(self, ahead: int = 0) -> _Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ("end", "")

    def next(self) -> _Token:
        self.at += 1
        return self.peek(-1)

    def joins(self, word: str) -> bool:
        kind, said = self.peek()
        return kind in ("word", "sign") and _JOINED.get(said.lower()) == word

    def either(self) -> Filter:
        self.depth += 1
        if self.depth > _DEEPEST:
            _refuse("it is nested too deep")
        parts = [self.both()]
        while self.joins("or"):
            self.next()
            parts.append(self.both())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def both(self) -> Filter:
        parts = [self.one()]
        while self.peek() not in (("end", ""), ("sign", ")")) and not self.joins("or"):
            if self.joins("and"):
                self.next()
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def one(self) -> Filter:
        negated = False
        while self.joins("not"):
            self.next()
            negated = not negated
        wanted = self.positive()
        return (lambda row: not wanted(row)) if negated else wanted

    def positive(self) -> Filter:
        kind, said = self.next()
        if kind == "end":
            _refuse("something is missing at its end")
        if (kind, said) == ("sign", "("):
            wanted = self.either()
            if self.next() != ("sign", ")"):
                _refuse("a bracket is not closed")
            return wanted
        if kind == "sign" or self.is_word(kind, said, _JOINED):
            _refuse(f"{said} has no meaning here")
        after, sign = self.peek()
        if kind != "text" and (after == "sign" and sign in ("==", "=", "!=", *_ORDERS)):
            return self.comparison(said)
        if kind != "text" and self.is_word(after, sign, ("contains", "in")) and self.peek(1)[0] != "end":
            return self.comparison(said)
        if kind == "column":
            _refuse(f"the column {said} is compared with nothing")
        if kind == "word" and said.lower() == "starred":
            return lambda row: row.get("star") is True
        if kind == "word" and said.lower().startswith("tag:"):
            tag = said[4:] or str(self.value())
            return lambda row: _holds(row.get("tags"), tag)
        return lambda row: any(_found(row.get(name), said) for name in SEARCHED)

    def comparison(self, name: str) -> Filter:
        name = {"tag": "tags"}.get(name, name)
        if name not in self.known:
            near = nearest(name, self.order)
            _refuse(f"{name} is no column" + (f"; did you mean {near}?" if near else ""))
        how = self.next()[1].lower()
        if how == "in" or (how == "contains" and self.peek() == ("sign", "[")):
            values, test = self.values(), _equal if how == "in" else _holds
            return lambda row: any(test(row.get(name), value) for value in values)
        value = self.value()
        if how == "contains":
            return lambda row: _holds(row.get(name), value)
        if how in ("==", "="):
            return lambda row: _equal(row.get(name), value)
        if how == "!=":
            return lambda row: not _equal(row.get(name), value)
        return lambda row: _ordered(row.get(name), value, _ORDERS[how])

    def values(self) -> list[Any]:
        if self.peek() != ("sign", "["):
            return [self.value()]
        self.next()
        values = [self.value()]
        while self.peek() == ("sign", ","):
            self.next()
            values.append(self.value())
        if self.next() != ("sign", "]"):
            _refuse("a list is not closed with ]")
        return values

    def value(self) -> Any:
        kind, said = self.next()
        if kind in ("sign", "column", "end") or self.is_word(kind, said, ("and", "or", "not")):
            _refuse("a comparison lacks its value")
        if kind == "word" and said.lower() in _NAMED:
            return _NAMED[said.lower()]
        if kind == "word" and _NUMBER.fullmatch(said):
            return int(said) if re.fullmatch(r"[+-]?\d{1,30}", said) else float(said)
        return said

    @staticmethod
    def is_word(kind: str, said: str, words: Collection[str]) -> bool:
        return kind == "word" and said.lower() in words


def nearest(name: str, columns: Collection[str]) -> str:
    """The column that was probably meant: one that ends so, or one that differs in two letters at most; else nothing."""
    ends = [column for column in columns if column.split(".")[-1] == name]
    near = sorted((_distance(name, column), place, column) for place, column in enumerate(columns) if len(name) > 2)
    return ends[0] if ends else near[0][2] if near and near[0][0] <= 2 else ""


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, left out or replaced."""
    if abs(len(one) - len(other)) > 2:
        return 3
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        left, row[0] = row[0], i
        for j, with_ in enumerate(other, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (letter != with_))
    return row[-1]


def _refuse(why: str) -> NoReturn:
    raise SettingsError(f"The filter is not understood: {why}" + ("" if why.endswith("?") else "."))


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _equal(value: Any, wanted: Any) -> bool:
    return _kind(value) is _kind(wanted) and value == wanted


def _ordered(value: Any, wanted: Any, order: Callable[[Any, Any], Any]) -> bool:
    comparable = _kind(value) is _kind(wanted) and _kind(value) in (float, str)
    return comparable and bool(order(value, wanted))


def _shown(value: Any) -> str:
    """A value as text, as in JavaScript."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(value, list):
        return any(_equal(part, wanted) or _shown(part).lower() == _shown(wanted).lower() for part in value)
    return _found(value, _shown(wanted))


def _found(value: Any, text: str) -> bool:
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, str) and text.lower() in part.lower() for part in parts)
