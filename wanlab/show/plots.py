"""Plots of finished runs: seconds by stage and step, memory over time, errors. Arrays and texts in, drawings out.

Texts of people (a prompt may hold "$") are never read as formulas. Unknown numbers leave gaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wanlab.document import shortened
from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from wanlab.show.drawing import Drawing

STAGES = {"load": "C7", "encode": "C4", "denoise": "C0", "decode": "C2", "save": "C8"}  # stages in their order, with colors
_ROW = 0.42  # inches, of a bar


@dataclass(frozen=True)
class Times:
    """Seconds of a run: by stage, and of each step, of which some were `reused`: their seconds are those of an earlier run.

    `compiled` are seconds in which the first computed step compiled functions.
    """

    label: str
    stages: Mapping[str, float]
    steps: Sequence[float | None]
    reused: Sequence[bool]
    compiled: float = 0.0


@dataclass(frozen=True)
class Memory:
    """Memory of a run: GiB at some seconds, each in a stage, the peak of each stage, and what was planned for it.

    `start_gib` is what the process had before, which is no part of what was planned; `device_gib` what the device has.
    """

    label: str
    seconds: Sequence[float]
    gib: Sequence[float]
    stage: Sequence[str]
    peaks: Mapping[str, float]
    planned: Mapping[str, float] = field(default_factory=dict)
    start_gib: float = 0.0
    device_gib: float | None = None


@dataclass(frozen=True)
class Errors:
    """How far a run is from a reference: relative errors of latents at noise levels, and PSNR in dB of each frame."""

    label: str
    sigmas: Sequence[float]
    latents: Sequence[float | None]
    psnr: Sequence[float]


def draw_times(runs: Sequence[Times]) -> Drawing:
    """A bar of stages for each run, and beneath the seconds of the steps."""
    from matplotlib.ticker import MaxNLocator

    from wanlab.show.drawing import drawing, plain

    bars = _ROW * len(runs) + 0.5
    figure = drawing(7.5, bars + 2.8)
    stages, steps = figure.subplots(2, height_ratios=[bars, 2.1])
    for line, run in enumerate(runs):
        _stack(stages, line, run.stages)
    longest = max(sum(run.stages.values()) for run in runs)
    stages.set_yticks(range(len(runs)), [_cut(run.label) for run in runs], fontsize=8, parse_math=False)
    stages.set_ylim(len(runs) - 0.5, -0.5)
    stages.set_xlim(0, 1.12 * longest or 1)
    stages.set_xlabel("seconds by stage", color=GRAY)
    _legend(figure, [stages], columns=len(STAGES))
    for index, run in enumerate(runs):
        _draw_steps(steps, index, run)
    steps.set_xlabel("step", color=GRAY)
    steps.set_ylabel("seconds", color=GRAY)
    steps.set_ylim(bottom=0)
    steps.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, [steps], loc="outside lower left")
    plain(stages, steps)
    return figure


def draw_memory_over_time(runs: Sequence[Memory]) -> Drawing:
    """Memory over time for each run: looks as dots, the peak of each stage as a line across it, what was planned dashed."""
    from wanlab.show.drawing import drawing, plain

    figure = drawing(7.5, 2.2 * len(runs) + 0.5)
    every = list(figure.subplots(len(runs), sharex=True, sharey=True, squeeze=False)[:, 0])
    most = max(max([*run.gib, *run.peaks.values(), *_planned(run).values()]) for run in runs)
    for axes, run in zip(every, runs, strict=True):
        _draw_memory(axes, run, most)
        axes.set_title(_cut(run.label), color=GRAY, fontsize=9, loc="left", pad=3, parse_math=False)
        axes.set_ylabel("GiB", color=GRAY)
    every[0].set_ylim(0, 1.25 * most)
    every[-1].set_xlabel("seconds since the start", color=GRAY)
    _legend(figure, every, columns=4)
    plain(*every)
    return figure


def draw_errors(runs: Sequence[Errors]) -> Drawing:
    """Errors of latents over falling noise levels, and PSNR over the frames of the clip."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    from wanlab.show.drawing import drawing, plain

    figure = drawing(7.5, 5.2)
    errors, frames = figure.subplots(2)
    for index, run in enumerate(runs):
        color = f"C{index}"
        values = [math.nan if value is None or value <= 0 else value for value in run.latents]
        same = " (identical)" if run.latents and not any(run.latents) else ""
        errors.plot(run.sigmas, values, color=color, marker=".", lw=1.5, label=_cut(run.label) + same)
        psnr = [value if math.isfinite(value) else math.nan for value in run.psnr]
        frames.plot(range(len(psnr)), psnr, color=color, marker=".", lw=1.5)
    errors.set_yscale("log")
    errors.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    errors.yaxis.set_major_formatter("{x:g}")
    errors.minorticks_off()
    errors.invert_xaxis()  # time runs to the right
    errors.set_xlabel("sigma (noise level)", color=GRAY)
    errors.set_ylabel("latents: difference / size", color=GRAY)
    frames.set_xlabel("frame of the clip", color=GRAY)
    frames.set_ylabel("PSNR, dB (higher is nearer)", color=GRAY)
    frames.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, [errors, frames])
    plain(errors, frames)
    return figure


def _stack(axes: Axes, line: int, stages: Mapping[str, float]) -> None:
    left, whole = 0.0, sum(stages.values())
    for name, color in STAGES.items():
        seconds = stages.get(name, 0.0)
        axes.barh(line, seconds, 0.62, left=left, color=color, label=name if not line else None)
        if seconds > 0.08 * whole:
            axes.annotate(_seconds(seconds), (left + seconds / 2, line), color="white", fontsize=8, ha="center", va="center")
        left += seconds
    axes.annotate(f" {_seconds(whole)}", (left, line), color=GRAY, fontsize=8, va="center", annotation_clip=False)


def _draw_steps(axes: Axes, index: int, run: Times) -> None:
    """Steps that were computed filled, reused ones hollow; the first computed one in a square, with what it compiled."""
    color = f"C{index}"
    known = [math.nan if seconds is None else seconds for seconds in run.steps]
    axes.plot(known, color=color, lw=1, alpha=0.6)
    computed = [step for step, reused in enumerate(run.reused) if not reused]
    for steps, face in ((computed, color), ([step for step in range(len(known)) if step not in computed], "none")):
        label = _cut(run.label) if steps is computed else "reused: seconds of the run that computed it"
        axes.plot(
            steps,
            [known[step] for step in steps],
            ls="",
            marker="o",
            ms=4.5,
            mec=color,
            mfc=face,
            label=label if steps else None,
        )
    if computed and not math.isnan(known[computed[0]]):
        at = computed[0], known[computed[0]]
        axes.plot(*at, ls="", marker="s", ms=9, mec=color, mfc="none", label="first computed")
        if run.compiled:
            told = f"with {_seconds(run.compiled)} of compiling"
            offset = 8, -11 * index  # those of other runs beneath
            axes.annotate(told, at, offset, textcoords="offset points", color=color, fontsize=8, va="center")


def _draw_memory(axes: Axes, run: Memory, most: float) -> None:
    axes.plot(run.seconds, run.gib, color=GRAY, lw=1, marker=".", ms=3, zorder=5, label="in use")
    planned = _planned(run)
    for stage in dict.fromkeys(run.stage):
        times = [seconds for seconds, name in zip(run.seconds, run.stage, strict=True) if name == stage]
        begin, end = times[0], max(times[-1], times[0] + 0.004 * (run.seconds[-1] or 1))
        color = STAGES.get(stage, GRAY)
        axes.axvspan(begin, end, color=color, alpha=0.1, lw=0)
        if stage in run.peaks:
            axes.plot(
                [begin, end], [run.peaks[stage]] * 2, color=color, lw=2.5, solid_capstyle="butt", label="peak of the stage"
            )
        if stage in planned:
            axes.plot([begin, end], [planned[stage]] * 2, color="C3", lw=1.5, ls=(0, (3, 2)), label="planned")
        if end - begin > 0.08 * (run.seconds[-1] or 1):
            axes.annotate(stage, ((begin + end) / 2, 1.17 * most), color=GRAY, fontsize=8, ha="center", va="center")
    if run.device_gib is not None and run.device_gib < 1.25 * most:
        axes.axhline(run.device_gib, color="C3", lw=1.5, label="the device")


def _planned(run: Memory) -> dict[str, float]:
    """What was planned, on top of what the process had at the start."""
    return {stage: run.start_gib + gib for stage, gib in run.planned.items()}


def _legend(figure: Drawing, axes: Sequence[Axes], columns: int = 2, loc: Any = "outside upper left") -> None:
    """One legend for these axes, beside them, in which each name stands once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, name in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    legend = figure.legend(
        list(found.values()), list(found), loc=loc, ncols=columns, frameon=False, labelcolor=GRAY, fontsize=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _cut(label: str) -> str:
    label = " ".join(label.split())
    return shortened(label, 44)
