"""How a sweep stands: its cells, the runs that were made of them, what was kept of these, and the grids that show it.

All that works on a sweep shares its board: what runs it, what reads it as tables, and what draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wanlab.bench import Bench
from wanlab.names import digest
from wanlab.run import Run
from wanlab.sweeps.cells import Cell, Cells, varied_of
from wanlab.sweeps.keeping import Kept
from wanlab.sweeps.made import Made


class Board:
    """The board of the sweep of these cells, each measured against `reference`, or against its own of `references`, by key.

    `troubles` are cells that have no run, by key: their state, and why; `grids` are those that are open.
    """

    def __init__(self, all: Cells, references: Mapping[str, Cell], reference: Run | None = None, id: str = "") -> None:
        self.all, self.references, self.reference = all, references, reference
        self.cells, self.axes = all.found, all.axes
        asked = [cell.key for cell in self.cells], [(axis.names, axis.labels) for axis in self.axes], self._told()
        self.id = id or digest(*asked)[:12]
        own = all.benches.own
        self.kept = Kept(own.folder, self.id)
        self.made = Made(own.log, [*self.cells, *references.values()], varied_of(self.axes))
        self.notes = (*all.notes, *self._unmeasured())
        self.troubles: dict[str, tuple[str, str]] = {}
        self.grids: list[Any] = []

    def bench(self, cell: Cell) -> Bench:
        """Where a cell is run."""
        return self.all.bench(cell)

    def state(self, cell: Cell) -> tuple[str, str, Mapping[str, Any] | None]:
        """What became of a cell: done, running, stopped, failed, unfit or waiting; why, if it failed; and its run's facts."""
        facts = self.made.best(cell.key)
        status = "" if facts is None else str(facts["status"])
        if status in ("done", "running"):
            return status, "", facts
        if cell.key in self.troubles:
            state, problem = self.troubles[cell.key]
            return state, problem, facts
        states = {"crashed": "stopped", "": "waiting"}
        return states.get(status, status), "" if facts is None else str(facts.get("error") or ""), facts

    def done(self) -> set[str]:
        """The keys of the cells that have a finished run."""
        return {cell.key for cell in self.cells if (facts := self.made.best(cell.key)) and facts["status"] == "done"}

    def reference_of(self, cell: Cell) -> Run | Cell | None:
        """What a cell is measured against: a run, or what is asked of a run that may or may not be there yet."""
        return self.reference or self.references.get(cell.key)

    def run(self, cell: Cell) -> Run | None:
        """The run of a cell, as the log was when it was last looked at."""
        facts = self.made.best(cell.key)
        return None if facts is None else Run(self.bench(cell), str(facts["id"]), cell.timeline, facts)

    def frames(self, cell: Cell) -> np.ndarray | None:
        """The small frames of a cell that is done; decoded, and kept, if they are not there."""
        state, _, facts = self.state(cell)
        if state != "done" or facts is None:
            return None
        found = self.kept.frames(str(facts["id"]))
        if found is None:
            run = self.run(cell)
            assert run is not None
            self.kept.note(run.id, self.kept.metrics(run.id), self.kept.reference(run.id), run.clip.frames)
            found = self.kept.frames(run.id)
        return found

    def write(self) -> None:
        """Write the sweep down with the runs that are known."""
        runs = {cell.key: str(facts["id"]) for cell in self.cells if (facts := self.made.best(cell.key))}
        self.kept.write(self.axes, self.cells, self._told(), runs)

    def _told(self) -> dict[str, str]:
        """For each cell what it is measured against: the name of a run, or the key of a cell."""
        if self.reference is not None:
            return {cell.key: self.reference.id for cell in self.cells}
        return {cell.key: self.references[cell.key].key for cell in self.cells if cell.key in self.references}

    def _unmeasured(self) -> list[str]:
        """A sentence if what the cells are to be measured against is not among them, so that it may not be there."""
        own = {cell.key for cell in self.cells}
        outside = [aim for aim in self.references.values() if aim.key not in own]
        if not outside or len(outside) < len(self.references):
            return []
        return ["The base is no cell of the sweep: psnr, ssim and latent_error are measured where the lab has a run of it."]
