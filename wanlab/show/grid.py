"""A grid of clips: the runs of a sweep where their settings put them, all on one clock, to look through and to compare.

Every varied setting is an axis. In the page an axis is put on the rows, the columns, the pages (a slider chooses its value) or
is averaged (its cells lie in a stack, their numbers are told as mean and spread); that only moves what is already there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wanlab.document import Row, table_html, writable
from wanlab.show.grid_sheet import STATES, grid_sheet
from wanlab.show.grid_stills import Coding, coding_for
from wanlab.show.page import Face, Page, build_page
from wanlab.show.player import PLAYER, check_frame_rate
from wanlab.show.stills import Frames, check_frames, plural

_SCRIPTS = ("places", "cell", "table", "chosen", "controls", "sheet", "input", "grid")
GRID = Face("Grid", (*PLAYER.scripts, *(f"grid/{name}" for name in _SCRIPTS)), ("common/controls", "grid/grid"))
_SHRUNK = "To keep this page small its clips are {}x{}, not {}x{}: differences are those of the smaller pictures."
_MOST_ROWS = 200  # of the table beneath the still picture
_AVERAGED = ("seed",)  # an axis of chance: looked at as mean and spread unless asked for otherwise
_LATER = ("seed", "prompt")  # put on rows or columns when there is nothing else


@dataclass(frozen=True, eq=False)
class Cell:
    """One run in a grid: where it stands, what became of it, and its clip if there is one.

    `at` has the shown value of every axis. `frames` are (t, h, w, 3) uint8; of a running cell they are a preview. `caption` is
    a short line beneath the clip, `problem` why it failed or does not fit. `numbers` can be shown and coloured by; NaN is
    unknown. `facts` are listed when the cell is opened.
    """

    key: str
    at: Mapping[str, str]
    frames: Frames | None = None
    state: str = "done"
    caption: str = ""
    problem: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be shown here, where the mistake was made."""
        if self.state not in STATES:
            raise ValueError(f"The state of the cell {self.key!r} is {self.state!r}; it must be one of {', '.join(STATES)}.")
        if self.frames is not None:
            check_frames(self.frames, f"The clip of the cell {self.key!r}")


@dataclass(frozen=True)
class Places:
    """Which axes stand where, from the outside in."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    pages: tuple[str, ...]
    averaged: tuple[str, ...]


def grid_page(
    cells: Sequence[Cell],
    axes: Mapping[str, Sequence[str]],
    *,
    frame_rate: float = 16.0,
    title: str = "",
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    table: Sequence[Row] = (),
) -> Page:
    """A page that shows the cells in a grid whose axes are the varied settings: name to shown values, in order.

    `rows` and `columns` name axes to begin with, from the outside in; left out, the two axes with most values stand there,
    seeds and prompts after the others. `table` holds rows (name, values) shown beneath. Clips are made smaller where all
    together would be too many bytes for a page, which a note then says. ValueError if there are no cells, a key is given
    twice, an axis is unknown, or a cell has no value or an unknown one on an axis.
    """
    cells, places = list(cells), places_of(axes, rows, columns)
    check_frame_rate(frame_rate)
    check_cells(cells, axes)
    clips = [cell.frames for cell in cells if cell.frames is not None]
    coding = coding_for(clips, len(clips)) if clips else None
    coded = [cell_content(cell, axes, coding) for cell in cells]
    content = {**grid_content(axes, places, frame_rate), "cells": coded}
    return page_of(cells, axes, places, content, title=title, notes=[*notes, *notes_of(coded)], table=table)


def page_of(
    cells: Sequence[Cell],
    axes: Mapping[str, Sequence[str]],
    places: Places,
    content: Mapping[str, Any],
    *,
    title: str,
    notes: Sequence[str],
    table: Sequence[Row],
    twin: str = "",
) -> Page:
    """The page around content that is made already; `twin` is the key of the widget that shows the same."""
    sheet, left_out = grid_sheet(cells, axes, places.rows, places.columns)
    return build_page(
        GRID,
        content,
        sheet=sheet,
        title=title,
        text=sentence(cells, axes) + left_out,
        notes=notes,
        tables=table_html(table) + _cells_table(cells, axes),
        twin=twin,
    )


def places_of(axes: Mapping[str, Sequence[str]], rows: Sequence[str] | None, columns: Sequence[str] | None) -> Places:
    """Where each axis with more than one value stands at first. ValueError if a name is unknown or given twice."""
    given = [*(rows or ()), *(columns or ())]
    for name in given:
        if isinstance(rows, str) or isinstance(columns, str) or name not in axes:
            raise ValueError(f"rows and columns must be lists of axes, of {', '.join(axes) or 'none'}; they name {name!r}.")
        if given.count(name) > 1:
            raise ValueError(f"The axis {name!r} is named twice in rows and columns; it can stand in one place only.")
    free = [name for name, values in axes.items() if len(values) > 1 and name not in given]
    free.sort(key=lambda name: (_LATER.index(name) + 1 if name in _LATER else 0, -len(axes[name])))
    if columns is None:
        columns, free = free[:1], free[1:]
    if rows is None:
        rows, free = free[:1], free[1:]
    averaged = [name for name in free if name in _AVERAGED]
    return Places(tuple(rows), tuple(columns), tuple(name for name in free if name not in averaged), tuple(averaged))


def check_cells(cells: Sequence[Cell], axes: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless every cell has a key of its own and stands on every axis."""
    if not cells:
        raise ValueError("cells is empty; a grid needs at least one.")
    for name, values in axes.items():
        if isinstance(values, str) or not values or len(set(values)) < len(values):
            raise ValueError(f"The axis {name!r} is {values!r}; it must be a list of different values, at least one.")
    for key, count in Counter(cell.key for cell in cells).items():
        if count > 1:
            raise ValueError(f"The key {key!r} is given to {count} cells; each needs its own.")
    for cell in cells:
        check_place(cell, axes)


def check_place(cell: Cell, axes: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless the cell has a known value on every axis, and no other."""
    for name, values in axes.items():
        if cell.at.get(name) not in values:
            value = f"is {cell.at[name]!r} on" if name in cell.at else "has no value on"
            raise ValueError(f"The cell {cell.key!r} {value} the axis {name!r}; it must be one of {', '.join(values)}.")
    for name in cell.at:
        if name not in axes:
            raise ValueError(f"The cell {cell.key!r} stands on an axis {name!r}, which is not one of {', '.join(axes)}.")


def grid_content(axes: Mapping[str, Sequence[str]], places: Places, frame_rate: float) -> dict[str, Any]:
    """What the face is told of the grid as a whole. Axes go by their numbers: a name may be anything."""
    numbers = {name: number for number, name in enumerate(axes)}
    return {
        "rate": float(frame_rate),
        "axes": [{"name": writable(name), "values": [writable(value) for value in values]} for name, values in axes.items()],
        **{where: [numbers[name] for name in getattr(places, where)] for where in ("rows", "columns", "pages", "averaged")},
        "playerCss": PLAYER.css,
    }


def cell_content(cell: Cell, axes: Mapping[str, Sequence[str]], coding: Coding | None) -> dict[str, Any]:
    """What the face is told of one cell; its clip is encoded by `coding`."""
    content = {
        "key": writable(cell.key),
        "at": [list(values).index(cell.at[name]) for name, values in axes.items()],
        "state": cell.state,
        "caption": writable(cell.caption),
        "problem": writable(cell.problem),
        "numbers": [[writable(name), float(value) if math.isfinite(value) else None] for name, value in cell.numbers.items()],
        "facts": [[writable(name), writable(value)] for name, value in cell.facts.items()],
    }
    if cell.frames is None or coding is None:
        return content
    stills, (height, width) = coding.encode(cell.frames)
    small = cell.state != "running" and width < cell.frames.shape[2]
    note = _SHRUNK.format(width, height, cell.frames.shape[2], cell.frames.shape[1]) if small else ""
    return {**content, "kind": coding.kind, "height": height, "width": width, "note": note, **stills.packed()}


def notes_of(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said of the cells' clips, once each."""
    return list(dict.fromkeys(content["note"] for content in contents if content.get("note")))


def sentence(cells: Sequence[Cell], axes: Mapping[str, Sequence[str]]) -> str:
    """One line about the grid: its axes, and how many cells are in which state."""
    varied = " by ".join(f"{name} ({len(values)})" for name, values in axes.items() if len(values) > 1)
    states = Counter(cell.state for cell in cells)
    counts = ", ".join(f"{states[state]} {words}" for state, words in STATES.items() if states[state])
    return f"Grid of {plural(len(cells), 'run')}{f', {varied}' if varied else ''}: {counts}."


def _cells_table(cells: Sequence[Cell], axes: Mapping[str, Sequence[str]]) -> str:
    numbers = list(dict.fromkeys(name for cell in cells for name in cell.numbers))
    columns = [*axes, "state", *numbers, ""]
    rows = [
        (
            str(place + 1),
            [
                *(cell.at[name] for name in axes),
                STATES[cell.state],
                *(_shown(cell.numbers.get(name, math.nan)) for name in numbers),
                " ".join(filter(None, [cell.problem, cell.caption])),
            ],
        )
        for place, cell in enumerate(cells[:_MOST_ROWS])
    ]
    more = f", the first {_MOST_ROWS}" if len(cells) > _MOST_ROWS else ""
    return table_html(rows, columns, folded=f"All {plural(len(cells), 'run')}{more}")


def _shown(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""
