"""What model a file holds, told from names, formats and shapes: configuration, variant, precision, what is missing. No torch.

diffusers guesses a variant by the channels of one tensor and takes a first-and-last-frame model, Wan2.2's
image-to-video and its 5B model all for the image-to-video model of Wan2.1 with 14B. Here the whole list of names
counts: image embedder, position embedding, VACE's blocks, and layers that none of these models has, which are those of
a relative (Animate, S2V, MultiTalk ...).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError
from wanlab.weights.configs import config_of, contradiction
from wanlab.weights.entries import Header
from wanlab.weights.layouts import Layout
from wanlab.weights.parameters import parameter_count, parameter_shapes

Shapes = dict[str, tuple[int, ...]]

# Layers that are none of Wan's, and whose model has them.
_RELATIVES: tuple[tuple[str, str], ...] = (
    ("animate", r"face_adapter\.|motion_encoder\.|face_encoder\.|pose_patch_embedding\."),
    ("s2v", r"casual_audio_encoder\.|audio_injector\.|frame_packer\.|trainable_cond_mask"),
    ("humo", r"audio_proj\.audio_proj_glob"),
    ("fantasytalking", r"proj_model\.|.*cross_attn\.[kv]_proj\."),
    ("multitalk", r"(multitalk_)?audio_proj\.|.*audio_cross_attn"),
    ("camera", r"control_adapter\."),
    ("control", r"ref_conv\."),
    ("recammaster", r".*\.(cam_encoder|projector)\."),
    ("lynx", r".*\.(ip_adapter|ref_adapter)\."),
    ("skyreels", r"fps_(embedding|projection)\."),
    ("scail", r"patch_embedding_pose\."),
)
_OTHER_PARTS = re.compile(r"(first_stage_model|vae|text_encoders?|cond_stage_model|conditioner|clip_vision|text_model)\.")
_WIDTHS = {1536: "1.3B", 3072: "5B", 5120: "14B"}
_PLAIN = {
    "F64": "fp64",
    "F32": "fp32",
    "BF16": "bf16",
    "F16": "fp16",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
}
_BIG = re.compile(r"(vace_)?blocks\.|encoder\.(block|layers)\.")  # where the large matrices are


@dataclass(frozen=True)
class Architecture:
    """What a file holds. `config` is for the class of diffusers or transformers; `formats` has the bytes of each number format.

    `precision` is the format of most weights, by the names of `wanlab.quantize.kinds`, or fp32, bf16, fp16, mixed,
    nvfp4, bitsandbytes. `missing` are parameters that the class has and the file has not, `unexpected` the other way
    round, `wrong` sentences about shapes.
    """

    kind: str
    variant: str
    size: str
    config: Mapping[str, Any]
    precision: str
    parameters: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all parameters are there, in the right shapes."""
        return not self.missing and not self.wrong


def architecture_of(header: Header, layout: Layout) -> Architecture:
    """The architecture of a checkpoint. Raises ModelError if it cannot be known, or a configuration with it says otherwise."""
    if layout.kind not in ("transformer", "text_encoder", "vae", "image_encoder"):
        raise ModelError(f"{header.path} is {no_part_of_wan(layout)}, and has no architecture of Wan's.")
    shapes = shapes_of(header, layout)
    told = _told(header, layout, shapes)
    config = config_of(layout.kind, shapes, told, str(header.path))
    expected = parameter_shapes(layout.kind, config)
    missing = tuple(name for name in expected if name not in shapes)
    unexpected = (*(name for name in shapes if name not in expected), *layout.extra)
    precision, formats = _precision(header, layout, shapes)
    whole = precision not in ("nvfp4", "bitsandbytes")  # there, shapes are those of packed bytes
    wrong = tuple(
        f"{name} has the shape {shapes[name]} and should have {shape}"
        for name, shape in expected.items()
        if whole and name in shapes and shapes[name] != shape
    )
    return Architecture(
        layout.kind,
        _variant(layout.kind, config, unexpected),
        _size(layout.kind, config, parameter_count(expected)),
        config,
        precision,
        parameter_count(expected),
        missing,
        unexpected,
        wrong,
        formats,
    )


def no_part_of_wan(layout: Layout) -> str:
    """What a file is whose names are not those of a part of Wan."""
    return "a LoRA" if layout.kind == "lora" else "no part of a Wan that wanlab knows"


def shapes_of(header: Header, layout: Layout) -> Shapes:
    """The shapes of a checkpoint's tensors, by diffusers' names."""
    return {
        name: layout.pieces[name].shape if name in layout.pieces else header.tensors[full].shape
        for name, full in layout.names.items()
    }


def _told(header: Header, layout: Layout, shapes: Shapes) -> dict[str, Any]:
    """What is written about the configuration: in the metadata, or in a config.json that belongs to these weights.

    A config.json in the folder that was asked for must agree; one that happens to lie beside a single file need not be
    its own.
    """
    told = _object(header.metadata.get("config", ""))
    path = header.path
    beside = (path if path.is_dir() else path.parent) / "config.json"
    if not told and beside.is_file():
        told = _object(_text(beside))
        if path.is_file() and (not told or contradiction(layout.kind, shapes, told, str(path))):
            return {}
    if told:
        sentence = contradiction(layout.kind, shapes, told, str(path))
        if sentence:
            raise ModelError(f"{path}: {sentence}. Take the config.json that belongs to these weights, or none.")
    return told


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _variant(kind: str, config: Mapping[str, Any], unexpected: tuple[str, ...]) -> str:
    if kind != "transformer":
        return {"text_encoder": "umt5", "vae": "2.2" if config.get("is_residual") else "2.1", "image_encoder": "clip"}[kind]
    foreign = [name.removeprefix("model.").removeprefix("diffusion_model.") for name in unexpected]
    for relative, sign in _RELATIVES:
        if any(re.match(sign, name) for name in foreign):
            return relative
    if any(not _OTHER_PARTS.match(name) for name in unexpected):
        return "other"  # to leave layers out that it was trained with would make another model of it
    channels, out, image = config["in_channels"], config["out_channels"], config["image_dim"]
    if config.get("vace_layers"):
        return "vace"
    if channels == out:
        return {16: "t2v", 48: "ti2v"}.get(channels, "other")
    if (channels, out) == (36, 16):
        if not image:
            return "i2v_2.2"
        narrow = _width(config) == 1536  # there is no official image-to-video model of 1.3B
        return "flf2v" if config["pos_embed_seq_len"] else "fun_inp" if narrow else "i2v"
    return "control" if out == 16 and channels > 16 else "other"


def _width(config: Mapping[str, Any]) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def _size(kind: str, config: Mapping[str, Any], parameters: int) -> str:
    if kind == "transformer" and _width(config) in _WIDTHS:
        return _WIDTHS[_width(config)]
    if kind == "text_encoder" and config["d_model"] == 4096:
        return "XXL"
    if kind == "image_encoder" and config["hidden_size"] == 1280:
        return "ViT-H"
    if parameters < 2 * 10**7:
        return "" if kind == "vae" and config["base_dim"] >= 96 else "tiny"
    return "" if kind == "vae" else f"{parameters / 1e9:.1f}B"


def _precision(header: Header, layout: Layout, shapes: Shapes) -> tuple[str, dict[str, int]]:
    """The format of most weights by name, and bytes by format."""
    if any(re.search(r"\.(absmax|quant_map)$|\.quant_state\.", name) for name in layout.extra):
        return "bitsandbytes", _bytes(header)
    if any(name.endswith(".weight_scale_2") for name in layout.extra):
        return "nvfp4", _bytes(header)
    weights: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for name, full in layout.names.items():
        kind = _kind(header, layout, name, full)
        every[kind] += math.prod(shapes[name])
        if _BIG.match(name) and len(shapes[name]) == 2:
            weights[kind] += math.prod(shapes[name])
    counts = weights or every
    if not counts:
        return "", _bytes(header)
    (most, count), total = counts.most_common(1)[0], counts.total()
    plain = most in ("fp32", "bf16", "fp16") and count < 0.95 * total
    return ("mixed" if plain else most), _bytes(header)


def _bytes(header: Header) -> dict[str, int]:
    found: Counter[str] = Counter()
    for entry in header.tensors.values():
        found[entry.dtype] += entry.nbytes
    return dict(found.most_common())


def _kind(header: Header, layout: Layout, name: str, full: str) -> str:
    """The kind of one tensor."""
    dtype = header.tensors[full].dtype
    if header.format == "gguf" and dtype not in ("F32", "F16", "BF16"):
        return f"gguf_{dtype.lower()}"
    plain = _PLAIN.get(dtype, dtype)
    scale = layout.scales.get(name)
    if scale is None or not plain.startswith("fp8"):
        return plain
    channel = header.tensors[scale].parameters > 1
    return f"{plain}_scaled_channel" if channel else f"{plain}_scaled"
