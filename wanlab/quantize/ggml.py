"""ggml's block formats: 32 (or 256) neighbors in a row share a scale. Rows of weights into bytes and back, in torch.

A block of Q8_0 is a scale d in fp16 and 32 whole numbers of 8 bits; w = d * q. Q5_0 and Q4_0 have 5 and 4 bits, with q from
-16 or -8 on, and d chosen so that the largest weight of the block is exactly the lowest q. Q4_1 and Q5_1 add a minimum: w = d
* q + m. The bytes are those of ggml (ggml/src/ggml-quants.c, quantize_row_*_ref), tested against its Python package gguf.

The K types and IQ4 (blocks of 256, scales of scales) are read through diffusers' functions, which need the package gguf. They
are not written here: what makes them good is a search for scales that only ggml's own tools have.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wanlab.errors import ModelError
from wanlab.quantize.kinds import GGML

_NUMBERS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def pack_rows(name: str, weight: Tensor) -> Tensor:
    """The bytes (out, bytes of a row) of a weight (out, in) in fp32. `name` is q8_0, q5_0 or q4_0.

    Raises ModelError if a weight is too large for a scale in fp16.
    """
    block, size = GGML[name]
    rows = weight.reshape(-1, block)
    scale, lowest = _scales(name, rows)
    half = scale.half()
    if not bool(half.isfinite().all()):
        raise ModelError(
            f"a weight of {float(weight.abs().max()):.3g} is too large for gguf_{name}, whose scales are fp16. "
            "Give another quantization or disabled."
        )
    scaled = rows * torch.nan_to_num(1 / scale, nan=0.0, posinf=0.0, neginf=0.0)
    if name == "q8_0":  # halves away from zero, as in C
        q = scaled.abs().floor() + (2 * (scaled.abs() - scaled.abs().floor())).floor()
        body = (scaled.sign() * q).to(torch.int8).view(torch.uint8)
    else:
        levels = (scaled + (lowest + 0.5)).to(torch.uint8).clamp(max=2 * lowest - 1)
        body = _nibbles(levels) if name == "q4_0" else torch.cat([_high_bits(levels), _nibbles(levels)], 1)
    return torch.cat([half.view(torch.uint8), body], 1).view(len(weight), -1, size).flatten(1)


def unpack_rows(name: str, blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight (out, in) of these bytes (out, bytes of a row), in `dtype`. Scales are multiplied in fp32 and rounded once."""
    if name in _NUMBERS:
        return blocks.view(_NUMBERS[name]).to(dtype)
    block, size = GGML[name]
    flat = blocks.reshape(-1, size)
    if name == "q8_0":
        numbers = flat[:, 2:].view(torch.int8)
    elif name in ("q4_0", "q4_1"):
        numbers = _from_nibbles(flat[:, 2 if name == "q4_0" else 4 :]).to(torch.int8)
    elif name in ("q5_0", "q5_1"):
        start = 2 if name == "q5_0" else 4
        numbers = (_from_nibbles(flat[:, start + 4 :]) | _from_high_bits(flat[:, start : start + 4])).to(torch.int8)
    else:
        return _through_diffusers(name, flat, block, size).to(dtype).view(len(blocks), -1)
    scale = flat[:, :2].view(torch.float16).float()
    if name.endswith("_1"):
        return (numbers.float() * scale + flat[:, 2:4].view(torch.float16).float()).to(dtype).view(len(blocks), -1)
    numbers = numbers - {"q8_0": 0, "q5_0": 16, "q4_0": 8}[name]
    return numbers.to(dtype).mul_(scale).view(len(blocks), -1)


def _scales(name: str, rows: Tensor) -> tuple[Tensor, int]:
    """The scale of each block (n, 1), and how far below zero its numbers begin."""
    if name == "q8_0":
        return rows.abs().amax(1, keepdim=True) / 127, 0
    lowest = {"q5_0": 16, "q4_0": 8}[name]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return largest / -lowest, lowest


def _nibbles(levels: Tensor) -> Tensor:
    """(n, 32) numbers to (n, 16) bytes with the lower four bits of each: the first half below, the second above."""
    return (levels[:, :16] & 15) | (levels[:, 16:] & 15) << 4


def _from_nibbles(packed: Tensor) -> Tensor:
    return torch.cat([packed & 15, packed >> 4], 1)


def _high_bits(levels: Tensor) -> Tensor:
    """(n, 32) numbers to (n, 4) bytes with the fifth bit of each, the first in the lowest place."""
    places = torch.arange(8, dtype=torch.uint8, device=levels.device)
    return ((levels >> 4).view(-1, 4, 8) << places).sum(2, dtype=torch.uint8)


def _from_high_bits(packed: Tensor) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (((packed[:, :, None] >> places) & 1) << 4).flatten(1)


def _through_diffusers(name: str, flat: Tensor, block: int, size: int) -> Tensor:
    from diffusers.quantizers.gguf.utils import dequantize_functions
    from gguf import GGMLQuantizationType

    return dequantize_functions[GGMLQuantizationType[name.upper()]](flat, block, size, torch.float32)
