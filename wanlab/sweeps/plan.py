"""The plan of a sweep: what its runs will do and take all together, before the first of them starts."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wanlab.bench import Bench
from wanlab.cost.estimate import Estimate
from wanlab.names import digest, step_names
from wanlab.plans import PlannedRun
from wanlab.show.page import Page, Paged
from wanlab.show.stills import plural
from wanlab.sweeps.cells import Cell, Cells
from wanlab.weights.dtypes import PRECISIONS

if TYPE_CHECKING:
    import pandas

# Bytes a pixel of a clip as mp4 (crf 18). Of 800 clips of the tiny model: 0.07 at 64 x 64 x 17, of which the container's 3 KB
# are more than half, and 0.02 for larger ones. Clips of the real models, which have more detail, were not measured.
_CLIP_BYTES = 0.1
_STEP_BYTES = 400  # of a stored step beside its velocity: the header with its checksum


@dataclass(frozen=True)
class PlannedCell:
    """One run of a sweep as it is planned.

    `state` is "done" (the log has it), "planned", or "unfit" (its device has too little memory, so it will not be tried). Calls
    are passes of the model: with what the sweep shares and the store has, and alone, as if nothing was stored. `seconds` and
    `gib` are estimates, `nbytes` what it will leave on the disk; `verdict` says whether it fits and what to change.
    """

    cell: Cell
    state: str
    steps: int
    steps_reused: int
    model_calls: int
    fewest_calls: int
    calls_alone: int
    seconds: float
    gib: float
    nbytes: int
    verdict: str
    smallest_change: Mapping[str, Any] | None


@dataclass(frozen=True)
class SweepPlan(Paged):
    """What a sweep will do: `plan.table()` has a row a cell, in the order in which they run."""

    cells: tuple[PlannedCell, ...]
    model_loads: int
    notes: tuple[str, ...] = ()

    @property
    def planned(self) -> tuple[PlannedCell, ...]:
        """The cells that will be run."""
        return self._of("planned")

    @property
    def done(self) -> tuple[PlannedCell, ...]:
        """The cells that the log has already."""
        return self._of("done")

    @property
    def unfit(self) -> tuple[PlannedCell, ...]:
        """The cells that need more memory than there is."""
        return self._of("unfit")

    @property
    def model_calls(self) -> int:
        """Passes of the model that will be made; where a cache decides on the way, the most."""
        return sum(one.model_calls for one in self.planned)

    @property
    def fewest_calls(self) -> int:
        """The passes that are certain."""
        return sum(one.fewest_calls for one in self.planned)

    @property
    def calls_alone(self) -> int:
        """Passes of the same runs if each was made by itself."""
        return sum(one.calls_alone for one in self.planned)

    @property
    def calls_saved(self) -> int:
        """Passes that are not made since runs share steps, with each other or with what is stored."""
        return self.calls_alone - self.model_calls

    @property
    def seconds(self) -> float:
        """Seconds of all runs: measured on this machine once `lab.calibrate` was called, else from the device's peak."""
        return sum(one.seconds for one in self.planned)

    @property
    def disk_gib(self) -> float:
        """What steps and clips will take on the disk, about."""
        return sum(one.nbytes for one in self.planned) / 2**30

    def table(self) -> pandas.DataFrame:
        """A row a cell in the order of the sweep: its labels, state, steps, calls, seconds, memory, and why it does not fit."""
        import pandas

        unknown = self.fewest_calls != self.model_calls
        rows = [
            {
                **one.cell.labels,
                "state": one.state,
                "steps": one.steps,
                "steps_reused": one.steps_reused,
                **({"fewest_calls": one.fewest_calls} if unknown else {}),
                "model_calls": one.model_calls,
                "calls_alone": one.calls_alone,
                "seconds": float(f"{one.seconds:.3g}"),
                "peak_gib": round(one.gib, 3),
                **({"verdict": one.verdict} if self.unfit else {}),
            }
            for one in self.cells
        ]
        return pandas.DataFrame(rows).rename_axis("order")

    def page(self) -> Page:
        """The totals, a drawing of what each run computes and shares, and the table."""
        from wanlab.show.sweep_plan import Bar, sweep_plan_page

        bars = [Bar(one.cell.labels, one.state, one.model_calls, one.calls_alone) for one in self.cells]
        table = self.table().astype(object).map(str)
        rows = [(str(k), list(row)) for k, row in enumerate(table.itertuples(index=False))]
        return sweep_plan_page(
            bars, self.facts(), text=repr(self), notes=self.notes, columns=[str(name) for name in table], rows=rows
        )

    def facts(self) -> dict[str, str]:
        """The totals in words."""
        certain = self.fewest_calls == self.model_calls
        found = {
            "runs": str(len(self.planned)),
            "already done": str(len(self.done)),
            "will not fit": str(len(self.unfit)),
            "model loads": str(self.model_loads),
            "model calls": str(self.model_calls) if certain else f"{self.fewest_calls} to {self.model_calls}",
            "calls saved": f"{self.calls_saved} of {self.calls_alone}",
            "seconds": f"about {self.seconds:.3g}",
            "disk": _size(self.disk_gib),
        }
        return {name: value for name, value in found.items() if value != "0" or name not in ("already done", "will not fit")}

    def __repr__(self) -> str:
        told = [plural(len(self.planned), "run")]
        told += [f"{len(self.done)} already done"] * bool(self.done)
        if self.planned:
            facts = self.facts()
            told += [
                plural(self.model_loads, "model load"),
                f"{facts['model calls']} model calls, {facts['calls saved']} saved",
            ]
            told += [f"{facts['seconds']} s", f"{facts['disk']}"]
        if self.unfit:
            told.append(f"{len(self.unfit)} will not fit, the first: {self.unfit[0].cell.label} ({self.unfit[0].verdict})")
        return f"SweepPlan({', '.join(told)})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)}

    def _of(self, state: str) -> tuple[PlannedCell, ...]:
        return tuple(one for one in self.cells if one.state == state)


def plan_cells(cells: Cells, done: Set[str], *, first: Set[str] = frozenset(), fresh: bool = False) -> SweepPlan:
    """The plan of these cells in the best order, of which those with the keys in `done` need not run; `first` as in_order."""
    known: set[str] = set()
    found: list[PlannedCell] = []
    loads: set[int] = set()
    for bench, group in in_order(cells, first):
        estimates = _Estimates(bench)
        for cell in group:
            one = _done(cell) if cell.key in done else _planned(estimates, cell, known, fresh)
            if one.state == "planned" and one.steps > one.steps_reused and "_loaded" not in bench.model.__dict__:
                loads.add(id(bench))
            found.append(one)
    return SweepPlan(tuple(found), len(loads), tuple(cells.notes))


def in_order(cells: Cells, first: Set[str] = frozenset()) -> list[tuple[Bench, list[Cell]]]:
    """The cells by the way their model is loaded, that of the lab first; within, those that share steps beside each other.

    So each model is loaded once, and a cell comes right after the one whose steps it goes on from. Of those that share nothing
    the cells with the keys in `first` come first, such as references: what is measured against them is decoded only once.
    """
    groups: dict[int, tuple[Bench, list[Cell]]] = {}
    for cell in sorted(cells.found, key=lambda cell: cells.bench(cell) is not cells.benches.own):
        bench = cells.bench(cell)
        groups.setdefault(id(bench), (bench, []))[1].append(cell)
    for bench, group in groups.values():
        group.sort(key=lambda cell: cell.key not in first)
        ranks: dict[str, int] = {}
        paths = {
            cell.key: [ranks.setdefault(name, len(ranks)) for name in step_names(bench.model_id, cell.timeline)]
            for cell in group
        }
        group.sort(key=lambda cell: paths[cell.key])
    return list(groups.values())


def _done(cell: Cell) -> PlannedCell:
    steps = len(cell.timeline)
    return PlannedCell(cell, "done", steps, steps, 0, 0, 0, 0.0, 0.0, 0, "", {})


class _Estimates:
    """Bytes and seconds of runs on a bench. What differs in the seed or the words takes the same, and is asked once."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._known: dict[str, Estimate] = {}

    def of(self, run: PlannedRun) -> Estimate:
        """The estimate of a planned run."""
        alike = {**run.timeline.settings.flat(), "seed": 0, "prompt": "", "negative_prompt": ""}
        asked = digest(alike, sorted((one.frames, one.batch, count) for one, count in run.passes_by_size.items()))
        if asked not in self._known:
            found = self.bench.costed(run).estimate
            assert found is not None
            self._known[asked] = found
        return self._known[asked]


def _planned(estimates: _Estimates, cell: Cell, known: set[str], fresh: bool) -> PlannedCell:
    bench = estimates.bench
    alone = bench.outlined(cell.timeline, set(), fresh=True)
    by_itself = estimates.of(alone)
    here = set(known) if by_itself.fits is False else known  # what is not run leaves nothing to others
    run = alone if fresh else bench.outlined(cell.timeline, here)
    state = "unfit" if by_itself.fits is False and not all(run.reused) else "planned"
    return PlannedCell(
        cell,
        state,
        steps=len(run.reused),
        steps_reused=sum(run.reused),
        model_calls=run.model_calls,
        fewest_calls=run.fewest_calls,
        calls_alone=alone.model_calls,
        seconds=estimates.of(run).total_seconds,
        gib=by_itself.peak_gib,
        nbytes=_nbytes(bench, run),
        verdict=by_itself.verdict,
        smallest_change=by_itself.smallest_change,
    )


def _nbytes(bench: Bench, run: PlannedRun) -> int:
    """Bytes of the steps that a run adds, with those of rounds before it, and of its clip."""
    settings, (channels, side) = run.timeline.settings, bench.checkpoint.form
    numbers = channels * settings.latent_frames * (settings.height // side) * (settings.width // side)
    size = PRECISIONS[bench.settings.base_precision].itemsize
    made = 0
    part: PlannedRun | None = run
    while part is not None:
        made += sum(not reused for reused in part.reused)
        part = part.before
    clip = int(_CLIP_BYTES * settings.frames * settings.height * settings.width) if settings.clip.save_output else 0
    return made * (numbers * size + _STEP_BYTES) + clip


def _size(gib: float) -> str:
    return f"about {gib:.3g} GiB" if gib >= 1 else f"about {gib * 1024:.3g} MiB"
