"""The facts of runs as a table: which columns there are, in which order, and of which type.

A setting is a column under its own dotted name, every other fact under its path with dots. Columns are derived from the
declared settings and from what the runs say, so that a new setting or technique needs no line here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wanlab.settings import declared

if TYPE_CHECKING:
    import pandas

# A run with all techniques has less than a hundred. A damaged or malicious file must not make a table of a million columns.
MOST_FACTS = 500

# The log's own facts, the group whose name is left out, and what is drawn: memory over time, the seconds of blocks
_NO_COLUMNS = ("format", "id", "process", "settings", "memory", "block_seconds")
_AFTER_SETTINGS = (  # the order of columns that are no settings; with a dot at its end: all of that group
    *("seconds", "seconds.", "peak_rss_gib", "peak_vram_gib", "steps_reused"),
    *("forked_from", "forked_at", "changes", "forks", "model.", "device", "star", "tags", "note", "metrics."),
    *("clip", "error", "versions."),
)


def row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a run and their values; ValueError if there are too many. `facts` must say the status."""
    flat: dict[str, Any] = {}
    settings = facts.get("settings")
    _flatten({name: value for name, value in facts.items() if name not in _NO_COLUMNS}, "", flat)
    if isinstance(settings, dict):
        _flatten(settings, "", flat)
    if "seconds.total" in flat:
        flat["seconds"] = flat.pop("seconds.total")
    created = facts.get("created")
    flat |= {"status": facts["status"], "created": created if isinstance(created, str) else None}
    if len(flat) > MOST_FACTS:
        raise ValueError(f"it holds {len(flat)} facts; at most {MOST_FACTS} are read")
    return flat


def columns_of(rows: Mapping[str, Mapping[str, Any]], *more: str) -> list[str]:
    """The names of all columns of these rows in their order: what every table has, `more`, and what the runs say."""
    settings = declared()
    always = ["status", "created", *settings, "seconds", "error", *more]
    order = {name: number for number, name in enumerate(["status", "created", *settings, *_AFTER_SETTINGS])}
    found = dict.fromkeys(itertools.chain(always, *rows.values()))
    return sorted(found, key=lambda name: order.get(name, order.get(name.split(".")[0] + ".", len(order))))


def frame(rows: Mapping[str, Mapping[str, Any]]) -> pandas.DataFrame:
    """A row a run, indexed by id: what `RunLog.frame` describes, from rows that `row` made."""
    import pandas

    text = {"status", "error", *(name for name, setting in declared().items() if setting.kind is str)}
    names = columns_of(rows)
    columns = {name: _column([row.get(name) for row in rows.values()], name in text) for name in names if name != "created"}
    created = pandas.Series([row.get("created") for row in rows.values()], dtype=object)
    columns["created"] = pandas.to_datetime(created, utc=True, format="ISO8601", errors="coerce").dt.as_unit("us").array
    made = pandas.DataFrame({name: columns[name] for name in names})
    made.index = pandas.Index(list(rows), dtype="str", name="id")
    return made


def _flatten(facts: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in facts.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}.", flat)
        else:
            flat[prefix + name] = value


def _column(values: list[Any], text: bool) -> Any:
    """The values as the array that pandas computes with: exact, or else as Python's objects."""
    import numpy
    import pandas

    kinds = set(map(type, values))
    known = kinds - {type(None)}
    if known == {str} or (text and not known):
        return pandas.Series(["", *values]).array[1:]  # the type for text, which is another in pandas 2 than in 3
    if known == {bool} and known == kinds:
        return numpy.array(values, dtype=bool)
    if known == {int} and known == kinds:
        for dtype in (numpy.int64, numpy.uint64):  # a seed may need the second
            with contextlib.suppress(OverflowError):
                return numpy.array(values, dtype=dtype)
    elif known <= {int, float} and all(abs(value) <= 2**53 for value in values if type(value) is int):
        return numpy.array(values, dtype=float)
    return pandas.Series(values, dtype=object)  # of an array pandas 2 would guess another type
