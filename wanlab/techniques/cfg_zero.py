"""CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): guidance whose negative prediction is scaled to fit the positive one.

Plain guidance takes the difference of two predictions, and so also of their sizes: where the model errs about the size of
the negative one, guidance multiplies the error. The scale s that brings s v_negative nearest to v_positive is that of a
projection,

    s = <v_positive, v_negative> / ||v_negative||^2        one number per clip

and the velocity is s v_negative + cfg (v_positive - s v_negative). What v_negative is multiplied with no longer matters.

The second part, zero-init: the very first predictions of a flow model are its worst, and guidance makes them worse than
nothing, so the first `zero_steps` velocities are zero. They cost no call; the latents stay as they are while the noise
level falls.

As in the authors' code, the number s is taken in float32. So is the sum here, whose result is then in the model's dtype.
The authors add 1e-8 to the square of the norm; we keep it from being zero instead, so that the law of the scale is exact.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from wanlab.techniques.technique import GUIDED, Ask, Predict, Technique


def fitted(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Guidance of strength `scale` from the negative prediction, after its size is fitted to the positive one.

    Both are (b, c, t, h, w), and so is the result, in their dtype.
    """
    ours, theirs = positive.float(), negative.float()
    overall = tuple(range(1, positive.ndim))
    length = theirs.square().sum(overall, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    theirs = theirs * ((ours * theirs).sum(overall, keepdim=True) / length)
    return (theirs + scale * (ours - theirs)).to(positive.dtype)


class CfgZero(Technique):
    """Guidance by the fitted difference; nothing at all on the first steps."""

    def around(self, predict: Predict) -> Predict:
        """On the zero steps, a prediction that asks nobody."""
        if not self.options.zero(self.moment.index, self.moment.settings):
            return predict

        def nothing(ask: Ask, latents: Tensor) -> Tensor:
            if ask.branch != GUIDED:
                return predict(ask, latents)
            return torch.zeros_like(latents, dtype=self.moment.model.dtype)

        return nothing

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The guided velocity."""
        scale = cast(float, self.moment.settings.cfg)  # a list has one value for each step
        return fitted(positive, negative, scale)
