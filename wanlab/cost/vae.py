"""What the VAE of Wan takes: bytes at its peak and arithmetic, found by walking through its layers. No torch.

The VAE works on a clip in pieces of one latent frame: first one frame of pixels, then four at a time. Every causal
convolution keeps the last two frames of what it saw. So memory hardly grows with the length of the clip, but it is
large: a tensor of the last stage holds 4 frames x 96 channels, 1.5 KB a pixel, and about a dozen are alive at once. For
a small model that, and not the transformer, is the peak.

The walk repeats what the classes of diffusers (0.42) do, allocation by allocation: the padded copy before a
convolution, the copies that a norm makes, what callers still hold. The tests compare it with the real classes on fake
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from wanlab.cost.vae_layers import Group, Layer, Shortcut, Vae, vae_of

ALIKE = 3  # from the fourth piece on all pieces are alike


@dataclass(frozen=True)
class Pass:
    """What a pass takes: `peak` bytes beside weights and input, `flops` (a multiply-add is two)."""

    peak: int
    flops: float


@dataclass(frozen=True)
class Tiles:
    """Tiles of `size` pixels a side, one every `stride` pixels."""

    size: int
    stride: int


def decode(config: Mapping[str, Any], frames: int, height: int, width: int, size: int = 4, tiles: Tiles | None = None) -> Pass:
    """The pass that makes so many frames of pixels out of latents, in numbers of `size` bytes."""
    vae = vae_of(config)
    if tiles is None or (height <= tiles.size and width <= tiles.size):
        return _decode(vae, frames, height, width, size)
    # The decoded tiles are kept. At the end there are also their rows, the whole, and the whole clamped.
    return _tiled(lambda h, w: _decode(vae, frames, h, w, size), height, width, tiles, kept=3 * frames * size, joined=3)


def encode(config: Mapping[str, Any], frames: int, height: int, width: int, size: int = 4, tiles: Tiles | None = None) -> Pass:
    """The pass that makes latents of so many frames of pixels, in numbers of `size` bytes."""
    vae = vae_of(config)
    if tiles is None or (height <= tiles.size and width <= tiles.size):
        return _encode(vae, frames, height, width, size)
    kept = 2 * vae.z * ((frames - 1) // 4 + 1) * size / vae.scale**2
    return _tiled(lambda h, w: _encode(vae, frames, h, w, size), height, width, tiles, kept, joined=2)


@lru_cache(maxsize=256)
def _decode(vae: Vae, frames: int, height: int, width: int, size: int) -> Pass:
    shape = vae.z, 1, height // vae.scale, width // vae.scale
    pieces = (frames - 1) // 4 + 1
    done = _pieces(vae.decoder, shape, shape, pieces, size, again=2 if vae.patch > 1 else 1)
    return replace(done, flops=done.flops + 2.0 * vae.z * pieces * _count(shape))  # the convolution before it, of one pixel


@lru_cache(maxsize=256)
def _encode(vae: Vae, frames: int, height: int, width: int, size: int) -> Pass:
    shape = vae.channels, 1, height // vae.patch, width // vae.patch
    pieces = (frames - 1) // 4 + 1
    done = _pieces(vae.encoder, shape, (shape[0], 4, *shape[2:]), pieces, size, again=1)
    folded = 3 * frames * height * width * size if vae.patch > 1 else 0
    ends = 2.0 * (2 * vae.z) ** 2 * pieces * (height // vae.scale) * (width // vae.scale)
    return Pass(done.peak + folded, done.flops + ends)


def _tiled(one: Callable[[int, int], Pass], height: int, width: int, tiles: Tiles, kept: float, joined: int) -> Pass:
    """All tiles one after the other, of which `kept` bytes a pixel stay, and the whole `joined` times more at the end."""
    peak, flops, held = 0.0, 0.0, 0.0
    for top in range(0, height, tiles.stride):
        for left in range(0, width, tiles.stride):
            h, w = min(tiles.size, height - top), min(tiles.size, width - left)
            done = one(h, w)
            peak, flops = max(peak, held + done.peak), flops + done.flops
            held += kept * h * w
    return Pass(int(max(peak, held + joined * kept * height * width)), flops)


Shape = tuple[int, int, int, int]  # channels, frames, height, width


def _pieces(groups: Sequence[Group], first: Shape, rest: Shape, pieces: int, size: int, again: int) -> Pass:
    """Walk through a clip piece by piece; the results are joined after each, and copied `again` times at the end."""
    walk, joined, each, flops, before = _Walk(size), 0, 0, 0.0, 0
    for piece in range(min(pieces, ALIKE + 1)):
        begun = walk.flops
        each = walk.bytes(walk.run(groups, rest if piece else first))
        flops = walk.flops - begun
        walk.live -= before  # the piece before was still held
        if piece:  # the results so far and this piece together, beside both
            walk.take(joined + each)
            walk.live -= joined
            before = each
        joined += each
    more = max(0, pieces - ALIKE - 1)
    kept = walk.live - joined - before  # by the convolutions
    end = kept + (1 + again) * (joined + more * each) + before
    return Pass(max(walk.peak + more * each, end), walk.flops + more * flops)


def _count(shape: Shape) -> int:
    c, t, h, w = shape
    return c * t * h * w


class _Walk:
    """Goes through layers and counts: `live` bytes now, their `peak`, `flops`, and the frames that each convolution keeps.

    Each layer's function takes the input's shape, and whether it belongs to the caller, who drops it; it returns the
    output's shape. The output is alive when the function returns.
    """

    def __init__(self, size: int) -> None:
        self.size, self.live, self.peak, self.flops = size, 0, 0, 0.0
        self._kept: dict[int, Shape | None] = {}  # by the number of the convolution; None: it has seen a frame and kept none
        self._number = 0

    def bytes(self, shape: Shape) -> int:
        """Bytes of a tensor."""
        return _count(shape) * self.size

    def take(self, held: int) -> None:
        """So many bytes more."""
        self.live += held
        self.peak = max(self.peak, self.live)

    def _new(self, *shape: int, size: int = 0) -> None:
        self.take(_count(shape) * (size or self.size))  # type: ignore[arg-type]

    def _drop(self, *shape: int, size: int = 0) -> None:
        self.live -= _count(shape) * (size or self.size)  # type: ignore[arg-type]

    def run(self, groups: Sequence[Group], shape: Shape) -> Shape:
        """One piece through all groups, its own input not counted; returns the shape of what comes out, which stays alive."""
        self._number, counted = 0, False
        for group in groups:
            entry, inside = shape, False
            if group.copies:
                self._new(*entry)
            for layer in group.layers:
                before = shape
                shape = getattr(self, f"_{layer.kind}")(layer, before)
                if inside:
                    self._drop(*before)
                inside = True
            if group.shortcut:
                self._shortcut(group.shortcut, entry, shape)
            if group.copies:
                self._drop(*entry)
            if counted:
                self._drop(*entry)
            counted = True
        return shape

    def _causal(self, shape: Shape, out: int, space: int, flops_of: int = 27) -> Shape:
        """A causal convolution over three frames, with what it keeps: `space` pixels of padding around."""
        c, t, h, w = shape
        number, self._number = self._number, self._number + 1
        kept, frames = self._kept.get(number), min(t, 2)
        self._new(c, frames, h, w)
        if frames < 2 and (kept or number in self._kept):  # the last kept frame, or a zero one, and this one
            self._new(c, 2, h, w)
            self._drop(c, frames, h, w)
            frames = 2
        if kept:
            self._new(c, kept[1] + t, h, w)
        padded = c, t + 2, h + 2 * space, w + 2 * space
        self._new(*padded)
        if kept:
            self._drop(c, kept[1] + t, h, w)
        self._new(out, t, h, w)
        self._drop(*padded)
        if kept:
            self._drop(*kept)
        self._kept[number] = c, frames, h, w
        self.flops += 2.0 * c * flops_of * out * t * h * w
        return out, t, h, w

    def _conv(self, layer: Layer, shape: Shape) -> Shape:
        return self._causal(shape, layer.after, 1)

    def _norm(self, layer: Layer, shape: Shape) -> Shape:
        if self.size < 4:  # normalized in float32
            self._new(*shape, size=4)
            self._new(*shape, size=4)
            self._drop(*shape, size=4)
        self._new(*shape)
        if self.size < 4:
            self._drop(*shape, size=4)
        self._new(*shape)  # times the scale
        self._new(*shape)  # times gamma; then the same once more, plus the bias
        self._drop(*shape)
        self._drop(*shape)
        self.peak = max(self.peak, self.live + 2 * self.bytes(shape))
        return shape

    def _silu(self, layer: Layer, shape: Shape) -> Shape:
        self._new(*shape)
        return shape

    def _res(self, layer: Layer, shape: Shape) -> Shape:
        c, t, h, w = shape
        out = layer.after, t, h, w
        if layer.before != layer.after:
            self._new(*shape)
            self._new(*out)
            self._drop(*shape)
            self.flops += 2.0 * c * layer.after * t * h * w
        current = shape
        for turn in range(2):
            self._norm(layer, current)
            if turn:
                self._drop(*current)
            self._new(*current)
            self._drop(*current)
            done = self._causal(current, layer.after, 1)
            self._drop(*current)
            current = done
        self._new(*out)
        self._drop(*out)
        if layer.before != layer.after:
            self._drop(*out)
        return out

    def _attention(self, layer: Layer, shape: Shape) -> Shape:
        c, t, h, w = shape
        places = h * w
        self.flops += t * (2.0 * places * c * 4 * c + 4.0 * places * places * c)
        self._new(5 * c, t, h, w)  # the input in order, its norm, queries, keys and values
        self._new(3 * c, t, h, w)  # and these copied
        self._drop(8 * c, t, h, w)
        self._new(*shape)
        return shape

    def _up(self, layer: Layer, shape: Shape) -> Shape:
        return self._larger(layer, shape, owned=False)

    def _up_time(self, layer: Layer, shape: Shape) -> Shape:
        c, t, h, w = shape
        if self._number not in self._kept:  # the first frame stays one frame
            self._kept[self._number] = None
            self._number += 1
            return self._larger(layer, shape, owned=False)
        self._causal(shape, 2 * c, 0, flops_of=3)
        self._new(c, 2 * t, h, w)
        self._drop(c, 2 * t, h, w)
        return self._larger(layer, (c, 2 * t, h, w), owned=True)

    def _larger(self, layer: Layer, shape: Shape, owned: bool) -> Shape:
        """Each pixel four times, then a convolution of each frame by itself."""
        c, t, h, w = shape
        if t > 1:
            self._new(*shape)  # frames before channels
            if owned:
                self._drop(*shape)
        wide, out = (c, t, 2 * h, 2 * w), (layer.after, t, 2 * h, 2 * w)
        if self.size < 4:
            self._new(*shape, size=4)
            self._new(*wide, size=4)
            self._drop(*shape, size=4)
        self._new(*wide)
        if self.size < 4:
            self._drop(*wide, size=4)
        self._new(*out)
        self._drop(*wide)
        if t > 1:
            self._drop(*shape)
        self.flops += 2.0 * c * 9 * _count(out)
        return out

    def _down(self, layer: Layer, shape: Shape) -> Shape:
        c, t, h, w = shape
        if t > 1:
            self._new(*shape)
        padded, out = (c, t, h + 1, w + 1), (c, t, h // 2, w // 2)
        self._new(*padded)
        self._new(*out)
        self._drop(*padded)
        if t > 1:
            self._drop(*shape)
        self.flops += 2.0 * c * 9 * _count(out)
        return out

    def _down_time(self, layer: Layer, shape: Shape) -> Shape:
        c, t, h, w = self._down(layer, shape)
        number, self._number = self._number, self._number + 1
        kept, self._kept[number] = self._kept.get(number), (c, 1, h, w)
        self._new(c, 1, h, w)
        if kept is None:
            return c, t, h, w
        out = c, t // 2, h, w
        self._new(c, t + 1, h, w)  # with the frame before
        self._new(c, t + 1, h, w)  # and the copy that padding with nothing makes
        self._new(*out)
        self._drop(c, 2 * (t + 1) + t + 1, h, w)  # those two, the input, and the frame that was kept
        self.flops += 2.0 * c * 3 * _count(out)
        return out

    def _shortcut(self, around: Shortcut, entry: Shape, shape: Shape) -> None:
        """What goes around a group is brought to the same shape and added."""
        grown = around.time * around.space**2
        numbers = _count(shape) * (1 if around.up else grown) if around.up else _count(entry)
        if around.up and around.time == 2:
            numbers = shape[0] * entry[1] * 2 * shape[2] * shape[3]
        self._new(numbers, 1, 1, 1)
        self._new(numbers, 1, 1, 1)
        self._drop(numbers, 1, 1, 1)
        self._new(*shape)
        self._drop(*shape)
        self._drop(numbers, 1, 1, 1)
