"""A reader of weights that are in no file: it makes them when they are asked for, so that nothing has to be written."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wanlab.weights.entries import Header, TensorEntry
from wanlab.weights.parameters import parameter_shapes
from wanlab.weights.reader import Reader

_BUFFER = 2**22  # random numbers that are used again and again


class RandomReader(Reader):
    """Random weights of a transformer with this configuration, in bf16, made on the device.

    Matrices are normal, with a deviation that keeps activations about the same size; norms are one, biases zero. The same
    name gives the same numbers on a device.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device) -> None:
        self.header = Header("random", {}, {}, Path("random weights"))
        self._shapes = parameter_shapes("transformer", dict(config))
        self._normal = torch.randn(_BUFFER, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)

    def names(self) -> tuple[str, ...]:
        """All tensors that can be read."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._shapes[name]

    def entry(self, name: str) -> TensorEntry:
        """No place in a file: what is to wait on the disk has to be written there."""
        return TensorEntry(name, "", self._shapes[name], self.header.path, 0, 0)

    def kind(self, name: str) -> str:
        """None is quantized."""
        return ""

    def parts(self, name: str) -> dict[str, TensorEntry]:
        """None is quantized."""
        return {}

    def read(self, name: str) -> Tensor:
        """A tensor, in bf16."""
        shape = self._shapes[name]
        if len(shape) == 1:
            return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16, device=self._normal.device)
        count = math.prod(shape)
        deviation = 0.05 if name.endswith("scale_shift_table") else math.prod(shape[1:]) ** -0.5
        numbers = self._normal.roll(zlib.crc32(name.encode()) % _BUFFER) * deviation
        return numbers.repeat(-(-count // _BUFFER))[:count].clone().reshape(shape)  # cloned, so that the rest goes
