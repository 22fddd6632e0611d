"""Memory by stage of a run: what is on the device, and what computing takes beside it. No torch.

    encode text     weights + what embedding a prompt takes
    encode image    weights + the VAE's peak on the clip of the picture, or CLIP's
    load            weights + the largest matrix while it is converted
    denoise         weights + slots of swapped blocks + the peak of a forward + caches + latents and embeddings
    decode          weights + the VAE's peak

Weights are all parts that are on the device in that stage. Without force_offload this is every part that the run uses,
as it is from the second run of a lab on; with it, only the part that works. On a CPU what waits in memory counts too,
since there is no other memory, and only offload_device "disk" makes it less.

Not counted: what CUDA takes for itself (about 0.5 GiB), fragmentation, and workspaces inside of kernels. margin_gib is
for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wanlab.cost import activations, parts, vae
from wanlab.cost.request import Pass, Request, same_device
from wanlab.placement.spread import spread

GIB = 2**30
ENCODE_TEXT, ENCODE_IMAGE, LOAD, DENOISE, DECODE = "encode text", "encode image", "load", "denoise", "decode"


@dataclass(frozen=True)
class Weights:
    """Bytes of each part where the model computes: all of the part, also when it is there only while it works."""

    transformer: int
    text_encoder: int
    image_encoder: int
    vae: int

    @property
    def all(self) -> int:
        """Every part at once."""
        return self.transformer + self.text_encoder + self.image_encoder + self.vae


def weights(request: Request) -> Weights:
    """What the parts take on the device, with block swap."""
    model, configs = request.model, request.configs
    text = configs.text_encoder if _stays(request) else None
    image = configs.image_encoder if request.pictures else None
    return Weights(
        transformer=_transformer(request),
        text_encoder=parts.part("text_encoder", text, model.base_precision) if text else 0,
        image_encoder=parts.part("image_encoder", image, "fp32") if image else 0,
        vae=parts.part("vae", configs.vae, model.vae_precision) if configs.vae else 0,
    )


def _stays(request: Request) -> bool:
    """Whether the text encoder takes memory of the device, also when it does not work. One in a process of its own does not."""
    where = request.model.text_encoder_device or request.model.load_device
    return not request.texts_known and where != "process" and same_device(where, request.model.load_device)


def _visits(request: Request) -> int:
    """Bytes of a text encoder that comes to the device in a process of its own, and goes."""
    if request.texts_known or request.model.text_encoder_device != "process" or not request.configs.text_encoder:
        return 0
    return parts.part("text_encoder", request.configs.text_encoder, request.model.base_precision)


def _transformer(request: Request) -> int:
    """A transformer's resident blocks, slots and what is outside of the blocks; on a CPU also what waits in memory."""
    model, found, swapped = request.model, request.weights, request.swapped
    waiting = swapped * found.slot
    resident = (found.blocks - swapped) * found.block + found.outside
    for offloaded, size in (
        (model.offload_text_embedding, found.text_embedding),
        (model.offload_image_embedding, found.image_embedding),
    ):
        if offloaded:
            resident -= size
            waiting += size
    here = resident + found.slots(swapped, model.prefetch_blocks)
    waits_here = request.on_cpu and model.offload_device == "cpu"
    # Of two transformers one works at a time, and the other one waits with force_offload.
    several = 1 if model.force_offload and not request.on_cpu else request.configs.transformers
    return (resident + waiting * waits_here) * several + (here - resident)


def residency(request: Request) -> tuple[str, ...]:
    """For each block "device", or "swapped" if it waits elsewhere."""
    blocks = request.weights.blocks
    away = spread(blocks, request.swapped)
    return tuple("swapped" if block in away else "device" for block in range(blocks))


def stages(request: Request) -> Mapping[str, int]:
    """Bytes at the peak of each stage, in the order in which they come; a stage that the run has not is left out."""
    held = weights(request)
    together = not request.model.force_offload or request.on_cpu

    def beside(part: int) -> int:
        return held.all if together else part

    found = {}
    if request.configs.text_encoder and (held.text_encoder or _visits(request)):
        size = parts.SIZES[request.model.base_precision]
        encoder = beside(held.text_encoder) + _visits(request)
        found[ENCODE_TEXT] = encoder + activations.text_encoding(request.configs.text_encoder, size)
    if request.settings.image or request.settings.end_image or request.configs.transformer.get("vace_layers"):
        seen = activations.image_encoding(request.configs.image_encoder) if request.configs.image_encoder else 0
        found[ENCODE_IMAGE] = max(beside(held.vae) + _encode(request), beside(held.image_encoder) + seen)
    found[LOAD] = beside(held.transformer) + _largest(request)
    found[DENOISE] = beside(held.transformer) + denoising(request) + _inputs(request)
    if request.configs.vae:
        found[DECODE] = beside(held.vae) + decoding(request)
    return found


def held(request: Request) -> Mapping[str, int]:
    """Bytes of weights in each stage, of which `stages` has all."""
    found = weights(request)
    together = not request.model.force_offload or request.on_cpu
    own = {ENCODE_TEXT: found.text_encoder, LOAD: found.transformer, DENOISE: found.transformer, DECODE: found.vae}
    own[ENCODE_IMAGE] = max(found.vae, found.image_encoder)
    aside = {ENCODE_TEXT: _visits(request)}
    return {stage: (found.all if together else own[stage]) + aside.get(stage, 0) for stage in stages(request)}


def denoising(request: Request) -> int:
    """Bytes of the hungriest call of the transformer, with what caches keep."""
    if not request.calls:
        return 0
    return max(_forward(request, one) for one in request.calls) + _cached(request)


def _forward(request: Request, one: Pass) -> int:
    config, work = request.configs.transformer, request.work(one)
    unpacked = request.weights if request.kind else None
    acting = {name for name in ("feta", "nag") if getattr(request.settings, name) is not None}
    found = dict(activations.forward(config, work, unpacked, request.kind.startswith("gguf"), acting))
    own = work.tokens * activations.width(config) * work.batch
    if request.settings.cache and request.settings.cache.kind != "easycache":
        found = {name: held + own * work.size for name, held in found.items()}  # what entered the blocks
    if request.configs.expanded:  # an embedded time and its six numbers for each token and channel, and these in float32
        found = {name: held + own * (7 * work.size + 6 * 4) for name, held in found.items()}
    controls = len(config.get("vace_layers") or ())
    if controls:  # what each of its blocks says to the others
        found = {name: held + (controls + 1) * own * work.size for name, held in found.items()}
    waits = request.weights.text_embedding * request.model.offload_text_embedding
    waits += request.weights.image_embedding * request.model.offload_image_embedding
    found["embedding"] += waits  # for a moment, before the blocks
    return max(found.values())


KEPT = {"teacache": 1, "magcache": 1, "easycache": 0, "firstblock": 2, "taylorseer": 2}  # residuals that a call leaves


def _cached(request: Request) -> int:
    """What a cache keeps from step to step: a residual of the size of the hidden states, or two, for each call of a step."""
    settings = request.settings
    if settings.cache is None or not request.calls:
        return 0
    largest = max(request.calls, key=lambda one: one.frames * one.batch)
    windows = len(settings.context.windows(0, settings)) if settings.context and settings.context.acts(0, settings) else 1
    branches = 2 if settings.cfg != 1 and not settings.batched_cfg else 1
    work = request.work(largest)
    residual = work.tokens * activations.width(request.configs.transformer) * work.batch * work.size
    return KEPT[settings.cache.kind] * windows * branches * residual


def _inputs(request: Request) -> int:
    """Bytes of what a step has in hand.

    Latents in float32 and three more in the solver's memory, what the model is told in channels, velocities, embedded prompts.
    """
    config, latents = request.configs.transformer, request.latents
    told = latents * config["in_channels"] // config["out_channels"] * request.size
    texts = 2 * activations.TEXT_TOKENS * config["text_dim"] * request.size
    pictures = request.image_tokens * (config.get("image_dim") or 0) * 4
    control = latents // config["out_channels"] * config.get("vace_in_channels", 96) * 4 if config.get("vace_layers") else 0
    return 4 * 4 * latents + told + 2 * request.size * latents + texts + pictures + control


def _largest(request: Request) -> int:
    """The largest matrix in float32, while it is converted."""
    config = request.configs.transformer
    return int(activations.width(config) * config["ffn_dim"] * 4)


def tiles(request: Request) -> vae.Tiles | None:
    """The VAE's tiles; None for a whole one."""
    model = request.model
    return vae.Tiles(model.vae_tile, model.vae_tile_stride) if model.vae_tiling else None


def decoding(request: Request) -> int:
    """Bytes of decoding the clip beside weights: the VAE's peak, or three copies of the pixels in float32 behind it."""
    settings, size = request.settings, parts.SIZES[request.model.vae_precision]
    one = vae.decode(request.configs.vae, settings.frames, settings.height, settings.width, size, tiles(request))
    latents = request.latents * (4 + 4 + size)
    return max(one.peak + latents, 36 * settings.frames * settings.height * settings.width)


def _encode(request: Request) -> int:
    """The same of encoding the clip that shows the picture, with its pixels."""
    settings, size = request.settings, parts.SIZES[request.model.vae_precision]
    one = vae.encode(request.configs.vae, settings.frames, settings.height, settings.width, size, tiles(request))
    return one.peak + 3 * settings.frames * settings.height * settings.width * (4 + (size if size < 4 else 0))


def host(request: Request) -> int:
    """Bytes that wait in the computer's own memory for a GPU: swapped blocks, and parts that are not at work."""
    if request.on_cpu:
        return 0
    model, found = request.model, request.weights
    waiting = request.swapped * found.slot * request.configs.transformers if model.offload_device == "cpu" else 0
    return waiting + (weights(request).all if model.force_offload else 0)
