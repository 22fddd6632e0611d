"""The tiny image-to-video transformer: Wan2.1's I2V form of the tiny one, and the conditions that it reads.

Wan's I2V sees known pictures twice. Fine detail comes as 20 more channels after the 16 noisy ones: 4 of a mask that says
which pixel frames are known, and 16 latents of a video that shows the known frames and mid gray elsewhere (`condition`).
What is in the picture comes as tokens of a CLIP, to which each cross-attention listens beside the text (vision.py).

Training begins with the text-to-video weights: the new input channels and the new values of the cross-attention are zero
at first, so that the first step is exactly the old model. Known are the first frame, both ends, the last frame, or the
first five frames (to continue a clip).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionModel

from wanlab.latents import condition_channels
from wanlab.schedule import grid
from wanlab.settings import Settings
from wanlab.tiny import clips, vision
from wanlab.tiny.latents import indices_of, scene_of
from wanlab.tiny.text import NEGATIVE_PROMPTS
from wanlab.tiny.training import Fit, Ranks, Rates
from wanlab.tiny.transformer import Teacher, _count_padding, _hasten, _noise_levels, load, sample
from wanlab.tiny.vae import SIDE, decode, encode, flat_convolutions, lay_out

COUNTS = {17: 7200, 33: 900}  # clips by their frames
KINDS = ("start", "both", "end", "clip")  # which frames are known
_OTHER = (0.55, 0.17, 0.28)  # shares of the kinds but the first among the second conditions


def known_frames(kind: str, frames: int) -> Tensor:
    """Which of the pixel frames are known: (frames,) bool."""
    known = torch.zeros(frames, dtype=torch.bool)
    if kind != "end":
        known[: 5 if kind == "clip" else 1] = True
    if kind in ("both", "end"):
        known[-1] = True
    return known


def normalised(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Latents (b, 16, t, h, w) of this VAE with mean 0 and deviation 1 in each channel, as the transformer reads them."""
    mean, std = (
        torch.tensor(value).view(1, -1, 1, 1, 1).to(latents) for value in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std


@torch.no_grad()
def condition(vae: AutoencoderKLWan, video: Tensor, known: Tensor) -> Tensor:
    """What the transformer is told of known frames: (b, 20, t, h, w), to be put after the 16 noisy channels.

    `video` (b, 3, 4t - 3, 8h, 8w) in -1..1 is right where `known` (4t - 3,) is true; the rest is ignored.
    """
    shown = torch.where(known.view(1, 1, -1, 1, 1).to(video.device), video, 0.0)  # mid gray is 0
    return condition_channels(known, normalised(vae, encode(vae, shown)[:, :16]))


# --- training clips ----------------------------------------------------------------------------------------------------


def _path(scene: clips.Scene, frames: int, rng: random.Random) -> clips.Path:
    """A path on the lattice. Some shapes begin to grow or shrink with the radius that a still picture shows."""
    way = clips.path(scene, frames, rng, lattice=True)
    if scene.motion == "grow" and scene.size != "big" and rng.random() < 0.35:
        return clips.Path(way.x, way.y, _usual_radius(scene, rng) * torch.linspace(1, 1.7, frames), way.angle)
    if scene.motion == "shrink" and rng.random() < 0.35:
        return clips.Path(way.x, way.y, _usual_radius(scene, rng) * torch.linspace(1, 0.5, frames), way.angle)
    return way


def _usual_radius(scene: clips.Scene, rng: random.Random) -> Tensor:
    still = clips.Scene(scene.shape, scene.color, "still", scene.background, scene.size)
    return clips.path(still, 1, rng, lattice=True).radius


@torch.inference_mode()
def write(folder: Path, seed: int = 0, share: float = 1.0) -> None:
    """Encode `share` of the training clips into `folder`/conditions.

    A file holds n clips: `latents`, `start` and `other` (n, 16, t, 8, 8) in float16, not normalised: of the clip, of its
    start condition and of another condition, whose index in `KINDS` is `kind` (n,); `ends` (n, 2, 3, 64, 64) uint8, the
    first and the last picture; `scenes` (n, 5) as in latents.py.
    """
    ranks = Ranks.join()
    vae = AutoencoderKLWan.from_pretrained(folder / "vae").to(ranks.device).eval()
    lay_out(vae)
    (folder / "conditions").mkdir(exist_ok=True)
    for frames, count in COUNTS.items():
        rng = random.Random(f"conditions {seed} {ranks.rank} {frames}")
        with flat_convolutions():
            groups = [_encoded(vae, frames, rng, ranks) for _ in range(int(count * share) // ranks.count // 4)]
        whole = {name: torch.cat([group[name] for group in groups]).contiguous() for name in groups[0]}
        save_file(whole, folder / "conditions" / f"{frames:02}_{seed}_{ranks.rank}.safetensors")


def _encoded(vae: AutoencoderKLWan, frames: int, rng: random.Random, ranks: Ranks, count: int = 4) -> dict[str, Tensor]:
    """A few clips with what `write` keeps of them."""
    scenes = [clips.random_scene(rng) for _ in range(count)]
    pixels = torch.stack([clips.render(scene, _path(scene, frames, rng), SIDE) for scene in scenes]).to(ranks.device)
    kinds = rng.choices(range(1, len(KINDS)), _OTHER, k=count)
    masks = {
        "latents": torch.ones(count, frames),
        "start": known_frames("start", frames).expand(count, -1),
        "other": torch.stack([known_frames(KINDS[kind], frames) for kind in kinds]),
    }
    found = {
        name: encode(vae, pixels * mask.view(count, 1, frames, 1, 1).to(pixels))[:, :16].half().cpu()
        for name, mask in masks.items()
    }
    ends = torch.stack([pixels[:, :, 0], pixels[:, :, -1]], 1)  # (n, 2, 3, 64, 64)
    found["ends"] = ((ends + 1) * 127.5).round().byte().cpu()
    return found | {"kind": torch.tensor(kinds), "scenes": torch.tensor([indices_of(scene) for scene in scenes])}


class Conditions:
    """All written clips and their conditions, normalised on the way out, and the tokens of their first and last pictures."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.vae = AutoencoderKLWan.from_pretrained(folder / "vae")  # for its mean and deviation
        eye = load_eye(folder).to(device)
        self.files: dict[int, dict[str, Tensor]] = {}
        self.tokens: dict[int, Tensor] = {}  # (n, 2, 17, width)
        for frames in COUNTS:
            parts = [load_file(file) for file in sorted((folder / "conditions").glob(f"{frames:02}_*.safetensors"))]
            ends = torch.cat([part.pop("ends") for part in parts]).flatten(0, 1)
            seen = [vision.tokens(eye, some.to(device).float() / 127.5 - 1).cpu() for some in ends.split(256)]
            self.tokens[frames] = torch.cat(seen).unflatten(0, (-1, 2))
            self.files[frames] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def sample(
        self, frames: int, kind: str, count: int, rng: random.Random
    ) -> tuple[Tensor, Tensor, Tensor, list[clips.Scene]]:
        """Random latents (count, 16, t, 8, 8), conditions (count, 20, t, 8, 8), tokens (count, 17 or 34, width), scenes."""
        file, name = self.files[frames], "start" if kind == "start" else "other"
        rows = torch.arange(len(file["kind"])) if kind == "start" else (file["kind"] == KINDS.index(kind)).nonzero()[:, 0]
        chosen = rows[[rng.randrange(len(rows)) for _ in range(count)]]
        latents, shown = (normalised(self.vae, file[key][chosen].float()) for key in ("latents", name))
        ends = {"both": slice(0, 2), "end": slice(1, 2)}.get(kind, slice(0, 1))
        tokens = self.tokens[frames][chosen][:, ends].flatten(1, 2)
        scenes = [scene_of(row) for row in file["scenes"][chosen].tolist()]
        return latents, condition_channels(known_frames(kind, frames), shown), tokens, scenes


# --- the transformer ---------------------------------------------------------------------------------------------------


def load_eye(folder: Path) -> CLIPVisionModel:
    """The frozen CLIP vision model of a folder, in float32."""
    return CLIPVisionModel.from_pretrained(folder / "image_encoder", dtype=torch.float32).requires_grad_(False)


def grown(start: Path) -> WanTransformer3DModel:
    """An image-to-video transformer that, untrained, does exactly what the text-to-video one in `start` does."""
    old = WanTransformer3DModel.from_pretrained(start)
    config = {key: value for key, value in old.config.items() if not key.startswith("_")}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    model = WanTransformer3DModel(**config | dict(in_channels=36, image_dim=vision.HIDDEN, added_kv_proj_dim=width))
    weights = old.state_dict()
    kernel = weights["patch_embedding.weight"]
    weights["patch_embedding.weight"] = torch.cat([kernel, kernel.new_zeros(len(kernel), 20, *kernel.shape[2:])], 1)
    model.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for block in model.blocks:
            block.attn2.add_v_proj.weight.zero_()
            block.attn2.add_v_proj.bias.zero_()
            block.attn2.add_k_proj.bias.zero_()
    return model


def _batch(
    data: Conditions, step: int, size: int, seed: int, rng: random.Random
) -> tuple[Tensor, Tensor, Tensor, list[clips.Scene]]:
    """What one step sees; its kind and length are shared by the ranks, so that all have equal work."""
    shared = random.Random(f"{seed} kind {step}")
    kind, length = shared.choices(KINDS, (0.67, 0.18, 0.05, 0.10))[0], shared.random()
    if length < 0.15 and kind in ("start", "clip"):  # the first nine frames: the VAE is causal
        latents, told, tokens, scenes = data.sample(17, kind, size * 3 // 2, rng)
        return latents[:, :, :3], told[:, :, :3], tokens, scenes
    if length > 0.94:  # any stretch of a longer clip, as context windows will see it
        first = shared.randrange(1, 5)
        latents, told, tokens, scenes = data.sample(33, "start", size, rng)
        return latents[:, :, first : first + 5], told[:, :, first : first + 5], tokens, scenes
    if length > 0.81:
        return data.sample(33, kind, size // 2, rng)
    return data.sample(17, kind, size, rng)


def train(folder: Path, steps: int, seed: int = 0, start: Path | None = None, size: int = 16, fast: bool = False) -> None:
    """Train into `folder`/transformer, beginning with the text-to-video weights in `start`; `size` clips a step and rank.

    `fast` takes the products in bfloat16 and compiles the blocks (this needs a C++ compiler).
    """
    if start is None:
        raise ValueError(
            "start is not given; the image-to-video transformer begins with the weights of a tiny text-to-video one."
        )
    ranks = Ranks.join()
    torch.manual_seed(seed)
    model = _count_padding(grown(start)).to(ranks.device)
    products = _hasten(model) if fast else nullcontext
    data, teacher = Conditions(folder, ranks.device), Teacher(folder, ranks.device)
    fit = Fit(
        model,
        folder / "image_transformer_training",
        ranks,
        Rates(adam=1e-3, muon=0.014, hold=0.35, average=0.9985),
        lambda name, weight: name.startswith("blocks.") and weight.dim() == 2 and "norm" not in name,
        seed,
    )

    def loss(step: int, rng: random.Random) -> Tensor:
        clean, told, tokens, scenes = _batch(data, step, size, seed, rng)
        clean, told = clean.to(ranks.device), told.to(ranks.device)
        words = [clips.caption(scene, rng) if rng.random() > 0.1 else rng.choice(NEGATIVE_PROMPTS) for scene in scenes]
        seen = torch.tensor([rng.random() > 0.06 for _ in scenes]).view(-1, 1, 1)  # tokens of strength 0 are known too
        tokens = (tokens * seen).to(ranks.device)
        sigma = _noise_levels(len(scenes)).to(ranks.device)
        noise, level = torch.randn_like(clean), sigma.view(-1, 1, 1, 1, 1)
        text, noisy = teacher(words), (1 - level) * clean + level * noise
        with products():
            velocity = model(torch.cat([noisy, told], 1), 1000 * sigma, text, tokens, return_dict=False)[0]
        return F.mse_loss(velocity, noise - clean)

    fit.run(loss, steps, lambda: model.save_pretrained(folder / "transformer"))


# --- a look ------------------------------------------------------------------------------------------------------------


class Animator:
    """The image-to-video model in a folder (of a training, or assembled), in float32: pictures and captions to clips."""

    def __init__(self, folder: Path) -> None:
        self.vae = AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32)
        self.eye, self.teacher, self.model = load_eye(folder), Teacher(folder, torch.device("cpu")), load(folder).float()

    @torch.no_grad()
    def __call__(
        self, videos: Tensor, known: Tensor, captions: Sequence[str], seeds: Sequence[int], cfg: float, steps: int
    ) -> Tensor:
        """Clips (b, 3, t, h, w) in -1..1, by Euler steps, that go on from the `known` frames (t,) of `videos` of this shape."""
        told = condition(self.vae, videos, known)
        shown = [int(known.int().argmax()), *([len(known) - 1] if known[0] and known[-1] else [])]
        tokens = torch.cat([vision.tokens(self.eye, videos[:, :, frame]) for frame in shown], 1)
        noise = torch.stack([torch.randn(told[0, 4:].shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

        def velocity(latents: Tensor, time: Tensor, text: Tensor, return_dict: bool) -> tuple[Tensor]:
            twice = len(latents) // len(told)
            both = torch.cat([latents, told.repeat(twice, 1, 1, 1, 1)], 1)
            return self.model(both, time, text, tokens.repeat(twice, 1, 1), return_dict=return_dict)

        sigmas = grid("euler", steps, Settings().shift).sigmas.tolist()
        latents = sample(velocity, self.teacher(list(captions)), self.teacher([""]), noise, sigmas, cfg)
        mean, std = (
            torch.tensor(value).view(1, -1, 1, 1, 1) for value in (self.vae.config.latents_mean, self.vae.config.latents_std)
        )
        return torch.cat([decode(self.vae, one[None] * std + mean) for one in latents])
