"""When each block waited for its weights, when these were copied, when it computed: as a table and as a drawing.

Moments are marks: on a GPU events that the GPU stamps while it works, so recording waits for nothing. They are read when the
table is asked for; only then the CPU waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from wanlab.errors import SettingsError
from wanlab.placement.copiers import Copy, Mark, seconds
from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from wanlab.show.drawing import Drawing

_COMPUTE, _COPY, _WAIT = "C0", "C1", "C3"


@dataclass(frozen=True)
class _Use:
    """One call of a block: when its weights were asked for, when it began and ended to compute, what brought them."""

    forward: int
    block: int
    asked: Mark
    began: Mark
    ended: Mark
    copy: Copy | None


@dataclass(frozen=True)
class Row:
    """One call of a block. `start_seconds` and `copy_start_seconds` are since the first call of all.

    `copy_start_seconds` is NaN if nothing was copied for it.
    """

    forward: int
    block: int
    swapped: bool
    start_seconds: float
    wait_seconds: float
    compute_seconds: float
    copy_start_seconds: float
    copy_seconds: float
    bytes_to_device: int

    @property
    def end(self) -> float:
        """When it had computed, in seconds since the first call."""
        return self.start_seconds + self.wait_seconds + self.compute_seconds


class Timeline:
    """What `BlockSwap.record` saw.

    A forward is a pass over the blocks; a new one begins when a block comes that is not behind the last one.
    """

    def __init__(self, device: torch.device, swapped: Collection[int]) -> None:
        self.device, self._swapped = device, frozenset(swapped)
        self._uses: list[_Use] = []
        self._copies: dict[int, tuple[int, Copy]] = {}  # by identity: block and copy
        self._used: set[int] = set()  # copies that a call was made with
        self._forward, self._last = -1, -1

    def add(self, block: int, asked: Mark, began: Mark, ended: Mark, copy: Copy | None) -> None:
        """Note a call of a block; of a copy that served several calls only the first counts it."""
        if block <= self._last or self._forward < 0:
            self._forward += 1
        self._last = block
        counts = copy is not None and id(copy) in self._copies and id(copy) not in self._used
        if counts:
            self._used.add(id(copy))
        self._uses.append(_Use(self._forward, block, asked, began, ended, copy if counts else None))

    def copying(self, block: int, copy: Copy) -> None:
        """Note a copy that began for a block that may be called later, or never."""
        self._copies[id(copy)] = (block, copy)

    @property
    def forwards(self) -> int:
        """How many passes over the blocks were seen."""
        return self._forward + 1

    def rows(self) -> list[Row]:
        """All calls of blocks, in their order. Waits until the device has computed them."""
        self._settle()
        return [self._row(use) for use in self._uses]

    def table(self) -> DataFrame:
        """A line for each call of a block: seconds, and the bytes that were copied for it."""
        from pandas import DataFrame

        names = list(Row.__dataclass_fields__)
        return DataFrame([[getattr(row, name) for name in names] for row in self.rows()], columns=names)

    def show(self, forward: int = -1) -> Drawing:
        """A drawing of one forward (-1: the last): what computes, what is copied meanwhile, where a block waits."""
        forwards = self.forwards
        if not forwards:
            raise SettingsError("Nothing was recorded; compute something inside `with swap.record() as timeline`.")
        if not -forwards <= forward < forwards:
            raise SettingsError(f"forward is {forward}; {forwards} were recorded, so it must be -{forwards} to {forwards - 1}.")
        self._settle()
        rows = [row for row in self.rows() if row.forward == forward % forwards]
        first = self._uses[0].asked
        copies = [
            (block, seconds(first, copy.last.began), seconds(copy.last.began, copy.last.ended))
            for block, copy in self._copies.values()
            if copy.last.ended is not None
        ]
        return draw(rows, copies, forward % forwards)

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _row(self, use: _Use) -> Row:
        first = self._uses[0].asked
        start, wait, compute = seconds(first, use.asked), seconds(use.asked, use.began), seconds(use.began, use.ended)
        swapped = use.block in self._swapped
        if use.copy is None:
            return Row(use.forward, use.block, swapped, start, wait, compute, float("nan"), 0.0, 0)
        copy = use.copy.last
        copied = seconds(first, copy.began), seconds(copy.began, copy.ended)
        return Row(use.forward, use.block, swapped, start, wait, compute, *copied, use.copy.nbytes)


def draw(rows: Sequence[Row], copies: Sequence[tuple[int, float, float]], forward: int) -> Drawing:
    """One forward as two lanes over time. `copies` are (block, start, seconds); those in the time of the rows are drawn."""
    from wanlab.show.drawing import drawing, plain

    figure = drawing(9, 2.4)
    axes = figure.subplots()
    begin, end = rows[0].start_seconds, rows[-1].end
    scale, unit = (1e3, "ms") if end - begin < 1 else (1.0, "seconds")
    lanes = _Lanes(axes, begin, end, scale)
    for row in rows:
        began = row.start_seconds + row.wait_seconds
        lanes.bar(0, began, row.end, row.block, _COMPUTE, 1.0 if row.swapped else 0.4)
        lanes.hatched(0, row.start_seconds, began)
    for block, start, taken in copies:
        lanes.bar(1, max(start, begin), min(start + taken, end), block, _COPY, 1.0)
    axes.set_yticks([0, 1], ["compute", "copy"])
    axes.set_ylim(-0.6, 1.6)
    axes.set_xlim(0, (end - begin) * scale)
    axes.set_xlabel(unit, color=GRAY)
    axes.set_title(summary(rows, forward), color=GRAY, fontsize=9, loc="left")
    _legend(axes)
    plain(axes)
    return figure


def summary(rows: Sequence[Row], forward: int) -> str:
    """A forward in a line: its time, what of it was waiting, and how much was copied for it."""
    whole, waited = rows[-1].end - rows[0].start_seconds, sum(row.wait_seconds for row in rows)
    copied, count = sum(row.copy_seconds for row in rows), sum(row.bytes_to_device for row in rows)
    text = f"forward {forward}: {_time(whole)}, of which {_time(waited)} waiting for weights"
    if not count:
        return f"{text}; nothing was copied"
    return f"{text}; {count / 2**30:.2f} GiB copied in {_time(copied)} ({count / 2**30 / max(copied, 1e-9):.1f} GiB/s)"


def _time(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


@dataclass(frozen=True)
class _Lanes:
    """Bars over time; seconds become `scale` x seconds since `begin`."""

    axes: Axes
    begin: float
    end: float
    scale: float

    def bar(self, lane: int, left: float, right: float, block: int, color: str, alpha: float) -> None:
        """A bar with the block's number, if it is wide enough for that."""
        share = (right - left) / (self.end - self.begin)
        if share <= 0:
            return
        gap = 0.0012 * (self.end - self.begin) if share > 0.005 else 0.0  # so that neighbours can be told apart
        self._draw(lane, left, right - gap, facecolor=color, alpha=alpha)
        if share > 0.008 * len(str(block)):
            at = ((left + right) / 2 - self.begin) * self.scale
            ink = "white" if alpha == 1 else GRAY
            self.axes.annotate(str(block), (at, lane), ha="center", va="center", fontsize=7, color=ink)

    def hatched(self, lane: int, left: float, right: float) -> None:
        """A hatched bar, if it can be seen."""
        if right - left > 0.002 * (self.end - self.begin):
            self._draw(lane, left, right, facecolor="none", edgecolor=_WAIT, hatch="////", lw=0.8)

    def _draw(self, lane: int, left: float, right: float, **look: Any) -> None:
        self.axes.broken_barh([((left - self.begin) * self.scale, (right - left) * self.scale)], (lane - 0.4, 0.8), **look)


def _legend(axes: Axes) -> None:
    from matplotlib.patches import Patch

    kinds: list[tuple[str, dict[str, Any]]] = [
        ("swapped block", {"facecolor": _COMPUTE, "alpha": 1.0}),
        ("resident block", {"facecolor": _COMPUTE, "alpha": 0.4}),
        ("copy", {"facecolor": _COPY, "alpha": 1.0}),
        ("waits for its copy", {"facecolor": "none", "edgecolor": _WAIT, "hatch": "////"}),
    ]
    handles = [Patch(label=label, **look) for label, look in kinds]
    axes.legend(
        handles=handles, frameon=False, labelcolor=GRAY, fontsize=8, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.28)
    )
