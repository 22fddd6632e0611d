"""Which part of a model a file holds, in whose names, and diffusers' name for each of its tensors. No torch.

Files of the same weights come in many layouts: the original names (Wan-AI), the same behind `model.diffusion_model.` or
`diffusion_model.` (ComfyUI), diffusers' and transformers' own, llama.cpp's. And with scales: where a weight is stored
in 8 bits, what it has to be multiplied by is a tensor of its own, called `.scale_weight` (ComfyUI, files of 2025) or
`.weight_scale` (later ones, and diffusers). A reader that does not know them multiplies by nothing and makes garbage
without an error (diffusers 0.42 does so); here a scale belongs to its weight.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from wanlab.errors import ModelError
from wanlab.weights import name_maps
from wanlab.weights.entries import Header, TensorEntry

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "")  # "model.": VAEs of DiffSynth

# Names that only one part of a model has, in the names of one origin.
_SIGNS: tuple[tuple[str, str, str], ...] = (
    ("transformer", "original", r"(vace_)?blocks\.\d+\.(self_attn|cross_attn)\.|head\.modulation"),
    ("transformer", "diffusers", r"(vace_)?blocks\.\d+\.attn[12]\.|condition_embedder\."),
    ("text_encoder", "hf", r"encoder\.block\.\d+\.layer\.\d\."),
    ("text_encoder", "original", r"blocks\.\d+\.(attn\.[qkvo]|ffn\.(gate|fc\d)|pos_embedding)\b"),
    ("text_encoder", "llama.cpp", r"enc\.blk\.\d+\."),
    ("vae", "original", r"(encoder\.downsamples|decoder\.upsamples|(en|de)coder\.middle)\."),
    ("vae", "diffusers", r"(encoder\.down_blocks|decoder\.up_blocks|(en|de)coder\.mid_block)\."),
    ("image_encoder", "hf", r"(vision_model\.)?encoder\.layers\.\d+\.(self_attn|mlp|layer_norm\d)\."),
    ("image_encoder", "original", r"visual\.transformer\.\d+\."),
)
_LORA = re.compile(r"lora_(unet|te|down|up|A|B|mid|magnitude)|\.lora\.|\.hada_w|\.lokr_w|\.dora_scale$|\.diff(_b)?$")

_SCALE = re.compile(r"(.+)\.(?:scale_weight|weight_scale)")
_MARK = re.compile(r"(.+)\.comfy_quant")
# Understood, and not needed: scales for fast products of 8 bits, markers, tokenizers, what is used by others only.
_IGNORED = {
    "": r"(.*\.)?(scale_input|input_scale)|scaled_fp8|.*\.scaled_fp8|spiece_model|tekken_model|model_type\..*|.*_extra_state",
    "text_encoder": r"decoder\..*|lm_head\..*",
    "image_encoder": r"visual_projection\..*|.*\.position_ids|text_model\..*|text_projection\..*|logit_scale"
    r"|log_scale|textual\..*|visual\.head(\..*)?|t5_.*",
    "transformer": r".*\.freqs(_cos|_sin)?|freqs.*|.*\.norm_added_q\..*",
}


@dataclass(frozen=True)
class Piece:
    """The part of a file's tensor that a target is: `rows` rows from `first` on, seen in `shape`."""

    first: int
    rows: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What a file holds, and diffusers' name -> the file's for each tensor, one to one.

    `scales` and `marks` say for a weight (by diffusers' name) where its scale is, and ComfyUI's note on how it was
    quantized; `pieces` tells the targets that are not a whole tensor of the file, or not in its shape. `extra` are
    names that belong to nothing, `ignored` those that are understood and not needed.
    """

    name: str
    kind: str
    names: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    prefix: str = ""


def translate(header: Header) -> Layout:
    """The layout of a checkpoint's names. Raises ModelError if two tensors of the file would be the same one.

    What is no part of a Wan has the kind "unknown", LoRAs have "lora"; both have no names.
    """
    if any(_LORA.search(name) for name in header.tensors):
        return Layout("", "lora", extra=tuple(header.tensors))
    kind, origin, prefix = _recognized(header)
    if kind == "unknown":
        return Layout("", kind, extra=tuple(header.tensors))
    to_target = _name_map(kind, origin, [name.removeprefix(prefix) for name in header.tensors])
    return _Sorting(kind, prefix, to_target).of(header, _called(origin, prefix))


def _called(origin: str, prefix: str) -> str:
    return "comfy" if prefix and origin == "original" else origin


def _recognized(header: Header) -> tuple[str, str, str]:
    """Part, origin of the names, and prefix, by what most names look like."""
    votes: Counter[tuple[str, str, str]] = Counter()
    for name in header.tensors:
        prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
        for kind, origin, sign in _SIGNS:
            if re.match(sign, name.removeprefix(prefix)):
                votes[kind, origin, prefix] += 1
                break
    return votes.most_common(1)[0][0] if votes else ("unknown", "", "")


def _name_map(kind: str, origin: str, names: list[str]) -> name_maps.NameMap:
    if (kind, origin) == ("vae", "original"):
        return name_maps.vae_original(names)
    return {
        ("transformer", "original"): name_maps.transformer,
        ("text_encoder", "original"): name_maps.umt5_original,
        ("text_encoder", "hf"): name_maps.umt5_hf,
        ("text_encoder", "llama.cpp"): name_maps.umt5_llama,
        ("image_encoder", "original"): name_maps.clip_original,
        ("image_encoder", "hf"): name_maps.clip_hf,
    }.get((kind, origin), name_maps.same)


class _Sorting:
    """Puts each name of a file where it belongs."""

    def __init__(self, kind: str, prefix: str, to_target: name_maps.NameMap) -> None:
        self.kind, self.prefix, self.to_target = kind, prefix, to_target
        self.ignored = re.compile("|".join(pattern for pattern in (_IGNORED[""], _IGNORED.get(kind, "")) if pattern))

    def of(self, header: Header, layout: str) -> Layout:
        names: dict[str, str] = {}
        scales: dict[str, str] = {}
        marks: dict[str, str] = {}
        pieces: dict[str, Piece] = {}
        extra, ignored = [], []
        for full, entry in header.tensors.items():
            name = full.removeprefix(self.prefix)
            if not full.startswith(self.prefix):
                extra.append(full)
            elif found := _SCALE.fullmatch(name):
                self._add(scales, f"{found[1]}.weight", full, extra)
            elif found := _MARK.fullmatch(name):
                self._add(marks, f"{found[1]}.weight", full, extra)
            elif self.ignored.fullmatch(name) or self._copy(full, header):
                ignored.append(full)
            else:
                self._add(names, name, full, extra)
                pieces |= self._pieces(name, entry)
        for weight in [weight for weight in scales | marks if weight not in names]:
            extra += [of.pop(weight) for of in (scales, marks) if weight in of]
        return Layout(
            layout, self.kind, names, scales, marks, pieces, tuple(sorted(extra)), tuple(sorted(ignored)), self.prefix
        )

    def _add(self, found: dict[str, str], name: str, full: str, extra: list[str]) -> None:
        targets = self.to_target(name)
        if not targets:
            extra.append(full)
        for target in targets:
            if target in found:
                raise ModelError(f"{found[target]} and {full} are both {target}; a checkpoint has each tensor once.")
            found[target] = full

    def _copy(self, full: str, header: Header) -> bool:
        """Whether it is the second name of UMT5's embedding, beside the first."""
        shared = f"{self.prefix}shared.weight"
        return full == f"{self.prefix}encoder.embed_tokens.weight" and shared in header.tensors

    def _pieces(self, name: str, entry: TensorEntry) -> dict[str, Piece]:
        """Where the targets of a tensor are within it, if they are not all of it as it is."""
        targets, shape = self.to_target(name), entry.shape
        if len(targets) > 1 and shape and shape[0] % len(targets) == 0:
            rows = shape[0] // len(targets)
            return {target: Piece(i * rows, rows, (rows, *shape[1:])) for i, target in enumerate(targets)}
        flat = {"embeddings.class_embedding": 1, "embeddings.position_embedding.weight": 2}
        if self.kind == "image_encoder" and targets and len(shape) > flat.get(targets[0], 99):
            shape = shape[-flat[targets[0]] :]  # Wan's own have ones before: (1, 1, 1280) and (1, 257, 1280)
            if math.prod(shape) == entry.parameters:
                return {targets[0]: Piece(0, entry.shape[0], shape)}
        return {}
