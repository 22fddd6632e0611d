"""Context windows: a clip longer than the model knows is predicted in overlapping windows, which are blended on every step.

Each window is a call of its own, whose frames the model counts from 0 on, so the model never sees more than it was
trained on, and the memory of a call depends on the window and not on the clip. The velocities of the windows are added
with weights (wanlab/windows.py) and divided by the sum of the weights; then the solver makes one step on the whole
clip. This is done for each branch of guidance before the branches are combined, so formulas of guidance see the whole
clip. (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, eq. 5, along time; as in AnimateDiff-Evolved and the
ComfyUI Wan nodes.)

With a prompt of several sections, "a | b | c", a window gets the section in which its centre lies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wanlab.techniques.technique import Ask, Predict, Technique
from wanlab.windows import blend_weights, windows

__all__ = ["Context", "windows"]  # where the windows lie is arithmetic, in a module that needs no torch


class Context(Technique):
    """Splits what is asked into windows and blends the answers."""

    def around(self, predict: Predict) -> Predict:
        """Predict each window by itself."""
        options, settings = self.options, self.moment.settings
        found = options.windows(self.moment.index, settings)
        weights = blend_weights(options.fuse, found, settings.latent_frames, options.overlap // 4)

        def blended(ask: Ask, latents: Tensor) -> Tensor:
            total: Tensor | None = None
            sums = torch.zeros(len(ask.frames), dtype=torch.float64)
            for window, weight in zip(found, weights, strict=True):
                velocity = self._window(predict, ask, latents, window)
                if total is None:
                    total = velocity.new_zeros(len(velocity), velocity.shape[1], *latents.shape[2:], dtype=torch.float32)
                share = torch.from_numpy(weight).to(total).view(1, 1, -1, 1, 1)
                total[:, :, window] += share * velocity.float()
                sums[window] += torch.from_numpy(weight)
            if total is None:
                raise ValueError("there is no window")
            return (total / sums.to(total).view(1, 1, -1, 1, 1)).to(velocity.dtype)

        return blended

    def _window(self, predict: Predict, ask: Ask, latents: Tensor, window: list[int]) -> Tensor:
        """The velocity of one window, whose first place is anchored as asked."""
        frames, first = tuple(window), window[0]
        if first == 0 or self.options.anchor == "none":
            return predict(Ask(ask.branch, frames, window=frames), latents[:, :, window])
        if self.options.anchor == "start":
            return predict(Ask(ask.branch, frames, (0, *frames[1:]), frames), latents[:, :, window])
        before = (first - 1, *frames)
        return predict(Ask(ask.branch, before, window=frames), latents[:, :, list(before)])[:, :, 1:]
