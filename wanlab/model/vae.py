"""The VAE of a model: frames into latents and back, whole or in tiles.

It keeps its history on itself while it works through the frames, so only one thread may use it at a time, and an interrupted
call must leave nothing behind.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wanlab.placement.moving import resting
from wanlab.settings import ModelSettings


class Vae:
    """Encodes and decodes; `load` reads the weights when they are first needed."""

    def __init__(self, load: Callable[[], AutoencoderKLWan], settings: ModelSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self._load, self._working = load, threading.Lock()
        self.tiled = settings.vae_tiling  # of decoding; placement "auto" may choose it

    @cached_property
    def module(self) -> AutoencoderKLWan:
        """The weights."""
        with torch.inference_mode(False):  # weights made in inference mode could not be moved later
            return self._load()

    @property
    def _normal(self) -> tuple[Tensor, Tensor]:
        """The mean of the VAE's latents, and one over their deviation, by channel."""
        shape = (1, -1, 1, 1, 1)
        mean, deviation = (
            torch.tensor(values, device=self.device).view(shape)
            for values in (self.module.config.latents_mean, self.module.config.latents_std)
        )
        return mean, 1.0 / deviation

    def unload(self) -> None:
        """Let go of the weights."""
        self.__dict__.pop("module", None)

    @contextlib.contextmanager
    def _at_work(self, tiled: bool) -> Iterator[AutoencoderKLWan]:
        """Within, the VAE is on the device and nobody else's."""
        with self._working, resting(self.module, self.device, self.settings.force_offload):
            if tiled:
                size, stride = self.settings.vae_tile, self.settings.vae_tile_stride
                self.module.enable_tiling(size, size, stride, stride)
            else:
                self.module.disable_tiling()
            try:
                yield self.module
            finally:
                self.module.clear_cache()

    @torch.inference_mode()
    def encode(self, video: np.ndarray) -> Tensor:
        """Normalized latents (1, 16, t, h, w) float32 of frames (4t - 3, 8h, 8w, 3) in -1..1; (1, 48, ...) of 16h, 16w."""
        pixels = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].to(self.device)
        with self._at_work(self.settings.vae_tiling) as vae:
            encoded = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
        mean, scale = self._normal
        return (encoded - mean) * scale

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Frames (t, h, w, 3) uint8 of normalized latents (1, c, t, h, w) float32."""
        mean, scale = self._normal
        with self._at_work(self.tiled) as vae:
            clip = vae.decode((latents.to(self.device) / scale + mean).to(vae.dtype), return_dict=False)[0].float()
        return ((clip[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy()
