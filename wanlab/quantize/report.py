"""What storing weights in fewer bits does to them, layer by layer, as numbers and as a drawing.

The error of a layer is |W - Q| / |W| (Frobenius norms), where Q is what the stored weight unpacks to. For weights that are
spread like a normal distribution it is about 2.6 % in e4m3 and 5.3 % in e5m2 as long as they lie in the normal range of the
format, 0.8 % in int8 with a scale a row. Plain e4m3 does worse where the typical weight is below 2^-6 = 0.0156, and the
drawing shows why.

`compare_kinds` is the demonstration: several kinds on the same weights, with nothing changed in the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wanlab.document import Shown
from wanlab.errors import ModelError
from wanlab.quantize.formats import pack, unpack
from wanlab.quantize.kinds import divides, is_quantized
from wanlab.quantize.linear import QuantizedLinear
from wanlab.quantize.packed import Packed

if TYPE_CHECKING:
    import pandas

    from wanlab.show.drawing import Drawing

_FLOATS = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True)
class Layer:
    """One weight in one kind.

    `error` is relative to the weight. `max_weight` and `typical_weight` (root of the mean square) are of W, `max_stored` and
    `typical_stored` of the numbers that are stored for it, W / scale. `below_normal` is the share of weights that are not 0
    and lie below the smallest normal number, `to_zero` that of those that became 0, `saturated` that of those beyond the
    largest number. What is not known, or has no meaning for the kind, is NaN.
    """

    layer: str
    kind: str
    error: float
    max_weight: float
    typical_weight: float
    max_stored: float
    typical_stored: float
    below_normal: float
    to_zero: float
    saturated: float
    weights: int
    bytes: int


@dataclass(frozen=True)
class Report(Shown):
    """Errors and sizes of weights in one kind, or in several: a row a layer and kind."""

    layers: tuple[Layer, ...]

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(layer.kind for layer in self.layers))
        return f"Report({len(self.layers)} layers in {kinds or 'no kind'}, {self.bytes / 2**20:.2f} MiB)"

    @property
    def bytes(self) -> int:
        """Bytes of all stored weights; of every kind, if there are several."""
        return sum(layer.bytes for layer in self.layers)

    def table(self) -> pandas.DataFrame:
        """A row a layer and kind, with the fields of `Layer` as columns."""
        import pandas

        return pandas.DataFrame([astuple(layer) for layer in self.layers], columns=[field.name for field in fields(Layer)])

    def summary(self) -> pandas.DataFrame:
        """A row a kind: the error of all weights together, the worst layer with its error, shares of all weights, and bytes."""
        import pandas

        return pandas.DataFrame([_summed(kind, list(self._of(kind))) for kind in dict.fromkeys(x.kind for x in self.layers)])

    def show(self) -> Drawing:
        """Errors by block, and beneath them where the stored numbers lie in the range of the format."""
        from wanlab.quantize import drawing

        return drawing.draw(self.table())

    def _of(self, kind: str) -> Iterator[Layer]:
        return (layer for layer in self.layers if layer.kind == kind)

    def _repr_html_(self) -> str:
        from wanlab.show.drawing import svg

        return svg(self.show()) + self.summary().to_html(index=False, float_format="{:.4g}".format)


def quantization_report(transformer: nn.Module, reference: Callable[[str], Tensor | None] | None = None) -> Report:
    """What the quantized layers of this transformer have lost.

    `reference` gives the weight before it was quantized, by diffusers name ("blocks.0.attn1.to_q.weight"), say from the
    checkpoint, or None. Without it sizes and ranges are known, and errors are NaN. Layers of torchao and bitsandbytes are
    not looked into.
    """
    found = ((name, layer) for name, layer in transformer.named_modules() if isinstance(layer, QuantizedLinear))
    return Report(tuple(_measure(name, layer.packed, reference and reference(f"{name}.weight")) for name, layer in found))


def stored_report(stored: Iterable[tuple[str, Packed]]) -> Report:
    """Sizes and ranges of weights as a file has them, by diffusers name; errors are not known, so NaN."""
    return Report(tuple(_measure(name.removesuffix(".weight"), packed, None) for name, packed in stored))


def compare_kinds(source: nn.Module | Mapping[str, Tensor], kinds: Sequence[str]) -> Report:
    """Several kinds on the same weights: those of a transformer that would be quantized, or any by name. Changes nothing.

    Raises ModelError if there are none, SettingsError for the kinds of torchao and bitsandbytes.
    """
    weights = source if isinstance(source, Mapping) else _quantizable(source)
    if not weights:
        raise ModelError("this transformer has no weights to compare kinds on: they are quantized already. Load it without.")
    return Report(tuple(layer for kind in kinds for layer in _packed_and_measured(kind, weights.items())))


def _quantizable(transformer: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in transformer.named_parameters() if is_quantized(name, tuple(weight.shape))}


def _packed_and_measured(kind: str, weights: Iterable[tuple[str, Tensor]]) -> Iterator[Layer]:
    for name, weight in weights:
        if divides(kind, weight.shape[1]):  # what does not stays in the base precision
            yield _measure(name.removesuffix(".weight"), pack(kind, weight), weight)


@torch.no_grad()
def _measure(name: str, packed: Packed, reference: Tensor | None) -> Layer:
    """The row of one weight; without a reference W is what is stored, and errors are unknown."""
    unpacked = unpack(packed, torch.float32)
    weight = unpacked if reference is None else reference.detach().to(unpacked.device, torch.float32)
    error = to_zero = below = saturated = math.nan
    if reference is not None:
        error = _ratio((weight - unpacked).norm(), weight.norm())
        to_zero = _share((unpacked == 0) & (weight != 0))
    scaled, dtype = weight, packed.parts["weight"].dtype if "weight" in packed.parts else None
    if "scale" in packed.parts:
        scaled = weight / packed.parts["scale"].view(-1, 1)
    size = scaled.abs()
    if dtype in _FLOATS and reference is not None:
        limits = torch.finfo(dtype)
        below = _share((size < limits.smallest_normal) & (weight != 0))
        half_step = 2.0 ** math.floor(math.log2(limits.max)) * limits.eps / 2  # up to here rounding alone ends at the largest
        saturated = _share(size > limits.max + half_step)
    return Layer(
        layer=name,
        kind=packed.kind,
        error=error,
        max_weight=float(weight.abs().max()),
        typical_weight=float(weight.square().mean().sqrt()),
        max_stored=float(size.max()) if "weight" in packed.parts else math.nan,
        typical_stored=float(size.square().mean().sqrt()) if "weight" in packed.parts else math.nan,
        below_normal=below,
        to_zero=to_zero,
        saturated=saturated,
        weights=weight.numel(),
        bytes=packed.nbytes,
    )


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def _ratio(part: Tensor, whole: Tensor) -> float:
    """0 for a weight of zeros, which every kind stores exactly."""
    return float(part / whole) if float(whole) else float(part)


def _summed(kind: str, layers: Sequence[Layer]) -> dict[str, str | float | int]:
    count = sum(layer.weights for layer in layers)

    def share(name: str) -> float:
        return sum(getattr(layer, name) * layer.weights for layer in layers) / count

    energy = sum(layer.typical_weight**2 * layer.weights for layer in layers)
    lost = sum((layer.error * layer.typical_weight) ** 2 * layer.weights for layer in layers)
    worst = max(layers, key=lambda layer: (not math.isnan(layer.error), layer.error))
    return {
        "kind": kind,
        "error": math.sqrt(lost / energy) if energy else 0.0,
        "worst_layer": worst.layer,
        "worst_error": worst.error,
        **{name: share(name) for name in ("below_normal", "to_zero", "saturated")},
        "bytes": sum(layer.bytes for layer in layers),
        "bits_per_weight": 8 * sum(layer.bytes for layer in layers) / count,
    }
