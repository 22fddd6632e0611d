"""The tiny picture side: a CLIP vision model that is trained to tell what a picture shows, and its image processor.

It stands in for Wan's pretrained CLIP ViT-H and is frozen afterwards, as there. Wan reads the last hidden states but one
(`hidden_states[-2]`), a token for each of 16 patches and one for the whole; each of them is trained to tell shape, colour,
background, place and radius. The last layer, of which Wan reads nothing, stays as it was drawn, and so does the pooled output.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from wanlab.tiny import clips
from wanlab.tiny.text import VALUES, reading_loss, words_of
from wanlab.tiny.training import Fit, Ranks, Rates
from wanlab.tiny.vae import SIDE

HIDDEN, TOKENS = 96, 17
TOLD = ("shape", "color", "background")
_PLACE = 5  # numbers that tell place and radius: cos and sin of both places on the torus, and the radius
_NOISE = 0.3


def new_encoder() -> CLIPVisionModel:
    """An untrained tiny CLIP vision model: 4 layers of width 96 for pictures of 64 by 64."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            projection_dim=HIDDEN,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=16,
            hidden_act="gelu",
        )
    )


def new_processor() -> Any:
    """How a picture becomes what the encoder reads: the short side to 64, the middle 64 by 64, CLIP's mean and deviation."""
    from transformers import CLIPImageProcessor  # it complains on import where torchvision is missing

    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def prepared(pictures: Tensor) -> Tensor:
    """Pictures (b, 3, 64, 64) in -1..1 as the processor prepares them."""
    mean, std = (torch.tensor(value).view(3, 1, 1).to(pictures) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return ((pictures + 1) / 2 - mean) / std


def tokens(encoder: CLIPVisionModel, pictures: Tensor) -> Tensor:
    """What Wan reads of pictures (b, 3, 64, 64) in -1..1: (b, 17, width)."""
    return encoder(pixel_values=prepared(pictures), output_hidden_states=True).hidden_states[-2]


class _Reader(nn.Module):
    """The encoder and, for its training only, a linear head that reads everything from every token."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = new_encoder()
        self.encoder.encoder.layers[-1].requires_grad_(False)
        self.encoder.post_layernorm.requires_grad_(False)
        self.head = nn.Linear(HIDDEN, words_of(TOLD) + _PLACE)

    def forward(self, pictures: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """Logits of the words (b, 17, words) and places (b, 17, 5)."""
        states = F.layer_norm(tokens(self.encoder, pictures), (HIDDEN,))  # as Wan's image embedder begins
        told = self.head(states + noise * torch.randn_like(states))
        return told[..., :-_PLACE], told[..., -_PLACE:]

    def loss(self, pictures: Tensor, scenes: list[clips.Scene], places: Tensor) -> Tensor:
        words, told = self(pictures, _NOISE)
        return reading_loss(words, TOLD, scenes, words.new_ones(words.shape[:2])) + 4 * F.mse_loss(
            told, places[:, None].expand_as(told)
        )


def _pictures(scene: clips.Scene, count: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Single frames (count, 3, 64, 64) of one clip, and the numbers of their places (count, 5)."""
    way = clips.path(scene, 17, rng, lattice=rng.random() < 0.6)
    chosen = torch.tensor([rng.choice((0, 16, rng.randrange(17))) for _ in range(count)])
    way = clips.Path(*(part[chosen] for part in (way.x, way.y, way.radius, way.angle)))
    turns = 2 * torch.pi * torch.stack([way.x, way.y], 1)
    places = torch.cat([turns.cos(), turns.sin(), 12 * way.radius[:, None]], 1)
    return clips.render(scene, way, SIDE).movedim(1, 0), places


def _batch(scenes: list[clips.Scene], rng: random.Random) -> tuple[Tensor, list[clips.Scene], Tensor]:
    """Four pictures of each scene."""
    parts = [_pictures(scene, 4, rng) for scene in scenes]
    pictures, places = (torch.cat(some) for some in zip(*parts, strict=True))
    return pictures, [scene for scene in scenes for _ in range(4)], places


@torch.no_grad()
def _examine(reader: _Reader, seed: int = 0) -> str:
    """How well single tokens tell what pictures of held-out scenes show, in one line."""
    rng = random.Random(f"examine {seed}")
    pictures, scenes, places = _batch([clips.random_scene(rng, held_out=True) for _ in range(128)], rng)
    words, told = reader(pictures.to(reader.head.weight.device))
    found = []
    for k, name in enumerate(TOLD):
        first = words_of(TOLD[:k])
        guess = words[..., first : first + words_of([name])].argmax(-1).cpu()
        right = torch.tensor([VALUES[name].index(getattr(scene, name)) for scene in scenes])
        found.append(f"{name} {(guess == right[:, None]).float().mean():.3f}")
    off = (told.cpu() - places[:, None]).square().mean((0, 1)).sqrt()
    return f"{', '.join(found)}, place off by {off[:4].mean() / 6.28:.4f}, radius by {off[4] / 12:.4f} sides"


def train(folder: Path, steps: int, seed: int = 0) -> None:
    """Write `folder`/image_encoder and `folder`/image_processor (a few minutes on a CPU)."""
    ranks = Ranks.join()
    torch.manual_seed(seed)
    reader = _Reader().to(ranks.device)
    fit = Fit(
        reader,
        folder / "vision_training",
        ranks,
        Rates(adam=2e-3, muon=0.014, warmup=50, hold=0.5, average=0.99),
        lambda name, weight: ".layers." in name and weight.dim() == 2,
        seed,
    )

    def loss(step: int, rng: random.Random) -> Tensor:
        pictures, scenes, places = _batch([clips.random_scene(rng) for _ in range(24)], rng)
        return reader.loss(pictures.to(ranks.device), scenes, places.to(ranks.device))

    def look() -> None:
        reader.encoder.save_pretrained(folder / "image_encoder")
        new_processor().save_pretrained(folder / "image_processor")
        with (fit.folder / "examined.txt").open("a") as file:
            file.write(f"step {fit.step}: {_examine(reader)}\n")

    fit.run(loss, steps, look)
