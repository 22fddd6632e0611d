"""FETA, or Enhance-A-Video (Luo et al. 2025, arXiv 2502.07508): where frames look at each other, let them do so more.

In every block's self-attention the places of all frames attend to each other. Of that, take the attention of one place
among its own frames, a (t, t) map; the mean of what lies off its diagonal is the *cross-frame intensity* (CFI). The block's
attention output is then multiplied by

    g = max(1, (t + weight) CFI)        with t latent frames

As in the authors' code (NUS-HPC-AI-Lab/Enhance-A-Video) queries and keys are taken after their norm and the rotary embedding,
tokens lie frame after frame, the factor is applied after the output projection, and to both branches of the
guidance. Bounds: 1 <= g <= max(1, (t + weight) / (t - 1)); attention that is the same everywhere gives 1 + weight / t. A single
latent frame has no other frame: nothing is done. Two branches in one pass (batched_cfg) get a factor each, as in two passes.

The numbers that depend on the weight are tensors, and each block leaves its factors on its processor, from where they are
gathered after the call: so a compiled block (model/compiling.py) is the same for every weight, step and block.
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

from wanlab.techniques.technique import Technique, attentions, patched

_CHUNK = 2**25  # numbers of queries that are in float32 at a time: 128 MiB


def cross_frame_intensity(query: Tensor, key: Tensor, frames: int) -> Tensor:
    """Mean attention between different frames at one place, a scalar in float32.

    `query` and `key` are (b, frames x places, heads, dim), frame after frame. The rows of a softmax sum to 1, so what is off
    the diagonal is known from the diagonal alone.
    """
    rows = query.numel() // query.shape[3]
    return (1 - _own_attention(query, key, frames) / rows) / (frames - 1)


def feta_scale(query: Tensor, key: Tensor, frames: int, weight: float) -> Tensor:
    """The factor g of one call of attention, a scalar: see the module. 1 for a single frame."""
    if frames == 1:
        return torch.ones((), device=query.device)
    return _limited(query, key, frames, *_line(frames, weight, query.numel() // query.shape[3]))


def _line(frames: int, weight: float, rows: int) -> tuple[float, float]:
    """Where the line begins on which (frames + weight) times the intensity lies, and how it falls with frames' own attention.

    In one operation: small models are made of many small ones.
    """
    most = (frames + weight) / (frames - 1)
    return most, most / rows


def _limited(query: Tensor, key: Tensor, frames: int, most: float | Tensor, slope: float | Tensor) -> Tensor:
    """The factor g on that line."""
    return (most - _own_attention(query, key, frames) * slope).clamp(min=1)


def _own_attention(query: Tensor, key: Tensor, frames: int) -> Tensor:
    """The attention of frames to themselves at one place, summed over all of them, a scalar in float32."""
    shape = len(query), frames, -1, query.shape[3]
    # (b, frames x places, heads, dim) -> (b, places x heads, frames, dim)
    queries, keys = query.reshape(shape).transpose(1, 2), key.reshape(shape).transpose(1, 2)
    count = max(1, _CHUNK // (frames * query.shape[3]))
    if queries.shape[1] <= count:
        return _diagonal(queries, keys)
    parts = zip(queries.split(count, 1), keys.split(count, 1), strict=True)
    return torch.stack([_diagonal(*part) for part in parts]).sum()


def _diagonal(queries: Tensor, keys: Tensor) -> Tensor:
    """The sum of the diagonals of the softmax of scores between frames."""
    scores = queries.float() @ keys.float().mT
    return (scores * queries.shape[-1] ** -0.5).softmax(-1).diagonal(dim1=-2, dim2=-1).sum()


class Feta(Technique):
    """Every block's self-attention is enhanced; notes "feta", the mean factor of all blocks and calls of the step."""

    @contextlib.contextmanager
    def attach(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Within, self-attention is enhanced."""
        self.scales = list[Tensor]()
        found = attentions(transformer, "attn1", "feta")
        patch, heads = transformer.config.patch_size, transformer.config.num_attention_heads

        def see(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            """Before a call: how many latent frames it is about; with context windows, those of the window."""
            latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            frames, height, width = (size // side for size, side in zip(latents.shape[2:], patch, strict=True))
            self._see(frames, frames * height * width * heads, latents.device)

        def gather(*_: Any) -> None:
            """After a call: the factors of the blocks that were computed in it."""
            for attention in found:
                self.scales += attention.processor.scales
                attention.processor.scales = []

        hooks = [transformer.register_forward_pre_hook(see, with_kwargs=True), transformer.register_forward_hook(gather)]
        try:
            with patched(found, "processor", lambda _, inner: _Enhanced(inner, self)):
                yield
        finally:
            for hook in hooks:
                hook.remove()
        if self.scales:
            self.moment.notes["feta"] = float(torch.stack(self.scales).mean())

    def _see(self, frames: int, rows: int, device: torch.device) -> None:
        self.frames = frames
        if frames > 1:
            line = _line(frames, self.options.weight, rows)
            self.most, self.slope = (torch.full((), number, dtype=torch.float32, device=device) for number in line)


class _Enhanced(WanAttnProcessor):
    """diffusers' self-attention of a block of Wan, with its output multiplied by g."""

    def __init__(self, inner: WanAttnProcessor, feta: Feta) -> None:
        super().__init__()
        self._attention_backend, self._parallel_config = inner._attention_backend, inner._parallel_config
        self.feta, self.scales = feta, list[Tensor]()

    def __call__(  # type: ignore[no-untyped-def]
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None
    ) -> Tensor:
        if self.feta.frames == 1:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        query, key, value = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
        query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in (attn.norm_q(query), attn.norm_k(key), value))
        query, key = _rotated(query, *rotary_emb), _rotated(key, *rotary_emb)
        feta = self.feta
        clips = zip(query.split(1), key.split(1), strict=True)
        self.scales = scales = [_limited(*clip, feta.frames, feta.most, feta.slope) for clip in clips]
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        output = attn.to_out[0](attended.flatten(2, 3).type_as(query))
        return output * (scales[0] if len(scales) == 1 else torch.stack(scales).view(-1, 1, 1))


def _rotated(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotary embedding of Wan: pairs of numbers are turned by an angle of their place."""
    first, second = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    turned = torch.empty_like(tokens)
    turned[..., 0::2] = first * cos - second * sin
    turned[..., 1::2] = first * sin + second * cos
    return turned
