"""The tiny video transformer: diffusers' `WanTransformer3DModel` with 8 blocks of width 128, trained by flow matching.

The model learns the velocity v = noise - clean at x = (1 - sigma) clean + sigma noise (Lipman et al. 2022, arXiv
2210.02747). One caption in ten is replaced by an empty or a negative prompt, for classifier-free guidance.

Wan pads its text to 512 zero vectors and attends to all of them. Training uses `SLOTS` slots and adds log(count) to the
score of the last one, which then counts as many: exactly the same sum at a fraction of the cost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoTokenizer, UMT5EncoderModel

from wanlab.schedule import grid, shifted
from wanlab.settings import Settings
from wanlab.tiny import clips
from wanlab.tiny.latents import Latents
from wanlab.tiny.text import NEGATIVE_PROMPTS, WIDTH
from wanlab.tiny.training import Fit, Ranks, Rates
from wanlab.tiny.vae import decode

SLOTS, PADDED = 24, 512
SHIFT = 2.2  # of the noise levels that training visits


def new_transformer() -> WanTransformer3DModel:
    """An untrained tiny transformer: 2.32 M parameters."""
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=16,
        out_channels=16,
        text_dim=WIDTH,
        freq_dim=256,
        ffn_dim=512,
        num_layers=8,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    )
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.zero_()
        model.condition_embedder.time_proj.weight.mul_(0.3)
        model.condition_embedder.time_proj.bias.zero_()
        for linear in (model.condition_embedder.text_embedder.linear_1, model.condition_embedder.text_embedder.linear_2):
            linear.bias.zero_()
        for block in model.blocks:
            block.attn2.norm_q.weight.fill_(1.5)  # look at single words from the start
            for module in block.modules():
                if isinstance(module, torch.nn.Linear):
                    module.bias.zero_()
    return model


class _CountedPadding(WanAttnProcessor):
    """Cross-attention whose last slot stands for all the padding that the pipeline appends."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.zeros(1, 1, 1, SLOTS)
        self.bias[..., -1] = math.log(PADDED - SLOTS + 1)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):  # type: ignore[no-untyped-def]
        bias = self.bias.to(hidden_states.device)
        if attn.add_k_proj is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, bias, rotary_emb)
        # Image to video: diffusers takes the last 512 slots for the text, and here it has fewer.
        image, text = encoder_hidden_states[:, :-SLOTS], encoder_hidden_states[:, -SLOTS:]

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)  # (b, heads, n, width of a head)

        query = heads(attn.norm_q(attn.to_q(hidden_states)))
        seen = F.scaled_dot_product_attention(
            query, heads(attn.norm_added_k(attn.add_k_proj(image))), heads(attn.add_v_proj(image))
        )
        read = F.scaled_dot_product_attention(query, heads(attn.norm_k(attn.to_k(text))), heads(attn.to_v(text)), bias)
        return attn.to_out[0]((read + seen).transpose(1, 2).flatten(2).type_as(hidden_states))


def _count_padding(model: WanTransformer3DModel) -> WanTransformer3DModel:
    """Let every cross-attention read the texts of `Teacher` (this is not saved with the weights)."""
    for block in model.blocks:
        block.attn2.set_processor(_CountedPadding())
    return model


class Teacher:
    """The frozen text encoder with the padding trick: captions -> (b, SLOTS, width)."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        self.encoder = (
            UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device).requires_grad_(False)
        )

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:
        """The embeddings of the captions."""
        batch = self.tokenizer(captions, padding="max_length", max_length=SLOTS - 1, truncation=True, return_tensors="pt").to(
            self.encoder.device
        )
        states = self.encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        return F.pad(states * batch.attention_mask[..., None], (0, 0, 0, 1))


def _noise_levels(count: int) -> Tensor:
    """Sigmas of one batch: logit-normal (Esser et al. 2024, arXiv 2403.03206), stratified, then shifted."""
    quantile = (torch.randperm(count) + torch.rand(count)) / count
    normal = torch.erfinv((2 * quantile - 1).clamp(-0.9999, 0.9999)) * math.sqrt(2)
    return torch.from_numpy(shifted(torch.sigmoid(1.15 * normal).numpy(), SHIFT))


def _batch(data: Latents, done: float, kind: float, size: int, rng: random.Random) -> tuple[Tensor, list[clips.Scene]]:
    """Latents and scenes; `kind` in 0..1 is shared by the ranks, so that all have equal work."""
    single = 0.7 if done < 0.08 else 0.12
    if kind < single:
        return data.sample(1, size * 3, rng)
    if kind < single + (0.3 if done < 0.5 else 0.06):  # the first nine frames: more clips for the same work
        latents, scenes = data.sample(17, size * 3 // 2, rng)
        return latents[:, :, :3], scenes
    if kind < 0.78:
        return data.sample(17, size, rng)
    latents, scenes = data.sample(33, size if kind < 0.85 else size // 2, rng)
    if kind < 0.85:  # any stretch of a longer clip, as context windows will see it
        first = int((kind - 0.78) / 0.07 * 5)
        latents = latents[:, :, first : first + 5]
    return latents, scenes


@torch.no_grad()
def sample(
    model: Callable[..., tuple[Tensor]], text: Tensor, blank: Tensor, latents: Tensor, sigmas: Sequence[float], cfg: float
) -> Tensor:
    """Normalised latents (b, 16, t, 8, 8) by Euler steps from `latents`, whose noise level is the first of `sigmas`."""
    both = torch.cat([text, blank.expand_as(text)])
    for sigma, following in pairwise(sigmas):
        time = torch.full((len(both),), 1000 * sigma, device=text.device)
        velocity = model(torch.cat([latents, latents]), time, both, return_dict=False)[0]
        positive, negative = velocity.chunk(2)
        latents = latents + (following - sigma) * (negative + cfg * (positive - negative))
    return latents


def _hasten(model: WanTransformer3DModel) -> Callable[[], AbstractContextManager[object]]:
    """Compile the blocks; the context for calls of the model, in which their products are taken in bfloat16.

    All outside of the blocks, and with it the residual stream, stays in float32. On a CPU the plain sum of attention is the
    fast one: for so few tokens the fused kernels are mostly bookkeeping.
    """
    kind = model.device.type
    for part in (model.patch_embedding, model.condition_embedder, model.proj_out):
        part.forward = torch.autocast(kind, enabled=False)(part.forward)
    model.compile_repeated_blocks(dynamic=False)

    @contextmanager
    def products() -> Iterator[None]:
        with torch.autocast(kind, torch.bfloat16), sdpa_kernel(SDPBackend.MATH) if kind == "cpu" else nullcontext():
            yield

    return products


def train(folder: Path, steps: int, seed: int = 0, start: Path | None = None, size: int = 16, fast: bool = False) -> None:
    """Train into `folder`/transformer, from nothing or from the weights in `start`; `size` clips a step and rank.

    `fast` takes the products in bfloat16 and compiles the blocks (this needs a C++ compiler).
    """
    ranks = Ranks.join()
    torch.manual_seed(seed)
    model = _count_padding(WanTransformer3DModel.from_pretrained(start) if start else new_transformer()).to(ranks.device)
    products = _hasten(model) if fast else nullcontext
    data, teacher = Latents(folder), Teacher(folder, ranks.device)
    fit = Fit(
        model,
        folder / "transformer_training",
        ranks,
        Rates(adam=1e-3, muon=0.014, hold=0.35, average=0.9985) if start else Rates(adam=1.5e-3, muon=0.02, average=0.9985),
        lambda name, weight: name.startswith("blocks.") and weight.dim() == 2 and "norm" not in name,
        seed,
    )

    def loss(step: int, rng: random.Random) -> Tensor:
        kind = random.Random(f"{seed} kind {step}").random()
        clean, scenes = _batch(data, 0.5 + step / steps / 2 if start else step / steps, kind, size, rng)
        clean = clean.to(ranks.device)
        words = [clips.caption(scene, rng) if rng.random() > 0.1 else rng.choice(NEGATIVE_PROMPTS) for scene in scenes]
        sigma = _noise_levels(len(scenes)).to(ranks.device)
        noise, level = torch.randn_like(clean), sigma.view(-1, 1, 1, 1, 1)
        text = teacher(words)
        with products():
            velocity = model((1 - level) * clean + level * noise, 1000 * sigma, text, return_dict=False)[0]
        return F.mse_loss(velocity, noise - clean)

    fit.run(loss, steps, lambda: model.save_pretrained(folder / "transformer"))


def load(folder: Path) -> WanTransformer3DModel:
    """The newest transformer in `folder`, for the texts of `Teacher`."""
    return _count_padding(WanTransformer3DModel.from_pretrained(folder / "transformer").eval())


@torch.no_grad()
def quick_clips(
    folder: Path, captions: list[str], seeds: Sequence[int], frames: int = 17, cfg: float = 4.0, steps: int = 12
) -> list[Tensor]:
    """Clips (3, t, h, w) in -1..1 of the newest transformer in `folder`, many at a time, for a look while it trains."""
    vae, data = AutoencoderKLWan.from_pretrained(folder / "vae"), Latents(folder)
    teacher = Teacher(folder, torch.device("cpu"))
    size = (16, (frames - 1) // 4 + 1, 8, 8)
    noise = torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    latents = (
        sample(
            load(folder), teacher(captions), teacher([""]), noise, grid("euler", steps, Settings().shift).sigmas.tolist(), cfg
        )
        * data.std
        + data.mean
    )
    return [decode(vae, one[None])[0] for one in latents]
