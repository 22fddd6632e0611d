"""The plan: what a run will do, known before it starts and without a model. No torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wanlab.names import step_names
from wanlab.schedule import Grid, grid
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its noise levels, and which of its steps are in the store already."""

    timeline: Timeline
    reused: tuple[bool, ...]
    changes: Mapping[str, Any]

    @cached_property
    def grid(self) -> Grid:
        """Sigmas and timesteps."""
        settings = self.timeline.settings
        return grid(settings.solver, settings.steps, settings.shift)

    @cached_property
    def passes(self) -> tuple[int, ...]:
        """Passes of the model per step: two with guidance, one at cfg 1, none for a step that is reused."""
        cfgs = (self.timeline.at(step).cfg for step in range(len(self.reused)))
        return tuple(0 if reused else 1 + (cfg != 1) for reused, cfg in zip(self.reused, cfgs, strict=True))

    @cached_property
    def techniques(self) -> Mapping[str, tuple[bool, ...]]:
        """On which steps the techniques act, for those that act anywhere."""
        acting = [self.timeline.at(step).acting(step) for step in range(len(self.reused))]
        names = dict.fromkeys(name for acts in acting for name in acts)
        return {name: tuple(name in acts for acts in acting) for name in names}


@dataclass(frozen=True)
class Plan:
    """What one or more runs will do: `plan.table()`, `plan.steps()`, `plan.show()`."""

    runs: tuple[PlannedRun, ...]

    @property
    def model_calls(self) -> int:
        """Passes of the model in all, also counting what later runs of this plan share with earlier ones once."""
        return sum(sum(run.passes) for run in self.runs)

    def table(self) -> pandas.DataFrame:
        """A row a run: what differs from the first, model calls, steps that are reused."""
        import pandas

        rows = [
            {**run.changes, "steps": len(run.passes), "steps_reused": sum(run.reused), "model_calls": sum(run.passes)}
            for run in self.runs
        ]
        return pandas.DataFrame(rows)

    def steps(self, run: int = 0) -> pandas.DataFrame:
        """A row a step of one of the runs: sigma, timestep, cfg, reused or not, passes, which techniques act on it."""
        import pandas

        planned = self.runs[run]
        columns = {
            "sigma": planned.grid.sigmas[:-1],
            "timestep": planned.grid.timesteps,
            "cfg": [planned.timeline.at(step).cfg for step in range(len(planned.passes))],
            "reused": planned.reused,
            "passes": planned.passes,
            **planned.techniques,
        }
        return pandas.DataFrame(columns).rename_axis("step")

    def show(self) -> Figure:
        """Draw the noise level of every step, and beneath where techniques act.

        Hollow marks are steps that are reused from the store.
        """
        from matplotlib import pyplot

        strips = [(index, name, acts) for index, run in enumerate(self.runs) for name, acts in run.techniques.items()]
        height = 0.25 * len(strips)
        figure = pyplot.figure(figsize=(7, 3.2 + height), layout="constrained", facecolor="none")
        pyplot.close(figure)  # shown where it is the value of a cell, not once more at its end
        gray = "#808890"
        if strips:
            axes, bottom = figure.subplots(2, sharex=True, height_ratios=[3, height])
            _draw_strips(bottom, strips)
        else:
            axes = bottom = figure.add_subplot()
        for index, run in enumerate(self.runs):
            label = ", ".join(f"{name} {value}" for name, value in run.changes.items()) or "base"
            steps = range(len(run.passes))
            sigmas = run.grid.sigmas
            (line,) = axes.plot(
                [*steps, len(run.passes)], sigmas, lw=1.5, color=f"C{index}", label=f"{label}: {sum(run.passes)} model calls"
            )
            faces = ["none" if reused else line.get_color() for reused in run.reused]
            axes.scatter(steps, sigmas[:-1], facecolors=faces, edgecolors=line.get_color(), zorder=3)
        bottom.set_xlabel("step", color=gray)
        axes.set_ylabel("sigma (noise level)", color=gray)
        for part in {axes, bottom}:
            part.set_facecolor("none")
            part.tick_params(colors=gray)
            for spine in part.spines.values():
                spine.set_color(gray)
        axes.legend(frameon=False, labelcolor=gray)
        return figure

    def __repr__(self) -> str:
        reused, steps = (sum(counts) for counts in zip(*((sum(run.reused), len(run.reused)) for run in self.runs), strict=True))
        return f"Plan({len(self.runs)} runs, {steps} steps, {reused} reused, {self.model_calls} model calls)"

    def _repr_html_(self) -> str:
        drawing = io.StringIO()
        self.show().savefig(drawing, format="svg")
        picture = drawing.getvalue()
        return picture[picture.index("<svg") :] + self.table().fillna("").to_html(index=False)


def _draw_strips(axes: Axes, strips: Sequence[tuple[int, str, tuple[bool, ...]]]) -> None:
    """A line for each technique of each run, in the color of the run: a bar over the steps on which it acts."""
    for line, (index, _, acts) in enumerate(strips):
        axes.broken_barh([(step - 0.5, 1) for step, act in enumerate(acts) if act], (line - 0.35, 0.7), color=f"C{index}")
    axes.set_yticks(range(len(strips)), [name for _, name, _ in strips])
    axes.set_ylim(len(strips) - 0.5, -0.5)


def make_plan(model: str, timelines: Sequence[tuple[Timeline, Mapping[str, Any]]], stored: Callable[[str], bool]) -> Plan:
    """The plan of these runs in this order on the model with this id; `stored` tells whether a step is in the store."""
    runs: list[PlannedRun] = []
    known: set[str] = set()
    for timeline, changes in timelines:
        names = step_names(model, timeline)
        runs.append(PlannedRun(timeline, tuple(name in known or stored(name) for name in names), changes))
        known.update(names)
    return Plan(tuple(runs))
