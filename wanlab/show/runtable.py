"""The table of runs: rows to filter, sort and choose, charts of their columns, and the clip of the run one points at.

In a page it shows what it was given; in a widget (`runtable_live.py`) stars, tags and notes are kept, runs are deleted,
compared and opened, and previews are asked for when they are wanted.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from wanlab.document import table_html
from wanlab.show.page import Face, Page, build_page
from wanlab.show.stills import plural

_PARTS = (
    *("filter", "cells", "rows", "preview", "side", "trash", "columns", "axes", "parallel", "scatter", "diff"),
    *("notes", "opened", "actions", "tools", "keys", "run_table"),
)
RUN_TABLE = Face(
    "RunTable",
    ("common/clock", *(f"run_table/{name}" for name in _PARTS)),
    ("run_table/run_table", "run_table/charts"),
)
_STILL_ROWS = 100  # of the table that remains where scripts are stripped
_STILL_PREVIEWS = 6
_LONGEST_LIST = 60
_EXACT = 2**53  # whole numbers above are no longer exact in a browser's numbers
_PREVIEW_QUALITY = 80
_MOST_PREVIEW_BYTES = 2**24


@dataclass(frozen=True)
class RunTableContent:
    """What a table shows: its columns, each a mapping with at least a name, and its rows by id; and how it begins.

    `sort` names columns, with "-" in front for the largest first. `previews` are encoded contact sheets of clips by id, 64
    pixels a frame high and 6 frames a row.
    """

    columns: Sequence[Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, Any]]
    shown: Sequence[str]
    where: str = ""
    sort: Sequence[str] = ()
    previews: Mapping[str, bytes] = field(default_factory=dict)
    trash: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """All of it for the browser, column by column, since most columns hold few different values."""
        rows = list(self.rows.values())
        packed = [{**column, **_packed([row.get(column["name"]) for row in rows])} for column in self.columns]
        return {
            "ids": list(self.rows),
            "columns": packed,
            "shown": list(self.shown),
            "where": self.where,
            "sort": list(self.sort),
            "previews": {id: base64.b64encode(sheet).decode() for id, sheet in self.previews.items()},
            "trash": dict(self.trash),
        }


def run_table_page(content: RunTableContent, pictures: Sequence[bytes] = (), *, title: str = "Runs", twin: str = "") -> Page:
    """A page of the table; `pictures` are previews for its still part, newest last."""
    text = f"Table of {plural(len(content.rows), 'run')}."
    units = {column["name"]: column.get("unit", "") for column in content.columns}
    newest = list(content.rows.items())[: -_STILL_ROWS - 1 : -1]
    columns = [f"{name} ({units[name]})" if units.get(name) else name for name in content.shown]
    still = [(id, [shown(row.get(name)) for name in content.shown]) for id, row in newest]
    left_out = len(content.rows) - len(still)
    more = f" (the newest {len(still)} of {len(content.rows)})" if left_out else ""
    return build_page(
        RUN_TABLE,
        content.told(),
        sheet=_sheet(pictures[-_STILL_PREVIEWS:], text),
        title=title,
        text=text,
        tables=table_html(still, columns, folded=f"The runs as a table{more}" if still else ""),
        twin=twin,
    )


def preview(sheet: bytes) -> bytes | None:
    """A contact sheet from a file, as a small picture for the browser; None if it is no picture."""
    if len(sheet) > _MOST_PREVIEW_BYTES:
        return None
    out = io.BytesIO()
    try:
        Image.open(io.BytesIO(sheet), formats=["PNG"]).convert("RGB").save(out, "WEBP", quality=_PREVIEW_QUALITY, method=2)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return out.getvalue()


def shown(value: Any) -> str:
    """A value as text for a cell: numbers to four digits, nothing for what is unknown."""
    if value is None:
        return "\u2013"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value[:_LONGEST_LIST])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _packed(values: Sequence[Any]) -> dict[str, Any]:
    """The values of a column in the shortest form: one for all, few with their numbers, or each; and of which kind they are."""
    plain = [_plain(value) for value in values]
    kind = _kind(value for value in plain if value is not None)
    if kind == "number":
        plain = [str(value) if isinstance(value, int) and abs(value) > _EXACT else value for value in plain]
    if all(type(value) is type(plain[0]) and value == plain[0] for value in plain):
        return {"kind": kind, "same": plain[0] if plain else None}
    if kind == "number":
        return {"kind": kind, "values": plain}
    keys = [json.dumps(value, ensure_ascii=False) for value in plain]
    levels = dict(zip(keys, plain, strict=True))
    if len(levels) >= len(plain) // 2:
        return {"kind": kind, "values": plain}
    places = {key: number for number, key in enumerate(levels)}
    return {"kind": kind, "levels": list(levels.values()), "codes": [places[key] for key in keys]}


def _kind(known: Iterable[Any]) -> str:
    kinds = {type(value) for value in known}
    if kinds and kinds <= {int, float}:
        return "number"
    return {frozenset([bool]): "flag", frozenset([str]): "text", frozenset([list]): "list"}.get(frozenset(kinds), "mixed")


def _plain(value: Any) -> Any:
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        return f"{len(value)} values"
    return value


def _sheet(pictures: Sequence[bytes], text: str) -> Image.Image:
    """The previews beneath each other, or the sentence where there are none."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    strips = [one.crop((0, 0, one.width, min(64, one.height))) for one in opened]  # the first row of frames
    if not strips:
        sheet = Image.new("RGB", (320, 40), "#ececec")
        ImageDraw.Draw(sheet).text((12, 13), text, fill="#222")
        return sheet
    sheet = Image.new("RGBA", (max(one.width for one in strips), sum(one.height + 4 for one in strips) - 4), (0, 0, 0, 0))
    top = 0
    for one in strips:
        sheet.paste(one, (0, top))
        top += one.height + 4
    return sheet
