"""What is this file? `inspect_checkpoint(path)` answers from its header, in milliseconds, without torch.

>>> import wanlab as wl
>>> wl.inspect_checkpoint("wan2.1_i2v_480p_14B_fp8_scaled.safetensors")            # doctest: +SKIP
This is an I2V checkpoint (36 input channels, 14B, original layout, fp8_e4m3fn scaled); it needs an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanlab.document import Shown, esc, table_html
from wanlab.errors import ModelError
from wanlab.weights.architecture import Architecture, architecture_of, no_part_of_wan
from wanlab.weights.entries import Header
from wanlab.weights.headers import read_header
from wanlab.weights.json_files import read_json
from wanlab.weights.layouts import Layout, translate
from wanlab.weights.registry import why_not

_PARTS = ("transformer", "transformer_2", "text_encoder", "vae", "image_encoder")
_NEEDED = ("transformer", "text_encoder", "tokenizer", "vae")
_READ = ("fp64", "fp32", "bf16", "fp16", "mixed", "fp8_e4m3fn", "fp8_e5m2", "int8")

# By variant: what it is called, and what it needs.
_CALLED: Mapping[str, tuple[str, str]] = {
    "t2v": ("a T2V checkpoint", "it needs no image"),
    "i2v": ("an I2V checkpoint", "it needs an image"),
    "i2v_2.2": ("an I2V checkpoint of Wan2.2 without image encoder", "it needs an image"),
    "fun_inp": ("an I2V checkpoint (Fun-InP)", "it needs an image"),
    "flf2v": ("an FLF2V checkpoint", "it needs an image and an end image"),
    "vace": ("a VACE checkpoint", "it takes an image, an end image, both or none"),
    "ti2v": ("a TI2V checkpoint of Wan2.2", "it takes an image or none, and needs the VAE of Wan2.2"),
}
_WAYS = {
    "text_encoder": ("a text encoder", "give it as text_encoder= beside a transformer"),
    "vae": ("a VAE", "give it as vae= beside a transformer"),
    "image_encoder": ("an image encoder", "give it as image_encoder= beside an I2V transformer"),
}
_NAMES = {"umt5": "UMT5", "clip": "CLIP", "2.1": "of Wan2.1", "2.2": "of Wan2.2"}
_LAYOUTS = {
    "diffusers": "diffusers' layout",
    "hf": "transformers' layout",
    "comfy": "ComfyUI's layout",
    "original": "original layout",
}


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """What a checkpoint is, and whether wanlab can use it.

    `kind` is transformer, text_encoder, vae, image_encoder, lora, pipeline (a whole folder in diffusers' format, with
    its `parts`) or unknown. `config` is for the class of diffusers or transformers. `missing` and `unexpected` are
    names of tensors. `scales` says how many weights have a scale. `why_not` is "" if it runs.
    """

    path: Path
    kind: str
    summary: str
    why_not: str = ""
    variant: str = ""
    layout: str = ""
    precision: str = ""
    size: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    bytes: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    scales: int = 0
    parts: Mapping[str, Inspection] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether wanlab can use it."""
        return not self.why_not

    def __repr__(self) -> str:
        return "\n".join([self.summary, *(f"  {name}: {value}" for name, value in self._rows())])

    def _repr_html_(self) -> str:
        table = table_html([(name, [value]) for name, value in self._rows()])
        return f"<div><p><strong>{esc(self.summary)}</strong></p>{table}</div>"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("file", str(self.path))]
        rows += [(name, part.summary) for name, part in self.parts.items()]
        if self.parameters:
            rows.append(("parameters", f"{self.parameters:,}"))
        formats = ", ".join(f"{name} {_gib(count)}" for name, count in self.formats.items() if count)
        rows.append(("size", _gib(self.bytes) + (f" ({formats})" if formats else "")))
        if self.scales:
            rows.append(("scales", f"of {self.scales} weights"))
        lists = {"missing": self.missing, "unexpected": self.unexpected, "wrong shapes": self.wrong}
        return [*rows, *((name, f"{len(found)}: {_few(found)}") for name, found in lists.items() if found)]


def inspect_checkpoint(path: str | Path) -> Inspection:
    """What a .safetensors or .gguf file, or a folder of them, is. Only headers are read.

    Raises ModelError if it cannot be read at all: missing, damaged, cut off, a pickle.
    """
    path = Path(path).expanduser()
    if (path / "model_index.json").is_file():
        return _pipeline(path)
    header = read_header(path)
    layout = translate(header)
    if layout.kind in ("lora", "unknown"):
        return _no_part(header, layout)
    try:
        found = architecture_of(header, layout)
    except ModelError as error:
        reason = str(error)
    else:
        return _part(header, layout, found)
    called = "a transformer" if layout.kind == "transformer" else _WAYS[layout.kind][0]
    return Inspection(
        path, layout.kind, f"This is {called} that wanlab cannot use: {reason}", reason, layout=layout.name, bytes=header.nbytes
    )


def _no_part(header: Header, layout: Layout) -> Inspection:
    numbers = sum(entry.parameters for entry in header.tensors.values())
    if layout.kind == "lora":
        told = f"This is a LoRA ({len(layout.extra)} tensors); give it as loras=[{header.path.name!r}]."
        return Inspection(header.path, "lora", told, parameters=numbers, bytes=header.nbytes)
    shown = _few(tuple(header.tensors))
    reason = f"it is {no_part_of_wan(layout)} (its tensors are called {shown})" if shown else "it holds no tensors"
    told = f"wanlab cannot use this file: {reason}."
    return Inspection(header.path, "unknown", told, reason, parameters=numbers, bytes=header.nbytes, unexpected=layout.extra)


def _part(header: Header, layout: Layout, found: Architecture) -> Inspection:
    reason = _reason(found)
    called, need = _CALLED.get(found.variant, ("a transformer", "")) if found.kind == "transformer" else _WAYS[found.kind]
    if found.kind == "transformer" and why_not(found.variant):
        called, reason = why_not(found.variant), reason or "it is none of the models that wanlab runs"
    ending = f"wanlab cannot use it: {reason}" if reason else need
    return Inspection(
        path=header.path,
        kind=found.kind,
        summary=f"This is {called} ({', '.join(_facts(layout, found))}); {ending}.",
        why_not=reason,
        variant=found.variant,
        layout=layout.name,
        precision=found.precision,
        size=found.size,
        config=found.config,
        parameters=found.parameters,
        bytes=header.nbytes,
        formats=found.formats,
        missing=found.missing,
        unexpected=found.unexpected,
        wrong=found.wrong,
        scales=len(layout.scales),
    )


def _facts(layout: Layout, found: Architecture) -> list[str]:
    precision = found.precision.replace("_scaled_channel", " scaled per row").replace("_scaled", " scaled")
    channels = f"{found.config['in_channels']} input channels" if found.kind == "transformer" else ""
    size = " ".join(filter(None, (_NAMES.get(found.variant, ""), found.size))).replace("UMT5 ", "UMT5-")
    return [fact for fact in (channels, size, _LAYOUTS.get(layout.name, f"names of {layout.name}"), precision) if fact]


def _reason(found: Architecture) -> str:
    """Why a part cannot be used, "" if it can."""
    if not found.precision.startswith("gguf_") and found.precision.split("_scaled")[0] not in _READ:
        return f"its weights are in {found.precision}, which wanlab does not read; take bf16, fp8 or GGUF"
    if found.missing:
        return f"it is not complete, {len(found.missing)} tensors are missing: {_few(found.missing)}"
    if found.wrong:
        return found.wrong[0]
    if found.variant == "other":
        strange = (
            f"it has tensors that no Wan has: {_few(found.unexpected)}"
            if found.unexpected
            else "no published Wan has these channels"
        )
        return strange
    if found.kind == "vae" and found.config["in_channels"] != found.config["out_channels"]:
        return "it decodes into another number of channels than a picture has"
    return ""


def _pipeline(folder: Path) -> Inspection:
    """A whole folder in diffusers' format."""
    index = read_json(folder / "model_index.json")
    parts: dict[str, Inspection] = {}
    for name in _PARTS:
        if (folder / name).is_dir():
            parts[name] = _looked_at(folder / name)
    transformer = parts.get("transformer", Inspection(folder, "unknown", ""))
    needed = (*_NEEDED, *(("image_encoder", "image_processor") if transformer.config.get("image_dim") else ()))
    needed = (*needed, *(("transformer_2",) if index.get("boundary_ratio") is not None else ()))
    lacking = [name for name in needed if not (folder / name).is_dir()]
    reasons = [f"its {name} cannot be used ({part.why_not})" for name, part in parts.items() if not part.runs]
    reason = f"it is not complete, {', '.join(lacking)} missing" if lacking else (reasons or [""])[0]
    called, need = _CALLED.get(transformer.variant, ("a checkpoint", ""))
    facts = [
        transformer.size,
        "diffusers' format",
        "two transformers" if "transformer_2" in parts else "",
        transformer.precision,
    ]
    ending = f"wanlab cannot use it: {reason}" if reason else need
    return Inspection(
        path=folder,
        kind="pipeline",
        summary=f"This is {called} ({', '.join(fact for fact in facts if fact)}); {ending}.",
        why_not=reason,
        variant=transformer.variant,
        layout="diffusers",
        precision=transformer.precision,
        size=transformer.size,
        config=transformer.config,
        parameters=sum(part.parameters for part in parts.values()),
        bytes=sum(part.bytes for part in parts.values()),
        parts=parts,
    )


def _looked_at(folder: Path) -> Inspection:
    """A part of a folder; what is wrong with it is told, and the others are still looked at."""
    try:
        return inspect_checkpoint(folder)
    except ModelError as error:
        return Inspection(folder, "unknown", str(error), str(error))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.2f} MiB"
