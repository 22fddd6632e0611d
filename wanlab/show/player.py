"""A player of one or more clips on one clock: side by side, as a wipe, or as an amplified difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from wanlab.show.page import Face, Page, Row, build_page, table_html
from wanlab.show.stills import Frames, check_frames, contact_sheet, encode, listed, plural, spread

Mode = Literal["side", "wipe", "difference"]
PLAYER = Face("Player", ("clock", "pictures", "controls", "player"), ("player",))


@dataclass(frozen=True, eq=False)
class Tile:
    """One clip of a player: `frames` (t, h, w, 3) uint8, its name, and what is worth knowing about it."""

    frames: Frames
    label: str
    details: Mapping[str, str] = field(default_factory=dict)

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
) -> Page:
    """A page that plays the tiles together, frame by frame the same in all.

    `table` holds rows (name, one value per tile), shown beneath: the settings that differ. With a table the tiles'
    details are folded away under it. Of clips of different length the shorter ones keep their last frame; clips of
    different size are drawn to the same height. ValueError if a mode, a rate or a row does not fit.
    """
    tiles = list(tiles)
    check_frame_rate(frame_rate)
    if not tiles:
        raise ValueError("tiles is empty; a player needs at least one clip.")
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}.")
    if mode != "side" and len(tiles) < 2:
        raise ValueError(f"mode is {mode!r}, which needs two clips; there is one. Use mode='side'.")
    for name, values in table:
        if isinstance(values, str) or len(values) != len(tiles):
            raise ValueError(f"The row {name!r} of the table must have one value per clip: {len(tiles)}.")
    kind, clips = encode([tile.frames for tile in tiles])
    return build_page(
        PLAYER,
        {
            "kind": kind,
            "rate": float(frame_rate),
            "mode": mode,
            "clips": [
                {"label": tile.label, "height": tile.frames.shape[1], "width": tile.frames.shape[2], **stills.packed()}
                for tile, stills in zip(tiles, clips, strict=True)
            ],
        },
        sheet=contact_sheet([[tile.frames[i] for i in spread(len(tile.frames), 6)] for tile in tiles]),
        title=title,
        text=_sentence(tiles, frame_rate),
        notes=_notes(tiles),
        tables=_tables(tiles, table),
    )


def check_frame_rate(frame_rate: float) -> None:
    """Raise ValueError unless it is above 0 and finite."""
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate is {frame_rate}; it must be above 0, for example 16.")


def _sentence(tiles: Sequence[Tile], frame_rate: float) -> str:
    frames, height, width, _ = tiles[0].frames.shape
    clips = listed(tile.label for tile in tiles)
    return f"Player of {clips}: {plural(frames, 'frame')} of {width}x{height}, {frame_rate:g} a second."


def _notes(tiles: Sequence[Tile]) -> list[str]:
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
                "and stretched to that size for wipe and difference."
            )
    return notes


def _tables(tiles: Sequence[Tile], table: Sequence[Row]) -> str:
    columns = [tile.label for tile in tiles] if len(tiles) > 1 else []
    names = dict.fromkeys(name for tile in tiles for name in tile.details)
    details = [(name, [tile.details.get(name, "") for tile in tiles]) for name in names]
    return table_html(table, columns) + table_html(details, columns, folded="Details" if table else "")
