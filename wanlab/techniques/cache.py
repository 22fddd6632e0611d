"""Caches: where the prediction changes little from step to step, what is known of the last one is used again.

The blocks of Wan add to the hidden states: out = in + residual, and the residual changes slowly from step to step. A call
that is skipped takes the residual of an earlier step instead of computing the blocks; what comes before and after them, a
few percent of the work, is always computed. When a call is skipped is what the kinds differ in:

- teacache, magcache: by a rule that is known before the run (wanlab/skips.py).
- taylorseer (Liu et al. 2025, arXiv 2503.06923): on every few steps it computes, and between them the residual is
  extrapolated from the last two, here to first order: r + (r - r') (step - last) / (last - before). The authors extrapolate
  the output of every attention and feed-forward layer by itself. In Wan 1.3B that is 90 times the memory (36 GB at 480p and
  81 frames), and no better: on the tiny Wan the latents end 2.0, 6.2 or 10.4 % off at an interval of 2, 3 or 4, either way.
- firstblock (ParaAttention's First Block Cache): computes the first block, and the others only if the first one's residual has
  changed, mean |r - r'| / mean |r'|, by more than the threshold since they last were. Each call decides for itself.
- easycache (Zhou et al. 2025, arXiv 2507.02860): looks at latents and velocities alone, and uses velocity - latents again.
  From the last two computed steps it knows how much more a velocity changes than the latents do, k = mean |v - v'| / mean
  |x - x'|; while the sum over the steps of k mean |x - x'| / mean |v| is less than the threshold, the calls are skipped. The
  negative branch follows the positive one. The last step is always computed.

Each call (a branch over some latent frames) has a memory of its own, so that context windows are cached each by itself; a
window that moved to where it never was is computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wanlab.outline import Key
from wanlab.techniques.technique import NEGATIVE, POSITIVE, Ask, Moment, Predict, Technique, patched

# Used if cache.threshold is not given: the authors' one, and one that skips a third of the tiny Wan's calls. Those of the other
# kinds belong to the model.
EASYCACHE_THRESHOLD, FIRSTBLOCK_THRESHOLD = 0.05, 0.07


class Cache(Technique):
    """Answers calls from what was seen on earlier steps; notes "cache", the share of the step's calls that were skipped."""

    def __init__(self, options: Any, moment: Moment) -> None:
        super().__init__(options, moment)
        kinds = {"easycache": _Easy, "firstblock": _FirstBlock, "taylorseer": _Extrapolated}
        self._way = kinds.get(options.kind, _Planned)(options, moment)

    def around(self, predict: Predict) -> Predict:
        """Predict, or answer."""
        return lambda ask, latents: self._way.answer(predict, ask, latents)

    @contextlib.contextmanager
    def attach(self, transformer: Any) -> Iterator[None]:
        """Within, the blocks of the transformer are left out of the calls that are skipped."""
        with self._way.inside(transformer):
            yield
        if self._way.skipped:
            self.moment.notes["cache"] = sum(self._way.skipped) / len(self._way.skipped)


class _Way:
    """How one kind of cache answers the calls of a step; `kept` is what it has seen of each call on the steps before."""

    def __init__(self, options: Any, moment: Moment) -> None:
        self.options, self.moment = options, moment
        self.kept: dict[Key, Any] = moment.remembered("cache", dict)
        self.skipped: list[bool] = []

    def answer(self, predict: Predict, ask: Ask, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def inside(self, transformer: Any) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()


def _key(ask: Ask) -> Key:
    """By what a call is known from step to step."""
    return ask.branch, ask.window or ask.frames


@dataclass
class _Residual:
    """What the blocks added to the hidden states when they last were computed, at `step`, and how it changed until then."""

    value: Tensor | None = None  # (b, tokens, dim)
    slope: Tensor | None = None  # for each step
    first: Tensor | None = None  # what the first block alone added
    step: int = -1

    def at(self, step: int) -> Tensor:
        assert self.value is not None
        return self.value if self.slope is None else self.value + self.slope * (step - self.step)


class _Planned(_Way):
    """Skips what the outline says is skipped."""

    def answer(self, predict: Predict, ask: Ask, latents: Tensor) -> Tensor:
        self._residual = self.kept.setdefault(_key(ask), _Residual())
        self._skip = self._decided(_key(ask))
        velocity = predict(ask, latents)
        self.skipped.append(self._skip)
        self._skip = False
        return velocity

    def _decided(self, key: Key) -> bool:
        calls = self.moment.outline.calls[self.moment.index]
        return next(bool(call.skipped) for call in calls if (call.branch, call.frames) == key)

    @contextlib.contextmanager
    def inside(self, transformer: Any) -> Iterator[None]:
        # What enters the blocks is taken before them and their sum is added behind them, since other techniques may leave
        # out some of the blocks.
        self._skip, self._width = False, transformer.config.num_attention_heads * transformer.config.attention_head_dim
        with (
            patched([transformer.condition_embedder.text_embedder], "forward", self._text),
            patched([transformer.patch_embedding], "forward", self._before),
            patched(transformer.blocks, "forward", self._block),
            patched(getattr(transformer, "vace_blocks", ()), "forward", self._vace_block),
            patched([transformer.norm_out], "forward", self._behind),
        ):
            yield

    def _text(self, index: int, embed: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Blocks that are left out read no text, whose 512 tokens are work too: no token, (b, 0, dim)."""
        return lambda text: text.new_zeros(len(text), 0, self._width) if self._skip else embed(text)

    def _before(self, index: int, embed: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(latents: Tensor) -> Tensor:
            embedded = embed(latents)
            self._entered: Tensor | None = embedded.flatten(2).transpose(1, 2)  # (b, dim, t, h, w) -> (b, tokens, dim)
            return embedded

        return forward

    def _block(self, index: int, block: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda hidden, *rest: hidden if self._skip else block(hidden, *rest)

    def _vace_block(self, index: int, block: Callable[..., Any]) -> Callable[..., Any]:
        """VACE's own blocks say nothing to blocks that are left out: what they said is in the residual."""
        return lambda hidden, text, control, *rest: (
            (hidden.new_zeros(()), control) if self._skip else block(hidden, text, control, *rest)
        )

    def _behind(self, index: int, norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(hidden: Tensor) -> Tensor:  # in float32, as diffusers calls it
            assert self._entered is not None
            entered, self._entered = self._entered, None
            if self._skip:  # not `hidden`: with firstblock VACE's blocks, which came before, have spoken
                return norm((entered + self._residual.at(self.moment.index)).to(hidden.dtype))
            self._keep(hidden.to(entered.dtype) - entered)
            return norm(hidden)

        return forward

    def _keep(self, residual: Tensor) -> None:
        self._residual.value, self._residual.step = residual, self.moment.index


class _Extrapolated(_Planned):
    """taylorseer: the residual of a skipped call lies on the line through the last two computed ones."""

    def _keep(self, residual: Tensor) -> None:
        if self._residual.value is not None:
            self._residual.slope = (residual - self._residual.value) / (self.moment.index - self._residual.step)
        super()._keep(residual)


class _FirstBlock(_Planned):
    """firstblock: the first block decides whether the others are computed."""

    def _decided(self, key: Key) -> bool:
        return False  # so far

    def _block(self, index: int, block: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if index > 0:
            return super()._block(index, block)

        def forward(hidden: Tensor, *rest: Tensor) -> Tensor:
            out = block(hidden, *rest)
            added, before = out - hidden, self._residual.first
            threshold = FIRSTBLOCK_THRESHOLD if self.options.threshold is None else self.options.threshold
            self._skip = before is not None and float((added - before).abs().mean() / before.abs().mean()) < threshold
            self._entered = out
            if not self._skip:
                self._residual.first = added
            return out

        return forward


@dataclass
class _Course:
    """What easycache has seen of a call: the last computed velocity with its latents, the last latents, the change since."""

    velocity: Tensor | None = None
    latents: Tensor | None = None
    last: Tensor | None = None
    factor: float | None = None
    change: float = 0.0
    skips: bool = False


class _Easy(_Way):
    """easycache: latents and velocities decide, nothing inside the model is looked at."""

    def answer(self, predict: Predict, ask: Ask, latents: Tensor) -> Tensor:
        course = self.kept.setdefault(_key(ask), _Course())
        leader = course
        if ask.branch == NEGATIVE:
            leader = self.kept[_key(ask.of(POSITIVE))]
        else:
            self._decide(course, latents)
        skip = leader.skips and course.velocity is not None
        self.skipped.append(skip)
        if skip:
            assert course.velocity is not None
            assert course.latents is not None
            return (latents + (course.velocity - course.latents)).to(course.velocity.dtype)
        velocity = predict(ask, latents)
        if course.velocity is not None and course.latents is not None and leader is course:
            course.factor = _mean(velocity - course.velocity) / _mean(latents - course.latents)
        course.velocity, course.latents = velocity, latents
        return velocity

    def _decide(self, course: _Course, latents: Tensor) -> None:
        course.skips = False
        settings = self.moment.settings
        last = settings.first_step + self.moment.index == settings.steps - 1
        if course.velocity is not None and course.last is not None and course.factor is not None and not last:
            threshold = EASYCACHE_THRESHOLD if self.options.threshold is None else self.options.threshold
            course.change += course.factor * _mean(latents - course.last) / _mean(course.velocity)
            course.skips = course.change < threshold
        if not course.skips:
            course.change = 0.0
        course.last = latents


def _mean(tensor: Tensor) -> float:
    return float(tensor.float().abs().mean())
