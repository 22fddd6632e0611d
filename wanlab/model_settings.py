"""Which model a lab uses, and how its weights are loaded. No torch."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from wanlab.declare import Asked, knob


class ModelSettings(Asked):
    """How the weights are loaded."""

    model: str = knob(
        "tiny",
        "The model: tiny, a folder in diffusers' format, or a hub name.",
        affects="result",
        comfy="WanVideoModelLoader.model",
    )
    base_precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32",
        "Number format of the transformer's and the text encoder's weights and arithmetic. The VAE is always in fp32.",
        affects="result",
        comfy="WanVideoModelLoader.base_precision",
    )
    device: str = knob(
        "cpu", "Where the model computes: cpu, cuda, cuda:1, mps.", affects="cost", comfy="WanVideoModelLoader.load_device"
    )

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", value):
            raise ValueError("it must be cpu, cuda, cuda:0 (1, 2 ...) or mps.")
        return value
