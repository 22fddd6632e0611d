"""RIFLEx (Zhao et al. 2025, arXiv 2502.15894): one frequency is changed, so that a long clip does not start over.

The transformer knows when a frame is from angles: pair j of numbers in a head is turned by (frame) x (frequency j), fast
for the first pairs and slow for the last ones. Motion is read mostly from one of them, the intrinsic frequency, whose turn
is about as long as the clips of training. In a longer clip it comes round, the model is at the beginning again, and so is
the clip. The cure is to slow this one frequency until it makes less than one turn (eq. 8),

    frequency = 0.9 x 2 pi / T        with T latent frames in the call

where 0.9 is the authors' caution. T are the frames of a call as the model sees them: those of a context window, with a
frame that was put in front of it.

As in the authors' code (thu-ml/RIFLEx) the frequency is set and not only lowered. In a clip that is not longer than the
model's own it is usually made faster: this is a technique for long clips. And only frequency `index` is looked at: one that
is already slow is made faster in every clip.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from wanlab.techniques.technique import Technique, patched

Rotary = tuple[Tensor, Tensor]  # cosines and sines (1, frames x places, 1, head dim), each frequency in two columns


def frequency(frames: int) -> float:
    """The angle from one latent frame to the next that makes nine tenths of a turn in a clip."""
    return 0.9 * 2 * math.pi / frames


class Riflex(Technique):
    """Frequency `index` of the rotary embedding in time turns less than once in the frames of a call."""

    @contextlib.contextmanager
    def attach(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Within, the rotary embedding of each call has that frequency; its table is not touched."""
        self.options.check(transformer.config.attention_head_dim)
        frames_per_patch = transformer.config.patch_size[0]
        first = 2 * (self.options.index - 1)

        def make(_: int, rotary: Callable[[Tensor], Rotary]) -> Callable[[Tensor], Rotary]:
            def slowed(hidden_states: Tensor) -> Rotary:
                cos, sin = rotary(hidden_states)
                frames = hidden_states.shape[2] // frames_per_patch
                # (frames,) -> (frames x places, 1, 1), in float64 as diffusers' table
                angles = frequency(frames) * torch.arange(frames, dtype=torch.float64)
                angles = angles.repeat_interleave(cos.shape[1] // frames)[:, None, None].to(cos.device)
                cos[..., first : first + 2], sin[..., first : first + 2] = angles.cos(), angles.sin()
                return cos, sin

            return slowed

        with patched([transformer.rope], "forward", make):
            yield
