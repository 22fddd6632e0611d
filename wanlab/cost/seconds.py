"""Seconds by stage of a run, from a calibration of this machine, or else from what a card's peak allows. No torch.

The arithmetic of a forward (Wan's classes; a multiply-add is two operations) for N tokens of d channels in L blocks,
with f channels in the feed-forward, Lt = 512 tokens of text and Li of a picture:

    linear           L (2 N (6 d^2 + 2 d f) + 4 (Lt + Li) d^2) + the patch embedding, the head and the text embedding
    self-attention   L 4 N^2 d
    cross-attention  L 4 N (Lt + Li) d

At 480p and 81 frames self-attention is 70 % of Wan 1.3B and 52 % of 14B, so time grows faster than the number of
frames.

**Block swap** copies n blocks of B bytes in each forward over a link of so many bytes a second: t_x = B / link each.
With prefetch the copies run beside the computing of all L blocks, t_c each, and what is seen of them is max(0, n t_x -
L t_c). So up to k0 = L t_c / t_x blocks cost nothing, and from the tokens N* on, at which t_c = t_x, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wanlab.cost import vae
from wanlab.cost.activations import TEXT_TOKENS, width
from wanlab.cost.cards import PAGEABLE, Card
from wanlab.cost.memory import DECODE, DENOISE, ENCODE_IMAGE, ENCODE_TEXT, tiles
from wanlab.cost.request import Pass, Request

# Of what the transformer attains: the VAE's convolutions are bound by memory (81 frames at 480p take 3 to 4 s on an H200).
VAE_PART = 0.25
COMPILED = 1.3  # Wan 1.3B on an A100: 4.91 and 3.78 s a step (hao-ai-lab/FastVideo)


@dataclass(frozen=True)
class Flops:
    """Operations of one forward with one branch."""

    linear: float
    attention: float
    cross: float

    @property
    def whole(self) -> float:
        """All of them."""
        return self.linear + self.attention + self.cross


def layers(config: Mapping[str, Any]) -> int:
    """Blocks that a forward computes, with those that VACE has beside the others."""
    return int(config["num_layers"]) + len(config.get("vace_layers") or ())


def flops(config: Mapping[str, Any], tokens: int, image_tokens: int = 0) -> Flops:
    """Operations of a forward over so many tokens.

    >>> wan = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40, "text_dim": 4096}
    >>> round(flops({**wan, "in_channels": 16, "out_channels": 16, "patch_size": (1, 2, 2)}, 32760).whole / 1e12, 1)
    1678.4
    """
    d, patch = width(config), math.prod(config["patch_size"])
    block = 2.0 * tokens * (6 * d * d + 2 * d * config["ffn_dim"]) + 4.0 * (TEXT_TOKENS + image_tokens) * d * d
    ends = 2.0 * tokens * patch * d * (config["in_channels"] + config["out_channels"])
    text = 2.0 * TEXT_TOKENS * (config["text_dim"] * d + d * d)
    count = layers(config)
    return Flops(
        linear=count * block + ends + text,
        attention=count * 4.0 * tokens * tokens * d,
        cross=count * 4.0 * tokens * (TEXT_TOKENS + image_tokens) * d,
    )


@dataclass(frozen=True)
class Calibration:
    """What was measured on a machine for one way to load a model (wanlab/cost/calibrate.py).

    `block` and `rest` are seconds of a block and of all else in a forward, with so many `tokens`, `image_tokens` and
    branches at once; `operations` those of that forward. `link` is bytes a second from where swapped blocks wait, None
    if not measured. `decode` are seconds for each operation of the VAE, None if not measured. `where` names the
    machine.
    """

    block: float
    rest: float
    blocks: int
    tokens: int
    batch: int
    operations: float
    link: float | None = None
    decode: float | None = None
    where: str = "this machine"

    def forward(self, operations: float) -> float:
        """Seconds of a forward with so many operations, all branches together."""
        return (self.blocks * self.block + self.rest) * operations / self.operations


@dataclass(frozen=True)
class Swap:
    """Block swap in one forward: seconds of a block's computing and of its copy, how many are swapped, and what is seen of
    it.
    """

    compute: float
    copy: float
    blocks: int
    swapped: int
    overlaps: bool

    @property
    def exposed(self) -> float:
        """Seconds that a forward takes longer."""
        if not self.overlaps:
            return self.swapped * self.copy
        return max(0.0, self.swapped * self.copy - self.blocks * self.compute)

    @property
    def free(self) -> int:
        """How many blocks can be swapped at no cost, if copies run beside computing."""
        return zero_cost_blocks(self.compute, self.copy, self.blocks)


def zero_cost_blocks(compute: float, copy: float, blocks: int) -> int:
    """How many evenly spread blocks can be swapped at no cost: k0 = L t_c / t_x, at most all of them."""
    return min(blocks, int(blocks * compute / copy)) if copy > 0 else blocks


def break_even_tokens(config: Mapping[str, Any], block_bytes: float, link: float, rate: float) -> float:
    """The tokens N* from which on a block takes longer to compute than to copy.

    `rate` are operations and `link` bytes a second. N* solves 4 d N^2 + (2 (6 d^2 + 2 d f) + 4 Lt d) N + 4 Lt d^2 =
    rate block_bytes / link; 0 where the work on the text alone is enough.
    """
    d = width(config)
    square, linear = 4.0 * d, 2.0 * (6 * d * d + 2 * d * config["ffn_dim"]) + 4.0 * TEXT_TOKENS * d
    rest = 4.0 * TEXT_TOKENS * d * d - rate * block_bytes / link
    return max(0.0, (-linear + math.sqrt(max(0.0, linear * linear - 4 * square * rest))) / (2 * square))


def forward(request: Request, one: Pass, calibration: Calibration | None = None) -> float:
    """Seconds of one call of the transformer, with all of its branches, without block swap."""
    operations = operations_of(request, one)
    return calibration.forward(operations) if calibration else operations / _rate(request)


def operations_of(request: Request, one: Pass) -> float:
    """Operations of one call of the transformer, with all of its branches."""
    return one.batch * flops(request.configs.transformer, request.tokens(one.frames), request.image_tokens).whole


def swap(request: Request, one: Pass, calibration: Calibration | None = None) -> Swap:
    """What block swap is in one call."""
    model, blocks = request.model, request.weights.blocks
    compute = forward(request, one, calibration) / blocks
    link = (calibration.link if calibration else None) or _link(request)
    # From memory to memory there is nothing beside the CPU that could copy.
    overlaps = model.use_non_blocking and model.prefetch_blocks > 0 and not (request.on_cpu and model.offload_device == "cpu")
    return Swap(compute, request.weights.slot / link, blocks, request.swapped, overlaps)


def seconds(request: Request, calibration: Calibration | None = None) -> Mapping[str, float]:
    """Seconds by stage, without reading weights from the disk."""
    found = {}
    if request.configs.text_encoder and not request.texts_known:
        found[ENCODE_TEXT] = 2 * _text(request.configs.text_encoder) / _rate(request)
    settings, config = request.settings, request.configs.vae
    size = (settings.frames, settings.height, settings.width)
    each = (calibration.decode if calibration else None) or 1 / (_rate(request) * (1 if request.on_cpu else VAE_PART))
    clips = bool(settings.image or settings.end_image) + bool(request.configs.transformer.get("vace_layers"))
    if clips and config:  # VACE is told the latents of gray frames too
        found[ENCODE_IMAGE] = clips * vae.encode(config, *size, tiles=tiles(request)).flops * each
    found[DENOISE] = sum(
        count * (forward(request, one, calibration) + swap(request, one, calibration).exposed)
        for one, count in request.calls.items()
    )
    if config:
        found[DECODE] = vae.decode(config, *size, tiles=tiles(request)).flops * each
    return found


def source(request: Request, calibration: Calibration | None) -> str:
    """Where the seconds come from, as a sentence."""
    if calibration:
        return f"Seconds are calibrated on {calibration.where}."
    card: Card = request.device
    reached = f"{card.bf16_tflops:g} TF/s, of which {card.attained:.0%} is reached"
    where = "this CPU" if card.cpu else card.name
    return f"Seconds are estimated from the peak of {where} ({reached}); a calibration measures them."


def _rate(request: Request) -> float:
    """Operations a second in base_precision: a GPU without tensor cores for fp32 has about a quarter of its bf16 there."""
    card = request.device
    if card.cpu:
        return card.flops
    return card.flops * (0.25 if request.size == 4 else 1) * (COMPILED if request.model.compile else 1)


def _link(request: Request) -> float:
    model, card = request.model, request.device
    if model.offload_device == "disk":
        return 1.5e9  # a usual solid-state disk
    return card.link_gb * 1e9 * (1 if model.use_non_blocking else PAGEABLE)


def _text(config: Mapping[str, Any]) -> float:
    """Operations that embed one text."""
    inner, d = config["num_heads"] * config["d_kv"], config["d_model"]
    return config["num_layers"] * (2.0 * TEXT_TOKENS * (4 * d * inner + 3 * d * config["d_ff"]) + 4.0 * TEXT_TOKENS**2 * inner)
