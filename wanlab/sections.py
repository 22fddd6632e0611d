"""Which settings stand together, in the control panel and in the docs, and the notebook that shows them. No torch.

A part says where its settings begin; those declared after these belong to it too, up to where another part begins. So a
new setting has its place as soon as it is declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from wanlab.declare import Asked, Setting, declarations, switches
from wanlab.settings import ModelSettings, Settings

Owner = Literal["run", "model"]
OWNERS: Mapping[Owner, type[Asked]] = MappingProxyType({"model": ModelSettings, "run": Settings})


@dataclass(frozen=True)
class Part:
    """A stretch of a section: where its settings `begin`, the `notebook` that shows them, a title if it has one of its own."""

    begin: tuple[str, ...]
    notebook: str
    title: str = ""


@dataclass(frozen=True)
class Section:
    """Settings under one heading."""

    name: str
    title: str
    help: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Placed:
    """A setting in its part. `of` says whose it is, `switch` names the group that it is in, if that group may be off."""

    setting: Setting
    of: Owner
    switch: str


_FIRST, _SAMPLER, _FETA = "01_first_clip.ipynb", "02_steps_shift_cfg.ipynb", "03_feta.ipynb"
_LONG, _CACHES, _IMAGE = "04_windows_and_long_clips.ipynb", "05_caches.ipynb", "06_image_to_video.ipynb"
_PRECISION, _SWAP = "07_precision_and_quantization.ipynb", "08_block_swap_and_what_fits.ipynb"
_COMPUTING, _LORA, _REAL = "09_attention_and_compile.ipynb", "10_lora_and_few_steps.ipynb", "11_a_real_checkpoint.ipynb"

SECTIONS = (
    Section(
        "prompt",
        "Prompt and image",
        "What the clip shows, how large and how long it is, and what it starts from.",
        (Part(("prompt",), _FIRST), Part(("image",), _IMAGE, "Image"), Part(("samples",), _SAMPLER, "Clip to start from")),
    ),
    Section(
        "sampler",
        "Sampler",
        "The way from noise to the clip.",
        (Part(("steps",), _SAMPLER), Part(("start_step",), _SAMPLER, "Part of the steps")),
    ),
    Section(
        "model",
        "Model loader",
        "Which model, how its weights are loaded, and where they are. A change here loads the model anew.",
        (
            Part(("model",), _REAL),
            Part(("base_precision",), _PRECISION, "Precision"),
            Part(("load_device",), _SWAP, "Device and block swap"),
            Part(("loras", "lora_strength"), _LORA, "LoRA"),
            Part(("attention_mode",), _COMPUTING, "Attention"),
            Part(("compile",), _COMPUTING, "Compile"),
            Part(("vae_precision",), _PRECISION, "VAE"),
        ),
    ),
    Section("feta", "FETA", "Enhance-A-Video: steadier clips with more detail.", (Part(("feta",), _FETA),)),
    Section("context", "Context options", "Windows, for clips longer than the model knows.", (Part(("context",), _LONG),)),
    Section("cache", "Caches", "Calls of the model that are left out where little changes.", (Part(("cache",), _CACHES),)),
    Section(
        "guidance",
        "Guidance",
        "Other ways to lead from the negative prompt to the prompt.",
        (
            Part(("slg",), _SAMPLER, "Skip-layer guidance"),
            Part(("nag",), _SAMPLER, "Normalized attention guidance"),
            Part(("cfg_zero",), _SAMPLER, "CFG-Zero*"),
            Part(("apg",), _SAMPLER, "Adaptive projected guidance"),
        ),
    ),
    Section(
        "long",
        "Long clips",
        "For clips that are long, that repeat, or that are made in rounds.",
        (Part(("riflex",), _LONG, "RIFLEx"), Part(("loop",), _LONG, "Loop"), Part(("freeinit",), _LONG, "FreeInit")),
    ),
    Section("clip", "Clip", "How the finished clip is written.", (Part(("clip",), _FIRST),)),
)


@cache
def placed() -> Mapping[Part, tuple[Placed, ...]]:
    """The settings of each part, and the switches of its groups, each before the group; in the order of declaration."""
    part_of = {name: part for section in SECTIONS for part in section.parts for name in part.begin}
    found: dict[Part, list[Placed]] = {part: [] for part in part_of.values()}
    for of, model in OWNERS.items():
        groups, part = switches(model), None
        for name, setting in declarations(model).items():
            first, _, member = name.partition(".")
            part = part_of.get(first, part)
            if part is None:
                raise LookupError(f"{name} is declared before the first setting with which a part begins.")
            if member and first in groups and not any(one.setting.name == first for one in found[part]):
                found[part].append(Placed(groups[first], of, ""))
            found[part].append(Placed(setting, of, first if first in groups else ""))
    return MappingProxyType({part: tuple(members) for part, members in found.items()})


@cache
def notebook_of(name: str) -> str:
    """The file of the notebook that shows this setting or group."""
    for part, members in placed().items():
        if any(one.setting.name == name or one.setting.name.startswith(f"{name}.") for one in members):
            return part.notebook
    raise LookupError(f"{name} is no setting and no group.")
