"""What a player draws beneath its clips: one number per frame, measured on the frames themselves and not on their stills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wanlab.metrics import apart
from wanlab.show.stills import Frames

Curve = NDArray[np.float64]


def difference(frames: Frames, reference: Frames) -> Curve:
    """How far each frame is from the reference's: the mean of all absolute differences, of 255. (t,), t of the longer one.

    As in the player the shorter clip keeps its last frame, and frames of another size are stretched to the reference's.
    """
    size = reference.shape[1:3]
    last, other_last = len(frames) - 1, len(reference) - 1
    return np.array(
        [apart(_sized(frames[min(k, last)], size), reference[min(k, other_last)]) for k in range(max(last, other_last) + 1)]
    )


def flicker(frames: Frames) -> Curve:
    """How far each frame is from the one before it, (t,), of 255. The first has none before it: NaN."""
    return np.array([math.nan, *(apart(frame, before) for before, frame in pairwise(frames))])


def mean_colour(frames: Frames) -> Curve:
    """The mean red, green and blue of each frame, (t, 3), 0 to 255."""
    return np.array([frame.mean(axis=(0, 1), dtype=np.float64) for frame in frames])


def frame_curves(clips: Sequence[Frames]) -> dict[str, object]:
    """All curves of a player as JSON holds them; what is not known is None.

    `difference[i][j - i - 1]` is that of the clips i and j, for every pair i < j; `flicker` and `colour` have an entry a clip.
    """
    pairs = [[_listed(difference(other, clip)) for other in clips[index + 1 :]] for index, clip in enumerate(clips)]
    return {
        "difference": pairs,
        "flicker": [_listed(flicker(clip)) for clip in clips],
        "colour": [[_listed(channel) for channel in mean_colour(clip).T] for clip in clips],
    }


def _sized(frame: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    if frame.shape[:2] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _listed(curve: Curve) -> list[float | None]:
    """Four digits, which keep a difference of one level in one pixel apart from none."""
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in curve]
