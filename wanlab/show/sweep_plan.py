"""The plan of a sweep as a page: totals, and for each run what it computes and what it need not."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanlab.show.page import Page, Row, esc, table_html
from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 60  # more are told in the table
_LINE = 0.22  # inches
_LONGEST = 60  # letters of all labels of a run


@dataclass(frozen=True)
class Bar:
    """A run: its labels by axis, "planned", "done" or "unfit", the calls it makes, and those it would make by itself."""

    labels: Mapping[str, str]
    state: str
    calls: int
    alone: int


def draw_sweep_plan(bars: Sequence[Bar]) -> Figure:
    """A line for each run: filled what it computes, hollow what it takes from others or from the store."""
    from matplotlib import pyplot

    shown = bars[:MOST_BARS]
    figure = pyplot.figure(figsize=(7.5, _LINE * len(shown) + 0.8), layout="constrained", facecolor="none")
    pyplot.close(figure)  # shown where it is the value of a cell, not once more at its end
    axes = figure.subplots()
    lines = range(len(shown))
    axes.barh(lines, [bar.alone for bar in shown], 0.7, facecolor="none", edgecolor="C0", lw=0.6)
    made = [bar.calls if bar.state == "planned" else 0 for bar in shown]
    axes.barh(lines, made, 0.7, color="C0")
    for line, bar in enumerate(shown):
        if bar.state != "planned":
            told = "done already" if bar.state == "done" else "will not fit"
            axes.annotate(told, (0, line), (4, 0), textcoords="offset points", fontsize=8, color=GRAY, va="center")
    axes.set_yticks(lines, [_short(bar.labels) for bar in shown], fontsize=8, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("calls of the model (filled: made, hollow: shared)", color=GRAY, fontsize=9)
    axes.set_facecolor("none")
    axes.tick_params(colors=GRAY)
    for spine in axes.spines.values():
        spine.set_color(GRAY)
    return figure


def _short(labels: Mapping[str, str]) -> str:
    """All labels in a line: each has its part of it, so that a long prompt hides no seed. A group's name is left out."""
    parts = [f"{name.split('.')[-1]} {label}" for name, label in labels.items()]
    each, left = _LONGEST, _LONGEST
    for told, part in enumerate(sorted(parts, key=len)):  # what short ones leave is for the long ones
        each = max(8, left // (len(parts) - told))
        left -= min(len(part), each)
    return ", ".join(part if len(part) <= each else f"{part[: each - 1]}\u2026" for part in parts)


def sweep_plan_page(
    bars: Sequence[Bar],
    facts: Mapping[str, str],
    *,
    text: str,
    notes: Sequence[str] = (),
    columns: Sequence[str] = (),
    rows: Sequence[Row] = (),
) -> Page:
    """The page of a plan: `facts` are the totals, `rows` the table of all runs under `columns`."""
    figure = draw_sweep_plan(bars)
    drawing, picture = io.StringIO(), io.BytesIO()
    figure.savefig(drawing, format="svg")
    figure.savefig(picture, format="png", dpi=80, facecolor="white")
    svg = drawing.getvalue()
    totals = "".join(
        f"<tr><th style='text-align: left'>{esc(name)}</th><td>{esc(value)}</td></tr>" for name, value in facts.items()
    )
    parts = [
        f"<table>{totals}</table>",
        svg[svg.index("<svg") :].replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1),
        *(f"<p>{esc(note)}</p>" for note in notes),
        f"<p>{len(bars) - MOST_BARS} more in the table.</p>" if len(bars) > MOST_BARS else "",
        table_html(rows, columns, folded="every run, in this order"),
    ]
    return Page("\n".join(parts), picture.getvalue(), text, "The plan of a sweep")
