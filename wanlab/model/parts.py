"""The parts of a model beside the transformer, read from a folder in diffusers' format or from a single file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel
from transformers.utils import logging

from wanlab.errors import ModelError
from wanlab.model.checkpoint import Checkpoint
from wanlab.model.loading import put
from wanlab.model.spiece import read_tokenizer
from wanlab.quantize.formats import unpack
from wanlab.quantize.packed import Packed
from wanlab.weights.reader import Reader


def text_encoder(found: Checkpoint, dtype: torch.dtype) -> UMT5EncoderModel:
    """The text encoder in this number format, on the CPU."""
    return _read(
        found.parts["text_encoder"],
        UMT5EncoderModel.from_pretrained,
        lambda: UMT5EncoderModel(UMT5Config(**found.configs["text_encoder"])),
        dtype,
    )


def tokenizer(found: Checkpoint) -> Any:
    """The text encoder's tokenizer."""
    path = found.parts["tokenizer"]
    if path.is_file():
        return read_tokenizer(path)
    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise ModelError(
        f"tokenizer is {str(path)!r}, which cannot be read ({reason}). Give tokenizer=..., a folder with the tokenizer of "
        "UMT5, such as the folder tokenizer of Wan-AI/Wan2.1-T2V-1.3B-Diffusers."
    )


def vae(found: Checkpoint, dtype: torch.dtype) -> AutoencoderKLWan:
    """The VAE in this number format, on the CPU."""
    empty = partial(AutoencoderKLWan.from_config, dict(found.vae))
    return _read(found.parts["vae"], AutoencoderKLWan.from_pretrained, empty, dtype)


def image_encoder(found: Checkpoint) -> CLIPVisionModel:
    """CLIP vision of an image-to-video model, in float32, on the CPU."""
    return _read(
        found.parts["image_encoder"],
        CLIPVisionModel.from_pretrained,
        lambda: CLIPVisionModel(CLIPVisionConfig(**found.configs["image_encoder"])),
        torch.float32,
    )


def image_processor(found: Checkpoint) -> Any:
    """What makes a picture ready for CLIP vision: by Pillow, so that it does the same with and without torchvision."""
    try:
        from transformers import CLIPImageProcessorPil as Processor
    except ImportError:  # before transformers 5
        from transformers import CLIPImageProcessor as Processor
    if "image_processor" not in found.parts:  # CLIP's own mean and deviation, and the size that this one was trained on
        size = int(found.configs["image_encoder"].get("image_size", 224))
        return Processor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return Processor.from_pretrained(found.parts["image_processor"])


def _read(path: Path, pretrained: Callable[..., Any], empty: Callable[[], Any], dtype: torch.dtype) -> Any:
    """A part from a folder with its configuration, by its own class, or from a file, into what `empty` makes without memory."""
    with _no_progress_bar():
        if (path / "config.json").exists():
            return _ready(pretrained(path, dtype=dtype))
        with init_empty_weights(include_buffers=False):
            module = empty()
        return _filled(module, path, dtype)


def _filled(module: Any, path: Path, dtype: torch.dtype) -> Any:
    """A module that was built without memory, with the weights of a file; ModelError if one is missing or of another shape."""
    reader = Reader.of(path)
    known, tied = set(reader.names()), set(getattr(module, "_tied_weights_keys", None) or ())  # UMT5's second name of shared
    for name, parameter in list(module.named_parameters()):
        if name in tied:
            continue
        if name not in known:
            raise ModelError(f"{path} lacks {name}; download it again, or take another file.")
        if reader.shape(name) != tuple(parameter.shape):
            raise ModelError(f"{path}: {name} has the shape {reader.shape(name)}, and {tuple(parameter.shape)} is needed.")
        read = reader.read(name)
        weight = unpack(read, torch.float32) if isinstance(read, Packed) else read
        put(module, name, weight.to(dtype))
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    return module.requires_grad_(False).eval()


def _ready(module: Any) -> Any:
    module.requires_grad_(False).eval()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()  # aligned: a mapped file's addresses move results by about 2e-6
    return module


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Within, transformers shows no bar of its own, whose widget would stay in a saved notebook."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
