"""Training clips as latents of the frozen tiny VAE, kept in files so that every epoch costs no rendering.

Three lengths: 17 and 33 frames, and single frames for text to image. A file holds `latents` (n, 16, t, 8, 8) in float16
and `scenes` (n, 5), the indices of shape, colour, motion, background and size.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import Tensor

from wanlab.tiny import clips
from wanlab.tiny.training import Ranks
from wanlab.tiny.vae import SIDE, encode, flat_convolutions, lay_out

COUNTS = {17: 9000, 33: 2000, 1: 9000}  # clips by their frames
_VALUES = (clips.SHAPES, tuple(clips.COLORS), tuple(clips.MOTIONS), tuple(clips.BACKGROUNDS), tuple(clips.SIZES))


def indices_of(scene: clips.Scene) -> list[int]:
    """The scene as one row of `scenes`."""
    parts = (scene.shape, scene.color, scene.motion, scene.background, scene.size)
    return [values.index(part) for values, part in zip(_VALUES, parts, strict=True)]


def scene_of(indices: list[int]) -> clips.Scene:
    """The scene of one row of `scenes`."""
    return clips.Scene(*(values[index] for values, index in zip(_VALUES, indices, strict=True)))


@torch.inference_mode()
def write(folder: Path, seed: int = 0, share: float = 1.0) -> None:
    """Encode `share` of the training clips into `folder`/latents and measure mean and deviation (of the 17-frame ones)."""
    ranks = Ranks.join()
    vae = AutoencoderKLWan.from_pretrained(folder / "vae").to(ranks.device).eval()
    lay_out(vae)
    (folder / "latents").mkdir(exist_ok=True)
    for frames, count in COUNTS.items():
        rng = random.Random(f"{seed} {ranks.rank} {frames}")
        latents, scenes = [], []
        group = 4 if frames > 1 else 32
        with flat_convolutions():
            for _ in range(int(count * share) // ranks.count // group):
                some = [clips.random_scene(rng) for _ in range(group)]
                pixels = torch.stack([clips.random_clip(scene, frames, SIDE, rng, lattice=True) for scene in some]).to(
                    ranks.device
                )
                latents.append(encode(vae, pixels)[:, :16].half().cpu())
                scenes += [indices_of(scene) for scene in some]
        whole = {"latents": torch.cat(latents).contiguous(), "scenes": torch.tensor(scenes)}
        save_file(whole, folder / "latents" / f"{frames:02}_{seed}_{ranks.rank}.safetensors")
        if frames == 17 and ranks.rank == 0:
            values = whole["latents"].float()
            deviation = values.std((0, 2, 3, 4))
            deviation = torch.maximum(deviation, 0.35 * deviation.mean())  # a quiet channel is not blown up
            scale = {"latents_mean": values.mean((0, 2, 3, 4)).tolist(), "latents_std": deviation.tolist()}
            (folder / "scale.json").write_text(json.dumps(scale, indent=1))


class Latents:
    """All written latents, normalised on the way out."""

    def __init__(self, folder: Path) -> None:
        scale = json.loads((folder / "scale.json").read_text())
        self.mean = torch.tensor(scale["latents_mean"]).view(1, 16, 1, 1, 1)
        self.std = torch.tensor(scale["latents_std"]).view(1, 16, 1, 1, 1)
        self.files: dict[int, dict[str, Tensor]] = {}
        for frames in COUNTS:
            parts = [load_file(file) for file in sorted((folder / "latents").glob(f"{frames:02}_*.safetensors"))]
            self.files[frames] = {key: torch.cat([part[key] for part in parts]) for key in ("latents", "scenes")}

    def sample(self, frames: int, count: int, rng: random.Random) -> tuple[Tensor, list[clips.Scene]]:
        """Random normalised latents (count, 16, t, 8, 8) of this many frames, with their scenes."""
        file = self.files[frames]
        chosen = torch.tensor([rng.randrange(len(file["scenes"])) for _ in range(count)])
        latents = (file["latents"][chosen].float() - self.mean) / self.std
        return latents, [scene_of(row) for row in file["scenes"][chosen].tolist()]
