"""The drawing of a plan: noise levels, strips of techniques, what caches answer, and a chart of the context windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wanlab.document import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wanlab.show.drawing import Drawing

GRAY = "#808890"  # readable on white and on black
_STRIP, _CHART = 0.28, 1.5  # inches


class Planned(Protocol):
    """What is drawn of one run; `wanlab.plans.PlannedRun` is one."""

    @property
    def timeline(self) -> Any: ...  # noqa: D102
    @property
    def grid(self) -> Any: ...  # noqa: D102
    @property
    def reused(self) -> tuple[bool, ...]: ...  # noqa: D102
    @property
    def changes(self) -> Any: ...  # noqa: D102
    @property
    def techniques(self) -> Any: ...  # noqa: D102
    @property
    def skipped(self) -> tuple[float | None, ...]: ...  # noqa: D102
    @property
    def model_calls(self) -> int: ...  # noqa: D102
    @property
    def fewest_calls(self) -> int: ...  # noqa: D102
    def windows(self, step: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]: ...  # noqa: D102


def draw(runs: Sequence[Planned]) -> Drawing:
    """The noise level of every step of these runs, and beneath it what happens on the steps."""
    from wanlab.show.drawing import drawing

    figure = drawing(7.5, 1)
    draw_into(figure, runs)
    return figure


def draw_into(figure: Figure, runs: Sequence[Planned]) -> None:
    """The same in a figure that need not be pyplot's, which only the main thread may use; its size is set."""
    from matplotlib.ticker import MaxNLocator

    from wanlab.show.drawing import plain

    lines = [(index, run, name) for index, run in enumerate(runs) for name in ("", *run.techniques) if name != "context"]
    charts = [(index, run) for index, run in enumerate(runs) if "context" in run.techniques]
    heights = [2.5, _STRIP * len(lines) + 0.1, *([_CHART] * len(charts))]
    figure.set_size_inches(7.5, sum(heights) + 0.6)
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    _draw_levels(axes[0], runs)
    _draw_lines(axes[1], lines)
    for one, (index, run) in zip(axes[2:], charts, strict=True):
        _draw_windows(one, index, run)
        one.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel("step", color=GRAY)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    settings = [run.timeline.settings for run in runs]
    axes[-1].set_xlim(-0.7 - max(one.first_step for one in settings), max(one.steps - one.first_step for one in settings) + 0.2)
    plain(*axes)


def label_of(run: Planned) -> str:
    """How a run differs from the first, in short."""
    parts = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in run.changes.items()]
    whole = ", ".join(parts)
    return shortened(whole, 44) or "base"


def _draw_levels(axes: Axes, runs: Sequence[Planned]) -> None:
    """Noise levels, of equal ones only the first, and where forks change settings."""
    drawn: list[list[float]] = []
    for index, run in enumerate(runs):
        sigmas = [float(sigma) for sigma in run.grid.sigmas]
        for at, changes in run.timeline.forks:
            axes.axvline(at - 0.5, color=f"C{index}", lw=1, ls=":")
            told = ", ".join(f"{name} {value}" for name, value in changes)
            axes.annotate(f" from step {at}: {told}", (at - 0.5, 0.02 + 0.08 * index), color=f"C{index}", fontsize=8)
        if sigmas not in drawn:
            settings = run.timeline.settings
            every, first = [float(sigma) for sigma in settings.levels().sigmas], settings.first_step
            if len(every) > len(sigmas):  # levels that this run leaves out
                axes.plot(range(-first, len(every) - first), every, lw=1, ls=":", marker=".", ms=3, color=GRAY, zorder=1)
            axes.plot(range(len(sigmas)), sigmas, lw=1.5, marker=".", color=f"C{index}", label=label_of(run))
            drawn.append(sigmas)
    axes.set_ylabel("sigma (noise level)", color=GRAY)
    axes.set_ylim(-0.03, 1.06)
    if len(drawn) > 1:
        axes.legend(frameon=False, labelcolor=GRAY, fontsize=9)


def _draw_lines(axes: Axes, lines: Sequence[tuple[int, Planned, str]]) -> None:
    """A line for each run, a box for each step: hollow if it is reused, filled as high as the share of calls that are made.

    Beneath it a line for each of its techniques, with a bar on the steps on which it acts; of a cache as high as the share of
    calls that it answers. Hatched is what a cache decides on the way.
    """
    for line, (index, run, name) in enumerate(lines):
        color, steps = f"C{index}", range(len(run.reused))
        if not name:
            _boxes(axes, line, color, steps, [0.0 if run.reused[k] else _made(run.skipped[k]) for k in steps])
            calls = f"{run.model_calls} calls"
            if run.fewest_calls != run.model_calls:
                calls = f"{run.fewest_calls} to {calls}"
            axes.annotate(calls, (1.01, line), xycoords=("axes fraction", "data"), color=color, fontsize=8, va="center")
            continue
        acting = [step for step, acts in enumerate(run.techniques[name]) if acts]
        if name == "cache":
            _boxes(axes, line, color, acting, [run.skipped[step] for step in acting], 0.5)
        else:
            axes.broken_barh([(step - 0.5, 1) for step in acting], (line - 0.2, 0.4), color=color, alpha=0.6)
    names = [(label_of(run) if not name else "cache answers" if name == "cache" else name) for _, run, name in lines]
    axes.set_yticks(range(len(lines)), names, fontsize=8)
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _made(skipped: float | None) -> float | None:
    return None if skipped is None else 1 - skipped


def _boxes(
    axes: Axes, line: int, color: str, steps: Sequence[int], shares: Sequence[float | None], height: float = 0.7
) -> None:
    """A box for each of these steps, filled from below by a share; hatched if the share is not known."""
    for step, share in zip(steps, shares, strict=True):
        hatch = "////" if share is None else ""
        axes.bar(step, height, 0.86, line - height / 2, facecolor="none", edgecolor=color, lw=0.6, hatch=hatch)
        if share:
            axes.bar(step, -height * share, 0.86, line + height / 2, color=color)


def _draw_windows(axes: Axes, index: int, run: Planned) -> None:
    """Latent frames over steps: each step holds its windows side by side, as dark as their weight at a frame."""
    import numpy as np
    from matplotlib.colors import to_rgba

    steps, frames = len(run.reused), run.timeline.settings.latent_frames
    windows = [run.windows(step) for step in range(steps)]
    across = 4 * max(map(len, windows)) + 3  # a window is three wide, with one between them and two more between steps
    picture = np.zeros((frames, steps * across, 4))
    color = to_rgba(f"C{index}")
    shades = [color, (*(0.5 * part + 0.25 for part in color[:3]), 1.0)]
    for step, found in enumerate(windows):
        for number, (covered, weights) in enumerate(found):
            first = step * across + 2 + 4 * number
            for column in range(first, first + 3):
                picture[list(covered), column] = shades[number % 2]
                picture[list(covered), column, 3] = 0.15 + 0.85 * np.array(weights)
    axes.imshow(picture, aspect="auto", interpolation="nearest", extent=(-0.5, steps - 0.5, frames - 0.5, -0.5))
    axes.set_ylabel("latent frame", color=GRAY, fontsize=9)
    axes.set_title(f"context windows: {label_of(run)}", color=GRAY, fontsize=9, loc="left", pad=3)
