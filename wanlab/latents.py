"""Latents: the noise a run starts from, the clean estimate of a step, and a cheap preview."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from wanlab.files import write_whole
from wanlab.settings import Settings
from wanlab.skips import LATENTS


def noise(settings: Settings, generator: torch.Generator | None = None, form: tuple[int, int] = LATENTS) -> Tensor:
    """The noise of this seed and size: (1, c, t, h, w) float32, drawn on the CPU so that it is the same for every device.

    `form` is the number of channels, and the pixels of a latent cell in a row: 16 and 8, with the VAE of Wan2.2 48 and 16.
    """
    generator = generator or torch.Generator().manual_seed(settings.seed)
    channels, cell = form
    shape = (1, channels, settings.latent_frames, settings.height // cell, settings.width // cell)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def clean(latents: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """What the model believes the clip to be, seen from this step: x - sigma v, as float32."""
    return latents.float() - sigma * velocity.to(latents.device).float()


def mask_channels(known: Tensor) -> Tensor:
    """Which pixel frames are known (4t - 3,), as image-to-video models read it: (4, t), float.

    The first value is repeated four times; then channel j of latent frame t is pixel frame 4t + j (Wan2.1, `WanI2V.generate`).
    """
    return torch.cat([known[:1].repeat(4), known[1:]]).view(-1, 4).T.float()


def condition_channels(known: Tensor, latents: Tensor) -> Tensor:
    """What image-to-video models read beside the noise: the mask of `known` (4t - 3,), then latents, (b, 20, t, h, w)."""
    mask = mask_channels(known).view(1, 4, -1, 1, 1).to(latents)
    return torch.cat([mask.expand(len(latents), 4, *latents.shape[2:]), latents], 1)


def control_channels(known: Tensor, inactive: Tensor, reactive: Tensor) -> Tensor:
    """What VACE's own blocks read (b, 96, t, h, w): two latents (b, 16, t, h, w), and a mask of what is not `known` (4t - 3,).

    The mask has a channel for each pixel of a cell. A latent frame has the mask of one pixel frame, the nearest of as many
    taken evenly: of 81 these are 1, 5, 9 ... 79. So the mask of a single picture at an end is in no channel, and the model sees
    it in the latents alone; VACE's own code does so, and diffusers.
    """
    b, _, t, h, w = inactive.shape
    mask = F.interpolate((~known).float()[None, None], size=t, mode="nearest-exact").to(inactive)
    return torch.cat([inactive, reactive, mask.view(1, 1, t, 1, 1).expand(b, LATENTS[1] ** 2, t, h, w)], 1)


@dataclass(frozen=True)
class Preview:
    """A linear map from latents to pixels, fitted by least squares: a picture in milliseconds, without the VAE.

    Each output value is a weighted sum of the 3x3 latent cells around it and a constant. `first` (145, p p 3) is for the
    first latent frame, which stands for one frame; `rest` (145, 4 p p 3) for the others, which stand for four. With 48 channels
    instead of 16 it is 433 instead of 145.
    """

    first: Tensor
    rest: Tensor

    @property
    def cell(self) -> int:
        """Pixels per latent cell and direction: 8 is the full size."""
        return int((self.first.shape[1] // 3) ** 0.5)

    @classmethod
    def fit(cls, latents: Tensor, frames: np.ndarray, cell: int = 8, ridge: float = 1e-2) -> Preview:
        """The best map from latents (n, 16, t, h, w) to their frames (n, 4t - 3, 8h, 8w, 3) uint8, or of another form."""
        pixels, side = torch.from_numpy(frames).float() / 127.5 - 1, frames.shape[3] // latents.shape[4]
        pixels = pixels.unfold(2, side, side).unfold(3, side, side)  # (n, f, h, w, 3, 8, 8)
        pixels = F.adaptive_avg_pool2d(pixels.flatten(0, 4), cell).view(*pixels.shape[:5], cell, cell)
        seen = _neighbourhoods(latents)  # (n, t, h, w, 145)
        first = _least_squares(seen[:, :1], pixels[:, :1].flatten(4), ridge)
        if latents.shape[2] == 1:
            return cls(first, first.repeat(1, 4))
        groups = pixels[:, 1:].unflatten(1, (-1, 4)).movedim(2, 4).flatten(4)  # (n, t - 1, h, w, 4 p p 3)
        return cls(first, _least_squares(seen[:, 1:], groups, ridge))

    def __call__(self, latents: Tensor) -> np.ndarray:
        """Frames (4t - 3, p h, p w, 3) uint8 of latents (1, 16, t, h, w)."""
        seen = _neighbourhoods(latents.float().cpu())[0]
        size = (3, self.cell, self.cell)
        parts = [(seen[:1] @ self.first).unflatten(-1, (1, *size)), (seen[1:] @ self.rest).unflatten(-1, (4, *size))]
        # (t, h, w, f, 3, p, p) -> (t f, h p, w p, 3)
        frames = torch.cat([part.permute(0, 3, 1, 5, 2, 6, 4).flatten(0, 1).flatten(1, 2).flatten(2, 3) for part in parts])
        return ((frames / 2 + 0.5).clamp(0, 1) * 255).round().byte().numpy()

    def save(self, file: Path) -> None:
        """Write the map as a safetensors file."""
        write_whole(file, save({"first": self.first.half().contiguous(), "rest": self.rest.half().contiguous()}))

    @classmethod
    def load(cls, file: Path) -> Preview:
        """Read a map that `save` wrote."""
        parts = load(file.read_bytes())
        return cls(parts["first"].float(), parts["rest"].float())


def _neighbourhoods(latents: Tensor) -> Tensor:
    """(n, 16, t, h, w) -> (n, t, h, w, 145): the 3x3 cells around each one, and a one."""
    n, channels, t, h, w = latents.shape
    flat = latents.movedim(2, 1).flatten(0, 1)
    around = F.unfold(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3).view(n, t, channels * 9, h, w)
    return torch.cat([around, torch.ones_like(around[:, :, :1])], 2).movedim(2, -1)


def _least_squares(inputs: Tensor, outputs: Tensor, ridge: float) -> Tensor:
    x, y = inputs.reshape(-1, inputs.shape[-1]).double(), outputs.reshape(-1, outputs.shape[-1]).double()
    gram = x.mT @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(gram, x.mT @ y).float()
