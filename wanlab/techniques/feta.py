"""FETA, or Enhance-A-Video (Luo et al. 2025, arXiv 2502.07508): where frames look at each other, let them do so more.

In every block's self-attention the places of all frames attend to each other. Of that, take the attention of one place
among its own frames, a (t, t) map; the mean of what lies off its diagonal is the *cross-frame intensity* (CFI). The block's
attention output is then multiplied by

    g = max(1, (t + weight) CFI)        with t latent frames

As in the authors' code (NUS-HPC-AI-Lab/Enhance-A-Video) queries and keys are taken after their norm and the rotary embedding,
tokens lie frame after frame, the factor is applied after the output projection, and to both branches of the
guidance. Bounds: 1 <= g <= max(1, (t + weight) / (t - 1)); attention that is the same everywhere gives 1 + weight / t. A single
latent frame has no other frame: nothing is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, _get_qkv_projections
from torch import Tensor

from wanlab.settings import FetaSettings

_CHUNK = 2**25  # numbers of queries that are in float32 at a time: 128 MiB


def cross_frame_intensity(query: Tensor, key: Tensor, frames: int) -> Tensor:
    """Mean attention between different frames at one place, a scalar in float32.

    `query` and `key` are (b, frames x places, heads, dim), frame after frame. The rows of a softmax sum to 1, so what is off
    the diagonal is known from the diagonal alone.
    """
    heads, dim = query.shape[2:]
    count = max(1, _CHUNK * heads // query.numel())
    own = query.new_zeros((), dtype=torch.float32)
    for first in range(0, heads, count):
        some = slice(first, first + count)
        scores = _by_place(query[:, :, some], frames) @ _by_place(key[:, :, some], frames).mT / dim**0.5
        own = own + (scores.diagonal(dim1=-2, dim2=-1) - scores.logsumexp(-1)).exp().sum()
    return (1 - own * dim / query.numel()) / (frames - 1)


def _by_place(tokens: Tensor, frames: int) -> Tensor:
    """(b, frames x places, heads, dim) -> (b, places, heads, frames, dim) in float32."""
    return tokens.unflatten(1, (frames, -1)).permute(0, 2, 3, 1, 4).float()


def feta_scale(query: Tensor, key: Tensor, frames: int, weight: float) -> Tensor:
    """The factor g of one call of attention, a scalar: see the module. 1 for a single frame."""
    if frames == 1:
        return torch.ones((), device=query.device)
    return ((frames + weight) * cross_frame_intensity(query, key, frames)).clamp(min=1)


class _Enhanced(WanAttnProcessor):
    """diffusers' self-attention of a block of Wan, with its output multiplied by g."""

    def __init__(self, inner: WanAttnProcessor, act: _Act) -> None:
        super().__init__()
        self._attention_backend, self._parallel_config = inner._attention_backend, inner._parallel_config
        self.act = act

    def __call__(  # type: ignore[no-untyped-def]
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None
    ) -> Tensor:
        query, key, value = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
        query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in (attn.norm_q(query), attn.norm_k(key), value))
        query, key = _rotated(query, *rotary_emb), _rotated(key, *rotary_emb)
        scale = feta_scale(query, key, self.act.frames, self.act.weight)
        self.act.scales.append(scale)
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attn.to_out[0](attended.flatten(2, 3).type_as(query)) * scale


def _rotated(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotary embedding of Wan: pairs of numbers are turned by an angle of their place."""
    first, second = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    turned = torch.empty_like(tokens)
    turned[..., 0::2] = first * cos - second * sin
    turned[..., 1::2] = first * sin + second * cos
    return turned


class _Act:
    """FETA on one step: its weight, the latent frames of the call that is being made, the factors of all calls."""

    def __init__(self, weight: float, frames_per_patch: int) -> None:
        self.weight, self.frames_per_patch = weight, frames_per_patch
        self.frames = 0
        self.scales: list[Tensor] = []

    def see(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a call of the transformer: how many latent frames it is about; with context windows, those of the window."""
        latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self.frames = latents.shape[2] // self.frames_per_patch


@contextlib.contextmanager
def attach(settings: FetaSettings, transformer: WanTransformer3DModel, notes: dict[str, float]) -> Iterator[None]:
    """Within, every block's self-attention is enhanced; notes "feta", the mean factor of all blocks and calls."""
    act = _Act(settings.weight, transformer.config.patch_size[0])
    before = [block.attn1.processor for block in transformer.blocks]
    hook = transformer.register_forward_pre_hook(act.see, with_kwargs=True)
    try:
        for block, processor in zip(transformer.blocks, before, strict=True):
            block.attn1.set_processor(_Enhanced(processor, act))
        yield
        notes["feta"] = float(torch.stack(act.scales).mean())
    finally:
        hook.remove()
        for block, processor in zip(transformer.blocks, before, strict=True):
            block.attn1.set_processor(processor)
