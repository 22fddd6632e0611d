"""Reads a LoRA file: its changes by parameter, the names that mean nothing here, and its hash.

Files of kohya and ComfyUI hold alpha as a tensor. Those of PEFT do not: it stands beside them in adapter_config.json, or in
the remarks of a file that diffusers wrote, and is read from there. With rank stabilization (rs-LoRA, Kalajdzievski 2023,
arXiv 2312.03732) the factor is alpha / sqrt(r); a file that was exported from such a training without these remarks is too
weak by sqrt(r), and nothing in it can tell. The report shows rank and alpha, so that a person can; a strength of sqrt(r) is
the remedy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from wanlab.errors import ModelError
from wanlab.lora import keys
from wanlab.lora.forms import Delta, Difference, Dora, Loha, Lokr, LowRank, Product
from wanlab.weights.headers import read_header

HALF = "other tensors of this change are missing"
SHAPES = "the shapes of its tensors do not go together"
_CONFIG, _ADAPTER = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
_REMARK = "lora_adapter_metadata"  # diffusers' name of the same configuration in a file's remarks


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A LoRA file.

    `deltas`: the change of each parameter, by diffusers' name; `names`: the names in the file that make it up; `unused`: all
    other names, and why. `hash` stands for the content.
    """

    path: Path
    deltas: Mapping[str, Delta]
    names: Mapping[str, tuple[str, ...]]
    unused: Mapping[str, str]
    hash: str

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The names that mean no change of a Wan transformer."""
        return tuple(self.unused)


def read(path: str | Path) -> LoraFile:
    """Read a LoRA from a .safetensors file, or from a folder that holds one. Raises ModelError."""
    header = read_header(path)
    if header.format != "safetensors":
        raise ModelError(f"{header.path} is a {header.format.upper()} file; wanlab reads LoRAs from .safetensors files.")
    tensors: dict[str, Tensor] = {}
    digest = hashlib.blake2b(digest_size=16)
    for file in header.files:
        content = file.read_bytes()
        digest.update(content)
        tensors |= _tensors(content, file)
    beside = header.files[0].parent / _CONFIG if header.files and header.files[0].name == _ADAPTER else None
    if beside is None or not beside.exists():
        return lora_of(tensors, header.path, _remarks(header.metadata), digest.hexdigest())
    digest.update(beside.read_bytes())
    return lora_of(
        tensors, header.path, _json(beside.read_text(encoding="utf-8", errors="replace"), beside), digest.hexdigest()
    )


def lora_of(
    tensors: Mapping[str, Tensor], path: str | Path = "tensors", config: Mapping[str, Any] | None = None, content: str = ""
) -> LoraFile:
    """The changes that these tensors mean. `config` is PEFT's (r, lora_alpha, use_rslora ...). Raises ModelError."""
    strange = next((name for name, tensor in tensors.items() if not _finite(tensor)), None)
    if strange is not None:
        raise ModelError(f"{path} is damaged: {strange} holds values that are not finite. Take another version of it.")
    parsed = keys.parse(tensors)
    deltas: dict[str, Delta] = {}
    names: dict[str, tuple[str, ...]] = {}
    unused = dict(parsed.unused)
    for parameter, roles in parsed.found.items():
        given = {role: tensors[name] for role, name in roles.items()}
        changes, left = _changes(parameter, given, config or {})
        for changed, delta, used in changes:
            deltas[changed] = _sum(deltas.get(changed), delta)
            names[changed] = (*names.get(changed, ()), *(roles[role] for role in sorted(used)))
        unused |= {roles[role]: why for role, why in left.items()}
    return LoraFile(Path(path), deltas, names, dict(sorted(unused.items())), content)


def _changes(
    parameter: str, given: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[list[tuple[str, Delta, set[str]]], dict[str, str]]:
    """What the tensors of one parameter, by role, change: each with its roles; and the roles that are left, and why."""
    alpha = _alpha(parameter, given, config)
    product = _product(given, alpha)
    if product is not None and not _fits_together(given):
        return [], dict.fromkeys(given, SHAPES)
    found: list[tuple[str, Delta, set[str]]] = []
    if product is not None:
        found.append((parameter, product, given.keys() - {"diff", "up_bias"}))
        if "up_bias" in given:
            bias = Difference(given["up_bias"].float() * product.factor)
            found.append((f"{keys.module_of(parameter)}.bias", bias, {"up_bias"}))
    if "diff" in given:
        found.append((parameter, Difference(given["diff"]), {"diff"} | ({"alpha"} & given.keys())))
    used = {role for *_, roles in found for role in roles}
    return found, dict.fromkeys(given.keys() - used, HALF)


def _product(given: Mapping[str, Tensor], alpha: float | None) -> Delta | None:
    """The change that is made of products, if its tensors are complete."""
    inner: Delta
    if {"down", "up"} <= given.keys():
        inner = LowRank(given["down"], given["up"], alpha, given.get("mid"))
    elif {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= given.keys():
        one, two = (Product(given[f"hada_w{n}_a"], given[f"hada_w{n}_b"], given.get(f"hada_t{n}")) for n in (1, 2))
        inner = Loha(one, two, alpha)
    else:
        first, second = _kronecker(given, 1), _kronecker(given, 2)
        if first is None or second is None:
            return None
        inner = Lokr(first, second, alpha)
    return Dora(inner, given["dora_scale"], alpha) if "dora_scale" in given else inner


def _kronecker(given: Mapping[str, Tensor], number: int) -> Tensor | Product | None:
    whole = given.get(f"lokr_w{number}")
    b, a = given.get(f"lokr_w{number}_a"), given.get(f"lokr_w{number}_b")
    if whole is not None or b is None or a is None:
        return whole
    return Product(b, a, given.get(f"lokr_t{number}"))


def _fits_together(given: Mapping[str, Tensor]) -> bool:
    """Whether the product can be computed: tried without numbers."""
    product = _product({role: tensor.to("meta") for role, tensor in given.items()}, None)
    try:
        product = product.inner if isinstance(product, Dora) else product
        return product is not None and tuple(product.weight().shape) == product.shape
    except (RuntimeError, IndexError, ValueError):
        return False


def _sum(one: Delta | None, two: Delta) -> Delta:
    """Two changes of one parameter in one file, such as a product and a difference, or two biases."""
    return two if one is None else Difference(one.weight() + two.weight().reshape(one.shape))


def _alpha(parameter: str, given: Mapping[str, Tensor], config: Mapping[str, Any]) -> float | None:
    """alpha of a change: its tensor, or what PEFT's configuration says."""
    if "alpha" in given:
        if given["alpha"].numel() != 1:
            raise ModelError(f"alpha of {parameter} has the shape {tuple(given['alpha'].shape)}; it must be one number.")
        return float(given["alpha"])
    layer, patterns = keys.module_of(parameter), config.get("alpha_pattern")
    own = [value for end, value in (patterns if isinstance(patterns, dict) else {}).items() if f".{layer}".endswith(f".{end}")]
    alpha = own[0] if own else config.get("lora_alpha")
    if "down" not in given or not isinstance(alpha, int | float):
        return None
    return alpha * math.sqrt(given["down"].shape[0]) if config.get("use_rslora") else float(alpha)


def _tensors(content: bytes, file: Path) -> dict[str, Tensor]:
    try:
        return load(content)
    except SafetensorError as error:
        reason = str(error)
    raise ModelError(f"{file} is damaged: {reason}. Fetch it again.")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all())


def _remarks(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in a file's remarks: that of the transformer."""
    whole = _json(metadata.get(_REMARK, "{}"), Path(_REMARK))
    return {name.removeprefix("transformer."): value for name, value in whole.items() if name.startswith("transformer.")}


def _json(text: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{file} is damaged: it is no JSON of names and values. Fetch it again, or remove it.")
    return found
