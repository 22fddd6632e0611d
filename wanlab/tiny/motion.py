"""The part of the judge that says how an object moves: its path is compared with one model for each motion.

Places are in units of the side of the picture, on a torus: straight moves leave on one side and come back on the other.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

FEWEST_FRAMES = 5  # of a motion

_SPEED = (0.017, 0.06)  # of straight moves, sides a frame; the vocabulary's is 1/32
_TURN = (0.09, 0.4)  # of spin, radians a frame; the vocabulary's is pi/16
_OFF_PATH = 0.04  # rms distance from the path that is still allowed, in sides; a spinning triangle sways by 0.034


def wrapped(x: Array) -> Array:
    """The same place on the torus, or the shortest way, in -0.5..0.5."""
    return (x + 0.5) % 1 - 0.5


def turn_of(outline: Array, corners: Collection[int]) -> float:
    """How fast the outline turns, in radians a frame; 0 for a round one, whose turning nobody can see.

    `outline` (t, rays) is how far the object reaches along each ray, `corners` how many corners it may have. From the
    phase of the wave of as many periods as there are corners; the median ignores single melted frames.
    """
    waves = np.fft.rfft(outline - 1)
    count = max(corners, key=lambda count: np.abs(waves[:, count]).mean())
    if len(outline) < 2 or np.abs(waves[:, count]).mean() / outline.shape[1] < 0.015:
        return 0.0
    steps = np.angle(waves[1:, count] * waves[:-1, count].conj())
    return float(np.median(steps)) / -count


def motion_of(centre: Array, radius: Array, turn: float) -> tuple[str | None, float]:
    """The motion whose model of the path fits best, and how well (0..1)."""
    if len(centre) < FEWEST_FRAMES:
        return None, 0.0
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(wrapped(np.diff(centre, axis=0)), 0)])
    rest = path - path.mean(0)
    time = np.arange(len(path)) - (len(path) - 1) / 2
    slope = time @ rest / (time @ time)
    off = {"rest": _rms(rest), "bounce": _off_bounce(path), "orbit": _off_orbit(path)}
    for axis, (less, more) in enumerate((("left", "right"), ("up", "down"))):
        straight = np.zeros(2)
        straight[axis] = slope[axis]
        if _SPEED[0] < abs(slope[axis]) < _SPEED[1]:
            off[less if slope[axis] < 0 else more] = _rms(rest - time[:, None] * straight)
    best = min(off, key=lambda motion: off[motion] - 0.003 * (motion == "rest"))
    certain = max(0.0, 1 - (off[best] / _OFF_PATH) ** 2)
    growth = float(time @ np.log(np.maximum(radius, 1e-3)) / (time @ time)) * (len(path) - 1)
    if off[best] > _OFF_PATH:
        return None, 0.0
    if best != "rest":
        return (best, certain) if abs(growth) < np.log(1.6) else (None, 0.0)
    if abs(growth) > np.log(1.5):
        return ("grow" if growth > 0 else "shrink"), certain
    if abs(growth) > np.log(1.25) or _TURN[0] / 2 < abs(turn) < _TURN[0] or abs(turn) > _TURN[1]:
        return None, 0.0
    return ("spin" if abs(turn) >= _TURN[0] else "still"), certain


def _rms(off: Array) -> float:
    return float(np.sqrt((off**2).sum(-1).mean()))


def _off_bounce(path: Array) -> float:
    """Rms distance from the best y = floor - height |sin|, of height 0.25 to 0.55, a jump in 12 frames (or nearly)."""
    time = np.arange(len(path))
    period = np.linspace(10.5, 13.5, 5)[:, None, None]
    phase = (np.arange(24) / 24)[:, None]
    lift = np.abs(np.sin(np.pi * (time / period + phase))).reshape(-1, len(path))
    lift = lift - lift.mean(1, keepdims=True)
    x, y = (path - path.mean(0)).T
    height = np.clip(-(lift @ y) / (lift**2).sum(1), 0.25, 0.55)
    return float(np.sqrt(((y + height[:, None] * lift) ** 2 + x**2).mean(1).min()))


def _off_orbit(path: Array) -> float:
    """Rms distance from the best circle of radius 0.13 to 0.35, a turn in 20 frames (or nearly), either way round."""
    place = path[:, 0] + 1j * path[:, 1]
    period = np.linspace(17, 23, 5)[:, None]
    around = np.exp(2j * np.pi * np.arange(len(path)) / np.concatenate([period, -period]))
    spoke, off = around - around.mean(1, keepdims=True), place - place.mean()
    arm = (spoke.conj() @ off) / (np.abs(spoke) ** 2).sum(1)
    arm *= np.clip(np.abs(arm), 0.13, 0.35) / np.maximum(np.abs(arm), 1e-9)
    return float(np.sqrt((np.abs(off - arm[:, None] * spoke) ** 2).mean(1).min()))
