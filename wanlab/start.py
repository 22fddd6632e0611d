"""The latents that a run starts from: noise, perhaps in FreeNoise's order, and a clip behind it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wanlab import latents
from wanlab.inputs import Inputs
from wanlab.model.condition import fitted
from wanlab.model.model import Model
from wanlab.settings import Settings
from wanlab.skips import LATENTS
from wanlab.windows import freenoise_order


def first_noise(settings: Settings, form: tuple[int, int] = LATENTS) -> Tensor:
    """The noise of this seed and size (1, c, t, h, w); with FreeNoise, that of the first window shuffled for those behind it.

    FreeNoise (Qiu et al. 2023, arXiv 2310.15169): the permutations come from the generator of the noise, after it.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    noise = latents.noise(settings, generator, form)
    context = settings.context
    if context and context.freenoise and context.acts(0, settings):
        order = freenoise_order(
            settings.latent_frames,
            context.length,
            context.overlap // 4,
            lambda n: torch.randperm(n, generator=generator).tolist(),
        )
        noise = noise[:, :, order]
    return noise


def start_latents(model: Model, settings: Settings, inputs: Inputs, noise: Tensor) -> Tensor:
    """What the first step begins with (1, 16, t, h, w) float32: noise, or noise over `samples`.

    With samples it is sigma noise + (1 - sigma) samples.
    """
    if not settings.samples:
        return noise
    samples = _samples(model, settings, inputs)
    if not settings.add_noise:
        return samples
    sigma = float(settings.grid.sigmas[0])
    return sigma * noise + (1 - sigma) * samples


def _samples(model: Model, settings: Settings, inputs: Inputs) -> Tensor:
    kind, array = inputs.read("samples", settings.samples)
    if kind == "latents":
        return torch.from_numpy(array)
    frames = np.stack([fitted(frame, settings.width, settings.height) for frame in array])
    return model.encode_video(frames.astype(np.float32) / 127.5 - 1).cpu()
