"""A transformer in its place: filled, with its LoRAs, its attention and its compiled graphs, and with blocks that are swapped.

The order matters. LoRAs are layers of the blocks and are swapped along, so they come before the swap; a block is compiled
before it is swapped, so that moving weights stays outside of the graph.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from wanlab.lora.apply import Lora, LoraSet
from wanlab.lora.deltas import read
from wanlab.lora.live import Live
from wanlab.model.attention import set_attention
from wanlab.model.checkpoint import Checkpoint
from wanlab.model.compiling import Compiled
from wanlab.model.loading import Filling
from wanlab.model.lora_files import lora_file
from wanlab.placement.masters import Master, build_file_master, build_host_master
from wanlab.placement.moving import OnDemand, resting
from wanlab.placement.spread import spread
from wanlab.placement.swap import BlockSwap
from wanlab.quantize.formats import apply_library
from wanlab.quantize.kinds import KINDS
from wanlab.settings import ModelSettings
from wanlab.weights.dtypes import PRECISIONS
from wanlab.weights.entries import TensorEntry
from wanlab.weights.reader import Reader

_CPU = torch.device("cpu")
_EMBEDDERS = {"offload_text_embedding": "text_embedder", "offload_image_embedding": "image_embedder"}


@dataclass
class Loaded:
    """A transformer and all that was done to it when it was loaded; `unload` lets go of the memory."""

    transformer: WanTransformer3DModel
    settings: ModelSettings
    swap: BlockSwap | None = None
    embedders: OnDemand | None = None
    loras: Live | None = None
    compiled: Compiled | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.settings.load_device)

    @property
    def blocks_swapped(self) -> int:
        """How many blocks wait elsewhere and visit the device for their own computation."""
        return len(self.swap.swapped) if self.swap else 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[WanTransformer3DModel]:
        """Within, the transformer is on its device; with force_offload it is in the computer's memory otherwise."""
        if not self.settings.force_offload:
            yield self.transformer
            return
        elsewhere = (*(self.swap.modules if self.swap else ()), *(self.embedders.modules if self.embedders else ()))
        with resting(self.transformer, self.device, True, elsewhere):
            yield self.transformer

    @torch.inference_mode(False)
    def swap_blocks(self, count: int, prefetch: int) -> None:
        """Swap another number of blocks from now on; for blocks that wait in the computer's memory."""
        if self.swap:
            self.swap.remove()
        self.swap = None
        chosen = spread(len(self.transformer.blocks), count)
        rest = _CPU if self.settings.force_offload else self.device
        for index, block in enumerate(self.transformer.blocks):
            block.to(_CPU if index in chosen else rest)
        self._swap(chosen, prefetch, {})

    def unload(self) -> None:
        """Let go of all weights, slots and files; it is of no use afterwards."""
        if self.swap:
            self.swap.remove(reload=False)
        if self.embedders:
            self.embedders.remove(reload=False)
        if self.compiled:
            self.compiled.remove()
        if self.loras:
            self.loras.remove()
        self.swap = self.embedders = self.loras = self.compiled = None
        del self.transformer
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _swap(self, chosen: Sequence[int], prefetch: int, masters: Mapping[str, Master]) -> None:
        found = {index: masters.get(f"blocks.{index}") or self._host(f"blocks.{index}") for index in chosen}
        if found:
            non_blocking = self.settings.use_non_blocking
            blocks = list(self.transformer.blocks)
            self.swap = BlockSwap(blocks, found, self.device, prefetch=prefetch, non_blocking=non_blocking)

    def _embed_on_demand(self, names: Sequence[str], masters: Mapping[str, Master]) -> None:
        if names:
            modules = [self.transformer.get_submodule(name) for name in names]
            self.embedders = OnDemand(modules, [masters.get(name) or self._host(name) for name in names], self.device)

    def _host(self, name: str) -> Master:
        pin = self.device.type == "cuda" and self.settings.use_non_blocking
        return build_host_master(self.transformer.get_submodule(name), pin)


@torch.inference_mode(False)  # weights made in inference mode could not be moved later
def load(
    found: Checkpoint,
    settings: ModelSettings,
    loras: LoraSet,
    scratch: Path,
    reader: Reader | None = None,
    part: str = "transformer",
) -> Loaded:
    """A transformer of a checkpoint as these settings want it. Raises ModelError and SettingsError.

    What waits on the disk and is in no file as it is wanted is written to nameless files in `scratch`. With a `reader` tensors
    are what it reads, and not those of the checkpoint's files.
    """
    device = torch.device(settings.load_device)
    filling = Filling(reader or Reader.of(found.parts[part]), found.configs[part], settings, loras)
    loaded = Loaded(filling.transformer, settings)
    loras.check(filling.shapes)
    chosen = spread(len(loaded.transformer.blocks), settings.blocks_to_swap)
    embedders = _embedders(loaded.transformer, settings)
    apart = [*embedders, *(f"blocks.{index}" for index in chosen)]
    # With force_offload the rest waits in memory as well, until the transformer is at work.
    filling.fill("", _CPU if settings.force_offload else device, [f"{name}." for name in apart])
    masters = _Masters(filling, scratch)
    for name in apart:
        if settings.offload_device == "disk":
            masters.fill(name)
        else:
            filling.fill(f"{name}.", _CPU)
    if settings.quantization in KINDS and not KINDS[settings.quantization].packed:
        apply_library(settings.quantization, loaded.transformer, device)
    if loras.loras:
        loaded.loras = loras.attach(loaded.transformer, device)
    masters.build_all()
    set_attention(loaded.transformer, settings.attention_mode, device, PRECISIONS[settings.base_precision])
    if settings.compile:
        loaded.compiled = Compiled(loaded.transformer, settings.compile)
    loaded._embed_on_demand(embedders, masters.built)
    loaded._swap(chosen, settings.prefetch_blocks, masters.built)
    return loaded


class _Masters:
    """Modules that wait on the disk. Each goes there as soon as it is filled, unless it gets layers of LoRAs first."""

    def __init__(self, filling: Filling, scratch: Path) -> None:
        self.filling, self.scratch, self.built = filling, scratch, dict[str, Master]()
        self._waiting: dict[str, Mapping[str, TensorEntry]] = {}

    def fill(self, name: str) -> None:
        """Fill a module with what is in no file as it is wanted."""
        self._waiting[name] = self.filling.fill_for_the_disk(f"{name}.")
        if all(lora.merge for lora in self.filling.loras.loras):
            self.build_all()

    def build_all(self) -> None:
        """Give all that are filled their masters."""
        for name in list(self._waiting):
            module = self.filling.transformer.get_submodule(name)
            self.built[name] = build_file_master(module, self._waiting.pop(name), self.scratch)


def lora_set(settings: ModelSettings) -> LoraSet:
    """The LoRA files of these settings, read. Raises ModelError."""
    return LoraSet([Lora(read(lora_file(one.file)), one.strength, one.blocks, one.merge, one.expert) for one in settings.loras])


def _embedders(transformer: WanTransformer3DModel, settings: ModelSettings) -> list[str]:
    """The embedders that wait elsewhere and are there in this model."""
    asked = [name for setting, name in _EMBEDDERS.items() if getattr(settings, setting)]
    found = [name for name in asked if getattr(transformer.condition_embedder, name, None) is not None]
    return [f"condition_embedder.{name}" for name in found]
