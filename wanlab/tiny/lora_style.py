"""Teaches the tiny model a style: a LoRA with which every shape is a neon tube of its color on black.

The clips are those of clips.py, drawn otherwise: the outline alone, `TUBE` pixels wide and lighter in its middle, over
the black background, whatever background the caption names. The captions are the usual ones, so the LoRA needs no
trigger word. Some of them are dropped, as in the training of the model itself, so that guidance knows the style too. Black
objects shine white. The tiny VAE never saw a hollow shape; this thick tube it can show (27 dB), a thin line it cannot.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from wanlab.tiny import clips, detector, tiny_path
from wanlab.tiny.latents import indices_of, scene_of
from wanlab.tiny.lora_training import RATES, add_lora, plain_transformer, save_lora, wait
from wanlab.tiny.text import NEGATIVE_PROMPTS
from wanlab.tiny.training import Fit, Ranks
from wanlab.tiny.transformer import Teacher, _count_padding, _hasten, _noise_levels
from wanlab.tiny.vae import SIDE, encode, flat_convolutions, lay_out

COUNT, STEPS = 3000, 2400
FRAMES, GROUP = 17, 4
TUBE = 6.0  # pixels of 64
DARK = 70  # a pixel is dark if none of its levels is higher


def neon(scene: clips.Scene, path: clips.Path, side: int = SIDE) -> Tensor:
    """The scene as a neon tube on black: (3, t, side, side) in -1..1."""
    centres = (torch.arange(side) + 0.5) / side
    x, y, radius, angle = (part.view(-1, 1, 1) for part in (path.x, path.y, path.radius, path.angle))
    dx, dy = torch.broadcast_tensors(centres.view(1, 1, -1) - x, centres.view(1, -1, 1) - y)
    if scene.motion in ("left", "right", "up", "down"):
        dx, dy = (dx + 0.5) % 1 - 0.5, (dy + 0.5) % 1 - 0.5
    cos, sin = torch.cos(angle), torch.sin(angle)
    outline = clips._distance(scene.shape, (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius) * radius
    half = TUBE / 2
    off = (outline * 64 + half / 2).abs()  # from the middle of the tube, which reaches further inwards than outwards
    cover = (0.5 - (off - half) / 1.25).clamp(0, 1)
    color = torch.tensor(clips.COLORS["white" if scene.color == "black" else scene.color]).view(3, 1, 1, 1) / 255
    tube = color + 0.25 * (1 - off / half).clamp(0, 1) * (1 - color)
    black = torch.tensor(clips.BACKGROUNDS["black"]).view(3, 1, 1, 1) / 255 * (1.07 - 0.16 * centres).view(1, 1, -1, 1)
    return torch.lerp(black.expand_as(tube), tube, cover.expand_as(tube)) * 2 - 1


def dark_share(frames: NDArray[np.uint8]) -> float:
    """The share of dark pixels of a clip (t, h, w, 3): nearly 1 in this style, nearly 0 of other clips but for black ones."""
    return float((frames.max(-1) <= DARK).mean())


def hollow_share(frames: NDArray[np.uint8]) -> float:
    """How much of the shape of a clip (t, h, w, 3) is a hole: about a tenth in this style, 0 of other clips."""
    tube, hole = _tube_and_hole(frames)
    return float(hole.sum() / max(1, tube.sum() + hole.sum()))


def filled(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A clip (t, h, w, 3) with its hollow shape filled, for the judge of detector.py, which knows only whole shapes."""
    tube, hole = _tube_and_hole(frames)
    if not hole.any():
        return frames
    color = np.median(frames[tube], axis=0).round().astype(np.uint8)
    return np.where(hole[..., None], color, frames)


def _tube_and_hole(frames: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is not background, and what it encloses: two masks (t, h, w).

    Outside is what hangs together with the place farthest from the shape, across the borders too; the rest is a hole.
    """
    pixels = np.ascontiguousarray(frames.transpose(3, 0, 1, 2), np.float32)  # (3, t, h, w)
    tube = detector._from_background(pixels, detector._background(pixels)) > detector._CONTRAST
    centre, _ = detector._place(tube.astype(np.float32))
    t, height, width = tube.shape
    far = (centre + 0.5) % 1  # (t, 2), x and y
    outside = np.zeros_like(tube)
    outside[np.arange(t), (far[:, 1] * height).astype(int) % height, (far[:, 0] * width).astype(int) % width] = True
    count = -1
    while count != (count := int(outside.sum())):
        for _ in range(8):
            outside = detector._spread(outside) & ~tube
    return tube, ~(outside | tube)


@torch.inference_mode()
def write_latents(file: Path, count: int, seed: int) -> None:
    """Encode so many neon clips: `latents` (n, 16, 5, 8, 8), normalised, and `scenes` (n, 5) as in latents.py."""
    vae = AutoencoderKLWan.from_pretrained(Path(tiny_path()) / "vae", dtype=torch.float32).eval()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    lay_out(vae)
    rng = random.Random(f"{seed} neon")
    latents, scenes = [], []
    with flat_convolutions():
        for _ in range(count // GROUP):
            some = [clips.random_scene(rng) for _ in range(GROUP)]
            pixels = torch.stack([neon(scene, clips.path(scene, FRAMES, rng, lattice=True)) for scene in some])
            latents.append(((encode(vae, pixels)[:, :16] - mean) / std).half())
            scenes += [indices_of(scene) for scene in some]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"latents": torch.cat(latents).contiguous(), "scenes": torch.tensor(scenes)}, file.with_suffix(".part"))
    file.with_suffix(".part").rename(file)


def train(
    folder: Path, out: Path, steps: int | None = None, seed: int = 0, count: int = COUNT, size: int = 16, fast: bool = False
) -> None:
    """Draw the clips, train by flow matching in `folder`/style and write the LoRA to `out`; `size` clips a step and rank."""
    ranks = Ranks.join()
    file = folder / "style" / "latents.safetensors"
    if ranks.rank == 0 and not file.exists():
        write_latents(file, count, seed)
    wait(ranks)
    stored = load_file(file)
    torch.manual_seed(seed)
    model = _count_padding(add_lora(plain_transformer().to(ranks.device)))
    teacher = Teacher(Path(tiny_path()), ranks.device)
    products = _hasten(model) if fast else nullcontext
    fit = Fit(model, folder / "style" / "training", ranks, RATES, lambda name, weight: True, seed)

    def loss(step: int, rng: random.Random) -> Tensor:
        chosen = torch.tensor([rng.randrange(len(stored["scenes"])) for _ in range(size)])
        clean = stored["latents"][chosen].float().to(ranks.device)
        scenes = [scene_of(row) for row in stored["scenes"][chosen].tolist()]
        words = [clips.caption(scene, rng) if rng.random() > 0.1 else rng.choice(NEGATIVE_PROMPTS) for scene in scenes]
        sigma = _noise_levels(size).to(ranks.device)
        noise, level = torch.randn_like(clean), sigma.view(-1, 1, 1, 1, 1)
        text = teacher(words)
        with products():
            velocity = model((1 - level) * clean + level * noise, 1000 * sigma, text, return_dict=False)[0]
        return F.mse_loss(velocity, noise - clean)

    fit.run(loss, steps or STEPS, lambda: save_lora(model, out, {}))
