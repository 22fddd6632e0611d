"""The drawing of a quantization report: errors by block, and where stored numbers lie in the range of the format. No torch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from wanlab.show.plan import GRAY

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from wanlab.show.drawing import Drawing

# Smallest and largest normal number, and the step below the normal range (the smallest number that is not 0).
_RANGES = {"e4m3": (2.0**-6, 448.0, 2.0**-9), "e5m2": (2.0**-14, 57344.0, 2.0**-16)}
_MARKERS = {"attn1": "o", "attn2": "s", "ffn": "^"}


def draw(table: pandas.DataFrame) -> Drawing:
    """A figure of a report's table. With one kind the colors are kinds of layers, with several they are the kinds."""
    from matplotlib.ticker import PercentFormatter

    from wanlab.show.drawing import drawing, plain

    figure = drawing(8.5, 6.2)
    errors, sizes = figure.subplots(2, sharex=True)
    places = _places(table)
    if table["kind"].nunique() == 1:
        _draw_layers(errors, sizes, table.assign(place=places))
    else:
        _draw_kinds(errors, sizes, table.assign(place=places))
    errors.set_ylabel("|W - Q| / |W|", color=GRAY)
    if table["error"].notna().any():
        errors.set_ylim(0, 1.12 * (table["error"].max() or 1.0))
    else:
        errors.text(0.5, 0.5, "not known without the weights before", transform=errors.transAxes, ha="center", color=GRAY)
    errors.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %", decimals=1))
    _draw_range(sizes, "e5m2" if all("e5m2" in kind for kind in table["kind"]) else "e4m3")
    sizes.set_xlabel("block", color=GRAY)
    names = {round(place): name for name, place in zip(table["layer"].map(_block), places, strict=True)}
    every = math.ceil(len(names) / 20)
    sizes.set_xticks(sorted(names)[::every], [names[place] for place in sorted(names)[::every]])
    plain(errors, sizes)
    handles, labels = errors.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False, labelcolor=GRAY, fontsize=8)
    legend.set_in_layout(True)
    return figure


def _draw_layers(errors: Axes, sizes: Axes, table: pandas.DataFrame) -> None:
    """A mark for each layer: the color says which projection, the mark which part of the block."""
    roles = list(dict.fromkeys(table["layer"].map(_role)))
    projections = list(dict.fromkeys(role.split(".", 1)[1] for role in roles))
    kind = str(table["kind"].iloc[0])
    stored = kind.startswith("fp8")  # other numbers have no place in the range of fp8; W itself has
    for role, rows in table.groupby(table["layer"].map(_role), sort=False):
        part, projection = str(role).split(".", 1)
        style: dict[str, Any] = {
            "color": f"C{projections.index(projection)}",
            "marker": _MARKERS.get(part, "D"),
            "ms": 5,
            "ls": "none",
        }
        errors.plot(rows["place"], rows["error"], label=str(role), **style)
        most, typical = (rows[f"{name}_{'stored' if stored else 'weight'}"] for name in ("max", "typical"))
        sizes.vlines(rows["place"], typical, most, color=style["color"], lw=1, alpha=0.6)
        sizes.plot(rows["place"], typical, **style)
    sizes.set_ylabel("|W / scale|" if "scaled" in kind else "|W|", color=GRAY)
    errors.set_title(f"{kind}: a mark for each layer", color=GRAY, fontsize=10, loc="left")
    sizes.set_title("mark: typical weight; line: up to the largest", color=GRAY, fontsize=9, loc="left", pad=3)


def _draw_kinds(errors: Axes, sizes: Axes, table: pandas.DataFrame) -> None:
    """A color for each kind: points for layers, a line through the middle of each block."""
    drawn: set[str] = set()
    for number, (kind, rows) in enumerate(table.groupby("kind", sort=False)):
        color, middle = f"C{number}", rows.groupby(rows["place"].round())
        errors.plot(rows["place"], rows["error"], color=color, marker=".", ms=4, ls="none", alpha=0.5)
        errors.plot(middle["error"].median(), color=color, lw=1.5, ls=("-", "--", "-.")[number % 3], label=str(kind))
        numbers = "as it is" if str(kind) in ("fp8_e4m3fn", "fp8_e5m2") else str(kind)
        if not str(kind).startswith("fp8") or numbers in drawn:
            continue
        drawn.add(numbers)
        sizes.fill_between(
            middle["place"].median().index.to_numpy(float),
            middle["typical_stored"].median(),
            middle["max_stored"].max(),
            color=color,
            alpha=0.25,
            lw=0,
        )
        sizes.plot(middle["typical_stored"].median(), color=color, lw=1.5)
        sizes.plot(middle["max_stored"].max(), color=color, lw=1, ls=":")
    sizes.set_ylabel("numbers stored as fp8", color=GRAY)
    errors.set_title("points: layers; line: middle of each block", color=GRAY, fontsize=10, loc="left")
    sizes.set_title("line: typical weight / scale; dotted: the largest", color=GRAY, fontsize=9, loc="left", pad=3)


def _draw_range(axes: Axes, form: str) -> None:
    """The normal range of a format as a band, and beneath it where its steps no longer shrink with the numbers."""
    from matplotlib.ticker import LogLocator

    smallest, largest, step = _RANGES[form]
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, step / 8), max(high, largest * 16))
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.axhspan(smallest, largest, color=GRAY, alpha=0.15, lw=0, zorder=0)
    axes.axhspan(step, smallest, facecolor="none", edgecolor=GRAY, alpha=0.35, lw=0, hatch="///", zorder=0)
    lowest, fine = f"$2^{{{math.log2(smallest):.0f}}}$", f"$2^{{{math.log2(step):.0f}}}$"
    for text, place, side in (
        (f"normal range of {form}: {lowest} to {largest:.0f}", largest, 1),
        (f"hatched: below {lowest} the steps stay at {fine}", step, -1),
    ):
        axes.annotate(
            text, (1, place), xycoords=("axes fraction", "data"), xytext=(-4, 3 * side), textcoords="offset points",
            ha="right", va="bottom" if side > 0 else "top", color=GRAY, fontsize=8,
        )  # fmt: skip


def _places(table: pandas.DataFrame) -> list[float]:
    """Where each row stands: its block's number in order, a little beside it by which layer it is."""
    blocks = {name: number for number, name in enumerate(dict.fromkeys(table["layer"].map(_block)))}
    roles = {name: number for number, name in enumerate(dict.fromkeys(table["layer"].map(_role)))}
    width = 0.7 / max(1, len(roles) - 1)
    return [blocks[_block(layer)] + (roles[_role(layer)] - (len(roles) - 1) / 2) * width for layer in table["layer"]]


def _block(layer: str) -> str:
    """The short name of a layer's block: "3", and "v3" for one of VACE's."""
    found = re.match(r"(vace_)?blocks\.(\d+)\.", layer)
    return f"{'v' if found[1] else ''}{found[2]}" if found else layer


def _role(layer: str) -> str:
    """Which layer of its block: "attn1.to_q", "ffn.net.2"."""
    found = re.match(r"(?:vace_)?blocks\.\d+\.(.+)", layer)
    return found[1] if found else f"layer.{layer}"
