"""An independent judge of the tiny model: says what a clip of one moving shape shows, by classical image analysis.

It shares no code with the renderer of the training clips, only the words and colours of the vocabulary, so that a
mistake there is not repeated here. In turn: the background is a line fitted over the rows; the object is what is
nearer to the core colour (lighter or darker) than to the background (in shadow or not); its outline is measured along
60 rays and compared with ideal outlines at every rotation; its path is judged by motion.py.

The judge is strict: what is not clearly one of the words is None. Shape and colour are voted frame by frame and need
`MAJORITY` of the frames (a large object counts more than a small one), so a clip whose object changes on the way has no shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wanlab.tiny.motion import motion_of, turn_of, wrapped

Array = NDArray[np.floating]  # float32 where it is large

COLORS = {
    "red": (225, 45, 45),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (50, 175, 75),
    "cyan": (50, 205, 215),
    "blue": (45, 90, 225),
    "purple": (140, 60, 190),
    "pink": (250, 125, 180),
    "white": (248, 248, 248),
    "black": (22, 22, 26),
}
BACKGROUNDS = {
    "white": (240, 240, 240),
    "black": (30, 30, 34),
    "gray": (130, 132, 136),
    "blue": (75, 110, 200),
    "green": (95, 165, 105),
    "yellow": (235, 210, 110),
    "pink": (240, 165, 195),
    "purple": (135, 95, 170),
}
MAJORITY = 0.75  # share of the frames that must agree on shape and colour

_RAYS = 60  # divisible by the 3, 4 and 5 corners
_CORNERS = {"square": 4, "triangle": 3, "star": 5}
SHAPES = ("circle", *_CORNERS)
_SHADOW = (0.66, 1.05)  # how dark and light the background may be, as a factor
_SHADING = (-40.0, 40.0)  # and the object, in levels of 0..255
_CONTRAST = 40.0  # levels; the closest pair of colours is 80 apart
_STRANGE = 50.0  # levels from background and object: neither of them
_LEFT_OVER = 0.3  # size of what is neither background nor object, compared with the object
# Corners, as a share of the ideal ones: a convex pentagon has 0.32 of a star, a star that is blurred to a blob 0.36,
# and one that a person still reads 0.5.
_STRENGTH = (0.42, 1.4)
_REST = 0.7  # what no shape explains, as a share of the outline's ripple
_ROUND = 0.05  # ripple of a circle (rms over the mean radius); a square has 0.1, triangle and star 0.2
_SOFT = 0.06  # edge of a circle in sides: 4 pixels of 64; a wider one is a blurred something


@dataclass(frozen=True, eq=False)
class Seen:
    """What a clip shows, in the words of the vocabulary; None where nothing is clearly found.

    `centre` (t, 2) is x and y, `radius` (t,) that of a disc of the object's area, both in units of the side; `shapes`
    and `colors` are the votes of the frames; `confidence` (0..1) is that of the least certain of the four, 0 if one is None.
    """

    shape: str | None = None
    color: str | None = None
    background: str | None = None
    motion: str | None = None
    confidence: float = 0.0
    centre: Array | None = field(default=None, repr=False)
    radius: Array | None = field(default=None, repr=False)
    shapes: tuple[str | None, ...] = field(default=(), repr=False)
    colors: tuple[str | None, ...] = field(default=(), repr=False)

    @property
    def words(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Shape, colour, background, motion."""
        return self.shape, self.color, self.background, self.motion


def detect(frames: NDArray[np.uint8]) -> Seen:
    """Say what (t, h, w, 3) uint8 frames show. The motion needs `FEWEST_FRAMES` frames."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; they must be uint8 (t, h, w, 3).")
    pixels = np.ascontiguousarray(frames.transpose(3, 0, 1, 2), np.float32)  # (3, t, h, w)
    rows = _background(pixels)
    far = _from_background(pixels, rows)
    background = _nearest(rows.mean(1)[None], BACKGROUNDS)[0]
    core = _core(pixels, far)
    if core is None:
        plain = float((far < _CONTRAST / 2).mean())
        return Seen(background=background if plain > 0.9 else None)
    cover, strange = _object(pixels, far, core)
    if strange > _LEFT_OVER:
        return Seen()
    centre, radius = _place(cover)
    outline = _outline(cover, centre, radius)
    shapes = _shapes(outline, _edge(cover, radius))
    colors = _colors(pixels, cover)
    shape, shape_share = _vote(shapes, radius)
    color, color_share = _vote(colors, radius)
    motion, motion_certainty = motion_of(centre, radius, turn_of(outline, _CORNERS.values()))
    certain = min(shape_share, color_share, motion_certainty, 1 - strange / _LEFT_OVER)
    if None in (shape, color, background, motion):
        certain = 0.0
    return Seen(shape, color, background, motion, certain, centre, radius, shapes, colors)


# --- background and object -----------------------------------------------------------------------------------------


def _background(pixels: Array) -> Array:
    """The colour of the background in every row (3, h): a line over the rows, fitted to the pixels near it."""
    some = pixels[:, :: max(1, pixels.shape[1] // 6), :, ::2]
    height = pixels.shape[2]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)
    typical = np.median(some[:, :, ::2].reshape(3, -1), axis=1)
    rows = np.repeat(typical[:, None], height, 1).astype(np.float32)
    for reach in (40.0, 24.0, 16.0):
        near = (np.abs(some - rows[:, None, :, None]).max(0) < reach).astype(np.float32)
        weight = near.sum((0, 2))
        mean = (near * some).sum((1, 3)) / np.maximum(weight, 1)
        total = max(float(weight.sum()), 1.0)
        middle, level = (weight @ y) / total, (mean @ weight) / total
        slope = mean @ (weight * (y - middle)) / max(float(weight @ (y - middle) ** 2), 1e-6)
        rows = (level[:, None] + slope[:, None] * (y - middle)).astype(np.float32)
    return np.clip(rows, 0, 255)


def _from_background(pixels: Array, rows: Array) -> Array:
    """Distance in levels (t, h, w) to the background, be it in shadow or not."""
    tall = rows[:, None, :, None]
    length = np.maximum((tall**2).sum(0), 1)
    along = (pixels * tall).sum(0)
    light = np.clip(along / length, *_SHADOW)
    return np.sqrt(np.maximum((pixels**2).sum(0) - light * (2 * along - light * length), 0))


def _from_color(pixels: Array, color: Array) -> Array:
    """Distance in levels (n,) of pixels (3, n) to an object's colour, be it shaded or lit."""
    off = pixels - color[:, None]
    gray = off.sum(0) / 3
    shade = np.clip(gray, *_SHADING)
    return np.sqrt(np.maximum((off**2).sum(0) - 3 * shade * (2 * gray - shade), 0))


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (t, h, w) with its four neighbours, across the borders too."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    wide[:, 0] |= mask[:, -1]
    wide[:, -1] |= mask[:, 0]
    wide[:, :, 1:] |= mask[:, :, :-1]
    wide[:, :, :-1] |= mask[:, :, 1:]
    wide[:, :, 0] |= mask[:, :, -1]
    wide[:, :, -1] |= mask[:, :, 0]
    return wide


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (t, h, w) without its edge pixels."""
    return ~_spread(~mask)


def _core(pixels: Array, far: Array) -> Array | None:
    """The typical colour of what is not background, None if there is too little of it."""
    inside = pixels[:, _inner(far > _CONTRAST)]
    count = inside.shape[1]
    if count < 0.004 * far.size:
        return None
    return np.median(inside[:, :: max(1, count // 2000)], axis=1).astype(np.float32)


def _object(pixels: Array, far: Array, color: Array) -> tuple[Array, float]:
    """How much of every pixel (t, h, w) the object covers, and how large what is left is, compared with the object.

    Left is what is near neither colour, and what is not connected with the object.
    """
    some = far > _CONTRAST / 4
    from_background, from_color = far[some], _from_color(pixels[:, some], color)
    share = np.zeros_like(far)
    share[some] = from_background / (from_background + from_color)
    mask = share > 0.5
    around = one = _connected(mask)
    for _ in range(max(2, far.shape[1] // 32)):
        around = _spread(around)
    neither = np.zeros_like(mask)
    neither[some] = np.minimum(from_background, from_color) > _STRANGE
    strange = float((_inner(neither) | mask & ~one).sum()) / max(float(one.sum()), 1.0)
    return np.clip((share - 0.15) / 0.7, 0, 1) * around, strange


def _connected(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """In every frame the connected part around the most solid place, across the borders too (straight moves wrap)."""
    solid = mask.astype(np.int16)
    for reach in (1, 2, 4):
        for axis in (1, 2):
            solid = solid + np.roll(solid, reach, axis) + np.roll(solid, -reach, axis)
    solid *= mask
    part = (solid == solid.max((1, 2), keepdims=True)) & mask
    while True:
        before = part.sum()
        for _ in range(4):
            part = _spread(part) & mask
        if part.sum() == before:
            return part


def _place(cover: Array) -> tuple[Array, Array]:
    """Centre (t, 2) as x and y and radius (t,) of a disc of the same area, both in units of the side, on a torus."""
    centre = []
    for profile in (cover.sum(1), cover.sum(2)):  # over the columns: x, over the rows: y
        size = profile.shape[1]
        at = (np.arange(size, dtype=np.float32) + 0.5) / size
        weight = np.maximum(profile.sum(1), 1e-6)
        rough = np.angle(profile @ np.exp(2j * np.pi * at)) / (2 * np.pi)
        off = wrapped(at - rough[:, None])
        centre.append((rough + (profile * off).sum(1) / weight) % 1)
    return np.stack(centre, 1).astype(np.float32), np.sqrt(cover.mean((1, 2)) / np.pi).astype(np.float32)


# --- shape and colour ----------------------------------------------------------------------------------------------


def _outline(cover: Array, centre: Array, radius: Array) -> Array:
    """How far the object reaches along each ray from its centre, over the mean of all rays: (t, rays)."""
    t, height, width = cover.shape
    steps = np.arange(0.04, 2.0, 0.08, dtype=np.float32)
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    reach = radius[:, None, None] * steps[:, None]  # (t, steps, 1)
    x = (centre[:, 0, None, None] + reach * np.cos(angle)) * width - 0.5
    y = (centre[:, 1, None, None] + reach * np.sin(angle)) * height - 0.5
    left, top = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    right_share, low_share = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat = cover.reshape(-1)
    frame = (np.arange(t) * height * width)[:, None, None]
    column, row = (left % width, (left + 1) % width), (frame + top % height * width, frame + (top + 1) % height * width)
    upper = flat[row[0] + column[0]] * (1 - right_share) + flat[row[0] + column[1]] * right_share
    lower = flat[row[1] + column[0]] * (1 - right_share) + flat[row[1] + column[1]] * right_share
    length = (upper * (1 - low_share) + lower * low_share).sum(1)  # (t, rays)
    return length / np.maximum(length.mean(1, keepdims=True), 1e-6)


def _ideal(corners: int) -> Array:
    """The outline of a regular polygon, or of a star for five corners, in the form of `_outline`."""
    fine = 20
    angle = np.arange(_RAYS * fine) * (2 * np.pi / _RAYS / fine)
    off = np.abs((angle + np.pi / corners) % (2 * np.pi / corners) - np.pi / corners)  # from the nearest corner
    if corners == 5:  # straight lines from the outer corners at 1 to the inner ones at 0.47
        half, inner = np.pi / 5, 0.47
        reach = inner * np.sin(half) / (np.sin(off) + inner * np.sin(half - off))
    else:
        reach = np.cos(np.pi / corners) / np.cos(np.pi / corners - off)
    width = 0.1  # corners are never quite sharp
    soft = np.exp(-0.5 * (wrapped(np.arange(len(angle)) / len(angle)) * 2 * np.pi / width) ** 2)
    reach = np.fft.irfft(np.fft.rfft(reach) * np.fft.rfft(soft / soft.sum()), len(reach))[::fine]
    return (reach / reach.mean()).astype(np.float32)


_IDEALS = {shape: _ideal(corners) for shape, corners in _CORNERS.items()}


def _fits(outline: Array) -> dict[str, tuple[Array, Array]]:
    """For each cornered shape: its strength in the outlines (1 is ideal, 0 none; (t,)) and what is left over, rms (t,).

    Least squares of `outline - 1 = strength * (ideal - 1)`, at the best of all rotations (by a circular correlation).
    """
    off = outline - 1
    fits = {}
    for shape, ideal in _IDEALS.items():
        power = float(np.mean((ideal - 1) ** 2))
        match = np.fft.irfft(np.fft.rfft(off) * np.conj(np.fft.rfft(ideal - 1)), _RAYS).max(1) / _RAYS
        rest = np.sqrt(np.maximum(np.mean(off**2, 1) - match**2 / power, 0))
        fits[shape] = match / power, rest
    return fits


def _edge(cover: Array, radius: Array) -> Array:
    """How wide the soft edge of the object is (t,), in units of the side."""
    soft = ((cover > 0.05) & (cover < 0.95)).mean((1, 2))
    return soft / np.maximum(2 * np.pi * radius, 1e-6)


def _shapes(outline: Array, edge: Array) -> tuple[str | None, ...]:
    """The shape in every frame: the cornered one that fits, or a circle if the outline is round and has an edge."""
    fits = _fits(outline)
    ripple = np.sqrt(np.mean((outline - 1) ** 2, 1))
    found: list[str | None] = []
    for frame in range(len(outline)):
        best = min(fits, key=lambda shape: fits[shape][1][frame])
        strength, rest = fits[best][0][frame], fits[best][1][frame]
        if _STRENGTH[0] < strength < _STRENGTH[1] and rest < _REST * ripple[frame]:
            found.append(best)
        else:
            found.append("circle" if ripple[frame] < _ROUND and edge[frame] < _SOFT else None)
    return tuple(found)


def _colors(pixels: Array, cover: Array) -> tuple[str | None, ...]:
    """The colour of the object in every frame: the median of its inner pixels."""
    inner = _inner(cover > 0.9)
    ends = np.cumsum(inner.sum((1, 2)))[:-1]
    parts = np.split(pixels[:, inner], ends, axis=1)
    nowhere = np.full(3, 1e3)
    return _nearest(np.array([np.median(part, axis=1) if part.shape[1] > 3 else nowhere for part in parts], np.float32), COLORS)


def _nearest(colors: Array, names: dict[str, tuple[int, int, int]]) -> tuple[str | None, ...]:
    """The nearest names in CIELAB; lightness counts half, since shading changes it. None if none is near."""
    off = _lab(colors)[:, None] - _lab(np.array(list(names.values()), np.float32))
    distance = np.sqrt(((off * (0.5, 1, 1)) ** 2).sum(-1))
    return tuple(
        list(names)[best] if least < 25 else None for best, least in zip(distance.argmin(1), distance.min(1), strict=True)
    )


def _lab(rgb: Array) -> Array:
    """CIELAB (D65) of sRGB 0..255, (n, 3) to (n, 3)."""
    part = rgb / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / (0.9505, 1.0, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def _vote(found: tuple[str | None, ...], radius: Array) -> tuple[str | None, float]:
    """The word of most frames and its share; None below `MAJORITY`. Frames count by how large the object is in them."""
    votes: dict[str, float] = {}
    weights = np.maximum(radius, radius.max() / 3)  # frames without an object count as well
    for word, weight in zip(found, weights / weights.sum(), strict=True):
        if word:
            votes[word] = votes.get(word, 0.0) + float(weight)
    if not votes:
        return None, 0.0
    best = max(votes, key=lambda word: votes[word])
    return (best if votes[best] >= MAJORITY else None), votes[best]
