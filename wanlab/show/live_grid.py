"""The grid of a sweep that is still running: cells fill while the kernel computes.

Each cell is a trait of its own. So a changed cell travels alone, and a view that opens late, or again after a reload, finds
all cells as they are without a word from the kernel, which may be busy with the very runs that are shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets

from wanlab.document import Row, writable
from wanlab.show.grid import (
    GRID,
    Cell,
    cell_content,
    check_cells,
    check_place,
    grid_content,
    notes_of,
    page_of,
    places_of,
    sentence,
)
from wanlab.show.grid_stills import Coding, coding_for, preview_coding
from wanlab.show.live import LiveFace, module
from wanlab.show.page import Page
from wanlab.show.player import check_frame_rate

_UNFINISHED = ("waiting", "running")
_SECONDS_BETWEEN = 30  # at least, from one page for the saved notebook to the next while cells still change


class LiveGrid(LiveFace):
    """A grid whose cells can be replaced: `update(*cells)` shows them in every view.

    Takes what `grid_page` takes. Beneath the widget lies the page of the same grid, for when the kernel is gone; it is
    renewed when the last cell is finished, and now and then before.
    """

    _esm = module(GRID)

    def __init__(
        self,
        cells: Sequence[Cell],
        axes: Mapping[str, Sequence[str]],
        *,
        frame_rate: float = 16.0,
        title: str = "",
        rows: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        table: Sequence[Row] = (),
    ) -> None:
        self._axes = {name: list(values) for name, values in axes.items()}
        self._places = places_of(self._axes, rows, columns)
        check_frame_rate(frame_rate)
        cells = list(cells)
        check_cells(cells, self._axes)
        self._cells = {cell.key: cell for cell in cells}
        self._names = {key: f"cell{number}" for number, key in enumerate(self._cells)}
        self._coding: Coding | None = None
        self._title, self._notes, self._table = title, list(notes), list(table)
        self._renewed = time.monotonic()
        contents = dict(zip(self._names.values(), self._coded(cells), strict=True))
        self.add_traits(**{name: traitlets.Dict(content).tag(sync=True) for name, content in contents.items()})
        head = grid_content(self._axes, self._places, frame_rate)
        told = {"title": writable(title), "notes": [writable(note) for note in notes], "count": len(self._cells)}
        super().__init__(GRID, {**head, **told})

    def update(self, *cells: Cell) -> None:
        """Show these cells in the place of those with the same keys. ValueError if a key or a value is unknown."""
        for cell in cells:
            if cell.key not in self._names:
                raise ValueError(f"The key {cell.key!r} is of no cell of this grid; a grid keeps the cells it was made with.")
            check_place(cell, self._axes)
        for cell, content in zip(cells, self._coded(cells), strict=True):
            self._cells[cell.key] = cell
            setattr(self, self._names[cell.key], content)
        self._renew()

    def page(self) -> Page:
        """The grid as of now as a page that needs no kernel."""
        cells = list(self._cells.values())
        contents = [getattr(self, name) for name in self._names.values()]
        head = {name: value for name, value in self.content.items() if name not in ("css", "count", "title", "notes")}
        return page_of(
            cells,
            self._axes,
            self._places,
            {**head, "cells": contents},
            title=self._title,
            notes=[*self._notes, *notes_of(contents)],
            table=self._table,
            twin=self.key,
        )

    def to_html(self, path: str | Path) -> Path:
        """Write the grid as of now as one HTML file that needs neither the internet nor Python; the path is returned."""
        return self.page().to_html(path)

    def __repr__(self) -> str:
        return sentence(list(self._cells.values()), self._axes)

    def _coded(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """What the browser is told of each; the first finished clips decide how all travel."""
        finished = [cell.frames for cell in cells if cell.frames is not None and cell.state not in _UNFINISHED]
        if self._coding is None and finished:
            self._coding = coding_for(finished, len(self._cells))
        return [cell_content(cell, self._axes, self._coding_of(cell)) for cell in cells]

    def _coding_of(self, cell: Cell) -> Coding | None:
        if cell.frames is not None and cell.state in _UNFINISHED:
            return preview_coding(cell.frames)
        return self._coding

    def _renew(self) -> None:
        unfinished = any(cell.state in _UNFINISHED for cell in self._cells.values())
        if not unfinished or time.monotonic() > self._renewed + _SECONDS_BETWEEN:
            self.keep()
            self._renewed = time.monotonic()
