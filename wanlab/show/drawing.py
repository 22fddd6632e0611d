"""Drawings: figures of matplotlib for light and dark places, and the pages and files that they become.

The ground is clear and what is no data is gray. A drawing goes into a page as a vector picture in an `img`: it stays sharp, and
nothing in it can act or be mixed up with its neighbours. Imports matplotlib, so it is imported where something is drawn.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from matplotlib import pyplot
from matplotlib.figure import Figure

from wanlab.document import esc
from wanlab.show.page import Page
from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Drawing(Figure):
    """A figure that a notebook shows and that `to_html` writes as one offline file."""

    def to_html(self, path: str | Path, title: str = "wanlab") -> Path:
        """Write the drawing as one complete HTML file; the path is returned. FileError if it cannot be written."""
        return page_of(self, title=title, text=f"Drawing: {title}").to_html(path)


def drawing(width: float, height: float) -> Drawing:
    """An empty drawing of this size in inches."""
    figure = pyplot.figure(figsize=(width, height), layout="constrained", facecolor="none", FigureClass=Drawing)
    pyplot.close(figure)  # shown where it is the value of a cell, not once more at its end
    return cast(Drawing, figure)


def plain(*axes: Axes) -> None:
    """Make the ground of these axes clear, and their frames and ticks gray."""
    for one in axes:
        one.set_facecolor("none")
        one.tick_params(colors=GRAY, which="both")
        for spine in one.spines.values():
            spine.set_color(GRAY)


def svg(figure: Figure) -> str:
    """The figure as an element that can stand in HTML; its texts are drawn as outlines, and it names no address."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    picture = written.getvalue()
    return picture[picture.index("<svg") :]


def page_of(figure: Figure, *, title: str, text: str, notes: Sequence[str] = (), tables: str = "") -> Page:
    """A page that holds the figure, what it says in a sentence, notes, and tables of its numbers (HTML by `table_html`)."""
    source = base64.b64encode(svg(figure).encode()).decode()
    width = round(72 * figure.get_figwidth() * 4 / 3)  # CSS pixels
    parts = [
        '<div class="wanlab mathjax_ignore" data-drawing="1">',
        f"<p><strong>{esc(title)}</strong></p>",
        f'<div style="overflow-x: auto"><img src="data:image/svg+xml;base64,{source}" width="{width}" alt="{esc(text)}" '
        'style="max-width: 100%; min-width: 520px"></div>',  # in a narrow place it scrolls: its texts must stay readable
        *(f"<p>{esc(note)}</p>" for note in notes),
        tables,
        "</div>",
    ]
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return Page("\n".join(part for part in parts if part), png.getvalue(), text, title)
