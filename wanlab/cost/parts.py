"""Bytes of a model's parts by number format, from their configurations. No torch.

A transformer is told in blocks and what is outside of them, since blocks can be swapped and quantized. Names and shapes
of its parameters are those of wanlab/weights, what a kind takes for a matrix those of wanlab/quantize.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wanlab.quantize.kinds import is_quantized, kept_in_fp32, stored_bytes
from wanlab.weights.parameters import parameter_shapes

SIZES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp16_fast": 2}  # bytes of a number, by base_precision
ALIGNED = 256  # bytes to which each tensor of a swapped block begins (wanlab/placement/layout.py)

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Transformer:
    """Bytes of a transformer.

    `block` is one of its `blocks`, and `slot` the buffer in which a swapped one is computed; `outside` is all else, of
    which `text_embedding` and `image_embedding` are the layers that embed the text and the picture. `widest` are the
    numbers of the largest weight that is unpacked for a product, 0 if nothing is quantized, and `square` of those as
    wide as high.
    """

    block: int
    blocks: int
    slot: int
    outside: int
    text_embedding: int
    image_embedding: int
    widest: int
    square: int

    @property
    def whole(self) -> int:
        """All of it."""
        return self.block * self.blocks + self.outside

    def slots(self, swapped: int, prefetch: int) -> int:
        """Bytes of the buffers in which swapped blocks take turns."""
        return self.slot * (min(prefetch, swapped - 1) + 1) if swapped else 0


def transformer(config: Config, base_precision: str, kind: str = "") -> Transformer:
    """Bytes of a transformer in this base precision, its large matrices in a kind of quantization ("": in none)."""
    return _transformer(_frozen(config), base_precision, kind)


def part(name: str, config: Config, precision: str) -> int:
    """Bytes of a "text_encoder", "vae" or "image_encoder" in this number format."""
    return _part(name, _frozen(config), precision)


@lru_cache(maxsize=64)
def _transformer(config: tuple[tuple[str, Any], ...], base_precision: str, kind: str) -> Transformer:
    facts = dict(config)
    shapes = parameter_shapes("transformer", facts)
    sizes = {name: _bytes(name, shape, base_precision, kind) for name, shape in shapes.items()}
    first = {name: size for name, size in sizes.items() if name.startswith("blocks.0.")}
    outside = {name: size for name, size in sizes.items() if not name.startswith("blocks.")}
    unpacked = {math.prod(shapes[name]) for name in first if kind and is_quantized(name, shapes[name], kind)}
    return Transformer(
        block=sum(first.values()),
        blocks=facts["num_layers"],
        slot=sum(math.ceil(size / ALIGNED) * ALIGNED for size in first.values()),
        outside=sum(outside.values()),
        text_embedding=sum(size for name, size in outside.items() if ".text_embedder." in name),
        image_embedding=sum(size for name, size in outside.items() if ".image_embedder." in name),
        widest=max(unpacked, default=0),
        square=min(unpacked, default=0),
    )


def _bytes(name: str, shape: tuple[int, ...], base_precision: str, kind: str) -> int:
    if kind and is_quantized(name, shape, kind):
        return stored_bytes(kind, shape)
    return math.prod(shape) * (4 if kept_in_fp32(name) else SIZES[base_precision])


@lru_cache(maxsize=64)
def _part(name: str, config: tuple[tuple[str, Any], ...], precision: str) -> int:
    shapes = parameter_shapes(name, dict(config))
    # In fp16 the second matrix of T5's feed-forward layers overflows, and transformers keeps it in fp32.
    kept = (
        {one for one in shapes if one.endswith(".wo.weight")}
        if name == "text_encoder" and precision.startswith("fp16")
        else set()
    )
    return sum(math.prod(shape) * (4 if one in kept else SIZES[precision]) for one, shape in shapes.items())


def _frozen(config: Config) -> tuple[tuple[str, Any], ...]:
    """A configuration that can be a key: lists are tuples, and what is nested otherwise says nothing of sizes."""
    plain = {name: tuple(value) if isinstance(value, list | tuple) else value for name, value in config.items()}
    return tuple(sorted((name, value) for name, value in plain.items() if not isinstance(value, dict)))
