"""The published checkpoints: where they are, how large, their licence, configurations and official defaults. No torch.

The facts are in known.json, with their sources; sizes are computed from the configurations, so that a plan knows a
model before it is downloaded.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from wanlab.errors import ModelError
from wanlab.weights.entries import SIZES
from wanlab.weights.parameters import block_parameters, parameter_count, parameter_shapes


@dataclass(frozen=True)
class Known:
    """A published checkpoint.

    `transformer` is the configuration of each of its `transformers`; `stored` the number format of each part on the
    hub, by safetensors' code. `presets` are settings by name, the official ones first. A model with two transformers
    uses the first above `boundary_ratio` of the noise, and `low_noise_cfg` is the official cfg of the second. `why_not`
    says why wanlab cannot run it, "" if it can.
    """

    name: str
    hub: str
    licence: str
    variant: str
    size: str
    transformer: Mapping[str, Any]
    transformers: int
    text_encoder: Mapping[str, Any]
    vae: Mapping[str, Any]
    image_encoder: Mapping[str, Any] | None
    presets: Mapping[str, Mapping[str, Any]]
    frame_rate: float
    boundary_ratio: float | None
    expand_timesteps: bool
    stored: Mapping[str, str]
    low_noise_cfg: float | None
    why_not: str
    transformer_parameters: int

    @property
    def runs(self) -> bool:
        """Whether wanlab can run it."""
        return not self.why_not

    @property
    def block_parameters(self) -> int:
        """How many numbers one block of a transformer has."""
        return block_parameters(self.transformer)

    @cached_property
    def parameters(self) -> Mapping[str, int]:
        """How many numbers each part has; all transformers together."""
        parts = {"text_encoder": self.text_encoder, "vae": self.vae, "image_encoder": self.image_encoder}
        counts = {part: parameter_count(parameter_shapes(part, config)) for part, config in parts.items() if config}
        return {"transformer": self.transformer_parameters * self.transformers, **counts}

    @property
    def nbytes(self) -> int:
        """Bytes to download: its parameters in the formats of `stored`, without tokenizer and headers (some 20 MB)."""
        return sum(count * SIZES[self.stored[part]] for part, count in self.parameters.items())


def known(name: str) -> Known:
    """The checkpoint of this name: the short one, or the hub's, in any case. Raises ModelError, with what may have been meant.

    >>> known("wan2.1-t2v-1.3b").hub
    'Wan-AI/Wan2.1-T2V-1.3B-Diffusers'
    """
    found = find_known(name)
    if found is not None:
        return found
    names = {one.name.lower(): one.name for one in all_known()}
    near = difflib.get_close_matches(_plain(name), names, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(names[one] for one in near)}?" if near else f"known are {', '.join(names.values())}."
    raise ModelError(f"model is {name!r}; no published checkpoint has this name, {meant}")


def find_known(name: str) -> Known | None:
    """The checkpoint of this name, or None."""
    return next((one for one in all_known() if _plain(name) in (_plain(one.name), _plain(one.hub))), None)


def _plain(name: str) -> str:
    """A name without owner, ending and case: the original repository stands for the one in diffusers' format."""
    return name.strip().lower().removeprefix("wan-ai/").removesuffix("-diffusers")


def why_not(variant: str) -> str:
    """Why wanlab cannot run a transformer of this variant, "" if it can."""
    return str(facts()["why_not"].get(variant, ""))


@cache
def all_known() -> tuple[Known, ...]:
    """All published checkpoints that wanlab knows of."""
    return tuple(_known(one) for one in facts()["models"])


@cache
def facts() -> dict[str, Any]:
    """What is in known.json."""
    return dict(json.loads(files("wanlab.weights").joinpath("known.json").read_text(encoding="utf-8")))


def _known(one: Mapping[str, Any]) -> Known:
    shared = facts()
    transformer = {**shared["transformer"], **shared["sizes"][one["size"]], **one["transformer"]}
    presets = {
        name: {**preset, "negative_prompt": shared["negative_prompts"][preset["negative_prompt"]]}
        for name, preset in one["presets"].items()
    }
    counted = parameter_count(parameter_shapes("transformer", transformer))
    return Known(
        name=one["name"],
        hub=one["hub"],
        licence=shared["licence"],
        variant=one["variant"],
        size=one["size"],
        transformer=transformer,
        transformers=one["transformers"],
        text_encoder=shared["text_encoder"],
        vae=shared["vae"][one["vae"]],
        image_encoder=shared["image_encoder"] if one["image_encoder"] else None,
        presets=presets,
        frame_rate=one["frame_rate"],
        boundary_ratio=one["boundary_ratio"],
        expand_timesteps=one["expand_timesteps"],
        stored=one["stored"],
        low_noise_cfg=one.get("low_noise_cfg"),
        why_not=why_not(one["variant"]),
        transformer_parameters=one.get("transformer_parameters", counted),
    )
