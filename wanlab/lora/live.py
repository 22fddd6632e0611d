"""LoRAs beside the weights: what a layer computes, plus the change's share of it, at a strength that can be set while running.

    y = W x + b + s (alpha / r) B (A x)

B A is never multiplied out: for a layer of 5120 x 5120 and rank 32 that is 1.3 % more arithmetic. Every form gets the
cheapest equal one: a LoHa of rank r is a product of rank r^2 (B1 and B2 row by row multiplied, A1 and A2 column by column), a
LoKr two small products. What has no such form (a difference, a DoRA) is kept as a whole matrix. Parameters that are no matrix
of a linear layer (norms, biases, modulation, the patch embedding) are read as P + s D each time they are used.

**The strength is a tensor**, one for each LoRA, which all layers read and `set_step` fills: a compiled graph reads another
value, and is not compiled again. It is no buffer of any layer: what swaps blocks moves a block's parameters and buffers, each
to its own place, and a number that all blocks share must not be moved by any. The matrices are buffers of the layer they
belong to, and so are swapped along.

**Weights are not written to.** A layer that has changes becomes an object of another class, one that adds to what its class
computes, and nothing is wrapped: names of parameters, `isinstance`, `weight`, `in_features` and whatever was known of the
layer stay as they are. So blocks that are prefetched for the next step, or read again from the disk, can hold no stale sum,
and `remove` leaves the very bits. All layers of one kind share one class: a class for each would mean a graph for each.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wanlab.errors import SettingsError
from wanlab.lora import keys
from wanlab.lora.forms import Delta, Dora, Loha, Lokr, LowRank, fits

if TYPE_CHECKING:
    from wanlab.lora.apply import LoraSet


class Strength:
    """The strength of a LoRA, which all its layers read: `value` is a float32 tensor without dimensions."""

    def __init__(self, device: torch.device | str) -> None:
        with torch.inference_mode(False):  # whoever fills it may be inside or outside of that mode
            self.value = torch.zeros((), dtype=torch.float32, device=device)


class LowRankPath(nn.Module):
    """y + s B (A x); alpha / r is within B."""

    down: Tensor
    up: Tensor

    def __init__(self, strength: Strength, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("down", down, persistent=False)  # (r, in)
        self.register_buffer("up", up, persistent=False)  # (out, r)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y with the change's share, from the layer's input x (..., in) and its output y (..., out)."""
        inner = functional.linear(x.to(self.down.dtype), self.down) * self.strength.value
        # Added by the product itself: y is read once, and rounded once.
        added = torch.addmm(y.flatten(0, -2), inner.flatten(0, -2).to(y.dtype), self.up.t().to(y.dtype))
        return added.view(y.shape)


class KroneckerPath(nn.Module):
    """y + s (W1 (x) W2) x, as two products over the halves of x; alpha / r is within W2."""

    one: Tensor
    two: Tensor

    def __init__(self, strength: Strength, one: Tensor, two: Tensor) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("one", one, persistent=False)  # (out1, in1)
        self.register_buffer("two", two, persistent=False)  # (out2, in2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y with the change's share, from the layer's input x (..., in1 in2) and its output y (..., out1 out2)."""
        halves = x.to(self.one.dtype).unflatten(-1, (self.one.shape[1], self.two.shape[1]))
        inner = functional.linear(halves, self.two).transpose(-1, -2)  # (..., out2, in1)
        outer = functional.linear(inner, self.one).transpose(-1, -2)  # (..., out1, out2)
        return y + (outer.flatten(-2) * self.strength.value).to(y.dtype)


class DensePath(nn.Module):
    """y + s D x."""

    change: Tensor

    def __init__(self, strength: Strength, change: Tensor) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("change", change, persistent=False)  # (out, in)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y with the change's share, from the layer's input x (..., in) and its output y (..., out)."""
        return y + (functional.linear(x.to(self.change.dtype), self.change) * self.strength.value).to(y.dtype)


class Change(nn.Module):
    """A change D of a parameter that is read as P + s D, in float32 and of the parameter's shape."""

    def __init__(self, strength: Strength, change: Tensor) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("change", change, persistent=False)


class LoraLinear(nn.Module):
    """What a linear layer becomes while LoRAs are attached, before its own class in the order of inheritance."""

    lora_paths: nn.ModuleList

    def forward(self, x: Tensor) -> Tensor:
        """What the layer computes, with the shares of all LoRAs."""
        y = super().forward(x)
        for path in self.lora_paths:
            y = path(x, y)
        return y


class Live:
    """LoRAs on a transformer. `strengths` are their numbers now: those of step 0 until `set_step` is called."""

    def __init__(self, loras: LoraSet, transformer: Any, device: torch.device | str | None = None) -> None:
        self.loras = loras
        self.device = torch.device(device or transformer.patch_embedding.weight.device)
        self._strengths = [Strength(self.device) for _ in loras.loras]
        self._changed: list[tuple[nn.Module, type]] = []
        try:
            with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode could not be moved outside of it
                self._attach(transformer)
        except BaseException:
            self.remove()
            raise
        self.set_step(0)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strength of each LoRA now; NaN for those that are merged."""
        pairs = zip(self.loras.loras, self._strengths, strict=True)
        return tuple(float("nan") if lora.merge else float(strength.value) for lora, strength in pairs)

    def set_step(self, step: int, factor: float = 1.0) -> None:
        """Give every LoRA its strength on this step, times a factor."""
        for lora, strength in zip(self.loras.loras, self._strengths, strict=True):
            if not lora.merge:
                strength.value.fill_(lora.at(step) * factor)

    def to(self, device: torch.device | str) -> None:
        """Put the strengths where the blocks compute. The matrices move with their layers."""
        self.device = torch.device(device)
        for strength in self._strengths:
            with torch.inference_mode(False):
                strength.value = strength.value.to(self.device)

    def remove(self) -> None:
        """Let the transformer be what it was before."""
        while self._changed:
            module, kind = self._changed.pop()
            module.__class__ = kind
            for name in ("lora_paths", "lora_changes"):
                module._modules.pop(name, None)

    def _attach(self, transformer: Any) -> None:
        found: dict[str, dict[str, list[tuple[Strength, Delta]]]] = defaultdict(lambda: defaultdict(list))
        for index, parameter, delta in self.loras.changes(live=True):
            found[keys.module_of(parameter)][parameter.rpartition(".")[2]].append((self._strengths[index], delta))
        for name, parameters in found.items():
            module = _module(transformer, name)
            fitting = {
                leaf: kept
                for leaf, changes in parameters.items()
                if (shape := _shape(module, leaf)) and (kept := [one for one in changes if fits(one[1].shape, shape)])
            }
            if module is not None and fitting:
                self._change(module, fitting, transformer.patch_embedding.weight.dtype)

    def _change(self, module: nn.Module, changes: dict[str, list[tuple[Strength, Delta]]], dtype: torch.dtype) -> None:
        """Give a module its changes, by the name of its parameter."""
        if "lora_paths" in module._modules or "lora_changes" in module._modules:
            raise SettingsError("loras are attached to this transformer already; remove them before others are attached.")
        kind, linear = type(module), hasattr(module, "in_features") and "weight" in changes
        read = tuple(sorted(leaf for leaf in changes if not (linear and leaf == "weight")))
        made = {leaf: nn.ModuleList(_made(module, leaf, changes[leaf])) for leaf in read}
        paths = [path_of(delta, strength, module, dtype) for strength, delta in changes["weight"]] if linear else []
        module.__class__ = _kind_with(kind, read, linear)  # type: ignore[arg-type]
        self._changed.append((module, kind))
        if linear:
            module.add_module("lora_paths", nn.ModuleList(paths))
        if read:
            module.add_module("lora_changes", nn.ModuleDict(made))


def path_of(delta: Delta, strength: Strength, module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """What adds a change to the output of a linear layer.

    In the format of the layer's weights, or in `dtype` if they are stored in few bits; on their device.
    """
    weight = module._parameters.get("weight")
    if weight is not None and weight.is_floating_point() and weight.itemsize > 1:
        dtype = weight.dtype
    place = _place(module)

    def ready(tensor: Tensor) -> Tensor:
        return tensor.to(place, dtype).contiguous().clone()

    if isinstance(delta, LowRank) and delta.mid is None:
        up = delta.up.to(place, torch.float32).flatten(1) * delta.factor
        return LowRankPath(strength, ready(delta.down.flatten(1)), ready(up))
    if isinstance(delta, Loha) and delta.one.core is None and _is_smaller(delta):
        up, down = _row_by_row(delta)
        return LowRankPath(strength, ready(down), ready(up))
    if isinstance(delta, Lokr):
        one, two = delta.parts()
        if one.ndim == two.ndim == 2:
            return KroneckerPath(strength, ready(one), ready(two))
    return DensePath(strength, ready(_dense(delta, module, "weight").reshape(delta.shape)))


def _dense(delta: Delta, module: nn.Module, leaf: str) -> Tensor:
    """The whole change of a parameter, where the module is; for a DoRA the weight is unpacked, if it is stored in few bits."""
    place = _place(module)
    if not isinstance(delta, Dora):
        return delta.weight(torch.empty(0, device=place))
    base = torch.as_tensor(getattr(module, leaf))
    if base.is_meta:
        raise SettingsError(
            "a LoRA is a DoRA, which needs the weights when it is attached, and they are on the disk; take merge."
        )
    return delta.weight(base.float())


def _is_smaller(delta: Loha) -> bool:
    return delta.one.rank * delta.two.rank * sum(delta.shape) < delta.shape[0] * delta.shape[1]


def _row_by_row(delta: Loha) -> tuple[Tensor, Tensor]:
    """B (out, r1 r2) and A (r1 r2, in) with B A = (B1 A1) * (B2 A2)."""
    b1, a1, b2, a2 = (tensor.float() for product in (delta.one, delta.two) for tensor in (product.b, product.a))
    up = (b1[:, :, None] * b2[:, None, :]).flatten(1) * delta.factor
    return up, (a1[:, None, :] * a2[None, :, :]).flatten(0, 1)


def _made(module: nn.Module, leaf: str, changes: Sequence[tuple[Strength, Delta]]) -> Iterator[Change]:
    shape = _stored(module, leaf).shape
    for strength, delta in changes:
        yield Change(strength, _dense(delta, module, leaf).reshape(shape))


def _module(transformer: Any, name: str) -> nn.Module | None:
    try:
        return transformer.get_submodule(name)
    except AttributeError:
        return None  # the report has told it


def _shape(module: nn.Module | None, leaf: str) -> tuple[int, ...] | None:
    if module is None:
        return None
    if leaf == "weight" and hasattr(module, "in_features"):  # whose weight may be stored in another shape
        return (int(module.out_features), int(module.in_features))  # type: ignore[arg-type]
    stored = module._parameters.get(leaf, module._buffers.get(leaf))
    return None if stored is None else tuple(stored.shape)


def _place(module: nn.Module) -> torch.device:
    """Where a module's tensors are; the CPU for those that are not read yet."""
    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None or first.is_meta else first.device


def _stored(module: nn.Module, leaf: str) -> Tensor:
    found = module._parameters.get(leaf)
    return module._buffers[leaf] if found is None else found  # type: ignore[return-value]


@cache
def _kind_with(kind: type, read: tuple[str, ...], linear: bool) -> type:
    """A module's class with changes: of parameters that are read with them, of the weight of a linear layer."""
    members: dict[str, Any] = {leaf: _reading(leaf) for leaf in read}
    return type(kind.__name__, (LoraLinear, kind) if linear else (kind,), members)


def _reading(leaf: str) -> property:
    def read(module: Any) -> Tensor:
        stored = _stored(module, leaf)
        total = stored.float()
        for change in module.lora_changes[leaf]:
            total = total + change.strength.value * change.change
        return total.to(stored.dtype)

    return property(read)
