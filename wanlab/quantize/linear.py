"""A Linear layer whose weight is stored in a quantized kind and unpacked for each product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from wanlab.quantize.formats import pack, unpack_parts
from wanlab.quantize.kinds import is_quantized
from wanlab.quantize.packed import Packed

_PREFIX = "packed_"


class QuantizedLinear(nn.Module):
    """x @ W.T + bias, with W stored in few bits.

    The parts of the stored weight are buffers named `packed_<part>`. They keep their number format when the module is asked
    for another one: `.to(torch.bfloat16)`, `.half()` and the like change the bias, and `.to(device)` moves all. So they can
    be moved, copied, saved and swapped like any tensor of a module.
    """

    def __init__(self, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self.kind = packed.kind
        self.out_features, self.in_features = packed.shape
        self.parts = tuple(packed.parts)
        for part, tensor in packed.parts.items():
            self.register_buffer(_PREFIX + part, tensor)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @classmethod
    def of(cls, packed: Packed, bias: Tensor | None = None) -> Self:
        """A layer around these tensors, which are not copied."""
        return cls(packed, bias)

    @property
    def packed(self) -> Packed:
        """The weight as it is stored."""
        return Packed(self.kind, (self.out_features, self.in_features), self._stored())

    @property
    def weight(self) -> Tensor:
        """The unpacked weight (out, in) in fp32, made each time it is read. It is there to be read, not to be written to."""
        return unpack_parts(self.kind, self._stored(), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the number format of x."""
        bias = self.bias if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, unpack_parts(self.kind, self._stored(), x.dtype), bias)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"

    def _stored(self) -> dict[str, Tensor]:
        return {part: self.get_buffer(_PREFIX + part) for part in self.parts}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Every change of device or number format comes through here; that of the format is not for the stored weight."""
        stored = {id(tensor) for tensor in self._stored().values()}

        def apply(tensor: Tensor) -> Tensor:
            if id(tensor) not in stored:
                return fn(tensor)
            applied = fn(tensor)
            return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)

        return super()._apply(apply, recurse)


def quantize_linears(
    module: nn.Module, kind: str, prefix: str = "", packed: Callable[[str, Tensor], Packed] = pack
) -> nn.Module:
    """Replace the Linear layers that `is_quantized` names by quantized ones, in place, and return the module.

    `prefix` goes before the names inside `module`: "blocks.3." for the fourth block of a transformer. `packed` makes what is
    stored, from a kind and a weight.
    """
    for name, linear in list(module.named_modules()):
        if isinstance(linear, nn.Linear) and is_quantized(f"{prefix}{name}.weight", tuple(linear.weight.shape), kind):
            module.set_submodule(name, QuantizedLinear(packed(kind, linear.weight), linear.bias))
    return module
