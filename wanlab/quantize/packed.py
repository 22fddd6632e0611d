"""A weight matrix in a stored form: its kind, its shape and the tensors it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A weight (out, in) as it is stored.

    `parts` by kind: plain fp8 has "weight" (out, in) in torch's fp8 type. Scaled fp8 has "weight" and "scale", fp32 of shape
    () or (out, 1), and W = weight * scale. int8 has "weight" int8 and "scale" (out, 1). gguf kinds have "blocks" uint8 (out,
    bytes of a row).
    """

    kind: str
    shape: tuple[int, int]
    parts: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts together."""
        return sum(part.nbytes for part in self.parts.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packed:
        """The same on another device."""
        moved = {name: part.to(device, non_blocking=non_blocking) for name, part in self.parts.items()}
        return Packed(self.kind, self.shape, moved)
