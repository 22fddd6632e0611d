"""A sweep: its cells, its plan, its runs, and what came of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanlab.bench import Bench
from wanlab.errors import FileError, SettingsError, WanlabError
from wanlab.names import digest
from wanlab.planning import divided
from wanlab.run import Run
from wanlab.run_facts import timeline_of
from wanlab.settings import Settings
from wanlab.show.page import Page, Paged
from wanlab.sweeps import results
from wanlab.sweeps.axes import Axis, label_at
from wanlab.sweeps.cells import Benches, Cell, Cells, key_of, make_cells, suited, varied_of
from wanlab.sweeps.keeping import Kept, axes_from, cells_from, damaged, sweep_ids
from wanlab.sweeps.made import Made
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

    def __init__(self, cells: Cells, references: Mapping[str, Cell], reference: Run | None = None, id: str = "") -> None:
        self.cells, self.axes = cells.found, cells.axes
        self.notes = (*cells.notes, *_unmeasured(cells, references))
        self.id = (
            id
            or digest(
                [cell.key for cell in self.cells],
                [(axis.names, axis.labels) for axis in self.axes],
                _told(self.cells, references, reference),
            )[:12]
        )
        own = cells.benches.own
        self._all, self._references, self._reference = cells, references, reference
        self._kept = Kept(own.folder, self.id)
        self._made = Made(own.log, [*self.cells, *references.values()], varied_of(self.axes))
        self._troubles: dict[str, tuple[str, str]] = {}  # of cells that have no run: their state, and why
        self._grids: list[Any] = []

    def __len__(self) -> int:
        """How many runs it is."""
        return len(self.cells)

    def plan(self, *, fresh: bool = False) -> SweepPlan:
        """What `run()` will do and take: runs, model loads and calls, what is shared, seconds, disk, and what does not fit."""
        self._made.look()
        first = {reference.key for reference in self._references.values()}
        return plan_cells(self._all, set() if fresh else self._done(), first=first, fresh=fresh)

    def run(self, *, fresh: bool = False) -> Sweep:
        """Run the cells that are not done, and measure them. Interrupting keeps all that is finished; the same call goes on.

        A run that fails is a row with its reason, and the others go on; the next call tries it again. Cells that would not fit
        are left out. `fresh` computes everything again, also what is stored, as one does to compare seconds and memory. Raises
        KeyboardInterrupt when it is stopped.
        """
        run_cells(self, self.plan(fresh=fresh), fresh=fresh)
        return self

    def open(self, cell: int) -> Run:
        """The run of a cell, by its number in `frame()`; raises SettingsError if it has none."""
        if not 0 <= cell < len(self.cells):
            raise SettingsError(f"cell is {cell}; this sweep has cells 0 to {len(self.cells) - 1}.")
        self._made.look()
        run = self._run(self.cells[cell])
        if run is None:
            raise SettingsError(f"Cell {cell} ({self.cells[cell].label}) has no run yet; sweep.run() makes it.")
        return run

    def frame(self) -> pandas.DataFrame:
        """A row a cell: the varied settings, then status, run, seconds, calls, metrics (`metrics.*`) and the problem, if any.

        Columns have the names of the log's. Of runs that shared steps `seconds` are of what they computed themselves.
        """
        self._made.look()
        return results.frame(self)

    def means(self, over: str = "seed") -> pandas.DataFrame:
        """Means of all numbers over the values of one axis, with their spread (`.std`, of n - 1) and their count `n`."""
        return results.means(self, over)

    def pivot(self, rows: str, columns: str, values: str) -> pandas.DataFrame:
        """A table of one number over two of the settings; the mean over all others. `values` may leave `metrics.` out."""
        return results.pivot(self, rows, columns, values)

    def grid(self, rows: Names = None, columns: Names = None, *, live: bool | None = None) -> Any:
        """A table of clips: while the sweep is not finished a widget that fills up as it runs, else a page.

        `rows` and `columns` are axes; they can be chosen in the grid too. `live` says which of the two it shall be.
        """
        from wanlab.sweeps.grids import grid

        self._made.look()
        return grid(self, rows, columns, live)

    def state(self, cell: Cell) -> tuple[str, str, Mapping[str, Any] | None]:
        """What became of a cell: done, running, stopped, failed, unfit or waiting; why, if it failed; and its run's facts."""
        facts = self._made.best(cell.key)
        status = "" if facts is None else str(facts["status"])
        if status in ("done", "running"):
            return status, "", facts
        if cell.key in self._troubles:
            state, problem = self._troubles[cell.key]
            return state, problem, facts
        states = {"crashed": "stopped", "": "waiting"}
        return states.get(status, status), "" if facts is None else str(facts.get("error") or ""), facts

    def reference_of(self, cell: Cell) -> Run | Cell | None:
        """What a cell is measured against: a run, or what is asked of a run that may or may not be there yet."""
        return self._reference or self._references.get(cell.key)

    def __repr__(self) -> str:
        self._made.look()
        counts: dict[str, int] = {}
        for cell in self.cells:
            state = self.state(cell)[0]
            counts[state] = counts.get(state, 0) + 1
        axes = " x ".join(f"{axis.name} ({len(axis.points)})" for axis in self.axes)
        return f"Sweep({self.id}: {axes}, {len(self)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())})"

    def page(self) -> Page:
        """The grid as a page."""
        found: Page = self.grid(live=False)
        return found

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        self._made.look()
        if not self._done():
            return {"text/plain": repr(self)}
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)}

    def _done(self) -> set[str]:
        """The keys of the cells that have a finished run."""
        return {cell.key for cell in self.cells if (facts := self._made.best(cell.key)) and facts["status"] == "done"}

    def _run(self, cell: Cell) -> Run | None:
        """The run of a cell, as the log was when it was last looked at."""
        facts = self._made.best(cell.key)
        return None if facts is None else Run(self._all.bench(cell), str(facts["id"]), cell.timeline, facts)

    def _frames(self, cell: Cell) -> np.ndarray | None:
        """The small frames of a cell that is done; decoded, and kept, if they are not there."""
        state, _, facts = self.state(cell)
        if state != "done" or facts is None:
            return None
        found = self._kept.frames(str(facts["id"]))
        if found is None:
            run = self._run(cell)
            assert run is not None
            self._kept.note(run.id, self._kept.metrics(run.id), self._kept.reference(run.id), run.clip.frames)
            found = self._kept.frames(run.id)
        return found

    def _write(self) -> None:
        """Write the sweep down with the runs that are known."""
        runs = {cell.key: str(facts["id"]) for cell in self.cells if (facts := self._made.best(cell.key))}
        self._kept.write(self.axes, self.cells, _told(self.cells, self._references, self._reference), runs)


def _unmeasured(cells: Cells, references: Mapping[str, Cell]) -> list[str]:
    """A sentence if what the cells are to be measured against is not among them, so that it may not be there."""
    own = {cell.key for cell in cells.found}
    outside = [aim for aim in references.values() if aim.key not in own]
    if not outside or len(outside) < len(references):
        return []
    return ["The base is no cell of the sweep: psnr, ssim and latent_error are measured where the lab has a run of it."]


def _told(cells: Sequence[Cell], references: Mapping[str, Cell], reference: Run | None) -> dict[str, str]:
    """For each cell what it is measured against: the name of a run, or the key of a cell."""
    if reference is not None:
        return {cell.key: reference.id for cell in cells}
    return {cell.key: references[cell.key].key for cell in cells if cell.key in references}


def begin_sweep(own: Bench, base: Base, axes: Sequence[Axis], reference: Run | Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of these axes around `base`: a run (with its forks), settings, a prompt, or changes of the usual settings.

    `reference` is what clips are measured against: a run, or changes of the base; without it the base itself with the seed and
    the prompt of the cell. Raises SettingsError with all that is wrong.
    """
    start = _start(base)
    cells = make_cells(own, start, axes)
    if isinstance(reference, Run):
        return Sweep(cells, {}, reference)
    if reference is not None and not isinstance(reference, Mapping):
        raise SettingsError(f"reference is {reference!r:.60}; it must be a run, or changes of the base, as {{'cfg': 3}}.")
    return Sweep(cells, _references(cells, start, reference or {}))


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
        return Sweep(Cells(axes, benches, tuple(found.values())), references, _outside(own, aims.values()), id)
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
