"""The last stage: the VAE's decoder learns to read latents as the transformer makes them.

The small errors of a diffusion model are no white noise, and a decoder that has only seen the encoder's latents turns them
into melted outlines. So true latents are taken back to a middling noise level, from which the transformer makes them
anew: place, motion and colour stay those of the true clip, the fine structure is the transformer's own. The decoder
learns to give the true clip for these *drafts* as well as for the encoder's latents. The encoder stays as it is, and with
it everything that the transformer has learnt.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wanlab.schedule import grid
from wanlab.settings import Settings
from wanlab.tiny import clips, transformer
from wanlab.tiny.latents import Latents
from wanlab.tiny.training import Ranks, Rates
from wanlab.tiny.vae import NOISE_FLOOR, SIDE, decode, encode, fit_of, keep, lay_out, reconstruction_loss

DRAFTS = 1024  # clips of 17 frames, of all ranks together
LEVELS = (0.3, 0.65)  # noise levels from which the transformer starts
_STEPS, _CFG, _GROUP = 20, 5.0, 16


@torch.no_grad()
def _drafts(folder: Path, ranks: Ranks, vae: AutoencoderKLWan, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Latents (n, 16, 5, 8, 8) that the transformer has made anew, and the true clips (17, h, w, 3) uint8."""
    data, teacher = Latents(folder), transformer.Teacher(folder, ranks.device)
    model, blank = transformer.load(folder).to(ranks.device), teacher([""])
    mean, std = data.mean.to(ranks.device), data.std.to(ranks.device)
    rng = random.Random(f"drafts {seed} {ranks.rank}")
    torch.manual_seed(rng.getrandbits(60))
    levels = grid("euler", _STEPS, Settings().shift).sigmas.tolist()
    made, true = [], []
    for _ in range(DRAFTS // ranks.count // _GROUP):
        scenes = [clips.random_scene(rng) for _ in range(_GROUP)]
        pixels = torch.stack([clips.random_clip(scene, 17, SIDE, rng, lattice=True) for scene in scenes]).to(ranks.device)
        latents = torch.cat([(encode(vae, clip[None])[:, :16] - mean) / std for clip in pixels])
        level = rng.uniform(*LEVELS)
        noisy = (1 - level) * latents + level * torch.randn_like(latents)
        text = teacher([clips.caption(scene, rng) for scene in scenes])
        sigmas = [level, *(sigma for sigma in levels if sigma < level)]
        made.append(transformer.sample(model, text, blank, noisy, sigmas, _CFG) * std + mean)
        true += [clips.to_frames(clip).cpu() for clip in pixels]
    return torch.cat(made), true


def train(folder: Path, steps: int, seed: int = 0) -> None:
    """Go on with the decoder of `folder`/vae."""
    ranks = Ranks.join()
    vae = AutoencoderKLWan.from_pretrained(folder / "vae").to(ranks.device)
    lay_out(vae)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    drafts, true = _drafts(folder, ranks, vae, seed)
    rates = Rates(adam=7e-4, muon=0.008, warmup=20, hold=0.4, average=0.99)
    fit = fit_of(vae, folder / "decoder_training", ranks, rates, seed)

    def loss(step: int, rng: random.Random) -> Tensor:
        frames = 17 if step % 4 == 0 else 9
        chosen = [rng.randrange(len(true)) for _ in range(1 if frames == 17 else 2)]
        clip = torch.stack([true[k][:frames] for k in chosen]).permute(0, 4, 1, 2, 3).to(ranks.device).float() / 127.5 - 1
        error = reconstruction_loss(decode(vae, drafts[chosen][:, :, : (frames + 3) // 4]), clip)
        scene = clips.random_scene(rng)
        clip = clips.random_clip(scene, 9, SIDE, rng, lattice=rng.random() < 0.5)[None].to(ranks.device)
        with torch.no_grad():
            latents = encode(vae, clip)[:, :16]
        return error + reconstruction_loss(decode(vae, latents + NOISE_FLOOR * torch.randn_like(latents)), clip)

    fit.run(loss, steps, lambda: keep(vae, folder, fit))
