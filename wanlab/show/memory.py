"""The drawing of memory: what each stage of a run takes, weights and work apart, beside what the device has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from wanlab.show.drawing import Drawing

_BAR = 0.3  # inches


class Estimated(Protocol):
    """What is drawn of one run; `wanlab.cost.estimate.Estimate` is one."""

    @property
    def stages(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def held(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def device_gib(self) -> float | None: ...  # noqa: D102
    @property
    def margin_gib(self) -> float: ...  # noqa: D102
    @property
    def peak_stage(self) -> str: ...  # noqa: D102


def draw_memory(runs: Sequence[tuple[str, Estimated]]) -> Drawing:
    """A bar for each stage of each run: full color for weights, light for what is computed. The line is the device's memory."""
    from wanlab.show.drawing import drawing, plain

    heights = [_BAR * len(one.stages) + 0.25 for _, one in runs]
    figure = drawing(7.5, sum(heights) + 0.7)
    axes = figure.subplots(len(runs), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    most = max(max([*run.stages.values(), run.device_gib or 0.0]) for _, run in runs)
    for index, (one, (label, run)) in enumerate(zip(axes, runs, strict=True)):
        _draw_run(one, f"C{index}", run, most)
        one.set_title(label, color=GRAY, fontsize=9, loc="left", pad=3)
        plain(one)
    axes[-1].set_xlim(0, 1.14 * most)
    axes[-1].set_xlabel("GiB at the peak of each stage: weights in full color, work in light color", color=GRAY)
    return figure


def _draw_run(axes: Axes, color: str, run: Estimated, most: float) -> None:
    names = list(run.stages)
    for line, name in enumerate(names):
        total, weights = run.stages[name], run.held[name]
        axes.barh(line, weights, 0.7, color=color)
        axes.barh(line, total - weights, 0.7, left=weights, color=color, alpha=0.35)
        strong = "bold" if name == run.peak_stage else "normal"
        # Beside the bar, or where the line of the device would cross it, behind that.
        crossed = run.device_gib is not None and total <= run.device_gib < total + 0.12 * most
        place = run.device_gib if crossed and run.device_gib is not None else total
        axes.annotate(
            f" {total:.3g} GiB", (place, line), color=GRAY, fontsize=8, va="center", fontweight=strong, annotation_clip=False
        )
    if run.device_gib is not None:
        axes.axvline(run.device_gib, color="C3", lw=1.5)
        axes.axvspan(run.device_gib - run.margin_gib, run.device_gib, color="C3", alpha=0.12, lw=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
