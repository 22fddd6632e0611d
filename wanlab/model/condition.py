"""What a model is told beside the text: known frames as more channels, and what CLIP sees in them.

An image-to-video model reads 20 more channels, 4 of a mask and 16 latents (Wan2.1, `WanI2V.generate`): the mask is 1 on known
frames, with its first value repeated four times, so that channel j of latent frame t is the pixel frame 4 t + j; the latents
are those of a video that shows the known frames, and mid gray elsewhere.

VACE (Jiang et al. 2025, arXiv 2503.07598; diffusers' `WanVACEPipeline`) has blocks of its own, which read 96 channels: the
latents of what stays (`inactive`: the known frames, mid gray elsewhere), those of what is to be changed (`reactive`: here it
is always mid gray), and a mask that is 1 where frames are to be made. Without an image all are to be made: text to video.
Control clips (which would be the reactive frames) and reference pictures (latent frames in front) are not settings yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wanlab.groups import latent
from wanlab.inputs import Inputs
from wanlab.latents import condition_channels, control_channels
from wanlab.settings import Settings

if TYPE_CHECKING:
    from wanlab.model.model import Model


@dataclass(frozen=True)
class Given:
    """`condition` (1, 20, t, h, w) and `image`, the tokens of CLIP (1, n, d); both None for text-to-video models.

    Wan2.2 has no image encoder, so there are no tokens. VACE has the `control` (1, 96, t, h, w) alone, and its strength.
    """

    condition: Tensor | None = None
    image: Tensor | None = None
    control: Tensor | None = None
    control_strength: float = 1.0

    def of(self, frames: Sequence[int], batch: int = 1) -> Mapping[str, Any]:
        """What a call over these latent frames is told, for so many branches at once."""
        if self.control is not None:
            return {"control": _part(self.control, frames, batch), "control_strength": self.control_strength}
        if self.condition is None:
            return {}
        told = {"condition": _part(self.condition, frames, batch)}
        return told if self.image is None else told | {"image": self.image.expand(batch, -1, -1)}


def _part(channels: Tensor, frames: Sequence[int], batch: int) -> Tensor:
    part = channels[:, :, list(frames)] if len(frames) != channels.shape[2] else channels
    return part.expand(batch, -1, -1, -1, -1)


@torch.inference_mode()
def given(model: Model, settings: Settings, inputs: Inputs) -> Given:
    """What the settings' images tell the model; nothing for a text-to-video model.

    A VACE model is told without an image too: that all frames are to be made.
    """
    vace = model.checkpoint.vace
    if not (settings.image or settings.end_image):
        return Given(control=_all_to_make(model, settings), control_strength=settings.vace_strength) if vace else Given()
    start, end = (_pictures(name, settings, inputs) for name in ("image", "end_image"))
    video = np.full((settings.frames, settings.height, settings.width, 3), np.nan, np.float32)
    video[: len(start)] = start
    video[settings.frames - len(end) :] = end
    known = ~np.isnan(video[:, 0, 0, 0])
    video = _noisy(video, known, settings)
    latents = model.encode_video(np.nan_to_num(video))  # (1, 16, t, h, w); mid gray is 0
    latents[:, :, : latent(len(start)) if len(start) else 0] *= settings.start_latent_strength
    if len(end):
        latents[:, :, -1] *= settings.end_latent_strength
    if vace:
        control = control_channels(torch.from_numpy(known), latents, _gray(model, settings))
        return Given(control=control, control_strength=settings.vace_strength)
    condition = condition_channels(torch.from_numpy(known), latents)
    if not model.checkpoint.transformer.get("image_dim"):
        return Given(condition)
    seen = [part[0] if where else part[-1] for part, where in ((start, True), (end, False)) if len(part)]
    tokens = torch.cat([model.encode_picture(picture) for picture in seen], 1) * settings.clip_embed_strength
    return Given(condition, tokens)


def _gray(model: Model, settings: Settings) -> Tensor:
    """The latents of a clip of mid gray (1, 16, t, h, w)."""
    return model.encode_video(np.zeros((settings.frames, settings.height, settings.width, 3), np.float32))


def _all_to_make(model: Model, settings: Settings) -> Tensor:
    gray = _gray(model, settings)
    return control_channels(torch.zeros(settings.frames, dtype=torch.bool), gray, gray)


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture (h, w, 3) uint8 in another size: scaled to cover it, and cut evenly at the sides that are over."""
    h, w = picture.shape[:2]
    if (w, h) == (width, height):
        return picture
    scale = max(width / w, height / h)
    cut_w, cut_h = width / scale, height / scale
    left, top = (w - cut_w) / 2, (h - cut_h) / 2
    box = (left, top, left + cut_w, top + cut_h)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))


def _pictures(name: str, settings: Settings, inputs: Inputs) -> np.ndarray:
    """The frames of this setting, (n, h, w, 3) in -1..1 as the run's size; none if it is not given."""
    value = getattr(settings, name)
    if not value:
        return np.zeros((0, settings.height, settings.width, 3), np.float32)
    frames = inputs.read(name, value)[1]
    return np.stack([fitted(frame, settings.width, settings.height) for frame in frames]).astype(np.float32) / 127.5 - 1


def _noisy(video: np.ndarray, known: np.ndarray, settings: Settings) -> np.ndarray:
    """The known frames with the noise of noise_aug_strength, from a generator of its own."""
    if not settings.noise_aug_strength:
        return video
    generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + 17) % 2**63)
    noise = torch.randn(video[known].shape, generator=generator).numpy()
    video = video.copy()
    video[known] += settings.noise_aug_strength * noise
    return video
