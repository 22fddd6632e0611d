"""A tensor in a file, and all tensors of a checkpoint: what a header says before a single weight is read. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Bytes of an element, by the format's code in safetensors.
SIZES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor is: `nbytes` bytes of `file` from `offset` on.

    `dtype` is safetensors' code (F32, BF16, F8_E4M3 ...), or ggml's type in a GGUF file (Q4_K ...). `shape` is in
    torch's order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """All tensors of a checkpoint by name, and the remarks in its files. `path` is what was asked for."""

    format: str
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is made of."""
        return tuple(sorted({entry.file for entry in self.tensors.values()}))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(entry.nbytes for entry in self.tensors.values())
