"""Presets: settings that belong together, by name, each with where it comes from. No torch.

The official ones are those of the published models (weights/known.json). A preset changes the settings that it names and no
others, so presets of cards go together with those of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from wanlab.model.checkpoint import lora_defaults
from wanlab.weights.registry import Known, all_known

_FOUR_STEPS = "tiny-four-steps"


@dataclass(frozen=True)
class Preset:
    """Settings of the run and of the model by dotted name, and their `origin`; `model` is the one it is for, "" for any."""

    name: str
    title: str
    help: str
    origin: str
    changes: Mapping[str, Any]
    model: str = ""

    def __post_init__(self) -> None:
        """Freeze the changes."""
        object.__setattr__(self, "changes", MappingProxyType(dict(self.changes)))


def official(model: Known) -> list[Preset]:
    """The settings that its authors give for a published model."""
    found = []
    for name, settings in model.presets.items():
        changes = {"model": model.name, "base_precision": "bf16", **settings, "clip.frame_rate": model.frame_rate}
        if settings["frames"] == 1:
            changes |= {"clip.format": "png"}
        size = f"{settings['width']} x {settings['height']}, {settings['frames']} frames, {settings['steps']} steps"
        origin = f"the authors' defaults for {model.name}"
        found.append(Preset(f"{model.name} {name}", f"{model.name}, {name}", f"{size}.", origin, changes, model.name))
    return found


_TINY = (
    Preset(
        "tiny quick look",
        "Quick look",
        "6 steps: half a second on a laptop, enough to see where things are.",
        "tried on the tiny Wan",
        {"model": "tiny", "steps": 6},
        "tiny",
    ),
    Preset(
        "tiny four steps",
        "Four steps",
        "A LoRA with which four steps without guidance do what twenty with guidance do.",
        f"what the LoRA {_FOUR_STEPS} says about itself",
        {"model": "tiny", "loras": [{"file": _FOUR_STEPS}], **lora_defaults(_FOUR_STEPS)},
        "tiny",
    ),
    Preset(
        "tiny long clip",
        "Long clip in windows",
        "49 frames of a model that knows 17, in windows that move from step to step.",
        "tried on the tiny Wan, as in notebook 04",
        {"model": "tiny", "frames": 49, "context": True, "context.schedule": "uniform_standard"},
        "tiny",
    ),
)
_CARDS = (
    Preset(
        "12 GB card",
        "12 GB card",
        "Weights in 8 bits, and what does not fit waits in memory: Wan 14B at 480p.",
        "planned with Wan2.1-T2V-14B at 832 x 480, 81 frames",
        {
            "base_precision": "bf16",
            "quantization": "fp8_e4m3fn_scaled",
            "force_offload": True,
            "placement": "auto",
            "device_gib": 12.0,
        },
    ),
    Preset(
        "24 GB card",
        "24 GB card",
        "Weights in 16 bits, and what does not fit waits in memory: Wan 14B at 480p.",
        "planned with Wan2.1-T2V-14B at 832 x 480, 81 frames",
        {
            "base_precision": "bf16",
            "quantization": "disabled",
            "force_offload": True,
            "placement": "auto",
            "device_gib": 24.0,
        },
    ),
)
_FEWER = (
    Preset(
        "distilled 4 steps",
        "Distilled, 4 steps",
        "For models or LoRAs that were distilled to four steps (lightx2v): add the LoRA's file in loras. No guidance.",
        "the timesteps 1000, 750, 500, 250 and the shift 5 of LightX2V's step-distilled Wan2.1",
        {"steps": 4, "cfg": 1.0, "shift": 5.0, "schedule": "distilled", "solver": "euler"},
    ),
    Preset(
        "half the calls",
        "Half the calls",
        "MagCache leaves out nearly every second call of the model.",
        "MagCache (Ma et al. 2025), whose authors give 2 to 3 times",
        {"cache": True, "cache.kind": "magcache", "cache.speed_up": 1.8},
    ),
)

PRESETS = (*_TINY, *_CARDS, *_FEWER, *(preset for model in all_known() if model.runs for preset in official(model)))
