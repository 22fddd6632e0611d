"""Running a sweep: cell by cell in the planned order, with one line of progress, whatever happens to single runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wanlab.failures import Failure
from wanlab.measuring import measure
from wanlab.names import digest, step_names
from wanlab.progress import Tell, bar
from wanlab.run import Now, Run, perform
from wanlab.sweeps import grids
from wanlab.sweeps.board import Board
from wanlab.sweeps.cells import CLIP, Cell
from wanlab.sweeps.plan import PlannedCell, SweepPlan

_MOST_REFERENCES = 4  # whose frames are kept in memory
_MOST_BYTES = 2**28  # of frames that may be wanted again


def run_cells(board: Board, plan: SweepPlan, *, fresh: bool) -> None:
    """Run the cells that are planned; raises KeyboardInterrupt when it was stopped, with the way to go on."""
    board.troubles = {one.cell.key: ("unfit", one.verdict) for one in plan.unfit}
    board.write()
    work = _Work(board, plan, fresh)
    stopped = False
    try:
        with bar(work.total, "sweep") as tell:
            for one in plan.planned:
                work.attempt(one, tell)
            work.measure_rest()
    except KeyboardInterrupt:
        stopped = True
    board.made.look()
    board.write()
    board.all.benches.alone(board.all.benches.own)
    work.tell_grids()
    if stopped:
        done = len(board.done())
        raise KeyboardInterrupt(f"Stopped with {done} of {len(board.cells)} runs done, which are kept: sweep.run() goes on.")


class _Work:
    """One call of `sweep.run`: how far it is, and what it has learned on the way."""

    def __init__(self, board: Board, plan: SweepPlan, fresh: bool) -> None:
        self.board, self.plan, self.fresh = board, plan, fresh
        # Decoding and writing a clip takes the time of about two calls, also where no step is computed.
        self.weights = {one.cell.key: one.model_calls + 2.0 for one in plan.planned}
        self.total = sum(self.weights.values())
        self.done, self.finished = 0.0, 0
        self.prepared: set[int] = set()
        self.references: dict[str, Run] = {}
        self.decoded: dict[str, np.ndarray] = {}  # by the last step and the VAE

    def attempt(self, one: PlannedCell, tell: Tell) -> None:
        """Run a cell, if it still has to be run; its failure becomes its state."""
        board, cell = self.board, one.cell
        if not self._needed(cell):
            self._passed(cell)
            return
        self.tell_grids(cell, "running")
        weight, steps = self.weights[cell.key], len(cell.timeline)

        def watch(now: Now) -> None:
            made = 0 if now.step is None else now.step.index + 1
            text = f"sweep: run {self.finished + 1} of {len(self.plan.planned)} ({cell.label})"
            tell(self.done + weight * made / (steps + 1), text)

        failure: Failure | None = None
        try:
            self._prepare(cell)
            run = self._perform(cell, watch)
            self._measure(cell, run)
        except Exception as error:
            failure = Failure.of(error)
        if failure is not None:
            board.troubles[cell.key] = ("failed", failure.text)
            if failure.out_of_memory:
                self._mark_heavier(one)
        board.made.look()
        self._passed(cell)

    def _perform(self, cell: Cell, watch: Callable[[Now], object]) -> Run:
        """The run of a cell. Where it ends as another one did, since only what costs is varied, that one's frames are taken."""
        bench = self.board.bench(cell)
        clip = {name: value for name, value in cell.model.flat().items() if name in CLIP}
        key = digest(step_names(bench.model_id, cell.timeline)[-1], clip)
        frames = None if self.fresh else self.decoded.get(key)
        origin = {"sweep": self.board.id}
        run = perform(bench, cell.timeline, fresh=self.fresh, origin=origin, watch=watch, frames=frames)
        self.decoded[key] = run.clip.frames
        while sum(each.nbytes for each in self.decoded.values()) > _MOST_BYTES:
            self.decoded.pop(next(iter(self.decoded)))
        return run

    def _needed(self, cell: Cell) -> bool:
        """Whether nobody has run the cell meanwhile, or is about to, and it was not found too large."""
        if cell.key in self.board.troubles:
            return False
        self.board.made.look()
        facts = self.board.made.best(cell.key)
        return self.fresh or facts is None or facts["status"] not in ("done", "running")

    def _passed(self, cell: Cell) -> None:
        self.done += self.weights[cell.key]
        self.finished += 1
        self.tell_grids(cell)

    def _prepare(self, cell: Cell) -> None:
        """Let go of other models; before the first run of a model embed the texts of all, so that its encoder loads once."""
        board = self.board
        bench = board.bench(cell)
        board.all.benches.alone(bench)
        if id(bench) in self.prepared:
            return
        self.prepared.add(id(bench))
        own = [one for one in self.plan.planned if board.bench(one.cell) is bench and one.steps > one.steps_reused]
        bench.model.text.prepare([text for one in own for text in one.cell.timeline.settings.texts])

    def _mark_heavier(self, failed: PlannedCell) -> None:
        """What was planned to take as much as a run that ran out of memory is not tried."""
        for one in self.plan.planned:
            computes = one.steps > one.steps_reused
            if one.gib >= failed.gib and computes and self.board.state(one.cell)[0] in ("waiting", "stopped"):
                compared = f"this takes {one.gib:.2f} GiB by plan, that one {failed.gib:.2f}"
                self.board.troubles[one.cell.key] = ("unfit", f"{failed.cell.label} ran out of memory, and {compared}.")

    def _measure(self, cell: Cell, run: Run) -> None:
        """Measure a run against its reference, if that is there."""
        kept, aim = self.board.kept, self.board.reference_of(cell)
        if isinstance(aim, Cell) and aim.key == cell.key:
            self._remember(run)
            reference: Run | None = run
        else:
            reference = self._opened(aim)
        against = None if reference is None or not _alike(run, reference) else reference
        kept.note(run.id, measure(run, against), None if against is None else against.id, run.clip.frames)

    def _opened(self, aim: Run | Cell | None) -> Run | None:
        """The run that cells are measured against, with its clip; None until it is there."""
        if isinstance(aim, Cell):
            facts = self.board.made.best(aim.key)
            if facts is None or facts["status"] != "done":
                return None
            id = str(facts["id"])
            if id not in self.references:
                self._remember(Run(self.board.bench(aim), id, aim.timeline, facts))
            return self.references[id]
        return aim

    def _remember(self, reference: Run) -> None:
        """Keep a reference with its frames, and let go of the oldest of too many."""
        while len(self.references) >= _MOST_REFERENCES:
            self.references.pop(next(iter(self.references)))
        self.references[reference.id] = reference

    def measure_rest(self) -> None:
        """Measure what could not be measured before: cells whose reference came later, and runs that others made."""
        for cell in self.board.cells:
            state, _, facts = self.board.state(cell)
            if state != "done" or facts is None:
                continue
            reference, run = self._opened(self.board.reference_of(cell)), self.board.run(cell)
            known = self.board.kept.metrics(str(facts["id"]))
            if run is None:
                continue
            if not known or ("latent_error" not in known and reference is not None and _alike(run, reference)):
                self._measure(cell, run)
                self.tell_grids(cell)

    def tell_grids(self, cell: Cell | None = None, state: str = "") -> None:
        """Show in the grids that are open how a cell stands, or all of them."""
        grids.tell(self.board, self.board.cells if cell is None else [cell], state)


def _alike(run: Run, reference: Run) -> bool:
    """Whether two runs make clips of one size and length."""
    return all(getattr(run.settings, name) == getattr(reference.settings, name) for name in ("width", "height", "frames"))
