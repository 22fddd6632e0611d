"""Which published checkpoint the file of a transformer is, by its name. No torch.

ComfyUI loads single files, whose names people and repackagers write in many ways: `Wan2_1-T2V-14B_fp8_e4m3fn.safetensors`,
`wan2.1_i2v_480p_14B_fp16.safetensors`. A name is only taken for a published checkpoint if every word of it is known: one more
word, as in `Wan2_1-T2V-14B-Phantom`, is another model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wanlab.weights.registry import Known, all_known

_SIZES = ("1.3b", "14b", "a14b", "5b")
_TASKS = ("t2v", "i2v", "flf2v", "vace", "ti2v", "animate")
# Words that say how the weights are stored or who packed them, not which they are.
_STORED = re.compile(r"fp8|fp16|bf16|fp32|e4m3fn|e5m2|scaled|kj|comfy|repack(aged)?|fixed|fp|noise")
_EXPERTS = {"high": "high", "low": "low", "highnoise": "high", "lownoise": "low"}


@dataclass(frozen=True)
class Told:
    """What a file's name tells: the published checkpoint, if it is one, and of two transformers which."""

    known: Known | None
    expert: str = ""


def told(file: str) -> Told:
    """What the name of a transformer's file tells.

    >>> told("WanVideo/Wan2_1-T2V-14B_fp8_e4m3fn.safetensors").known.name
    'Wan2.1-T2V-14B'
    """
    name = re.split(r"[/\\]", file)[-1].lower()
    name = re.sub(r"\.(safetensors|pth?|ckpt|bin|sft)$", "", name)  # not gguf, whose weights are quantized by themselves
    name = re.sub(r"(?<![\d.q])(\d)[_.-](\d)(?=b|[_.\-]|$)", r"\1.\2", name)
    words = [word for word in re.split(r"[_\-\s]+", name) if word]
    expert = next((_EXPERTS[word] for word in words if word in _EXPERTS), "")
    found: dict[str, str] = {}
    for word in words:
        part = _part(word)
        if part is None or found.get(part[0], part[1]) != part[1]:
            return Told(None, expert)
        found[part[0]] = part[1]
    return Told(_match(found), expert)


def with_vace(known: Known, file: str) -> Known | None:
    """The checkpoint that a text-to-video model and the part of VACE in this file are together; None if none is known.

    >>> with_vace(told("Wan2_1-T2V-14B_bf16.safetensors").known, "Wan2_1-VACE_module_14B_bf16.safetensors").name
    'Wan2.1-VACE-14B'
    """
    part = told(re.sub(r"_?module", "", file, flags=re.IGNORECASE)).known
    return part if part and known.variant == "t2v" and part.variant == "vace" and part.size == known.size else None


def _part(word: str) -> tuple[str, str] | None:
    """What one word says; None if it is none of those that published names are made of."""
    version = re.fullmatch(r"wan(?:video)?v?(2\.\d|2\d)?", word)
    if version:
        return ("version", (version[1] or "").replace("21", "2.1").replace("22", "2.2")) if version[1] else ("", "")
    if word in ("2.1", "2.2"):
        return "version", word
    if word in _SIZES:
        return "size", word.removeprefix("a")
    if word in _TASKS:
        return "task", word
    if word in ("480p", "720p"):
        return "resolution", word
    return ("", "") if word in _EXPERTS or _STORED.fullmatch(word) or word == "480p720p" else None


def _match(found: dict[str, str]) -> Known | None:
    version, task, size = (found.get(part, "") for part in ("version", "task", "size"))
    resolution = found.get("resolution", "")
    if not task or not size:
        return None
    names = []
    for known in all_known():
        words = known.name.lower().removeprefix("wan").split("-")
        fits = words[0] == (version or "2.1") and task in words and size in (words[2], words[2].removeprefix("a"))
        wanted = [word for word in words if word.endswith("0p")]
        if fits and (not wanted or resolution in ("", *wanted)):
            names.append(known)
    exact = [known for known in names if not resolution or resolution in known.name.lower()]
    return (exact or names)[0] if len(exact or names) == 1 else None
