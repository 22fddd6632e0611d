"""Weights into a quantized kind and back; and the kinds of torchao and bitsandbytes, through these libraries.

Nothing here computes in 8 bits: a packed weight is unpacked to the number format of the activations for each product, and
thrown away after it. That saves memory and no time, works on every device, and its error is that of the weights alone. Only
torchao_fp8dq and bnb_int8 multiply in 8 bits.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from wanlab.errors import ModelError, SettingsError
from wanlab.quantize import ggml
from wanlab.quantize.kinds import KINDS, Kind, divides, is_quantized, kind_of
from wanlab.quantize.packed import Packed

_ROWS = 128  # that are unpacked at a time on a CPU
_FLOATS = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def pack(kind: str, weight: Tensor) -> Packed:
    """The weight (out, in), of any float type, in this kind, on the same device.

    Too large numbers become the largest one of plain fp8: 448 in e4m3fn, 57344 in e5m2 (the report counts them). Raises
    SettingsError for a kind that wanlab does not pack, ModelError for a weight with NaN or infinity.
    """
    found, (rows, columns) = kind_of(kind), weight.shape
    if not found.packed:
        raise SettingsError(f"quantization is {kind}, which {found.group} stores in its own way; see apply_library.")
    if kind not in KINDS:
        raise SettingsError(
            f"quantization is {kind}, which wanlab reads from files and does not make; give gguf_q8_0 or the like."
        )
    weight = weight.detach().float()
    if not bool(weight.isfinite().all()):
        raise ModelError("a weight holds NaN or infinity and cannot be quantized; the checkpoint is damaged.")
    if found.group == "gguf":
        if not divides(kind, columns):
            raise SettingsError(f"quantization is {kind}; a row of {columns} does not divide into its blocks of 32.")
        return Packed(kind, (rows, columns), {"blocks": ggml.pack_rows(kind.removeprefix("gguf_"), weight)})
    if found.group == "plain":
        return Packed(kind, (rows, columns), {"weight": _cast(weight, _FLOATS[kind.split("_")[1]])})
    scale = _scale(weight, found)
    stored = torch.int8 if kind == "int8" else _FLOATS[kind.split("_")[1]]
    return Packed(kind, (rows, columns), {"weight": _cast(weight / scale, stored), "scale": scale})


def unpack(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The weight (out, in) in `dtype`. Scales are multiplied in fp32 and the result is rounded to `dtype` once."""
    return unpack_parts(packed.kind, dict(packed.parts), dtype)


def unpack_parts(kind: str, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """`unpack` for the parts alone.

    On a CPU a few rows at a time: torch makes whole float32 copies for a product of two formats there, five times the result.
    In pieces these stay in the caches, which takes a half to a quarter of the time (fp8, int8, GGUF) and gives the same bits.
    """
    stored = parts["blocks" if "blocks" in parts else "weight"]
    real = type(stored) is Tensor  # a dry run asks what a GPU would take
    if stored.device.type != "cpu" or len(stored) <= _ROWS or torch.compiler.is_compiling() or not real:
        return _unpacked(kind, parts, dtype)
    whole: Tensor | None = None
    for first in range(0, len(stored), _ROWS):
        rows = slice(first, first + _ROWS)
        piece = _unpacked(kind, {name: part[rows] if part.ndim else part for name, part in parts.items()}, dtype)
        whole = piece.new_empty(len(stored), piece.shape[1]) if whole is None else whole
        whole[rows] = piece
    assert whole is not None
    return whole


def _unpacked(kind: str, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    if "blocks" in parts:
        return ggml.unpack_rows(kind.removeprefix("gguf_"), parts["blocks"], dtype)
    weight = parts["weight"].to(dtype)  # exact: bf16 and fp16 hold all numbers of 8 bits
    if "scale" not in parts:
        return weight
    return weight.mul_(parts["scale"].view(-1, 1))  # two dimensions of fp32 make the product one in fp32, with no copy on a GPU


def _cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to nearest and saturated; torch's own cast to e5m2 makes infinity of what is too large."""
    if dtype == torch.int8:
        return weight.round().clamp(-127, 127).to(dtype)
    largest = torch.finfo(dtype).max
    return weight.clamp(-largest, largest).to(dtype)


def _scale(weight: Tensor, kind: Kind) -> Tensor:
    """What the numbers are multiplied with: the largest one of a tensor, or of each row, is the largest that can be stored."""
    largest = 127.0 if kind.name == "int8" else torch.finfo(_FLOATS[kind.name.split("_")[1]]).max
    reach = weight.abs().amax(1, keepdim=True) if kind.per == "row" else weight.abs().amax()
    return (reach / largest).clamp(min=torch.finfo(torch.float32).tiny)  # zeros are divided by it too


def unavailable(kind: str, device: torch.device | str = "cuda") -> str:
    """Why this kind does not work here and on this device, as the end of a sentence; "" if it does."""
    package, device = kind_of(kind).package, torch.device(device)
    if package and find_spec(package) is None:
        return f"needs the package {package}"
    capability = {"torchao_fp8dq": (8, 9), "torchao_int4": (8, 0)}.get(kind)
    if capability is not None:
        wanted = f"needs a CUDA GPU of compute capability {capability[0]}.{capability[1]} or higher"
        if device.type != "cuda":
            return f"{wanted}, not {device.type}"
        if not torch.cuda.is_available():
            return f"{wanted}, and torch sees no CUDA GPU"
        if (has := torch.cuda.get_device_capability(device)) < capability:
            return f"{wanted}; this one has {has[0]}.{has[1]}"
    if kind.startswith("fp8") and device.type == "mps":  # Apple's GPUs had no such numbers when this was written
        try:
            torch.ones(1, device=device).to(_FLOATS[kind.split("_")[1]]).float()
        except (RuntimeError, TypeError) as error:
            return f"needs numbers of fp8, which {device.type} has not here ({str(error).splitlines()[0]})"
    return ""


def apply_library(kind: str, module: nn.Module, device: torch.device | str, prefix: str = "") -> None:
    """Quantize the Linear layers that `is_quantized` names, in place, through torchao or bitsandbytes.

    One after the other is moved to `device` for it, and stays there. `prefix` goes before the names inside `module`. Their
    weights are then tensors of the library's own types. Raises SettingsError if the kind does not work here.
    """
    reason = unavailable(kind, device)
    if reason:
        raise SettingsError(f"quantization is {kind}, which {reason}.")
    chosen = {
        name: linear
        for name, linear in module.named_modules()
        if isinstance(linear, nn.Linear) and is_quantized(f"{prefix}{name}.weight", tuple(linear.weight.shape), kind)
    }
    for name, linear in chosen.items():
        linear.to(device)
        if kind_of(kind).group == "torchao":
            _through_torchao(kind, linear)
        else:
            module.set_submodule(name, _through_bitsandbytes(kind, linear, device))


def _through_torchao(kind: str, linear: nn.Linear) -> None:
    from torchao import quantization
    from torchao.quantization.quantize_.workflows import Int4PackingFormat

    if kind == "torchao_int4" and linear.weight.dtype != torch.bfloat16:
        raise SettingsError(f"quantization is torchao_int4, which needs base_precision bf16; it is {linear.weight.dtype}.")
    config: Any
    if kind == "torchao_int8":
        config = quantization.Int8WeightOnlyConfig()
    elif kind == "torchao_fp8":
        config = quantization.Float8WeightOnlyConfig()
    elif kind == "torchao_fp8dq":
        config = quantization.Float8DynamicActivationFloat8WeightConfig()
    else:  # the format of torch's own kernel; the default one needs another package
        config = quantization.Int4WeightOnlyConfig(int4_packing_format=Int4PackingFormat.TILE_PACKED_TO_4D)
    quantization.quantize_(linear, config)


def _through_bitsandbytes(kind: str, linear: nn.Linear, device: torch.device | str) -> nn.Linear:
    """A layer of bitsandbytes with this one's weights, with the options that diffusers has by default."""
    import bitsandbytes

    sizes, biased, new = (linear.in_features, linear.out_features), linear.bias is not None, bitsandbytes.nn
    if kind == "bnb_nf4":
        made = new.Linear4bit(*sizes, bias=biased, compute_dtype=linear.weight.dtype, quant_type="nf4", device="meta")
        made.weight = new.Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4", compress_statistics=False)
    else:
        made = new.Linear8bitLt(*sizes, bias=biased, has_fp16_weights=False, threshold=6.0, device="meta")
        made.weight = new.Int8Params(linear.weight.detach(), requires_grad=False, has_fp16_weights=False)
    made.bias = linear.bias
    return made.to(device)  # this is when the library quantizes
