"""The still picture of a grid: a frame of each clip, with its row's and its column's values beside it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from wanlab.show.grid_stills import middle

if TYPE_CHECKING:
    from wanlab.show.grid import Cell

# What can be the matter with a cell, and how it is said
STATES = {
    "waiting": "waiting",
    "running": "running",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "unfit": "does not fit",
}
_SIDE = 112  # of a cell, the longer side of its picture
_LABEL_WIDTH = 132
_LINE = 20
_GAP = 4
_MOST = 12  # rows and columns of the picture
_GROUND, _INK, _EMPTY = (238, 240, 243, 255), (32, 36, 42, 255), (128, 134, 142, 70)


def grid_sheet(
    cells: Sequence[Cell], axes: Mapping[str, Sequence[str]], rows: Sequence[str], columns: Sequence[str]
) -> tuple[Image.Image, str]:
    """The picture, and a sentence that says what of the grid is not on it.

    Where several cells share a place (axes on pages, averaged ones) the first stands for them.
    """
    down, across = _combinations(axes, rows), _combinations(axes, columns)
    width, height = _cell_size(cells)
    left = _LABEL_WIDTH + _GAP if rows else 0
    top = len(columns) * (_LINE + _GAP)
    shown_down, shown_across = down[:_MOST], across[:_MOST]
    size = (left + len(shown_across) * (width + _GAP) - _GAP, top + len(shown_down) * (height + _GAP) - _GAP)
    sheet = Image.new("RGBA", (max(size[0], 1), max(size[1], 1)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    for place, values in enumerate(shown_across):
        for level, (name, value) in enumerate(zip(columns, values, strict=True)):
            _label(draw, (left + place * (width + _GAP), level * (_LINE + _GAP), width, _LINE), f"{name} {value}")
    for place, values in enumerate(shown_down):
        if rows:
            lines = "\n".join(f"{name} {value}" for name, value in zip(rows, values, strict=True))
            _label(draw, (0, top + place * (height + _GAP), _LABEL_WIDTH, height), lines)
    standing = _standing(cells, rows, columns)
    for (i, row), (j, column) in itertools.product(enumerate(shown_down), enumerate(shown_across)):
        box = (left + j * (width + _GAP), top + i * (height + _GAP), width, height)
        _draw_cell(sheet, draw, box, standing.get((row, column)))
    return sheet, _left_out(len(cells), sum(1 for key in standing if key[0] in shown_down and key[1] in shown_across))


def _combinations(axes: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(itertools.islice(itertools.product(*(axes[name] for name in names)), 10_000))


def _standing(cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str]) -> dict[tuple[tuple[str, ...], ...], Cell]:
    found: dict[tuple[tuple[str, ...], ...], Cell] = {}
    for cell in cells:
        key = (tuple(cell.at[name] for name in rows), tuple(cell.at[name] for name in columns))
        found.setdefault(key, cell)
    return found


def _left_out(count: int, shown: int) -> str:
    return "" if shown >= count else f" The picture shows {shown} of them."


def _cell_size(cells: Sequence[Cell]) -> tuple[int, int]:
    ratio = next((cell.frames.shape[2] / cell.frames.shape[1] for cell in cells if cell.frames is not None), 1.0)
    ratio = min(4.0, max(0.25, ratio))
    return (_SIDE, round(_SIDE / ratio)) if ratio >= 1 else (round(_SIDE * ratio), _SIDE)


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], cell: Cell | None) -> None:
    x, y, width, height = box
    if cell is None:
        return
    if cell.frames is None:
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_EMPTY)
        _label(draw, (x, y + (height - _LINE) // 2, width, _LINE), STATES[cell.state])
        return
    picture = Image.fromarray(middle(cell.frames))
    scale = min(width / picture.width, height / picture.height)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    sheet.paste(picture.resize(fitted, how), (x + (width - fitted[0]) // 2, y + (height - fitted[1]) // 2))
    if cell.state != "done":
        _label(draw, (x, y, width, _LINE), STATES[cell.state])


def _label(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str) -> None:
    """Text on a ground of its own, since the page behind may be light or dark; what is too long ends in an ellipsis."""
    x, y, width, height = box
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_GROUND)
    font = ImageFont.load_default(12)
    lines = list(_lines(text, font, width - 12, max(1, height // _LINE)))
    top = y + (height - len(lines) * _LINE) / 2
    for place, line in enumerate(lines):
        draw.text((x + 6, top + place * _LINE + 3), line, fill=_INK, font=font)


def _lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> Iterator[str]:
    """The text in at most so many lines within the width, broken at spaces where there are some."""
    clean = ["".join(letter if letter.isprintable() else " " for letter in line[:400]) for line in text.split("\n")]
    words = [word for line in clean for word in [*line.split(), "\n"]]
    line, count = "", 0
    while words and count < most:
        word = words.pop(0)
        longer = f"{line} {word}".strip()
        if word != "\n" and font.getlength(longer) <= width:
            line = longer
            continue
        if word != "\n":
            words.insert(0, word)
        if not line and word != "\n":  # one word that is too long by itself
            line, words[0] = _cut(words[0], font, width)
            words = words if words[0] else words[1:]
        more = any(word != "\n" for word in words)
        if count == most - 1 and more:
            line = _cut(f"{line} ", font, width - math.ceil(font.getlength("…")))[0].rstrip() + "…"
        if line:
            yield line
            count += 1
        line = ""


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> tuple[str, str]:
    end = len(text)
    while end > 1 and font.getlength(text[:end]) > width:
        end -= 1
    return text[:end], text[end:]
