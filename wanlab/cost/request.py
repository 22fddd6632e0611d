"""What an estimate is asked for: settings of a run and of the loader, configurations of the model, a device. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from wanlab.cost import activations, parts
from wanlab.cost.cards import Card, card_for, this_machine
from wanlab.model_settings import ModelSettings
from wanlab.outline import BOTH, Call, calls_of
from wanlab.placement.spread import spread
from wanlab.settings import Settings


@dataclass(frozen=True)
class Configs:
    """The configurations of a model's parts, as their config.json has them; None for a part that it has not.

    `stored` is the quantized kind in which the transformer's file holds its large matrices, "" if in none.
    `transformers` is how many there are: two in Wan2.2 A14B. `expanded` says that each token has a timestep of its own
    (Wan2.2-TI2V-5B).
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any] = field(default_factory=dict)
    text_encoder: Mapping[str, Any] | None = None
    image_encoder: Mapping[str, Any] | None = None
    stored: str = ""
    transformers: int = 1
    expanded: bool = False

    @classmethod
    def of(cls, model: Any, stored: str = "") -> Self:
        """Those of a model of the registry, or of anything with attributes of these names."""
        return cls(
            transformer=model.transformer,
            vae=model.vae or {},
            text_encoder=model.text_encoder,
            image_encoder=model.image_encoder,
            stored=stored,
            transformers=getattr(model, "transformers", 1),
            expanded=getattr(model, "expand_timesteps", False),
        )


@dataclass(frozen=True)
class Pass:
    """A call of the transformer by its size: latent frames, and branches at once."""

    frames: int
    batch: int = 1


@dataclass(frozen=True)
class Request:
    """A run to estimate.

    `card` is the device, None for the usual one of this size or this machine. `passes` are the calls of the transformer
    that are computed, by size; None: all calls of all steps, as if no cache skipped any. `texts_known` says that the
    texts were embedded before, so that no text encoder is loaded. `lora_bytes` are the matrices of LoRAs that stay
    beside the weights; None: the size of their files.
    """

    settings: Settings
    model: ModelSettings
    configs: Configs
    card: Card | None = None
    passes: Mapping[Pass, int] | None = None
    texts_known: bool = False
    lora_bytes: int | None = None

    def but(self, changes: Mapping[str, Any]) -> Request:
        """The same with settings changed, of the run or of the loader, by dotted name. Raises SettingsError."""
        own = ModelSettings.model_fields
        loader = {name: value for name, value in changes.items() if name.split(".")[0] in own}
        run = {name: value for name, value in changes.items() if name not in loader}
        settings = self.settings.but(run) if run else self.settings
        return replace(
            self,
            settings=settings,
            model=self.model.but(loader) if loader else self.model,
            passes=None if set(run) - {"width", "height"} else self.calls,
        )

    @property
    def on_cpu(self) -> bool:
        """Whether the model computes on the CPU, so that what waits in memory takes the same memory."""
        return self.model.load_device == "cpu"

    @cached_property
    def device(self) -> Card:
        """The device: the one given, else a usual card of the size device_gib, else this machine (on a CPU)."""
        if self.card is not None:
            return self.card
        if self.model.device_gib is not None and not self.on_cpu:
            return card_for(self.model.device_gib)
        return this_machine() if self.on_cpu else card_for(24)

    @property
    def device_gib(self) -> float | None:
        """Memory that may be used; None if it is not known, which is so for a GPU that nothing is said of."""
        if self.model.device_gib is not None:
            return self.model.device_gib
        return self.device.memory_gib if self.card is not None or self.on_cpu else None

    @property
    def kind(self) -> str:
        """The quantized kind in which the large matrices are kept, "" if in none."""
        return self.configs.stored if self.model.quantization == "disabled" else self.model.quantization

    @property
    def size(self) -> int:
        """Bytes of a number of the transformer's arithmetic."""
        return parts.SIZES[self.model.base_precision]

    @cached_property
    def weights(self) -> parts.Transformer:
        """Bytes of a transformer, with its LoRAs in the blocks."""
        found = parts.transformer(self.configs.transformer, self.model.base_precision, self.kind)
        own = self.loras // found.blocks
        return replace(found, block=found.block + own, slot=found.slot + own) if own else found

    @cached_property
    def loras(self) -> int:
        """Bytes of LoRAs that are computed beside the weights."""
        if self.lora_bytes is not None:
            return self.lora_bytes
        live = [Path(lora.file).expanduser() for lora in self.model.loras if not lora.merge]
        return sum(file.stat().st_size for file in live if file.is_file())

    @property
    def swapped(self) -> int:
        """Blocks that are swapped. SettingsError if the model has fewer."""
        return len(spread(self.weights.blocks, self.model.blocks_to_swap))

    def tokens(self, frames: int) -> int:
        """Tokens of a call over so many latent frames."""
        time, high, wide = self.configs.transformer["patch_size"]
        scale = self.configs.vae.get("scale_factor_spatial") or 8
        size = self.settings
        return (frames // time) * (size.height // (scale * high)) * (size.width // (scale * wide))

    @property
    def latents(self) -> int:
        """Numbers of the clip's latents."""
        scale, settings = self.configs.vae.get("scale_factor_spatial") or 8, self.settings
        channels = self.configs.vae.get("z_dim", 16)
        return int(channels * settings.latent_frames * (settings.height // scale) * (settings.width // scale))

    @property
    def pictures(self) -> int:
        """How many pictures CLIP is shown."""
        return sum(bool(name) for name in (self.settings.image, self.settings.end_image)) if self.configs.image_encoder else 0

    @property
    def image_tokens(self) -> int:
        """Tokens of CLIP that the transformer attends to."""
        if not self.configs.transformer.get("image_dim"):
            return 0
        return activations.image_tokens(self.configs.image_encoder, max(1, self.pictures))

    @cached_property
    def calls(self) -> Mapping[Pass, int]:
        """The computed calls by size, and how many there are of each."""
        return self.passes if self.passes is not None else passes_of(self.settings)

    def work(self, one: Pass) -> activations.Work:
        """What a call is to the transformer."""
        return activations.Work(self.tokens(one.frames), one.batch, self.image_tokens, self.size)


def passes_of(settings: Settings, calls: tuple[tuple[Call, ...], ...] | None = None) -> Mapping[Pass, int]:
    """The calls of a run by size.

    `calls` are those of each step, as an outline has them; without them all, as if nothing was skipped. Those of which a cache
    decides on the way count as computed.
    """
    if calls is None:
        calls = tuple(calls_of(settings, step) for step in range(len(settings.grid)))
    anchored = settings.context is not None and settings.context.anchor == "causal"
    return Counter(
        Pass(len(call.frames) + (1 if anchored and call.frames[0] > 0 else 0), 2 if call.branch == BOTH else 1)
        for step in calls
        for call in step
        if not call.skipped
    )


def same_device(one: str, other: str) -> bool:
    """Whether two names mean one device: cuda is cuda:0."""
    return re.sub(r"^cuda$", "cuda:0", one) == re.sub(r"^cuda$", "cuda:0", other)
