"""The tiny Wans: the real classes with few channels, trained on procedural clips, shipped with the package."""

from __future__ import annotations

from pathlib import Path

_FOLDERS = {"tiny": "weights", "tiny-i2v": "weights_i2v"}
_LORAS = {"tiny-four-steps": "four_steps", "tiny-style": "style"}


def tiny_path(name: str = "tiny") -> str:
    """The folder of a shipped tiny Wan, in diffusers' format.

    "tiny" makes clips of text (`WanPipeline.from_pretrained` loads it), "tiny-i2v" of a picture and text
    (`WanImageToVideoPipeline.from_pretrained`).
    """
    if name not in _FOLDERS:
        raise ValueError(f"name is {name!r}; the shipped models are {', '.join(_FOLDERS)}.")
    return str(Path(__file__).with_name(_FOLDERS[name]))


def lora_path(name: str) -> str | None:
    """The file of a LoRA that ships with the package, "tiny-four-steps" or "tiny-style"; None for other names."""
    return str(Path(__file__).with_name("loras") / f"{_LORAS[name]}.safetensors") if name in _LORAS else None
