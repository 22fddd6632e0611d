"""The plan of a sweep as a page: totals, and for each run what it computes and what it need not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wanlab.document import Row, shortened, table_html
from wanlab.show.drawing import GRAY, Drawing, drawing, page_of, plain
from wanlab.show.page import Page

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


def draw_sweep_plan(bars: Sequence[Bar]) -> Drawing:
    """A line for each run: filled what it computes, hollow what it takes from others or from the store."""
    shown = bars[:MOST_BARS]
    figure = drawing(7.5, _LINE * len(shown) + 0.8)
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
    plain(axes)
    return figure


def _short(labels: Mapping[str, str]) -> str:
    """All labels in a line: each has its part of it, so that a long prompt hides no seed. A group's name is left out."""
    parts = [f"{name.split('.')[-1]} {label}" for name, label in labels.items()]
    each, left = _LONGEST, _LONGEST
    for told, part in enumerate(sorted(parts, key=len)):  # what short ones leave is for the long ones
        each = max(8, left // (len(parts) - told))
        left -= min(len(part), each)
    return ", ".join(shortened(part, each) for part in parts)


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
    left_out = [f"{len(bars) - MOST_BARS} more in the table."] if len(bars) > MOST_BARS else []
    totals = table_html([(name, [value]) for name, value in facts.items()])
    tables = totals + table_html(rows, columns, folded="every run, in this order")
    return page_of(draw_sweep_plan(bars), title="The plan of a sweep", text=text, notes=[*notes, *left_out], tables=tables)
