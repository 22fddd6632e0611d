"""Several LoRA files at their strengths: checked against a model, merged into weights, or attached to a transformer.

    W' = W + s1 D1 + s2 D2 + ...

Changes add, so their order means nothing. Merged, W' takes the place of W when the weights are loaded: a step costs nothing
more, and the strength is fixed. Live (`wanlab.lora.live`), the changes are computed beside W: some percent more time, the
strength may change from step to step, and W may be stored in few bits, since it is not touched.

Sums are made in float32 and rounded to the nearest number of the weights' format. WanVideoWrapper rounds stochastically, so
that small changes are right on average over many weights. We do not: a model would then be another one each time it is
loaded, its velocities could not be named by its files, and what is lost is small (a product over thousands of weights
averages the errors of nearest rounding as well). Where bf16 is too coarse for a change, live keeps it apart and loses
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from wanlab.errors import ModelError, SettingsError
from wanlab.lora import keys
from wanlab.lora.deltas import LoraFile
from wanlab.lora.forms import Delta, fits
from wanlab.lora.live import Live
from wanlab.lora.report import Entry, Report


@dataclass(frozen=True, eq=False)
class Lora:
    """A file with its strength (or one for each step of the run), the blocks it is used in, and whether it is merged.

    `blocks` is "all", or numbers such as "0-9,12": then nothing outside of these blocks is changed. `expert` is which of two
    transformers it changes: "both", "high" or "low". Raises SettingsError.
    """

    file: LoraFile
    strength: float | tuple[float, ...] = 1.0
    blocks: str = "all"
    merge: bool = True
    expert: str = "both"

    def __post_init__(self) -> None:
        if self.merge and isinstance(self.strength, tuple):
            raise SettingsError(
                f"strength of {self.file.path.name} is a list and merge is on; what is merged into weights stays as it is. "
                "Take merge off, or one number."
            )
        _ = self.numbers

    @cached_property
    def numbers(self) -> frozenset[int] | None:
        """The blocks by number; None: everything."""
        return _numbers(self.blocks)

    def covers(self, parameter: str) -> bool:
        """Whether a parameter is in these blocks."""
        if self.numbers is None:
            return True
        block = keys.block_of(parameter)
        return block is not None and block[0] == "blocks" and block[1] in self.numbers

    def at(self, step: int) -> float:
        """The strength on a step."""
        return self.strength[step] if isinstance(self.strength, tuple) else self.strength

    @property
    def strongest(self) -> float:
        """The strength that is farthest from 0."""
        return max(self.strength, key=abs) if isinstance(self.strength, tuple) else self.strength

    def delta(self, parameter: str) -> Delta | None:
        """The change of a parameter, if this LoRA is to change it."""
        return self.file.deltas.get(parameter) if self.covers(parameter) and self.strongest else None


class LoraSet:
    """LoRAs that are used together."""

    def __init__(self, loras: Sequence[Lora]) -> None:
        self.loras = tuple(loras)

    def of(self, expert: str) -> LoraSet:
        """Those that change this transformer: that of "high" or of "low" noise."""
        return LoraSet([lora for lora in self.loras if lora.expert in ("both", expert)])

    def check(self, parameters: Mapping[str, tuple[int, ...]]) -> Report:
        """What of each file is used on a model with these parameters, by diffusers' name with their shapes.

        Raises ModelError if a file changes nothing of the model, SettingsError if `blocks` names blocks that are not there
        or leaves nothing.
        """
        entries = tuple(entry for lora in self.loras for entry in _entries(lora, parameters))
        for lora in self.loras:
            _refuse_useless(lora, [entry for entry in entries if entry.lora is lora], parameters)
        return Report(self.loras, entries)

    def check_steps(self, steps: int) -> None:
        """Raise SettingsError if a list of strengths has another length than the run has steps."""
        for lora in self.loras:
            if isinstance(lora.strength, tuple) and len(lora.strength) != steps:
                raise SettingsError(
                    f"strength of {lora.file.path.name} has {len(lora.strength)} values and the run has {steps} steps; give a "
                    "value for each step, or one for all."
                )

    def touches(self, parameter: str) -> bool:
        """Whether a merged LoRA changes this parameter."""
        return any(lora.merge and lora.delta(parameter) for lora in self.loras)

    @torch.no_grad()
    def merge(self, parameter: str, weight: Tensor) -> Tensor:
        """The weight with all LoRAs that are merged, in its format and on its device; the weight itself if there are none."""
        found = [(lora, delta) for lora in self.loras if lora.merge and (delta := lora.delta(parameter))]
        found = [(lora, delta) for lora, delta in found if fits(delta.shape, tuple(weight.shape))]
        if not found:
            return weight
        total = weight.float()
        for lora, delta in found:
            total = total + lora.at(0) * delta.weight(weight).reshape(weight.shape)
        return total.to(weight.dtype)

    def changes(self, live: bool) -> Iterator[tuple[int, str, Delta]]:
        """The number of the LoRA, the parameter and its change, of those that are live or of those that are merged."""
        for index, lora in enumerate(self.loras):
            if lora.merge != live:
                yield from ((index, name, delta) for name in lora.file.deltas if (delta := lora.delta(name)))

    def attach(self, transformer: Any, device: torch.device | str | None = None) -> Live:
        """Compute the LoRAs that are not merged beside the weights of this transformer, until `remove` of what is returned.

        `device` is where blocks compute, if their weights wait elsewhere. Attach before blocks are swapped, so that they
        take the changes along.
        """
        return Live(self, transformer, device)


def _numbers(blocks: str) -> frozenset[int] | None:
    if blocks == "all":
        return None
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(\s*,\s*\d{1,4}(-\d{1,4})?)*", blocks):
        raise SettingsError(f"blocks is {blocks!r}; it must be all, or numbers of blocks such as 0-9,12.")
    found: set[int] = set()
    for part in blocks.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _entries(lora: Lora, parameters: Mapping[str, tuple[int, ...]]) -> Iterator[Entry]:
    for name, delta in lora.file.deltas.items():
        wanted = parameters.get(name)
        if wanted is None:
            state = "no such parameter in this model"
        elif not fits(delta.shape, wanted):
            state = f"wrong shape: {delta.shape}, and the parameter has {tuple(wanted)}"
        else:
            state = "" if lora.covers(name) else "not in these blocks"
        yield Entry(lora, lora.file.names[name], name, state, delta)
    for key, why in lora.file.unused.items():
        yield Entry(lora, (key,), "", why, None)


def _refuse_useless(lora: Lora, entries: Sequence[Entry], parameters: Mapping[str, tuple[int, ...]]) -> None:
    """One sentence if nothing of a file would be used."""
    numbers = sorted({block[1] for name in parameters if (block := keys.block_of(name)) and block[0] == "blocks"})
    if lora.numbers and numbers and max(lora.numbers) > numbers[-1]:
        raise SettingsError(
            f"blocks of {lora.file.path.name} is {lora.blocks!r}; this model has the blocks 0 to {numbers[-1]}."
        )
    if any(entry.used for entry in entries):
        return
    if any(entry.matched for entry in entries):
        raise SettingsError(
            f"blocks of {lora.file.path.name} is {lora.blocks!r}, where it changes nothing. Take other blocks, or all."
        )
    wrong = next((entry for entry in entries if entry.wrong_shape), None)
    if wrong is not None:
        raise ModelError(
            f"{lora.file.path.name} was made for a model of another size: for {wrong.parameter} it has a {wrong.state}. Take "
            "the LoRA that was made for this model."
        )
    theirs = ", ".join(sorted(key for entry in entries for key in entry.keys)[:3])
    raise ModelError(
        f"{lora.file.path.name} changes nothing of this model: none of its names is known ({theirs or 'none'}, ...), and "
        f"the model has {', '.join(sorted(parameters)[:3])}, .... Take a LoRA for Wan."
    )
