"""Frames as encoded stills: exact when that is small, JPEG otherwise, and one codec for a whole page.

Stills and not a video, because a video tag cannot be scrubbed frame by frame (measured: wrong frames and up to a second
a seek) and WebCodecs do not exist on plain http, which is how a rented GPU is reached. One codec for a whole page,
because a difference between an exact clip and a compressed one would show the compression.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]

# Exact stills up to 512 frames of 64x64: about 1 byte a pixel and 2 seconds to encode. JPEG needs a fifth of both.
_EXACT_PIXELS = 2**21
_EXACT_BYTES = 2**20
_JPEG_QUALITY = 90
_SHEET_HEIGHT = 128


@dataclass(frozen=True)
class Stills:
    """The encoded frames of one clip."""

    pieces: tuple[bytes, ...]

    def packed(self) -> dict[str, object]:
        """The pieces as one base64 text and their sizes in bytes."""
        return {"sizes": [len(piece) for piece in self.pieces], "stills": base64.b64encode(b"".join(self.pieces)).decode()}


def check_frames(frames: Frames, name: str) -> None:
    """Raise ValueError unless frames are (t, h, w, 3) uint8 with at least one frame and one pixel."""
    if isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and frames.shape[3:] == (3,) and frames.size:
        return
    found = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
    raise ValueError(f"{name} is {found}; it must be a uint8 array of shape (frames, height, width, 3), none of them zero.")


def encode(clips: Sequence[Frames]) -> tuple[str, list[Stills]]:
    """The MIME type of the codec chosen for all these clips, and their stills."""
    if sum(clip.size // 3 for clip in clips) <= _EXACT_PIXELS:
        exact = [_coded(clip, "WEBP", lossless=True, method=2) for clip in clips]
        if sum(len(piece) for stills in exact for piece in stills.pieces) <= _EXACT_BYTES:
            return "image/webp", exact
    return "image/jpeg", compressed(clips)


def compressed(clips: Sequence[Frames], quality: int = _JPEG_QUALITY) -> list[Stills]:
    """The clips as JPEG, whatever their size; 4:4:4, since halved colours would be the largest part of a difference of two."""
    return [_coded(clip, "JPEG", quality=quality, subsampling=0) for clip in clips]


def contact_sheet(rows: Sequence[Sequence[Frames]], *, labels: Sequence[str] = (), height: int = _SHEET_HEIGHT) -> Image.Image:
    """One picture of rows of frames, each (h, w, 3), all drawn to `height`, with clear gaps between, a label over each row."""
    cells = [[_to_height(Image.fromarray(frame), height) for frame in row] for row in rows]
    width = max(sum(cell.width + 4 for cell in row) - 4 for row in cells)
    heads = [_head(label, width) for label in labels]
    heights = [max(cell.height for cell in row) for row in cells]
    whole = sum(heights) + sum(head.height for head in heads) + 4 * (len(rows) - 1)
    sheet = Image.new("RGBA", (width, whole), (0, 0, 0, 0))
    top = 0
    for index, (row, height) in enumerate(zip(cells, heights, strict=True)):
        left = 0
        if heads:
            sheet.paste(heads[index], (0, top))
            top += heads[index].height
        for cell in row:
            sheet.paste(cell, (left, top))
            left += cell.width + 4
        top += height + 4
    return sheet


def as_png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    return _written(picture, "PNG")


def as_data_url(picture: Image.Image) -> str:
    """The picture inside a URL, compressed: it is a fallback and must be small."""
    return "data:image/webp;base64," + base64.b64encode(_written(picture, "WEBP", quality=82, method=2)).decode()


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` different indices from 0 to count - 1, evenly spread, both ends included.

    >>> spread(17, 5)
    [0, 4, 8, 12, 16]
    """
    wanted = min(count, wanted)
    return [round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)]


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 frame, 17 frames."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str]) -> str:
    """Names in quotes, with bars between."""
    return " | ".join(f'"{name}"' for name in names)


def _head(label: str, width: int) -> Image.Image:
    """A strip with the label, readable on any ground. Pillow's font knows Latin letters: of other labels only the number."""
    font = ImageFont.load_default(13)
    head = Image.new("RGBA", (width, 20), (60, 60, 60, 255))
    text = " ".join(label.replace("\u2026", "...").replace("\u2192", "->").split())
    text = text if all(" " <= letter <= "\xff" for letter in text) else text.split(" ")[0]
    while text and font.getlength(text) > width - 10:
        text = text[: -4 if text.endswith("...") else -1].rstrip() + "..." if len(text) > 4 else ""
    ImageDraw.Draw(head).text((5, 2), text, font=font, fill="white")
    return head


def _to_height(picture: Image.Image, height: int) -> Image.Image:
    if picture.height <= height // 2:  # whole factors keep small pixels square
        factor = height // picture.height
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if picture.height <= height:
        return picture
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _coded(clip: Frames, codec: str, **options: object) -> Stills:
    return Stills(tuple(_written(Image.fromarray(frame), codec, **options) for frame in clip))


def _written(picture: Image.Image, codec: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, codec, **options)
    return file.getvalue()
