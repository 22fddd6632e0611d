"""The plan: what runs will do, known before they start and without a model. No torch.

A plan reads the outline that the loop will follow (outline.py), so its counts are those that will be made. Only where a
cache decides on the way the calls are not known; then `model_calls` is the most that there can be, and `fewest_calls`
the least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wanlab.cost.estimate import Estimate
from wanlab.cost.request import Pass, passes_of
from wanlab.document import Shown, esc
from wanlab.errors import SettingsError
from wanlab.names import earlier_round, step_names
from wanlab.outline import BOTH, Call, Outline, work
from wanlab.schedule import Grid
from wanlab.skips import Facts
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas

    from wanlab.show.drawing import Drawing


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its outline, which of its steps are reused from the store, and how it differs from the first run.

    `before` are the rounds before it, of a run with FreeInit. `estimate` has its bytes and seconds, where they were asked for.
    """

    outline: Outline
    reused: tuple[bool, ...]
    changes: Mapping[str, Any]
    before: PlannedRun | None = None
    estimate: Estimate | None = None

    @property
    def timeline(self) -> Timeline:
        """Settings and forks."""
        return self.outline.timeline

    @property
    def grid(self) -> Grid:
        """Sigmas and timesteps."""
        return self.timeline.settings.grid

    @cached_property
    def calls(self) -> tuple[tuple[Call, ...], ...]:
        """The calls of each step that is computed, also those that a cache answers; none for a step that is reused."""
        return tuple(() if reused else calls for reused, calls in zip(self.reused, self.outline.calls, strict=True))

    @cached_property
    def passes(self) -> tuple[int, ...]:
        """Passes of the model per step; where a cache decides on the way, the most."""
        return tuple(sum(not call.skipped for call in calls) for calls in self.calls)

    @property
    def model_calls(self) -> int:
        """Passes of the model in all, with those of the rounds before."""
        return sum(self.passes) + (self.before.model_calls if self.before else 0)

    @property
    def fewest_calls(self) -> int:
        """The passes that are certain."""
        certain = sum(call.skipped is False for calls in self.calls for call in calls)
        return certain + (self.before.fewest_calls if self.before else 0)

    @property
    def passes_by_size(self) -> Counter[Pass]:
        """How many passes of each size are made; of those that a cache decides on the way, all."""
        own = Counter(passes_of(self.timeline.settings, self.calls))
        return own + self.before.passes_by_size if self.before else own

    @property
    def window_passes(self) -> int:
        """Windows that are predicted, over all steps, whatever the branches: of a step without windows, one."""
        own = sum(len({call.frames for call in calls if not call.skipped}) for calls in self.calls)
        return own + (self.before.window_passes if self.before else 0)

    @cached_property
    def work(self) -> float:
        """Arithmetic of the model against that of the plain run: all its steps, without techniques that change the calls."""
        facts, settings = self.outline.facts, self.timeline.settings
        whole = [
            work(settings.latent_frames, settings, facts) * (1 if self.timeline.at(k).cfg == 1 else 2)
            for k in range(len(self.passes))
        ]
        return self._done() / sum(whole)

    def _done(self) -> float:
        facts, settings = self.outline.facts, self.timeline.settings
        anchor = settings.context is not None and settings.context.anchor == "causal"
        made = [call for calls in self.calls for call in calls if not call.skipped]
        own = sum(
            work(len(call.frames) + (anchor and call.frames[0] > 0), settings, facts) * (2 if call.branch == BOTH else 1)
            for call in made
        )
        return own + (self.before._done() if self.before else 0.0)

    @cached_property
    def techniques(self) -> Mapping[str, tuple[bool, ...]]:
        """On which steps the techniques act, for those that act anywhere."""
        acting = [self.timeline.at(step).acting(step) for step in range(len(self.reused))]
        names = dict.fromkeys(name for acts in acting for name in acts)
        return {name: tuple(name in acts for acts in acting) for name in names}

    @cached_property
    def skipped(self) -> tuple[float | None, ...]:
        """The share of each step's calls that a cache answers, whether the step is reused or not; None where unknown."""
        shares: list[float | None] = []
        for calls in self.outline.calls:
            flags = [call.skipped for call in calls]
            shares.append(None if None in flags else sum(map(bool, flags)) / max(1, len(flags)))
        return tuple(shares)

    @property
    def cache_threshold(self) -> float | None:
        """The threshold of a cache that is known beforehand: the given one, the model's own, or that of the asked speed-up."""
        rules = (rule for rule in self.outline.rules if rule is not None)
        return next((round(rule.threshold, 6) for rule in rules), None)

    def windows(self, step: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
        """The windows of a step: their latent frames, and the share that each of these takes from this window."""
        settings = self.timeline.at(step)
        context = settings.acting(step).get("context")
        if context is None or settings.context is None:
            frames = tuple(range(settings.latent_frames))
            return [(frames, (1.0,) * len(frames))]
        import numpy as np

        from wanlab.windows import blend_weights

        found = settings.context.windows(step, settings)
        weights = blend_weights(settings.context.fuse, found, settings.latent_frames, settings.context.overlap // 4)
        total = np.zeros(settings.latent_frames)
        for frames_, weight in zip(found, weights, strict=True):
            total[frames_] += weight
        return [(tuple(f), tuple((w / total[f]).tolist())) for f, w in zip(found, weights, strict=True)]


@dataclass(frozen=True)
class Plan(Shown):
    """What one or more runs will do: `plan.table()`, `plan.steps()`, `plan.show()`."""

    runs: tuple[PlannedRun, ...]

    @property
    def model_calls(self) -> int:
        """Passes of the model in all, also counting what later runs of this plan share with earlier ones once."""
        return sum(run.model_calls for run in self.runs)

    @property
    def fewest_calls(self) -> int:
        """The passes that are certain: fewer than `model_calls` only where a cache decides on the way."""
        return sum(run.fewest_calls for run in self.runs)

    @property
    def window_passes(self) -> int:
        """Windows that are predicted, over all runs and steps, whatever the branches of guidance."""
        return sum(run.window_passes for run in self.runs)

    @property
    def steps_reused(self) -> int:
        """Steps that are taken from the store."""
        return sum(sum(run.reused) for run in self.runs)

    @property
    def peak_vram_gib(self) -> float:
        """The most memory of the device that any of the runs takes at one time; on a CPU, of the process."""
        return max(self.stages.values())

    @property
    def stages(self) -> Mapping[str, float]:
        """The most memory of each stage (encode, denoise, decode), in GiB, over all runs."""
        found: dict[str, float] = {}
        for run in self._estimated:
            for stage, gib in run.stages.items():
                found[stage] = max(found.get(stage, 0.0), gib)
        return found

    @property
    def seconds(self) -> float:
        """Seconds of all runs together: measured on this machine once `lab.calibrate` was called, else from the card's peak."""
        return sum(run.total_seconds for run in self._estimated)

    @property
    def fits(self) -> bool | None:
        """Whether all runs fit into the device with the margin; None if its memory is not known."""
        told = [run.fits for run in self._estimated]
        return None if None in told else all(told)

    @property
    def smallest_change(self) -> Mapping[str, Any] | None:
        """The smallest change of settings with which the first run fits that does not; {} if all do, None if there is none."""
        first = next((run for run in self._estimated if run.fits is False), None)
        return {} if first is None else first.smallest_change

    @property
    def verdict(self) -> str:
        """Whether it fits and what to change, as a sentence."""
        told = sorted(self._estimated, key=lambda run: run.fits is not False)
        return told[0].verdict

    @property
    def _estimated(self) -> list[Estimate]:
        found = [run.estimate for run in self.runs if run.estimate is not None]
        if not found:
            raise SettingsError("This plan was made without the model's sizes, so it has no bytes and seconds.")
        return found

    def table(self) -> pandas.DataFrame:
        """A row a run: what differs from the first, steps, those reused, model calls, window passes, and the share of work.

        `work` is the arithmetic of the model against the plain run of these settings: 1 is all steps, without caches or
        windows. `fewest_calls` is there where a cache decides on the way, `cache_threshold` where it is known beforehand.
        """
        import pandas

        unknown = any(run.fewest_calls != run.model_calls for run in self.runs)
        rows = [
            {
                **{name: str(value) if isinstance(value, tuple | list) else value for name, value in run.changes.items()},
                **({"cache_threshold": run.cache_threshold} if run.cache_threshold is not None else {}),
                "steps": len(run.passes),
                "steps_reused": sum(run.reused),
                **({"fewest_calls": run.fewest_calls} if unknown else {}),
                "model_calls": run.model_calls,
                "window_passes": run.window_passes,
                "work": round(run.work, 3),
                **_cost(run.estimate),
            }
            for run in self.runs
        ]
        return pandas.DataFrame(rows)

    def steps(self, run: int = 0) -> pandas.DataFrame:
        """A row a step of one of the runs: sigma, timestep, cfg, reused or not, passes, windows, and which techniques act.

        `skipped` is the share of calls that a cache answers, NaN where it decides on the way.
        """
        import pandas

        planned = self.runs[run]
        count = range(len(planned.passes))
        columns = {
            "sigma": planned.grid.sigmas[:-1],
            "timestep": planned.grid.timesteps,
            "cfg": [planned.timeline.at(step).cfg for step in count],
            "reused": planned.reused,
            "passes": planned.passes,
            "windows": [len({call.frames for call in planned.outline.calls[step]}) for step in count],
            **planned.techniques,
        }
        if "cache" in planned.techniques:
            columns["skipped"] = [float("nan") if share is None else share for share in planned.skipped]
        return pandas.DataFrame(columns).rename_axis("step")

    def show(self) -> Drawing:
        """Draw the noise level of every step, and beneath where techniques act, what caches answer, and where windows lie.

        Hollow marks are steps that are reused from the store.
        """
        from wanlab.show.plan import draw

        return draw(self.runs)

    def show_memory(self) -> Drawing:
        """Draw the memory of each stage beside that of the device, by what takes it."""
        from wanlab.show.memory import draw_memory
        from wanlab.show.plan import label_of

        return draw_memory([(label_of(run), run.estimate) for run in self.runs if run.estimate is not None])

    def __repr__(self) -> str:
        steps = sum(len(run.reused) for run in self.runs)
        calls = f"{self.model_calls} model calls"
        if self.fewest_calls != self.model_calls:
            calls = f"{self.fewest_calls} to {calls}"
        cost = ""
        if any(run.estimate for run in self.runs):
            cost = f", {self.peak_vram_gib:.2f} GiB, about {self.seconds:.3g} s, {self.verdict}"
        return f"Plan({len(self.runs)} runs, {steps} steps, {self.steps_reused} reused, {calls}{cost})"

    def _repr_html_(self) -> str:
        table = self.table().astype(object).fillna("").to_html(index=False)
        costs = [run.estimate for run in self.runs if run.estimate is not None]
        from wanlab.show.drawing import svg

        if not costs:
            return svg(self.show()) + table
        told = f"<p>{esc(self.verdict)}.</p>"
        # On a device with plenty of room the bars would be too short to see.
        near = any(one.device_gib is not None and one.peak_gib > 0.05 * one.device_gib for one in costs)
        return svg(self.show()) + table + told + (svg(self.show_memory()) if near else "")


def _cost(estimate: Estimate | None) -> dict[str, Any]:
    """The columns of bytes and seconds."""
    if estimate is None:
        return {}
    fits = {} if estimate.fits is None else {"fits": estimate.fits}
    return {"peak_gib": round(estimate.peak_gib, 3), "seconds": float(f"{estimate.total_seconds:.3g}"), **fits}


def make_plan(facts: Facts, timelines: Sequence[tuple[Timeline, Mapping[str, Any]]], stored: Callable[[str], bool]) -> Plan:
    """The plan of these runs in this order on the model with these facts; `stored` tells whether a step is in the store."""
    known = set[str]()
    return Plan(tuple(planned(facts, timeline, changes, stored, known) for timeline, changes in timelines))


def planned(
    facts: Facts, timeline: Timeline, changes: Mapping[str, Any], stored: Callable[[str], bool], known: set[str]
) -> PlannedRun:
    """One run, after those that made the steps in `known`, to which its own are added."""
    before = planned(facts, earlier_round(timeline), {}, stored, known) if timeline.settings.freeinit else None
    names, outline = step_names(facts.id, timeline), Outline(timeline, facts)
    needed = outline.needed([name not in known and not stored(name) for name in names])
    known.update(names)
    return PlannedRun(outline, tuple(not need for need in needed), changes, before)
