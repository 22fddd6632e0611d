"""The tiny Wan: the real classes with few channels, trained on procedural clips, shipped with the package."""

from __future__ import annotations

from pathlib import Path


def tiny_path() -> str:
    """The folder of the shipped tiny Wan, in diffusers' format: `WanPipeline.from_pretrained(tiny_path())` loads it."""
    return str(Path(__file__).with_name("weights"))
