"""Normalized attention guidance (Chen et al. 2025, arXiv 2505.21179): a negative prompt that works inside cross-attention.

Plain guidance needs a second pass of the model, and none is made at cfg 1, as distilled models want it. NAG needs none:
where the clip reads the prompt, in the cross-attention of every block, it reads the negative prompt too, and what it read
is pushed apart,

    g    = z+ scale - z- (scale - 1)              z+ and z-: what attention reads from the prompt, from the negative prompt
    g    = g min(1, tau ||z+|| / ||g||)           L1 norms of a token, over all heads
    out  = alpha g + (1 - alpha) z+               before the output projection

The limit keeps features at sizes that the model knows, since an extrapolation by 11 leaves them at once; alpha brings the
result back towards z+.

As in the authors' code for Wan (Normalized-Attention-Guidance, attention_wan_nag.py): only the positive pass is changed,
what is read from an image is added afterwards, untouched, and the negative prompt passes the transformer's text embedder as
the prompt does. (Their paper writes scale - 1 for what the code calls scale.) Two differences: the arithmetic between the
projections is in float32, since the two terms of g are far larger than their difference; and a norm of 0 is not divided by,
which needs no patch for NaN. Scale 1 is the plain attention.

Scale, tau and alpha are tensors where blocks read them, and the negative prompt is embedded before the call, so a compiled
block (model/compiling.py) is the same for every value and every step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, _get_added_kv_projections, _get_qkv_projections
from torch import Tensor

from wanlab.outline import TEXT_TOKENS
from wanlab.techniques.technique import POSITIVE, Technique, attentions, patched


def normalized(positive: Tensor, negative: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """What is read from the prompt, guided away from what is read from the negative prompt: see the module.

    Both are (b, tokens, heads x dim), and so is the result, in their dtype.
    """
    return _pushed(positive, negative, _factors(scale, tau, alpha))


def _factors(scale: float, tau: float, alpha: float) -> tuple[float, ...]:
    return scale, scale - 1, tau, alpha, 1 - alpha


def _pushed(positive: Tensor, negative: Tensor, factors: Sequence[float | Tensor]) -> Tensor:
    """The formula; with factors that are scalars on the device it is one graph for all values."""
    scale, less, tau, alpha, rest = factors
    ours, theirs = positive.float(), negative.float()
    guided = ours * scale - theirs * less
    norms = [part.abs().sum(-1, keepdim=True) for part in (ours, guided)]
    guided = guided * (tau * norms[0] / norms[1].clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1)
    return (alpha * guided + rest * ours).to(positive.dtype)


class Nag(Technique):
    """Cross-attention of the positive branch is guided by the negative prompt."""

    @contextlib.contextmanager
    def attach(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Within, every block's cross-attention is guided in calls for the positive branch."""
        found = attentions(transformer, "attn2", "nag")
        if self.options.scale == 1:
            yield
            return
        with torch.inference_mode():  # as in the call, but before a cache may leave out the text of a call
            _ = self.factors, self.negative
        with patched(found, "processor", lambda _, inner: _Guided(inner, self)):
            yield

    @property
    def acts(self) -> bool:
        """Whether the call that is being made is changed."""
        return self.moment.ask is not None and self.moment.ask.branch == POSITIVE

    @cached_property
    def factors(self) -> tuple[Tensor, ...]:
        """The numbers of the formula as scalars on the device."""
        numbers = _factors(self.options.scale, self.options.tau, self.options.alpha)
        return tuple(torch.full((), number, dtype=torch.float32, device=self.moment.model.device) for number in numbers)

    @cached_property
    def negative(self) -> Tensor:
        """The negative prompt as blocks read it, (1, 512, width): embedded once a step."""
        text = self.moment.model.encode(self.moment.settings.negative_prompt)
        return self.moment.transformer.condition_embedder.text_embedder(text)


class _Guided(WanAttnProcessor):
    """diffusers' cross-attention of a block of Wan, guided."""

    def __init__(self, inner: WanAttnProcessor, nag: Nag) -> None:
        super().__init__()
        self._attention_backend, self._parallel_config = inner._attention_backend, inner._parallel_config
        self.nag = nag

    def __call__(  # type: ignore[no-untyped-def]
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None
    ) -> Tensor:
        if not self.nag.acts:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        # An image comes before the text, whose length is the same in every call.
        image, text = encoder_hidden_states[:, :-TEXT_TOKENS], encoder_hidden_states[:, -TEXT_TOKENS:]
        both = torch.cat([text, self.nag.negative.expand(len(text), -1, -1)])
        query, keys, values = _get_qkv_projections(attn, hidden_states, both)
        query, keys = attn.norm_q(query), attn.norm_k(keys)
        positive, negative = (
            self._read(attn, query, key, value) for key, value in zip(keys.chunk(2), values.chunk(2), strict=True)
        )
        read = _pushed(positive, negative, self.nag.factors)
        if attn.add_k_proj is not None:
            key, value = _get_added_kv_projections(attn, image)
            read = read + self._read(attn, query, attn.norm_added_k(key), value)
        return attn.to_out[1](attn.to_out[0](read))

    def _read(self, attn, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """What a query reads from keys and values, (b, tokens, heads x dim)."""
        query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in (query, key, value))
        return dispatch_attention_fn(query, key, value, backend=self._attention_backend).flatten(2, 3).type_as(query)
