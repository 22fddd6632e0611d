"""The tiny video auto-encoder: diffusers' `AutoencoderKLWan` with few channels, trained on procedural clips.

Stages: single frames (cropped), then 5 and 9 frames (cropped), last whole clips. The convolutions start as *image
inflation*: of each 3x3x3 kernel only the last temporal tap is non-zero, so that what was learnt on pictures carries
over to video. Residual branches start at zero. The encoder gets a noise floor on its latents, so that the decoder
forgives the small errors of the diffusion model.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor

from wanlab.tiny import clips
from wanlab.tiny.training import Fit, Ranks, Rates

SIDE = 64
NOISE_FLOOR = 0.12


def new_vae() -> AutoencoderKLWan:
    """An untrained tiny VAE: 1.82 M parameters, 16 latent channels, 8x smaller in space and 4x in time."""
    vae = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=16,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, wan.WanCausalConv3d):
                module.bias.zero_()
                if module.kernel_size == (3, 3, 3):
                    module.weight[:, :, :2].zero_()
                    module.weight[:, :, 2].mul_(1.7)
            elif isinstance(module, wan.WanAttentionBlock):
                module.proj.weight.zero_()
                module.proj.bias.zero_()
        for module in vae.modules():
            if isinstance(module, wan.WanResidualBlock):
                module.conv2.weight.zero_()
            elif isinstance(module, wan.WanResample) and hasattr(module, "time_conv"):
                weight = module.time_conv.weight.zero_()  # hold the last frame, or repeat the frame
                for row in range(weight.shape[0]):
                    weight[row, row % weight.shape[1], -1] = 1.0
    return vae


@contextlib.contextmanager
def flat_convolutions() -> Iterator[None]:
    """Within, a 3-D convolution of a single frame without history is done as the 2-D one it is (a third of the cost)."""
    original = wan.WanCausalConv3d.forward

    def forward(self: wan.WanCausalConv3d, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if x.shape[2] == 1 and cache_x is None and self.kernel_size == (3, 3, 3):
            return F.conv2d(x.squeeze(2), self.weight[:, :, -1], self.bias, padding=1).unsqueeze(2)
        return original(self, x, cache_x)

    wan.WanCausalConv3d.forward = forward
    try:
        yield
    finally:
        wan.WanCausalConv3d.forward = original


def lay_out(vae: AutoencoderKLWan) -> None:
    """Lay the convolutions' weights out with the channels last, which is two to three times as fast."""
    for weight in vae.parameters():
        layout = {5: torch.channels_last_3d, 4: torch.channels_last}.get(weight.dim())
        if layout:
            weight.data = weight.data.to(memory_format=layout)


def encode(vae: AutoencoderKLWan, clip: Tensor) -> Tensor:
    """Mean and log variance (b, 32, t, h, w) of clips (b, 3, 4t - 3, 8h, 8w), differentiable.

    The same as `vae.encode`, but the frames after the first go through in one piece instead of four by four.
    """
    vae.clear_cache()
    vae._enc_conv_idx = [0]
    parts = [vae.encoder(clip[:, :, :1], feat_cache=vae._enc_feat_map, feat_idx=vae._enc_conv_idx)]
    if clip.shape[2] > 1:
        vae._enc_conv_idx = [0]
        parts.append(vae.encoder(clip[:, :, 1:], feat_cache=vae._enc_feat_map, feat_idx=vae._enc_conv_idx))
    vae.clear_cache()
    return vae.quant_conv(torch.cat(parts, 2))


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Clips (b, 3, 4t - 3, 8h, 8w) of latents (b, 16, t, h, w), differentiable; the same as `vae.decode`, in one piece."""
    vae.clear_cache()
    x = vae.post_quant_conv(latents)
    vae._conv_idx = [0]
    parts = [vae.decoder(x[:, :, :1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=True)]
    if x.shape[2] > 1:
        vae._conv_idx = [0]
        parts.append(vae.decoder(x[:, :, 1:], feat_cache=vae._feat_map, feat_idx=vae._conv_idx))
    vae.clear_cache()
    return torch.cat(parts, 2)


def _batch(done: float, rng: random.Random) -> Tensor:
    """Clips for the share `done` of the training: (b, 3, t, h, w), every other one on the transformer's lattice."""

    def crops(count: int, frames: int) -> Tensor:
        return torch.stack([clips.random_crop(frames, SIDE, 32, rng, lattice=k % 2 == 1) for k in range(count)])

    def whole(count: int, frames: int) -> Tensor:
        scenes = [clips.random_scene(rng) for _ in range(count)]
        return torch.stack([clips.random_clip(one, frames, SIDE, rng, lattice=k % 2 == 1) for k, one in enumerate(scenes)])

    if done < 0.45:
        return crops(24, 1) if rng.random() < 0.8 else whole(6, 1)
    if done < 0.65:
        return crops(6, 5)
    return crops(4, 9) if done < 0.85 else whole(2, 9)


def reconstruction_loss(made: Tensor, clip: Tensor) -> Tensor:
    """How far a decoded clip is from the true one: its pixels, its edges and its changes from frame to frame."""
    error = made - clip
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    flicker = error.diff(dim=2).abs().mean() if clip.shape[2] > 1 else 0.0
    return error.abs().mean() + error.square().mean() + 0.3 * edges + 0.3 * flicker


def _loss(vae: AutoencoderKLWan, clip: Tensor) -> Tensor:
    moments = encode(vae, clip)
    mean, log_variance = moments[:, :16], moments[:, 16:].clamp(-12, 4)
    deviation = (0.5 * log_variance).exp()
    latents = mean + torch.sqrt(deviation**2 + NOISE_FLOOR**2) * torch.randn_like(mean)
    divergence = 0.5 * (mean**2 + deviation**2 - 1 - log_variance).mean()
    return reconstruction_loss(decode(vae, latents), clip) + 2e-4 * divergence


def psnr(made: Tensor, true: Tensor) -> float:
    """Mean over clips of the peak signal-to-noise ratio in dB, for clips (b, 3, t, h, w) in -1..1."""
    error = ((made.clamp(-1, 1) - true) / 2).square().mean((1, 2, 3, 4))
    return float((-10 * torch.log10(error)).mean())


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKLWan, count: int = 12, frames: int = 17, seed: int = 999) -> float:
    """PSNR in dB of encode and decode on held-out clips."""
    rng = random.Random(seed)
    true = torch.stack([clips.random_clip(clips.random_scene(rng, held_out=True), frames, SIDE, rng) for _ in range(count)])
    made = torch.cat([decode(vae, encode(vae, one[None].to(vae.device))[:, :16]).cpu() for one in true])
    return psnr(made, true)


def fit_of(vae: AutoencoderKLWan, folder: Path, ranks: Ranks, rates: Rates, seed: int) -> Fit:
    """A training of what is not frozen in the VAE: Muon for the convolutions but the outermost, AdamW for the rest."""
    outer = ("gamma", "conv_in", "decoder.conv_out", "quant_conv")
    return Fit(
        vae, folder, ranks, rates, lambda name, weight: weight.dim() >= 4 and not any(part in name for part in outer), seed
    )


def keep(vae: AutoencoderKLWan, folder: Path, fit: Fit) -> None:
    """Write the VAE into `folder`/vae, and its PSNR at this step beside the checkpoint."""
    vae.save_pretrained(folder / "vae")
    with (fit.folder / "psnr.txt").open("a") as file:
        file.write(f"step {fit.step}: {held_out_psnr(vae):.2f} dB\n")


def train(folder: Path, steps: int, seed: int = 0, start: Path | None = None) -> None:
    """Train the VAE into `folder`/vae, from nothing or, past the single frames, from the weights in `start`."""
    ranks = Ranks.join()
    torch.manual_seed(seed)
    vae = (AutoencoderKLWan.from_pretrained(start) if start else new_vae()).to(ranks.device)
    lay_out(vae)
    gentle = 0.5 if start else 1.0
    rates = Rates(adam=2e-3 * gentle, muon=0.025 * gentle, warmup=20, hold=0.5, average=0.99)
    fit = fit_of(vae, folder / "vae_training", ranks, rates, seed)

    def loss(step: int, rng: random.Random) -> Tensor:
        done = step / steps
        clip = _batch(0.7 + 0.3 * done if start else done, rng)
        return _loss(vae, clip.to(ranks.device, memory_format=torch.channels_last_3d))

    with flat_convolutions():
        fit.run(loss, steps, lambda: keep(vae, folder, fit))
