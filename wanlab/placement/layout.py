"""One buffer for all tensors of a block: a block of Wan has 27 of them, and one copy of 700 MB is faster than 27 small ones.

Every tensor begins at a multiple of 256 bytes, as fresh memory of a GPU does, so that kernels take the same paths as for a
tensor of its own and results keep their bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wanlab.errors import SettingsError

ALIGNMENT = 256  # bytes


@dataclass(frozen=True)
class Place:
    """Where one tensor lies in the buffer; `offset` and `nbytes` in bytes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """The places of all tensors of a module, and the bytes of the whole buffer."""

    places: tuple[Place, ...]
    nbytes: int

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The tensors as views into a uint8 buffer of at least `nbytes`, on any device."""
        with torch.inference_mode(False):  # a view made in inference mode would make a weight an inference tensor
            return [
                buffer[one.offset : one.offset + one.nbytes].view(one.dtype).view(one.shape)
                if one.nbytes
                else _empty(one, buffer)
                for one in self.places
            ]


def _empty(place: Place, buffer: Tensor) -> Tensor:
    return torch.empty(place.shape, dtype=place.dtype, device=buffer.device)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, also those of layers that were added later; a shared one once."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    strange = {name: type(one).__name__ for name, one in found.items() if type(one) not in (Tensor, nn.Parameter)}
    if strange:
        name, kind = next(iter(strange.items()))
        raise SettingsError(
            f"blocks_to_swap moves plain tensors only, but {name} is a {kind} of a quantization library; "
            "set blocks_to_swap to 0 or choose another quantization, such as int8 or fp8_e4m3fn_scaled."
        )
    return found


def layout_of(module: nn.Module) -> Layout:
    """The layout of a module's parameters and buffers, in their order; works on the meta device too."""
    places, end = [], 0
    for name, tensor in tensors_of(module).items():
        offset = math.ceil(end / ALIGNMENT) * ALIGNMENT
        places.append(Place(name, tensor.dtype, tuple(tensor.shape), offset, tensor.numel() * tensor.element_size()))
        end = offset + places[-1].nbytes
    return Layout(tuple(places), math.ceil(end / ALIGNMENT) * ALIGNMENT)


def poisoned(places: Sequence[Place]) -> list[Tensor]:
    """Tensors of these shapes that take no memory and hold only 0xFF bytes, which are NaN in every float format."""
    with torch.inference_mode(False):
        return [
            torch.full((one.dtype.itemsize,), 0xFF, dtype=torch.uint8).view(one.dtype)[0].expand(one.shape) for one in places
        ]
