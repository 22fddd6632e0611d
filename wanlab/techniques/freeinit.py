"""FreeInit (Wu et al. 2023, arXiv 2312.07537): make the clip again, from noise that keeps its low frequencies.

What a clip will be, its layout and what moves where, is decided by the low frequencies of the noise it starts from, and
pure noise is a poor start for them: it is different in every frame. So the result of a round is noised again, with the
noise of the first round, to the highest level; of that the low frequencies over time, height and width are taken, and the
high ones of fresh noise:

    z     = sqrt(a) clip + sqrt(1 - a) noise
    start = IFFT(H FFT(z) + (1 - H) FFT(fresh))        H: a low-pass filter

**The level.** The authors' models are diffusion models whose last level is no pure noise: in Stable Diffusion's schedule a
= 0.00466, so 6.8 % of the clip is left in z (Lin et al. 2023, arXiv 2305.08891, measure this). That remainder is what
FreeInit lives on. Wan's highest level is sigma = 1, where z would be the old noise and nothing of the clip; WanVideoWrapper
takes sigma = 0.999, so 0.1 % is left, which is as good as nothing. We keep the authors' z, with the ratio of clip to noise
and the unit variance of their level (it is that of sigma = 0.936), and start with it where Wan expects noise. Wan was
trained without such a remainder, so it can make less of it than their models.

**The filter.** Frequencies are in parts of the highest one, 1, and the filter depends on their distance from 0 measured in
cutoffs, as in the authors' code. Their filters lie half a bin beside 0 where a length is odd, as Wan's numbers of latent
frames mostly are; ours are symmetric, so that the result is real without dropping anything. Their ideal filter ends at
sqrt(2 cutoff) and their box holds one bin less on one side; ours end at the cutoff.

**Fresh noise** has a generator of its own for each seed and round, so that a round does not depend on how many were made
before.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from wanlab.groups import FreeInitSettings
from wanlab.settings import Settings
from wanlab.skips import LATENTS
from wanlab.start import first_noise

# The product of 1 - beta over the 1000 levels of Stable Diffusion, sqrt(beta) even from sqrt(0.00085) to sqrt(0.012).
REMAINING = 0.0046601
_AXES = (-3, -2, -1)


def low_pass(shape: tuple[int, int, int], filter: str, order: int, spatial_cutoff: float, temporal_cutoff: float) -> Tensor:
    """How much of each frequency is kept, 0..1: (t, h, w) float32, laid out as torch.fft.fftn does, frequency 0 first.

    butterworth is 1/2 at the cutoff, gaussian exp(-1/2); ideal keeps an ellipsoid, box a box. A cutoff of 0 keeps nothing.
    """
    if spatial_cutoff == 0 or temporal_cutoff == 0:
        return torch.zeros(shape)
    cutoffs = (temporal_cutoff, spatial_cutoff, spatial_cutoff)
    axes = [2 * torch.fft.fftfreq(length) / cutoff for length, cutoff in zip(shape, cutoffs, strict=True)]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square()  # (3, t, h, w) in squared cutoffs
    distance = squares.sum(0)
    kept = {
        "butterworth": 1 / (1 + distance**order),
        "gaussian": torch.exp(-distance / 2),
        "ideal": (distance <= 1).float(),
        "box": (squares.amax(0) <= 1).float(),
    }
    return kept[filter]


def noised(clean: Tensor, noise: Tensor) -> Tensor:
    """The clip at the authors' highest level, of unit variance if both are."""
    return REMAINING**0.5 * clean + (1 - REMAINING) ** 0.5 * noise


def exchanged(kept: Tensor, fresh: Tensor, filter: Tensor) -> Tensor:
    """The frequencies that the filter (t, h, w) keeps of one clip, the others of the other one; (b, c, t, h, w) float32."""
    spectrum = torch.fft.fftn(kept.float() - fresh.float(), dim=_AXES)
    return fresh.float() + torch.fft.ifftn(filter.to(fresh.device) * spectrum, dim=_AXES).real


def mixed(clean: Tensor, noise: Tensor, fresh: Tensor, options: FreeInitSettings) -> Tensor:
    """What stands for the noise in the next round: all are (1, 16, t, h, w), float32.

    `clean` is the result of the round before, `noise` what the first round started from, `fresh` the round's `fresh_noise`.
    """
    t, h, w = fresh.shape[2:]
    filter = low_pass((t, h, w), options.filter, options.order, options.spatial_cutoff, options.temporal_cutoff)
    return exchanged(noised(clean, noise), fresh, filter)


def fresh_noise(settings: Settings, round: int, form: tuple[int, int] = LATENTS) -> Tensor:
    """The new noise of a round (1, c, t, h, w) float32, drawn on the CPU as that of the first one is, from another seed."""
    seed = int.from_bytes(hashlib.blake2b(f"freeinit {settings.seed} {round}".encode(), digest_size=8).digest())
    return first_noise(settings.model_copy(update={"seed": seed}), form)
