"""Checkpoints: where the parts of a model are, what kind of model they make, and who it is. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wanlab.model.fingerprints import file_hash, parts_hash
from wanlab.model.lora_files import lora_file
from wanlab.names import digest
from wanlab.schedule import TRAINING_LEVELS
from wanlab.settings import ModelSettings
from wanlab.skips import LATENTS, Facts
from wanlab.weights.registry import Known, all_known, find_known
from wanlab.weights.time_layers import read_time_embedding

# What people use with Wan2.1, whose clips have 81 frames and whose blocks are 30 or 40.
_OFFICIAL_GROUPS: dict[str, dict[str, Any]] = {
    "context": {"frames": 81, "overlap": 16},
    "riflex": {"index": 6},
    "loop": {"shift": 6},
    "slg": {"blocks": "9"},
}
SPIECE = "spiece_model"  # the tensor of ComfyUI's text encoders that is a tokenizer
SHAPE = ("num_attention_heads", "num_layers", "in_channels", "image_dim", "pos_embed_seq_len", "vace_layers")


@dataclass(frozen=True)
class Checkpoint:
    """A model that was looked at and found usable: for each part ("transformer", "vae", ...) a folder or a file.

    `configs` are the parts' configurations, as diffusers and transformers have them. Of a known model without files there are
    only these.
    """

    name: str
    parts: Mapping[str, Path]
    configs: Mapping[str, Mapping[str, Any]] = field(compare=False)
    stored: str = ""  # the quantized kind in which the transformer's file holds its matrices
    boundary_ratio: float | None = None  # of two transformers: of the noise levels, where the second one takes over
    expand_timesteps: bool = False  # whether each token is told its own timestep (Wan2.2-TI2V-5B)

    @property
    def transformers(self) -> tuple[str, ...]:
        """The parts that predict: one, or of Wan2.2 A14B that of high noise and that of low noise."""
        return ("transformer",) if self.boundary_ratio is None else ("transformer", "transformer_2")

    @property
    def boundary(self) -> float:
        """The timestep below which the second transformer predicts; 0 if there is only one."""
        return 0.0 if self.boundary_ratio is None else self.boundary_ratio * TRAINING_LEVELS

    @property
    def transformer(self) -> Mapping[str, Any]:
        """The transformer's configuration."""
        return self.configs["transformer"]

    @property
    def vae(self) -> Mapping[str, Any]:
        """The VAE's configuration."""
        return self.configs["vae"]

    @property
    def form(self) -> tuple[int, int]:
        """What latents are: the number of channels, and the pixels of a latent cell in a row."""
        vae = self.configs.get("vae", {})
        return int(vae.get("z_dim") or LATENTS[0]), int(vae.get("scale_factor_spatial") or LATENTS[1])

    @property
    def beside(self) -> Path:
        """The folder in which files lie that belong to the whole model: caches.json, preview.safetensors."""
        return self.parts["transformer"].parent

    @property
    def official(self) -> Known | None:
        """The published checkpoint that this one is, or is a relative of: the one of its name, else of its shape."""
        named = find_known(self.name)
        if named is not None:
            return named
        alike = [
            one
            for one in all_known()
            if all(self.transformer.get(key) == one.transformer.get(key) for key in SHAPE)
            and one.transformers == len(self.transformers)
        ]
        # The two image-to-video models have one shape; their names tell them apart.
        size = next((size for size in ("720", "480") if size in self.name), "")
        return next((one for one in alike if size and size in one.name), alike[0] if alike else None)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The settings that suit this model, where they differ from the declared ones (which suit the tiny Wan)."""
        return next(iter(self.official.presets.values())) if self.official else {}

    @property
    def group_defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of techniques that suit this model, where they differ from the declared ones, by group."""
        return {} if self.blocks < 20 else _OFFICIAL_GROUPS

    @property
    def blocks(self) -> int:
        """How many blocks the transformer has."""
        return int(self.transformer["num_layers"])

    @property
    def image_to_video(self) -> bool:
        """Whether the model makes a clip of a picture, which it is told in 20 more channels."""
        return int(self.transformer["in_channels"]) == 36

    @property
    def vace(self) -> bool:
        """Whether it is a VACE model, whose own blocks read known frames and a mask; it takes an image or none."""
        return bool(self.transformer.get("vace_layers"))

    @cached_property
    def fingerprint(self) -> str:
        """What velocities depend on: a hash of the transformer, the text encoder and the tokenizer.

        Of an image-to-video model also of the image encoder and of the VAE, which encodes the picture, of a VACE model of the
        VAE; of two transformers of both, and of how they are told the noise level.
        """
        seeing = ("image_encoder", "image_processor", "vae") if self.image_to_video else ("vae",) if self.vace else ()
        found = parts_hash(self.parts, ("tokenizer", "text_encoder", *self.transformers, *seeing))
        told = (self.boundary_ratio, self.expand_timesteps)
        return found if told == (None, False) else digest(found, *told)

    @cached_property
    def text_fingerprint(self) -> str:
        """A hash of the text encoder and the tokenizer."""
        return parts_hash(self.parts, ("tokenizer", "text_encoder"))

    @cached_property
    def vae_fingerprint(self) -> str:
        """A hash of the VAE."""
        return parts_hash(self.parts, ("vae",))


def facts_of(found: Checkpoint, settings: ModelSettings) -> Facts:
    """What planning knows of a model."""
    if not found.parts:
        facts = Facts.of(digest(found.name, settings.base_precision), found.name, found.transformer, boundary=found.boundary)
    else:
        facts = Facts.of(
            model_id(found, settings),
            found.name if found.beside.name != "transformer" else found.beside.as_posix(),
            found.transformer,
            beside=found.beside,
            read=lambda: read_time_embedding(found.parts["transformer"]),
            boundary=found.boundary,
        )
    return replace(facts, form=found.form)


def model_id(found: Checkpoint, settings: ModelSettings) -> str:
    """Who a model is, for the names of steps: all that its velocities depend on, not where it computes.

    What is as declared is left out, so that models are named as before a setting existed.
    """
    more: dict[str, Any] = {}
    for name in ("quantization", "attention_mode"):
        value = getattr(settings, name)
        if value != type(settings).model_fields[name].default:
            more[name] = value
    if settings.loras:
        more["loras"] = [
            [file_hash(lora_file(one.file)), one.strength, one.blocks, one.merge, *([one.expert] * (one.expert != "both"))]
            for one in settings.loras
        ]
    if found.image_to_video or found.vace:  # the VAE encodes what the model is told
        how = [settings.vae_precision, *([settings.vae_tile, settings.vae_tile_stride] if settings.vae_tiling else [])]
        more |= {"vae": how} if how != ["fp32"] else {}
    return digest(found.fingerprint, settings.base_precision, *([more] if more else []))
