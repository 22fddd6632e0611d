"""Bytes that a pass takes beside the weights: closed formulas of what diffusers and transformers allocate. No torch.

A block of Wan computes in stretches, and its peak is that of the hungriest one. For N tokens of d channels in numbers
of s bytes, counted in tensors of N d numbers:

- **feed-forward**: the hidden states before the block and now, the last attention's output, the norm of them, and the
  hidden layer of f channels before and after its activation: 4 + 2 f / d tensors. The peak of Wan 1.3B (15.7 tensors).
- **norm of queries and keys**: queries, keys, values and two of hidden states, and the norm's own float32: 5 tensors
  and 12 bytes a number in bf16, which is 22 bytes or 11 tensors. The peak of Wan 14B, together with the **residual**,
  which is added in float32.
- **rotary embedding**: 6 tensors, and three half ones in float32.

Beside it there are the angles of the rotary embedding (8 bytes for each token and channel of a head) and the text,
which matters in short clips: 512 tokens are as many as one frame of 256 x 512 pixels has. A quantized weight is
unpacked for its product.

The published traces say 1.62 GB for 1.3B and 3.74 GB for 14B at 480p and 81 frames; the tests compare with a dry run of
the real classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from wanlab.cost.parts import Transformer

TEXT_TOKENS = 512
GGUF_EXTRA = 1.125  # bytes a number that unpacking GGUF takes beside the result


@dataclass(frozen=True)
class Work:
    """One pass: `tokens` of the clip, so many branches at once in `batch`, `image_tokens` of CLIP, `size` bytes a number."""

    tokens: int
    batch: int = 1
    image_tokens: int = 0
    size: int = 2


def width(config: Mapping[str, Any]) -> int:
    """The channels of a token."""
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def forward(
    config: Mapping[str, Any],
    work: Work,
    weights: Transformer | None = None,
    gguf: bool = False,
    techniques: Collection[str] = (),
) -> Mapping[str, int]:
    """Bytes at the peak of each stretch of a forward pass; the peak is the largest.

    With `weights` what their unpacking takes is counted. Of the `techniques` feta and nag have stretches of their own.
    """
    d, s, b = width(config), work.size, work.batch
    up = 4 if s < 4 else 0  # bytes of a float32 copy, where numbers are not float32
    tokens, wide = work.tokens * d * b, config["ffn_dim"] / d
    text, image = TEXT_TOKENS * d * b, work.image_tokens * d * b
    told = (text + 2 * image) * s  # embedded; the picture's tokens are held apart and together with the text's
    pairs = told + 2 * (text + image) * s  # with their keys and values
    more = GGUF_EXTRA if gguf else 0.0
    large, square = (weights.widest * (s + more), weights.square * (s + more)) if weights else (0.0, 0.0)
    stretches = {
        "embedding": tokens * s + 2 * text * s + image * s * 2,
        "norms of attention": tokens * (5 * s + up + 8) + told + 2 * text * s,
        "norm of the text": tokens * 5 * s + told + (2 * s + up + 8) * text + 2 * image * s,
        "projections": tokens * 5 * s + told + square,
        "rotary embedding": tokens * (6 * s + 6) + told,
        "attention": tokens * 7 * s + told + square,
        "attention to the picture": (tokens * 8 * s + pairs + square) if image else 0,
        "feed-forward": tokens * s * (4 + 2 * wide) + told,
        "feed-forward, first matrix": tokens * s * (4 + wide) + told + large,
        "feed-forward, second matrix": tokens * s * (5 + wide) + told + large,
        "residual": tokens * (5 * s + max(2 * up + 4, up + 8)) + told,
    }
    if "feta" in techniques:  # queries before and after their norm, while the keys' norm is computed
        stretches["feta"] = tokens * (6 * s + up + 8) + told
    if "nag" in techniques:  # two attentions, and the formula of both in float32
        stretches["nag"] = tokens * (9 * s + 2 * up + 12) + 8 * s * text + 2 * image * s
    angles = 8 * work.tokens * config["attention_head_dim"]
    modulation = b * d * (6 * s + 6 * 4 * 2 + 2 * s)
    return {name: int(held + angles + modulation) for name, held in stretches.items()}


def text_encoding(config: Mapping[str, Any], size: int, tokens: int = TEXT_TOKENS) -> int:
    """Bytes that embedding a text takes, in UMT5: the scores of all heads three times, and queries, keys and values."""
    heads, inner = config["num_heads"], config["num_heads"] * config["d_kv"]
    scores = tokens * tokens
    layers = size * (3 * heads * scores + 3 * tokens * (config["d_model"] + inner)) + scores
    bias = size * heads * scores + 44 * scores  # distances between tokens, in whole numbers of 8 bytes
    return int(max(layers, bias))


def image_tokens(config: Mapping[str, Any] | None, pictures: int = 1) -> int:
    """How many tokens CLIP makes of so many pictures."""
    return pictures * ((config["image_size"] // config["patch_size"]) ** 2 + 1) if config else 0


def image_encoding(config: Mapping[str, Any]) -> int:
    """Bytes that CLIP takes for a picture, in float32."""
    return int(4 * image_tokens(config) * (3 * config["intermediate_size"] + 4 * config["hidden_size"]))
