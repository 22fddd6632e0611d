"""Cheap metrics of clips: what can be said of frames by arithmetic alone, without a network that judges. No torch.

Frames are (t, h, w, 3) uint8. Two clips are compared by `psnr` and `ssim`; one clip by itself has `flicker`, `motion` and
`sharpness`. None of them knows whether a clip is good: they say how far it is from another one, how much changes from frame to
frame, and how much fine detail it has. What is not defined, such as the motion of one picture, is NaN.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Numbers = NDArray[np.floating]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": a window of 11 pixels.
_RADIUS, _SIGMA = 5, 1.5
_STABLE = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)

_AT_ONCE = 2**19  # numbers of a part of a clip

# Blocks of 8 pixels of a picture that is at most 128 pixels wide, looked for within 7 pixels.
_BLOCK, _REACH, _WIDEST = 8, 7, 128
_NEAR = 0.003  # of a block's structure, for each pixel of distance
# A block has moved where that leaves less than this of what changed in its place. Noise alone never explains so much.
_UNEXPLAINED, _UNSEEN = 0.35, 0.002  # the second, of a block's structure, is too little a change to speak of


def psnr(one: Frames, other: Frames) -> float:
    """Peak signal-to-noise ratio in decibels over all frames; infinite for equal ones; 40 is hardly seen."""
    _same(one, other)
    squares = sum(float((np.subtract(a, b, dtype=np.float32) ** 2).sum(dtype=float)) for a, b in zip(one, other, strict=True))
    return 10 * math.log10(255**2 * one.size / squares) if squares else math.inf


def ssim(one: Frames, other: Frames) -> float:
    """Structural similarity, 1 for equal clips: the mean over frames, colours, and all windows that lie in the picture.

    Windows are Gaussian, 11 pixels wide with sigma 1.5, as in the paper; smaller pictures have none, which is a ValueError.
    """
    _same(one, other)
    if min(one.shape[1:3]) <= 2 * _RADIUS:
        raise ValueError(f"frames are {one.shape[2]} x {one.shape[1]} pixels; ssim needs at least 11 x 11.")
    parts = _parts(one)
    return sum(_similar(one[part].astype(float), other[part].astype(float)) for part in parts) / len(one)


def flicker(frames: Frames) -> float:
    """Mean absolute difference of consecutive frames, from 0 (a still) to 1: all that changes, be it motion or trembling.

    Of two clips that move alike the one with more of it flickers more; `motion` says whether they do.
    """
    if len(frames) < 2:
        return math.nan
    return float(np.mean([apart(frame, before) for before, frame in pairwise(frames)])) / 255


def apart(frame: Frames, other: Frames) -> float:
    """The mean of all absolute differences of two pictures of one shape, of 255."""
    # The larger minus the smaller stays within eight bits: five times as fast as a subtraction in sixteen.
    return float((np.maximum(frame, other) - np.minimum(frame, other)).sum(dtype=np.uint64)) / frame.size


def motion(frames: Frames) -> float:
    """How far what is seen moves from frame to frame, in pixels: found by looking for blocks of a frame in the next one.

    Blocks count by how much structure they have, so a plain background has no say and a textured one that stands still has.
    Moves of more than 7 pixels (of a picture scaled to at most 128 pixels of width) are beyond its reach.
    """
    if len(frames) < 2:
        return math.nan
    factor = max(1, math.ceil(frames.shape[2] / _WIDEST))
    small = np.stack([_shrunk(frame @ _LUMA, factor) for frame in frames])
    far, structure = _moved(small[:-1], small[1:])
    return float((far * structure).sum() / structure.sum()) * factor if structure.sum() else math.nan


def sharpness(frames: Frames) -> float:
    """Variance of the Laplacian over the variance of the brightness, the mean of all frames: fine detail.

    NaN for frames of one colour.
    """
    luma = frames @ _LUMA
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    whole = luma.var((1, 2))
    seen = whole > 1e-9
    return float(((around - 4 * inner).var((1, 2))[seen] / whole[seen]).mean()) if seen.any() else math.nan


def latent_error(latents: Numbers, reference: Numbers) -> float:
    """How far latents are from those of a reference: the norm of the difference over the norm of the reference."""
    if latents.shape != reference.shape:
        raise ValueError(f"latents are {latents.shape} and {reference.shape}; both must have one shape.")
    return float(np.linalg.norm(latents.astype(float) - reference.astype(float)) / np.linalg.norm(reference.astype(float)))


def _same(one: Frames, other: Frames) -> None:
    if one.shape != other.shape:
        raise ValueError(f"frames are {one.shape} and {other.shape}; both clips must have one length and size.")


def _parts(frames: Frames) -> list[slice]:
    """The clip in parts of so many frames that the arithmetic of one takes some megabytes."""
    count = max(1, _AT_ONCE // frames[0].size)
    return [slice(k, k + count) for k in range(0, len(frames), count)]


def _similar(one: Numbers, other: Numbers) -> float:
    """The similarity of frames (t, h, w, 3), summed over the frames: of each the mean over its windows."""
    mean_one, mean_other = _blurred(one), _blurred(other)
    var_one = _blurred(one * one) - mean_one**2
    var_other = _blurred(other * other) - mean_other**2
    both = _blurred(one * other) - mean_one * mean_other
    a, b = _STABLE
    alike = (2 * mean_one * mean_other + a) * (2 * both + b)
    found = alike / ((mean_one**2 + mean_other**2 + a) * (var_one + var_other + b))
    return float(found.mean((1, 2, 3)).sum())


def _blurred(frames: Numbers) -> Numbers:
    """The weighted mean of every window that lies within a frame: (t, h, w, 3) becomes (t, h - 10, w - 10, 3)."""
    places = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-((places / _SIGMA) ** 2) / 2)
    weights /= weights.sum()
    high, wide = (size - 2 * _RADIUS for size in frames.shape[1:3])
    rows = sum((weight * frames[:, k : k + high] for k, weight in enumerate(weights)), np.zeros(()))
    return sum((weight * rows[:, :, k : k + wide] for k, weight in enumerate(weights)), np.zeros(()))


def _shrunk(luma: Numbers, factor: int) -> Numbers:
    """The picture (h, w) a whole factor smaller, by means."""
    if factor == 1:
        return luma
    high, wide = (size // factor for size in luma.shape)
    found: Numbers = luma[: high * factor, : wide * factor].reshape(high, factor, wide, factor).mean((1, 3))
    return found


def _moved(before: Numbers, after: Numbers) -> tuple[Numbers, Numbers]:
    """How far each block of pictures (t, h, w) went, and how much structure it has; without blocks at the border."""
    high, wide = ((size - 2 * _REACH) // _BLOCK * _BLOCK for size in before.shape[1:])
    if high <= 0 or wide <= 0:
        return np.zeros(0), np.zeros(0)
    here = before[:, _REACH : _REACH + high, _REACH : _REACH + wide]
    structure = _blocks(here**2) - _blocks(here) ** 2
    span = 2 * _REACH + 1
    errors = np.empty((span, span, structure.size))
    here, after = here.astype(np.float32), after.astype(np.float32)  # of differences that is enough, and twice as fast
    for y in range(span):
        for x in range(span):
            errors[y, x] = _blocks((after[:, y : y + high, x : x + wide] - here) ** 2)
    return _distance(errors, structure), structure


def _blocks(pictures: Numbers) -> Numbers:
    """The mean of each block, as a list."""
    count, high, wide = pictures.shape
    rows = pictures.reshape(count, high // _BLOCK, _BLOCK, wide).sum(2)
    columns = rows.reshape(count, high // _BLOCK, wide // _BLOCK, _BLOCK)
    found: Numbers = (columns @ np.ones(_BLOCK, pictures.dtype)).ravel() / _BLOCK**2  # a product is the fastest sum of a few
    return found


def _distance(errors: Numbers, structure: Numbers) -> Numbers:
    """Where the error (y, x, block) of each block is smallest, as a distance: between pixels by a parabola."""
    span, count = len(errors), errors.shape[2]
    away = np.hypot(*np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1])
    # Along a straight edge many places fit alike: of these the nearest.
    best = (errors + _NEAR * structure * away[..., None]).reshape(-1, count).argmin(0)
    place, each = np.divmod(best, span), np.arange(count)
    left_over = errors[(*place, each)]
    parts = []
    for axis in (0, 1):
        at = np.clip(place[axis], 1, span - 2)
        around = [errors[(at + k, place[1], each) if axis == 0 else (place[0], at + k, each)] for k in (-1, 0, 1)]
        slope, bend = (around[0] - around[2]) / 2, around[0] - 2 * around[1] + around[2]
        inside = (at == place[axis]) & (bend > 1e-9)
        shift = np.divide(slope, bend, out=np.zeros(count), where=inside).clip(-0.5, 0.5)
        left_over = left_over - slope * shift / 2  # what is left where the parabola is lowest
        parts.append(place[axis] - _REACH + shift)
    changed = errors[_REACH, _REACH]
    still = (left_over >= _UNEXPLAINED * changed) | (changed <= _UNSEEN * structure)
    return np.where(still, 0.0, np.hypot(*parts))
