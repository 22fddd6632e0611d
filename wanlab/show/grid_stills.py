"""How the clips of a grid travel: exactly while they are small, else as JPEG, and smaller where there are many of them.

A page of fifty clips at 480p would be hundreds of megabytes, of which a cell shows a thumbnail. So one size is chosen for
all cells of a grid, such that the page stays within a budget; who needs every pixel compares the runs themselves.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from wanlab.show.stills import Frames, Stills

BUDGET = 12 * 2**20  # bytes of stills in one page
_MOST_PIXELS = (
    4 * 10**7
)  # of all frames together, where cells are about as large as a page shows them: 25 clips of 33 at 294x165
_EXACT_PIXELS = 2**22  # 60 clips of 17 frames of 64x64: about 0.5 bytes a pixel, and 0.4 seconds to encode
_EXACT_PREVIEW, _PREVIEW_AREA = 2**18, 256 * 256
_QUALITY = 85
_LEAST_SIDE = 16


@dataclass(frozen=True)
class Coding:
    """One codec and one most area (pixels of a frame) for all clips of a grid."""

    kind: str
    area: float = math.inf

    def encode(self, frames: Frames) -> tuple[Stills, tuple[int, int]]:
        """The stills of one clip and their height and width, which are smaller than the clip's where it has more area."""
        size = fitted(frames, self.area)

        def one(frame: Frames) -> bytes:
            picture = Image.fromarray(frame)
            if size != picture.size[::-1]:
                picture = picture.resize(size[::-1], Image.Resampling.HAMMING, reducing_gap=2.0)
            return _written(picture, self.kind)

        with ThreadPoolExecutor() as threads:  # pillow lets go of the interpreter while it scales and encodes
            return Stills(tuple(threads.map(one, frames))), size


def coding_for(clips: Sequence[Frames], planned: int) -> Coding:
    """The coding for a grid of `planned` clips of which these are known.

    Exact if all together are small. Otherwise the area is shrunk until a frame from the middle of each clip, times the
    number of frames, is within the budget.
    """
    more = planned / len(clips)
    pixels = more * sum(clip.size // 3 for clip in clips)
    if pixels <= _EXACT_PIXELS:
        return Coding("image/webp")
    largest = max(clip.shape[1] * clip.shape[2] for clip in clips)
    area = largest * min(1.0, _MOST_PIXELS / pixels)
    for _ in range(4):  # smaller pictures take more bytes a pixel, so once is not enough
        coding = Coding("image/jpeg", area)
        middles = [coding.encode(clip[len(clip) // 2 :][:1])[0] for clip in clips]
        size = more * sum(len(clip) * len(still.pieces[0]) for clip, still in zip(clips, middles, strict=True))
        if size <= BUDGET:
            break
        area *= 0.95 * BUDGET / size
    return coding


def preview_coding(frames: Frames) -> Coding:
    """The coding of what a run shows while it is on its way, which is replaced soon: exact if it is small, else rough."""
    return Coding("image/webp" if frames.size // 3 <= _EXACT_PREVIEW else "image/jpeg", _PREVIEW_AREA)


def fitted(frames: Frames, area: float) -> tuple[int, int]:
    """Height and width of the clip's frames within the area, in their proportion."""
    height, width = frames.shape[1:3]
    scale = min(1.0, math.sqrt(area / (height * width)))
    return max(min(height, _LEAST_SIDE), round(height * scale)), max(min(width, _LEAST_SIDE), round(width * scale))


def middle(frames: Frames) -> np.ndarray:
    """The frame that stands for a clip in a still picture: the one half-way, (h, w, 3)."""
    return frames[len(frames) // 2]


def _written(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "image/webp":
        picture.save(file, "WEBP", lossless=True, method=0)
    else:
        picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)  # whole colours, as in the player
    return file.getvalue()
