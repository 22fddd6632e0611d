"""Mobius (Bi et al. 2025, arXiv 2502.20307): a clip that repeats without a seam, from a model that knows nothing of loops.

If the end of a clip is to meet its beginning, no frame may be the first one. So on every step the latents are rolled in
time by some frames more before the model sees them, and the velocity is rolled back: what is first for the model lies at
another place of the clip each time, and over all steps every pair of neighbours, the last and the first frame among them,
has been seen side by side. Nothing is trained and no call is added.

As in the authors' code the clip is turned forwards (frame `roll` comes first), step 0 is not rolled, and frames are
numbered from 0 for the model whatever the roll. The latents between the steps are never rolled, so that steps can be
compared.

Two things remain. A clip rolled by less than a turn has its seam somewhere on each single step: many steps, and a shift
that has no factor in common with the number of latent frames, spread it. And Wan's VAE decodes the first latent frame as
one frame, without anything before it: the loop is seamless in the latents, and in the frames up to what the VAE makes of
its start. (The authors decode the start a second time, behind the end.)
"""

from __future__ import annotations

from torch import Tensor

from wanlab.techniques.technique import GUIDED, Ask, Predict, Technique


class Loop(Technique):
    """The clip is rolled in time around the whole prediction of a step."""

    def around(self, predict: Predict) -> Predict:
        """The prediction of the rolled clip, rolled back."""
        roll = self.options.rolled(self.moment.index, self.moment.settings)

        def rolled(ask: Ask, latents: Tensor) -> Tensor:
            if ask.branch != GUIDED:
                return predict(ask, latents)
            return predict(ask, latents.roll(-roll, dims=2)).roll(roll, dims=2)

        return rolled
