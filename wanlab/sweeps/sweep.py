"""A sweep: its cells, its plan, its runs, and what came of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanlab.bench import Bench
from wanlab.errors import FileError, SettingsError, WanlabError
from wanlab.planning import divided
from wanlab.run import Run
from wanlab.run_facts import timeline_of
from wanlab.settings import Settings
from wanlab.show.page import Page, Paged
from wanlab.sweeps import results
from wanlab.sweeps.axes import Axis, label_at
from wanlab.sweeps.board import Board
from wanlab.sweeps.cells import Benches, Cell, Cells, key_of, make_cells, suited, varied_of
from wanlab.sweeps.grids import grid
from wanlab.sweeps.keeping import Kept, axes_from, cells_from, damaged, sweep_ids
from wanlab.sweeps.plan import SweepPlan, plan_cells
from wanlab.sweeps.running import run_cells
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas

Names = str | Sequence[str] | None
Base = Run | Settings | str | Mapping[str, Any] | None


class Sweep(Paged):
    """Many runs that differ in a few settings: `lab.sweep` makes one.

    `plan()` says what it will do, `run()` does it, or goes on with it; `frame()`, `means()` and `pivot()` read it, `grid()`
    shows it, and `open(cell)` gives one of its runs. What was run is found in the log, so the same sweep may be made again
    anywhere.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.id, self.cells, self.axes, self.notes = board.id, board.cells, board.axes, board.notes

    def __len__(self) -> int:
        """How many runs it is."""
        return len(self.cells)

    def plan(self, *, fresh: bool = False) -> SweepPlan:
        """What `run()` will do and take: runs, model loads and calls, what is shared, seconds, disk, and what does not fit."""
        board = self._looked()
        first = {reference.key for reference in board.references.values()}
        return plan_cells(board.all, set() if fresh else board.done(), first=first, fresh=fresh)

    def run(self, *, fresh: bool = False) -> Sweep:
        """Run the cells that are not done, and measure them. Interrupting keeps all that is finished; the same call goes on.

        A run that fails is a row with its reason, and the others go on; the next call tries it again. Cells that would not fit
        are left out. `fresh` computes everything again, also what is stored, as one does to compare seconds and memory. Raises
        KeyboardInterrupt when it is stopped.
        """
        run_cells(self._board, self.plan(fresh=fresh), fresh=fresh)
        return self

    def open(self, cell: int) -> Run:
        """The run of a cell, by its number in `frame()`; raises SettingsError if it has none."""
        if not 0 <= cell < len(self.cells):
            raise SettingsError(f"cell is {cell}; this sweep has cells 0 to {len(self.cells) - 1}.")
        run = self._looked().run(self.cells[cell])
        if run is None:
            raise SettingsError(f"Cell {cell} ({self.cells[cell].label}) has no run yet; sweep.run() makes it.")
        return run

    def frame(self) -> pandas.DataFrame:
        """A row a cell: the varied settings, then status, run, seconds, calls, metrics (`metrics.*`) and the problem, if any.

        Columns have the names of the log's. Of runs that shared steps `seconds` are of what they computed themselves.
        """
        return results.frame(self._looked())

    def means(self, over: str = "seed") -> pandas.DataFrame:
        """Means of all numbers over the values of one axis, with their spread (`.std`, of n - 1) and their count `n`."""
        return results.means(self._looked(), over)

    def pivot(self, rows: str, columns: str, values: str) -> pandas.DataFrame:
        """A table of one number over two of the settings; the mean over all others. `values` may leave `metrics.` out."""
        return results.pivot(self._looked(), rows, columns, values)

    def grid(self, rows: Names = None, columns: Names = None, *, live: bool | None = None) -> Any:
        """A table of clips: while the sweep is not finished a widget that fills up as it runs, else a page.

        `rows` and `columns` are axes; they can be chosen in the grid too. `live` says which of the two it shall be.
        """
        return grid(self._looked(), rows, columns, live)

    def __repr__(self) -> str:
        counts = Counter(self._looked().state(cell)[0] for cell in self.cells)
        axes = " x ".join(f"{axis.name} ({len(axis.points)})" for axis in self.axes)
        return f"Sweep({self.id}: {axes}, {len(self)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())})"

    def page(self) -> Page:
        """The grid as a page."""
        found: Page = self.grid(live=False)
        return found

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        if not self._looked().done():
            return {"text/plain": repr(self)}
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)}

    def _looked(self) -> Board:
        """The board, with what the log has by now."""
        self._board.made.look()
        return self._board


def begin_sweep(own: Bench, base: Base, axes: Sequence[Axis], reference: Run | Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of these axes around `base`: a run (with its forks), settings, a prompt, or changes of the usual settings.

    `reference` is what clips are measured against: a run, or changes of the base; without it the base itself with the seed and
    the prompt of the cell. Raises SettingsError with all that is wrong.
    """
    start = _start(base)
    cells = make_cells(own, start, axes)
    if isinstance(reference, Run):
        return Sweep(Board(cells, {}, reference))
    if reference is not None and not isinstance(reference, Mapping):
        raise SettingsError(f"reference is {reference!r:.60}; it must be a run, or changes of the base, as {{'cfg': 3}}.")
    return Sweep(Board(cells, _references(cells, start, reference or {})))


def open_sweep(own: Bench, id: str) -> Sweep:
    """A sweep that was written down; raises FileError if there is none with this id, SettingsError if it is damaged."""
    content = Kept(own.folder, id).read()
    problem: Exception
    try:
        axes, benches = axes_from(content), Benches(own)
        varied, found, aims = varied_of(axes), {}, {}
        for timeline, model, entry in cells_from(content, own.settings):
            key = key_of(timeline, benches.of(model).model_id, model.flat(), varied)
            places = tuple(tuple(int(k) for k in place) for place in entry["places"])
            found[entry["key"]] = Cell(key, timeline, model, label_at(axes, places[0]), places)
            aims[key] = entry["reference"]
        # What the cells were measured against is known again where it is one of them.
        references = {key: found[aim] for key, aim in aims.items() if aim in found}
        return Sweep(Board(Cells(axes, benches, tuple(found.values())), references, _outside(own, aims.values()), id))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        problem = error
    raise problem if isinstance(problem, WanlabError) else damaged(content, problem)


def _outside(own: Bench, aims: Iterable[str | None]) -> Run | None:
    """The run of the log that all cells were measured against, if it was one."""
    names = set(aims)
    id = names.pop() if len(names) == 1 else None
    if id is None or id not in own.log.ids():
        return None
    facts = own.log.read(id)
    return Run(own, id, timeline_of(facts), facts)


def _start(base: Base) -> Timeline | Mapping[str, Any]:
    if isinstance(base, Run):
        return timeline_of(base.facts)
    if isinstance(base, Settings):
        return Timeline(base)
    if isinstance(base, str):
        return {"prompt": base}
    if base is None or isinstance(base, Mapping):
        return dict(base or {})
    raise SettingsError(f"base is {base!r:.60}; it must be a run, settings, a prompt, or a mapping of settings.")


def _references(cells: Cells, start: Timeline | Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Cell]:
    """For each cell what it is measured against: the base with these changes, and the cell's own seed and prompt."""
    changed, placed = divided(changes)
    model = cells.benches.own.settings.but(placed)
    bench = cells.benches.of(model)
    line = start if isinstance(start, Timeline) else suited(bench, start)
    alike = [name for name in ("prompt", "seed") if any(name in axis.names for axis in cells.axes)]
    found, known = {}, dict[tuple[Any, ...], Cell]()
    for cell in cells.found:
        same = {name: getattr(cell.timeline.settings, name) for name in alike}
        values = tuple(same.values())
        if values not in known:
            reference = line.fork(0, bench.kept({**same, **changed}, line.settings))
            key = key_of(reference, bench.model_id, model.flat(), varied_of(cells.axes))
            known[values] = Cell(key, reference, model, {}, ())
        found[cell.key] = known[values]
    return found


def list_sweeps(lab: Path) -> pandas.DataFrame:
    """A row a sweep, indexed by id, the newest last: when it was begun, its axes, its cells, and the first prompt."""
    import pandas

    rows = {}
    for id in sweep_ids(lab):
        with contextlib.suppress(FileError, KeyError, TypeError, ValueError):  # a damaged one is not listed
            content = Kept(lab, id).read()
            names = " x ".join(f"{axis.name} ({len(axis.points)})" for axis in axes_from(content))
            told = {"created": content["created"], "axes": names, "cells": len(content["cells"])}
            rows[id] = told | {"prompt": content["settings"]["prompt"]}
    made = pandas.DataFrame.from_dict(rows, orient="index", columns=["created", "axes", "cells", "prompt"])
    return made.sort_values("created").rename_axis("id")
