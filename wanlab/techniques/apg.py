"""Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416): guidance without the part of it that oversaturates.

With D the clean clip that a prediction amounts to, guidance moves D_positive along d = D_positive - D_negative. The authors
take d apart, into the part along D_positive and the rest. Along D_positive means: the same picture with more of everything,
more contrast and more colour; what changes the picture is the rest. Their Algorithm 1:

    d       = d + momentum d_before           negative momentum: away from where guidance went already
    d       = d min(1, norm_threshold / ||d||)
    D       = D_positive + (cfg - 1) (d_orthogonal + eta d_parallel)

`eta` 1, momentum 0 and no threshold are plain guidance. Norms and the projection are over all numbers of a clip.

Which space. The formula is about clean clips. Wan predicts velocities, D = x - sigma v, so the differences are the same up
to a factor, d = -sigma (v_positive - v_negative), but the projections are not: v = noise - D is mostly noise, and what is
parallel to v is neither contrast nor colour. An author of the paper asked for clean clips when diffusers took the formula
up (diffusers pull requests 9626 and 10173); its `AdaptiveProjectedGuidance` applies it to whatever the model predicts. We
apply it to the clean clips and turn the result back into a velocity. The threshold is therefore a norm of clean clips, as
in the paper, and momentum adds steps in the measure in which they move the clip.

All in float32; the result is in the model's dtype.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from wanlab import latents as latent
from wanlab.techniques.technique import Ask, Predict, Technique


def limited(difference: Tensor, threshold: float | None) -> Tensor:
    """The difference (b, ...), shortened where its norm is above the threshold; None shortens nothing."""
    if threshold is None:
        return difference
    return difference * (threshold / _norm(difference)).clamp(max=1)


def projected(difference: Tensor, prediction: Tensor, eta: float) -> Tensor:
    """The difference (b, ...), with its part along the prediction multiplied by `eta`."""
    along = prediction / _norm(prediction)
    parallel = (difference * along).sum(tuple(range(1, along.ndim)), keepdim=True) * along
    return difference + (eta - 1) * parallel


def _norm(clips: Tensor) -> Tensor:
    """(b, ...) -> (b, 1, ...), never zero."""
    norm = torch.linalg.vector_norm(clips, dim=tuple(range(1, clips.ndim)), keepdim=True)
    return norm.clamp(min=torch.finfo(norm.dtype).tiny)


class Apg(Technique):
    """Guidance by the projected difference of the clean clips."""

    def around(self, predict: Predict) -> Predict:
        """The same prediction; the latents are looked at, since velocities alone do not tell what clip they mean."""

        def seen(ask: Ask, latents: Tensor) -> Tensor:
            self.latents = latents
            return predict(ask, latents)

        return seen

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The guided velocity."""
        settings, options = self.moment.settings, self.options
        scale = cast(float, settings.cfg)  # a list has one value for each step
        sigma = float(settings.grid.sigmas[self.moment.index])
        clean = latent.clean(self.latents, positive, sigma)
        difference = self._with_momentum(clean - latent.clean(self.latents, negative, sigma))
        guidance = projected(limited(difference, options.norm_threshold), clean, options.eta)
        return (positive.float() - (scale - 1) * guidance / sigma).to(positive.dtype)

    def _with_momentum(self, difference: Tensor) -> Tensor:
        kept = self.moment.remembered("apg", dict[str, Tensor])
        if "difference" in kept:
            difference = difference + self.options.momentum * kept["difference"]
        kept["difference"] = difference
        return difference
