"""Seconds measured instead of guessed: one block with random weights, at the true size, on the device that will compute.

All blocks of a transformer do the same work, and no kernel's speed depends on the values. So one block of the wanted
configuration, number format, quantization and attention, with as many tokens as the clip has, tells the time of a
forward: blocks x that, plus what is around them (embeddings and head), which is measured too. It needs a block's memory
and no weights, so it answers before 28 GB are downloaded.

Beside it the way to the device is measured, from where swapped blocks would wait, and the VAE on a small piece; its
time is proportional to the pixels.

What was measured is kept in a file, under everything that matters: sizes, formats, versions, threads, the device.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn

from wanlab.cost import vae
from wanlab.cost.activations import TEXT_TOKENS
from wanlab.cost.request import Pass, Request, passes_of
from wanlab.cost.seconds import Calibration, layers, operations_of
from wanlab.files import write_whole
from wanlab.meter import clock as device_clock
from wanlab.model.attention import set_attention
from wanlab.model.compiling import Compiled
from wanlab.model.loading import put
from wanlab.names import digest
from wanlab.quantize.kinds import kept_in_fp32, kind_of
from wanlab.quantize.linear import quantize_linears
from wanlab.weights.dtypes import PRECISIONS

FILE = "calibrations.json"
ENOUGH = 0.3  # seconds of measuring after which no more is needed
COPIED = 2**26  # bytes that are copied to measure a link
Clock = Callable[[], float]


def calibrate(request: Request, folder: Path | None = None, clock: Clock | None = None) -> Calibration:
    """Measure the way in which the request loads and computes, for its largest call.

    With a `folder` what was measured before in the same circumstances is read from there, and written there otherwise.
    `clock` counts seconds; not given: those of the wall, when the device has finished.
    """
    device = torch.device(request.model.load_device)
    largest = _largest(request)
    asked = _circumstances(request, largest, device)
    key, known = digest(asked), _read(folder)
    if key in known:
        return Calibration(**known[key]["measured"])
    measured = _measured(request, largest, device, clock or (lambda: device_clock(device)))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**_read(folder), key: {"of": asked, "measured": asdict(measured)}}, indent=1)
        write_whole(folder / FILE, content.encode())
    return measured


def calibrated(request: Request, folder: Path) -> Calibration | None:
    """What was measured before in the same circumstances, or else for a clip of another size; None if nothing was."""
    device = torch.device(request.model.load_device)
    if device.type == "cuda" and not torch.cuda.is_available():  # planned for another machine
        return None
    asked, known = _circumstances(request, _largest(request), device), _read(folder)
    if digest(asked) in known:
        return Calibration(**known[digest(asked)]["measured"])
    alike = [one for one in known.values() if {**one["of"], "size": 0} == {**asked, "size": 0}]
    return Calibration(**alike[-1]["measured"]) if alike else None


def _largest(request: Request) -> Pass:
    """The largest call of a run; if its steps are all stored, of those that it would make."""
    return max(request.calls or passes_of(request.settings), key=lambda one: one.frames * one.batch)


def _read(folder: Path | None) -> dict[str, Any]:
    """What is in the file; nothing if there is none, or it is damaged."""
    if folder is None:
        return {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    return {}


def _circumstances(request: Request, largest: Pass, device: torch.device) -> dict[str, Any]:
    """Everything that the seconds depend on."""
    model = request.model
    return {
        "transformer": _plain(request.configs.transformer),
        "vae": _plain(request.configs.vae),
        "size": [request.settings.height, request.settings.width, largest.frames, largest.batch, request.image_tokens],
        "formats": [model.base_precision, request.kind, model.attention_mode, model.vae_precision],
        "link": [model.offload_device, model.use_non_blocking],
        "compile": model.compile.model_dump() if model.compile else None,
        "where": [platform.node(), _name(device), torch.get_num_threads()],
        "versions": [torch.__version__, diffusers.__version__],
    }


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith(("_", "latents_"))}


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} of {os.cpu_count()} threads"


@torch.inference_mode()
def _measured(request: Request, largest: Pass, device: torch.device, clock: Clock) -> Calibration:
    block, whole = _transformer_seconds(request, largest, device, clock)
    threads = torch.get_num_threads()
    return Calibration(
        block=block,
        rest=max(0.0, whole - block),
        blocks=layers(request.configs.transformer),
        tokens=request.tokens(largest.frames),
        batch=largest.batch,
        operations=operations_of(request, largest),
        link=_link(request, device, clock),
        decode=_decode(request, device, clock) if request.configs.vae else None,
        where=_name(device) if device.type == "cuda" else f"this CPU with {threads} thread{'s' * (threads > 1)}",
    )


def _transformer_seconds(request: Request, largest: Pass, device: torch.device, clock: Clock) -> tuple[float, float]:
    """Seconds of a block alone, and of a transformer that has one block."""
    model, dtype = _one_block(request, device), PRECISIONS[request.model.base_precision]
    config, batch = request.configs.transformer, largest.batch
    scale = request.configs.vae.get("scale_factor_spatial") or 8
    size = largest.frames, request.settings.height // scale, request.settings.width // scale
    given: dict[str, Any] = {
        "hidden_states": torch.randn(batch, config["in_channels"], *size, device=device, dtype=dtype),
        "timestep": torch.full((batch,), 500.0, device=device),
        "encoder_hidden_states": torch.randn(batch, TEXT_TOKENS, config["text_dim"], device=device, dtype=dtype),
    }
    if request.image_tokens:
        pictures = 2 if config.get("pos_embed_seq_len") else 1
        shape = batch * pictures, request.image_tokens // pictures, config["image_dim"]
        given["encoder_hidden_states_image"] = torch.randn(*shape, device=device, dtype=dtype)
    entered: list[Any] = []
    hook = model.blocks[0].register_forward_pre_hook(lambda _, args: entered.append(args))
    model(**given, return_dict=False)
    hook.remove()
    arguments = entered[0]
    alone = timed(lambda: model.blocks[0](*arguments), clock)
    return alone, max(alone, timed(lambda: model(**given, return_dict=False), clock))


def _one_block(request: Request, device: torch.device) -> Any:
    """A transformer of the configuration with one block, random weights, and all else as the request has it."""
    dtype = PRECISIONS[request.model.base_precision]
    config = {name: value for name, value in request.configs.transformer.items() if not name.startswith("_")}
    with torch.device("meta"):
        model = WanTransformer3DModel.from_config({**config, "num_layers": 1})
    rope = type(model.rope)(config["attention_head_dim"], tuple(config["patch_size"]), config.get("rope_max_seq_len", 1024))
    _fill(model, lambda name: torch.float32 if kept_in_fp32(name) else dtype, device)
    model.rope = rope.to(device)
    if request.kind and kind_of(request.kind).packed:
        quantize_linears(model.blocks[0], request.kind, "blocks.0.")
    elif request.kind:
        from wanlab.quantize.formats import apply_library

        apply_library(request.kind, model.blocks[0], device, "blocks.0.")
    set_attention(model, request.model.attention_mode, device, dtype)
    if request.model.compile:
        Compiled(model, request.model.compile)
    return model


def _fill(module: nn.Module, dtype: Callable[[str], torch.dtype], device: torch.device) -> None:
    """Give a module on the meta device random weights, each in its number format."""
    for name, parameter in list(module.named_parameters()):
        put(module, name, torch.empty(parameter.shape, dtype=dtype(name), device=device).normal_(std=0.02))
    module.eval()


def timed(compute: Callable[[], Any], clock: Clock, enough: float = ENOUGH, least: int = 2) -> float:
    """Median seconds of a call after a warm-up: of `least` calls, and of more until `enough` seconds were measured."""
    compute()
    found: list[float] = []
    while len(found) < least or (sum(found) < enough and len(found) < 200):
        began = clock()
        compute()
        found.append(clock() - began)
    return statistics.median(found)


def _decode(request: Request, device: torch.device, clock: Clock) -> float:
    """Seconds of the VAE for each operation: three latent frames of a small picture, or of a larger one while that is quick.

    Small pictures fit into the caches of a CPU, so that the largest is the truest.
    """
    config, settings, dtype = request.configs.vae, request.settings, PRECISIONS[request.model.vae_precision]
    with torch.device("meta"):
        module = AutoencoderKLWan.from_config({name: value for name, value in config.items() if not name.startswith("_")})
    _fill(module, lambda name: dtype, device)
    scale, side = config.get("scale_factor_spatial") or 8, 64 if device.type == "cpu" else 256
    while True:
        high, wide = (min(side, pixels // scale * scale) for pixels in (settings.height, settings.width))
        piece = torch.randn(1, config["z_dim"], 3, high // scale, wide // scale, device=device, dtype=dtype)
        spent = timed(lambda piece=piece: module.decode(piece, return_dict=False), clock, least=1)  # type: ignore[misc]
        if 4 * spent > 5 * ENOUGH or (high, wide) == (settings.height // scale * scale, settings.width // scale * scale):
            return spent / vae.decode(config, 9, high, wide).flops
        side *= 2


def _link(request: Request, device: torch.device, clock: Clock) -> float | None:
    """Bytes a second from where swapped blocks wait to where they are computed."""
    if request.model.offload_device == "disk":
        return _disk(clock)
    pinned = device.type == "cuda" and request.model.use_non_blocking
    there = torch.empty(COPIED, dtype=torch.uint8, pin_memory=pinned)
    here = torch.empty(COPIED, dtype=torch.uint8, device=device)
    return COPIED / timed(lambda: here.copy_(there, non_blocking=pinned), clock, enough=0.05)


def _disk(clock: Clock) -> float | None:
    """Bytes a second of reading a file that is not in memory; None where the system cannot forget it."""
    if not hasattr(os, "posix_fadvise"):
        return None
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(COPIED))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        began = time.perf_counter()
        file.read()
        return COPIED / (time.perf_counter() - began)
