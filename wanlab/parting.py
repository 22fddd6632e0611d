"""Where two runs part: their steps beside each other, the first step that differs, and how far apart they are from there on.

Two runs share a step exactly if it has the same name (`wanlab/names.py`), since a name holds everything that led to the step.
So the answer needs no arithmetic, and is exact: before that step latents and velocities are the same bits.

Runs with different noise levels are aligned by these: beside each step of the first run stands the step of the second whose
sigma is nearest, and numbers are compared with those of the second at the same sigma, on a straight line between its two steps
around it. Where both have the level, that is the step itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from wanlab import show
from wanlab.denoise import Step
from wanlab.document import shortened
from wanlab.errors import SettingsError
from wanlab.labels import labels
from wanlab.names import GRID, HERE, in_force, start_of, step_names
from wanlab.run import Run
from wanlab.settings import declared
from wanlab.steps import Measured, relative


@dataclass(frozen=True)
class Parting:
    """From which step on two runs differ: `step` (None: never), and `why` as pairs of values by name."""

    step: int | None
    why: dict[str, tuple[Any, Any]]
    shared: int

    def __str__(self) -> str:
        if self.step is None:
            return f"They never part: the {self.shared} steps that both make are the same, to the last bit."
        told = [f"{name} is {one} in the first run and {other} in the second" for name, (one, other) in _told(self.why).items()]
        before = (
            "" if not self.step else "; step 0 is the same" if self.step == 1 else f"; steps 0 to {self.step - 1} are the same"
        )
        return f"They part at step {self.step}, where {', and '.join(told)}{before}."


@dataclass(frozen=True)
class Moment:
    """What a run holds at a noise level: its latents there and what the model said, (1, c, t, h, w)."""

    sigma: float
    latents: Tensor
    velocity: Tensor
    clean: Tensor


def parting(one: Run, other: Run) -> Parting:
    """The first step at which two runs differ, found by the names of their steps, and what differs there."""
    names, others = (step_names(run.facts["model"]["id"], run.timeline) for run in (one, other))
    shared = next((k for k, (a, b) in enumerate(zip(names, others, strict=False)) if a != b), None)
    count = min(len(names), len(others))
    if shared is None:
        return Parting(None, {}, count)
    return Parting(shared, _differs(one, other, shared), shared)


def compare_steps(a: Run, b: Run, *, full: bool = False) -> show.Page:
    """The steps of two runs beside each other, with what differs and where they part.

    A page with a slider over steps and frames, both runs and their difference, and for each step how far latents, velocity and
    clean estimate of `b` are from those of `a`, as a part of their size. With `full` the estimates are decoded by the VAE.
    Raises SettingsError if the runs are of different size or one has no steps.
    """
    for run in (a, b):
        if not len(run.steps):
            raise SettingsError(f"Run {run.id} has no finished steps to compare; run it again.")
    sizes = [size_of(run) for run in (a, b)]
    if sizes[0] != sizes[1]:
        raise SettingsError(f"The runs have latents of different size, {sizes[0]} and {sizes[1]}; compare runs of one size.")
    found = parting(a, b)
    gathered = [run.steps.gather(label, full=full, share=2) for run, label in zip((a, b), labels([a, b]), strict=True)]
    (told, numbers, thinned), (other, others, _) = gathered
    pairs = aligned(told.sigmas, other.sigmas)
    apart = None if found.step is None else next((place for place, (k, _) in enumerate(pairs) if k >= found.step), None)
    return show.denoising_page(
        [told, other],
        [*_errors(a, b), *_beside(numbers, others, pairs)],
        frame_rate=a.settings.clip.frame_rate,
        title=a.settings.prompt if a.settings.prompt == b.settings.prompt else "",
        pairs=pairs,
        thinned=thinned,
        told=[str(found), *_alignment(told.sigmas, other.sigmas)],
        parted=apart,
    )


def aligned(sigmas: Sequence[float], others: Sequence[float]) -> list[tuple[int, int]]:
    """For each step of one run the step of the other whose sigma is nearest.

    >>> aligned([1.0, 0.75, 0.5, 0.25], [1.0, 0.6])
    [(0, 0), (1, 1), (2, 1), (3, 1)]
    """
    return [(k, min(range(len(others)), key=lambda j: abs(others[j] - sigma))) for k, sigma in enumerate(sigmas)]


def at_levels(run: Iterable[Moment], sigmas: Sequence[float]) -> Iterator[Moment | None]:
    """What a run holds at each of these falling noise levels; between its steps on a straight line, None beyond its ends."""
    around = pairwise([None, *run, None])
    before, after = next(around)
    for sigma in sigmas:
        while after is not None and after.sigma > sigma:
            before, after = next(around)
        if after is not None and after.sigma == sigma:
            yield after
        elif before is None or after is None:
            yield None
        else:
            yield _between(before, after, sigma)


def moments(run: Run) -> Iterator[Moment]:
    """The moments of a run at its steps, and one after the last, whose velocity and estimate are those of the last step."""
    last: Step | None = None
    for last in run.steps:
        yield Moment(last.sigma, last.latents, last.velocity.float(), last.clean)
    if last is not None:
        yield Moment(float(run.settings.grid.sigmas[last.index + 1]), last.after, last.velocity.float(), last.clean)


def _between(before: Moment, after: Moment, sigma: float) -> Moment:
    part = (before.sigma - sigma) / (before.sigma - after.sigma)
    mixed = (one + part * (other - one) for one, other in zip(_tensors(before), _tensors(after), strict=True))
    return Moment(sigma, *mixed)


def _tensors(moment: Moment) -> tuple[Tensor, Tensor, Tensor]:
    return moment.latents, moment.velocity, moment.clean


def _errors(a: Run, b: Run) -> list[show.Curve]:
    """How far the second run is from the first at each of its steps; None where the second has no such noise level."""
    steps = list(moments(a))[:-1]
    rows: list[list[float | None]] = []
    for moment, other in zip(steps, at_levels(moments(b), [one.sigma for one in steps]), strict=True):
        rows.append([None] * 3 if other is None else [*map(relative, _tensors(other), _tensors(moment))])
    names = ("latents apart", "velocity apart", "estimate apart")
    return [show.Curve(name, [row[index] for row in rows], shown=True, log=True) for index, name in enumerate(names)]


def _beside(numbers: Sequence[Measured], others: Sequence[Measured], pairs: Sequence[tuple[int, int]]) -> list[show.Curve]:
    """The sigmas of both runs, or one curve if they are the same."""
    sigmas = [numbers[k].sigma for k, _ in pairs], [others[j].sigma for _, j in pairs]
    if sigmas[0] == sigmas[1]:
        return [show.Curve("sigma", sigmas[0])]
    return [show.Curve("sigma, first", sigmas[0]), show.Curve("sigma, second", sigmas[1])]


def _alignment(sigmas: Sequence[float], others: Sequence[float]) -> list[str]:
    if list(sigmas) == list(others)[: len(sigmas)]:
        return []
    return [
        "Their noise levels differ: beside each step of the first run stands the step of the second whose sigma is nearest, "
        "and the curves compare both at the sigma of the first, on a straight line between steps of the second."
    ]


def _differs(one: Run, other: Run, step: int) -> dict[str, tuple[Any, Any]]:
    """What of all that is in a step's name differs there."""
    told = [_named(run, step) for run in (one, other)]
    found = _different(*told)
    # What is in one name only because of something else that differs, as the negative prompt is with guidance, tells nothing
    # new
    asked = [run.timeline.at(step).flat() for run in (one, other)]
    new = {name: values for name, values in found.items() if name not in asked[0] or asked[0][name] != asked[1].get(name)}
    grid = {name: values for name, values in _different(*asked).items() if name in GRID}
    if "sigma" in new:  # the settings that made the levels say more than the timesteps
        new.pop("timestep", None)
        return grid | new
    # Same level and settings, and yet another name: the solver came here by another move
    return new or found or grid


def _named(run: Run, step: int) -> dict[str, Any]:
    """All that enters the name of a step, without what is behind it."""
    settings, grid = run.timeline.at(step), run.settings.grid
    facts = {"sigma": float(grid.sigmas[step]), "timestep": float(grid.timesteps[step]), **in_force(settings, step)}
    if step:
        return facts
    model = run.facts["model"]
    noise = {name: getattr(run.settings, name) for name in ("seed", "frames", "width", "height")}
    return {"model": f"{model['name']} ({model['id'][:8]})", **noise, **start_of(run.settings), **facts}


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def _told(why: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[str, str]]:
    """What differs, in words: a technique that only one run has is on or off, and what follows from the rest is left out."""
    found: dict[str, tuple[str, str]] = {}
    inner: dict[str, list[str]] = {}
    missing = [name for name, pair in why.items() if "." in name and None in pair]
    absent = {name.partition(".")[0] for name in missing if declared()[name].default is not None}  # which it could be by itself
    for name, pair in why.items():
        group, _, own = name.partition(".")
        if group in absent:
            first_is_off = pair[0] is None
            inner.setdefault(group, []).append(f"{own} {_short(pair[first_is_off])}")
            on = f"on ({', '.join(inner[group])})"
            found[group] = ("off", on) if first_is_off else (on, "off")
        elif not name.endswith(HERE) or len(why) == 1:
            found[name] = (_short(pair[0]), _short(pair[1]))
    return found


def size_of(run: Run) -> tuple[int, ...]:
    """The size of the latents of a run (c, t, h, w)."""
    channels, cell = run._bench.facts.form
    settings = run.settings
    return channels, settings.latent_frames, settings.height // cell, settings.width // cell


def _short(value: Any) -> str:
    if value is None:
        return "off"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = shortened(text, 60)
    return f'"{text}"' if (isinstance(value, str) and " " in text) or not text else text
