"""A player of up to nine clips on one clock: side by side, or two as a wipe, in turn, or as an amplified difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from PIL import Image

from wanlab.document import Row, table_html
from wanlab.show.frame_curves import frame_curves
from wanlab.show.page import Face, Page, build_page
from wanlab.show.stills import Frames, check_frames, contact_sheet, encode, listed, plural, spread

Mode = Literal["side", "wipe", "blink", "difference"]
MOST_CLIPS = 9  # one for each of the keys 1 to 9
_SCRIPTS = (
    *(f"common/{name}" for name in ("clock", "pictures")),
    *(
        f"player/{name}"
        for name in ("frame_plot", "frame_curves", "settings_table", "stage", "full_screen", "keys", "template", "player")
    ),
)
PLAYER = Face("Player", _SCRIPTS, ("common/controls", "player/player", "player/frame_curves"))


@dataclass(frozen=True, eq=False)
class Tile:
    """One clip of a player: `frames` (t, h, w, 3) uint8, its name, what is worth knowing about it, its frames per second."""

    frames: Frames
    label: str
    details: Mapping[str, str] = field(default_factory=dict)
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        """Refuse frames of another kind here, where the mistake was made."""
        check_frames(self.frames, f"The clip {self.label!r}")


def player(
    tiles: Sequence[Tile],
    *,
    frame_rate: float = 16.0,
    title: str = "",
    mode: Mode = "side",
    table: Sequence[Row] = (),
    summary: str = "",
) -> Page:
    """A page that plays the tiles together, frame by frame the same in all, with curves of each frame beneath.

    `table` holds rows (name, one value per tile), shown between the clips: the settings that differ. With a table the
    tiles' details are folded away under it. `summary` is a sentence above all. Of clips of different length the shorter ones
    keep their last frame; clips of different size are drawn to the same height; all play at `frame_rate`, and the page says
    so where a tile has another one. ValueError if a mode, a rate, a row or the number of tiles does not fit.
    """
    tiles = list(tiles)
    check_frame_rate(frame_rate)
    _check(tiles, mode, table)
    kind, clips = encode([tile.frames for tile in tiles])
    return build_page(
        PLAYER,
        {
            "kind": kind,
            "rate": float(frame_rate),
            "mode": mode,
            "summary": summary,
            "curves": frame_curves([tile.frames for tile in tiles]),
            "clips": [
                {"label": tile.label, "height": tile.frames.shape[1], "width": tile.frames.shape[2], **stills.packed()}
                for tile, stills in zip(tiles, clips, strict=True)
            ],
        },
        sheet=_sheet(tiles),
        title=title,
        text=" ".join(filter(None, [_sentence(tiles, frame_rate), summary])),
        notes=_notes(tiles, frame_rate),
        tables=_tables(tiles, table),
    )


def check_frame_rate(frame_rate: float) -> None:
    """Raise ValueError unless it is above 0 and finite."""
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate is {frame_rate}; it must be above 0, for example 16.")


def _check(tiles: Sequence[Tile], mode: object, table: Sequence[Row]) -> None:
    if not 1 <= len(tiles) <= MOST_CLIPS:
        raise ValueError(f"tiles holds {len(tiles)} clips; a player shows 1 to {MOST_CLIPS}. Choose some of them.")
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}.")
    if mode != "side" and len(tiles) < 2:
        raise ValueError(f"mode is {mode!r}, which needs two clips; there is one. Use mode='side'.")
    for name, values in table:
        if isinstance(values, str) or len(values) != len(tiles):
            raise ValueError(f"The row {name!r} of the table must have one value per clip: {len(tiles)}.")
    for tile in tiles:
        if tile.frame_rate is not None:
            check_frame_rate(tile.frame_rate)


def _sheet(tiles: Sequence[Tile]) -> Image.Image:
    """Six frames of each clip in a row; of many clips smaller ones, since the notebook's file holds this picture twice."""
    rows = [[tile.frames[index] for index in spread(len(tile.frames), 6)] for tile in tiles]
    labels = [f"{number}   {tile.label}" for number, tile in enumerate(tiles, 1)] if len(tiles) > 1 else []
    return contact_sheet(rows, labels=labels, height=128 if len(tiles) <= 4 else 64)


def _sentence(tiles: Sequence[Tile], frame_rate: float) -> str:
    frames, height, width, _ = tiles[0].frames.shape
    clips = listed(tile.label for tile in tiles)
    return f"Player of {clips}: {plural(frames, 'frame')} of {width}x{height}, {frame_rate:g} a second."


def _notes(tiles: Sequence[Tile], frame_rate: float) -> list[str]:
    longest = max(len(tile.frames) for tile in tiles)
    size = tiles[0].frames.shape[1:3]
    notes = []
    for tile in tiles:
        frames, height, width, _ = tile.frames.shape
        if frames < longest:
            notes.append(f'"{tile.label}" has {frames} of {longest} frames; then its last one stays.')
        if (height, width) != size:
            notes.append(
                f'"{tile.label}" is {width}x{height}, not {size[1]}x{size[0]}: drawn to the same height, '
                "and stretched to that size for wipe, blink and difference."
            )
        if tile.frame_rate not in (None, frame_rate):
            notes.append(f'"{tile.label}" was made for {tile.frame_rate:g} frames a second; here all play at {frame_rate:g}.')
    return notes


def _tables(tiles: Sequence[Tile], table: Sequence[Row]) -> str:
    columns = [f"{number} \u00b7 {tile.label}" for number, tile in enumerate(tiles, 1)] if len(tiles) > 1 else []
    names = dict.fromkeys(name for tile in tiles for name in tile.details)
    details = [(name, [tile.details.get(name, "") for tile in tiles]) for name in names]
    return table_html(table, columns) + table_html(details, columns, folded="Details" if table else "")
