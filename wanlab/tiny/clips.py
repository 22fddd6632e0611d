"""Procedural clips for the tiny Wan: one shaded shape that moves in one way over one background, and its caption.

A clip is described by a `Scene` (shape, colour, motion, background, size); `caption` turns it into words and `render`
into pixels. Everything random comes from the `random.Random` that is passed in, so a seed gives the same clip
everywhere. About 8 % of the combinations are **held out**: training never sees them, the evaluation uses only them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product

import torch
from torch import Tensor

from wanlab.tiny.wording import MOTIONS as MOTIONS

SHAPES = ("circle", "square", "triangle", "star")
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
# Radius as a fraction of the side of the picture.
SIZES = {"": (0.155, 0.19), "small": (0.11, 0.135), "big": (0.215, 0.245)}
# What is harder to draw is shown more often in training.
_HARD = {"star": 1.5, "circle": 1.25, "bounce": 2.0, "spin": 3.0, "orbit": 2.5}


@dataclass(frozen=True)
class Scene:
    """What a clip shows. `size` is "", "small" or "big"; the others are keys of the tables above."""

    shape: str
    color: str
    motion: str
    background: str
    size: str = ""

    @property
    def allowed(self) -> bool:
        """No object on its own colour, and no spinning circle (nobody could see either)."""
        return self.color != self.background and not (self.shape == "circle" and self.motion == "spin")

    @property
    def held_out(self) -> bool:
        """True for the combinations that training never sees (a fixed hash of the four indices)."""
        indices = (
            SHAPES.index(self.shape) * 7919
            + list(COLORS).index(self.color) * 104729
            + list(MOTIONS).index(self.motion) * 1299709
            + list(BACKGROUNDS).index(self.background) * 15485863
        )
        return indices % 1009 % 25 < 2


def scenes(held_out: bool) -> list[Scene]:
    """Every allowed combination of normal size, either the held-out ones or those for training."""
    every = (Scene(*parts) for parts in product(SHAPES, COLORS, MOTIONS, BACKGROUNDS))
    return [scene for scene in every if scene.allowed and scene.held_out == held_out]


@cache
def _weighted_scenes(held_out: bool) -> tuple[list[Scene], list[float]]:
    """The scenes of a split and the running sum of their weights, all equal for the held-out ones."""
    every = scenes(held_out)
    weights = (1.0 if held_out else _HARD.get(scene.shape, 1.0) * _HARD.get(scene.motion, 1.0) for scene in every)
    return every, list(accumulate(weights))


def random_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """A scene of the wished split; seven in ten have no size word."""
    every, weights = _weighted_scenes(held_out)
    scene = rng.choices(every, cum_weights=weights)[0]
    size = rng.choices(tuple(SIZES), (0.7, 0.15, 0.15))[0]
    return Scene(scene.shape, scene.color, scene.motion, scene.background, size)


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """The scene in words: the canonical sentence, or with `rng` one of its variants.

    >>> caption(Scene("circle", "red", "right", "blue"))
    'a red circle moves right on a blue background'
    """
    thing = " ".join(part for part in (scene.size, scene.color, scene.shape) if part)
    phrases = MOTIONS[scene.motion]
    if rng is None:
        return f"a {thing} {phrases[0]} on a {scene.background} background"
    phrase = phrases[0] if rng.random() < 0.6 else rng.choice(phrases)
    article = "an" if thing[0] in "aeiou" and rng.random() < 0.5 else "a"
    return rng.choices(
        (
            f"{article} {thing} {phrase} on a {scene.background} background",
            f"{article} {thing} {phrase} on a {scene.background} background.",
            f"{thing} {phrase}, {scene.background} background",
            f"on a {scene.background} background, {article} {thing} {phrase}",
        ),
        (0.65, 0.1, 0.15, 0.1),
    )[0]


@dataclass(frozen=True)
class Path:
    """Where the shape is in every frame: four tensors (t,); lengths in units of the side, angles in radians."""

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor


# The lattice of `path`: places are multiples of 8 pixels of 64, one latent cell. Every motion repeats itself after a
# whole number of latent frames (4 frames): a straight move goes one cell, a jump takes 3 latent frames, a circle 5, and a
# spin turns by 1/8. So each shape has few pictures in latent space, which come again in other cells.
_PLACES = (0.25, 0.375, 0.5, 0.625, 0.75)
_RADIUS = {"": 0.185, "small": 0.13, "big": 0.24}


def path(scene: Scene, frames: int, rng: random.Random, lattice: bool = False) -> Path:
    """A random path of this motion. Straight moves wrap around; 17 frames cross about half of the picture.

    With `lattice` places, speeds, sizes and phases come from a few values instead of a range. The VAE is trained with
    both, so that it can show anything; the transformer with: what it has to learn is far less, and nobody misses the
    places between.
    """
    time = torch.arange(frames, dtype=torch.float32)
    still = torch.ones(frames)

    def choose(low: float, high: float, on_lattice: Sequence[float]) -> float:
        return rng.choice(on_lattice) if lattice else rng.uniform(low, high)

    radius = still * choose(*SIZES[scene.size], (_RADIUS[scene.size],))
    angle = still * (0.0 if lattice or rng.random() < 0.75 else rng.uniform(-0.3, 0.3))
    x, y = (still * choose(0.25, 0.75, _PLACES) for _ in range(2))
    if scene.motion in ("left", "right", "up", "down"):
        start = choose(0.16, 0.28, (0.25,)) if rng.random() < 0.65 else choose(0, 1, (0, 0.125, *_PLACES, 0.875))
        along = start + choose(0.5, 0.6, (0.5,)) / 16 * time
        if scene.motion in ("left", "up"):
            along = 1 - along
        if scene.motion in ("left", "right"):
            x = along % 1
        else:
            y = along % 1
    elif scene.motion == "bounce":
        height = choose(0.36, 0.42, (0.38,))
        swing = height * torch.sin(math.pi * (time / 12 + choose(0, 1, (0, 1 / 3, 2 / 3)))).abs()
        y = 0.86 - radius - swing
    elif scene.motion in ("grow", "shrink"):
        scale = torch.linspace(0.55, 1.45, frames) if frames > 1 else still
        radius = radius * (scale if scene.motion == "grow" else scale.flip(0))
        centre = (choose(0.36, 0.64, _PLACES[1:-1]) for _ in range(2))
        x, y = (still * place for place in centre)
    elif scene.motion == "spin":
        angle = choose(0, 2 * math.pi, (0,)) + time * math.pi / 16
    elif scene.motion == "orbit":
        turn = choose(0, 2 * math.pi, _parts(5)) + 2 * math.pi * time / 20
        reach = choose(0.2, 0.26, (0.24,))
        x, y = 0.5 + reach * torch.cos(turn), 0.5 + reach * torch.sin(turn)
    return Path(x, y, radius, angle)


def _parts(count: int) -> list[float]:
    """The angles that part a full turn evenly."""
    return [2 * math.pi * part / count for part in range(count)]


# Corners of the polygons, for a radius of 1 and y pointing down. Their corners are rounded a little.
def _regular(corners: int, radius: float, inner: float | None = None, centre: float = 0.0) -> Tensor:
    count = corners * (2 if inner else 1)
    turn = torch.arange(count) * (2 * math.pi / count) - math.pi / 2
    reach = torch.full((count,), radius)
    if inner:
        reach[1::2] = radius * inner
    return torch.stack([reach * torch.cos(turn), reach * torch.sin(turn) + centre], 1)


_CORNERS = {
    "square": torch.tensor([(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]),
    "triangle": _regular(3, 1.10, centre=0.14),
    "star": _regular(5, 1.14, inner=0.47),
}
_ROUNDING = {"square": 0.08, "triangle": 0.06, "star": 0.04}
_REACH, _CELLS = 3.0, 768  # the table of distances covers -3..3 radii


@cache
def _distance_table(shape: str) -> Tensor:
    """Signed distance to the outline of the shape of radius 1, negative inside: (1, 1, n, n)."""
    grid = torch.linspace(-_REACH, _REACH, _CELLS + 1)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    if shape == "circle":
        return (torch.hypot(x, y) - 1)[None, None]
    corners = _CORNERS[shape]
    nearest = torch.full_like(x, torch.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners.tolist(), corners.roll(-1, 0).tolist(), strict=True):
        ex, ey = bx - ax, by - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, torch.hypot(x - ax - along * ex, y - ay - along * ey))
        if ey:  # crossing number of a ray to the right
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
    return (torch.where(inside, -nearest, nearest) - _ROUNDING[shape])[None, None]


def _distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    t, height, width = x.shape
    grid = (torch.stack([x, y], -1) / _REACH).view(1, t * height, width, 2)
    found = torch.nn.functional.grid_sample(
        _distance_table(shape), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return found.view(t, height, width)


def render(scene: Scene, path: Path, side: int = 64, crop: tuple[int, int, int] | None = None) -> Tensor:
    """Draw the clip: (3, t, side, side) in -1..1; `crop` = (left, top, size) in pixels draws that part only.

    The background has a slight vertical gradient and carries the shape's soft shadow; the shape is lit from the upper
    left. Edges are antialiased over 1.25 pixels.
    """
    left, top, size = crop or (0, 0, side)
    centres = (torch.arange(side) + 0.5) / side
    px, py = centres[left : left + size], centres[top : top + size]
    x, y, radius, angle = (part.view(-1, 1, 1) for part in (path.x, path.y, path.radius, path.angle))
    dx, dy = torch.broadcast_tensors(px.view(1, 1, -1) - x, py.view(1, -1, 1) - y)
    if scene.motion in ("left", "right", "up", "down"):  # straight moves come back on the other side
        dx, dy = (dx + 0.5) % 1 - 0.5, (dy + 0.5) % 1 - 0.5
    cos, sin = torch.cos(angle), torch.sin(angle)

    def outline(dx: Tensor, dy: Tensor) -> Tensor:
        return _distance(scene.shape, (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius) * radius

    cover = (0.5 - outline(dx, dy) * side / 1.25).clamp(0, 1)
    back = torch.tensor(BACKGROUNDS[scene.background]).view(3, 1, 1, 1) / 255
    back = (back * (1.07 - 0.16 * py).view(1, 1, -1, 1)).clamp(0, 1)
    shadow = 1 - 0.3 * torch.sigmoid(-38 * outline(dx - 0.02, dy - 0.035))
    glow = 1 - torch.hypot(dx / radius + 0.35, dy / radius + 0.35)
    front = torch.tensor(COLORS[scene.color]).view(3, 1, 1, 1) / 255
    front = (front + (0.16 * glow).clamp(-0.12, 0.16)).clamp(0, 1)
    return torch.lerp((back * shadow).expand_as(front), front, cover.expand_as(front)) * 2 - 1


def random_clip(scene: Scene, frames: int, side: int, rng: random.Random, lattice: bool = False) -> Tensor:
    """A clip of the scene along a random path: (3, frames, side, side) in -1..1."""
    return render(scene, path(scene, frames, rng, lattice), side)


def random_crop(frames: int, side: int, size: int, rng: random.Random, lattice: bool = False) -> Tensor:
    """A square window of a random training clip, near the shape: (3, frames, size, size) in -1..1."""
    scene = random_scene(rng)
    way = path(scene, frames, rng, lattice)

    def corner(centre: Tensor) -> int:
        wished = float(centre[frames // 2]) * side - size / 2 + rng.uniform(-0.4, 0.4) * size
        return int(min(max(wished, 0), side - size))

    return render(scene, way, side, (corner(way.x), corner(way.y), size))


def to_frames(clip: Tensor) -> Tensor:
    """(3, t, h, w) in -1..1 -> (t, h, w, 3) uint8."""
    return ((clip.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0)
