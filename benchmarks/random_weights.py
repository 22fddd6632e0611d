"""Checkpoints of the true size with random weights: speed and memory do not depend on the values.

Written shard by shard from one buffer of random numbers, so that a model larger than the memory can be written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_BUFFER = 2**25  # random numbers that are used again and again


def shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The parameters of a transformer with this configuration."""
    with init_empty_weights():
        model = WanTransformer3DModel.from_config(dict(config))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def write_transformer(
    folder: Path, config: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16, shard_gib: float = 4.0
) -> int:
    """Write a transformer of this configuration into `folder`, in diffusers' layout; returns its bytes.

    Norms are one, biases zero, matrices normal with a deviation that keeps activations about the same size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": "WanTransformer3DModel"}))
    shapes = shapes_of(config)
    size = torch.empty((), dtype=dtype).element_size()
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * size
        if shards[-1] and filled + nbytes > shard_gib * 2**30:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += nbytes
    normal = torch.randn(_BUFFER, generator=torch.Generator().manual_seed(0))
    index = {}
    for number, names in enumerate(shards, 1):
        file = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, {name: shapes[name] for name in names}, normal, dtype)
        index |= dict.fromkeys(names, file)
    total = sum(math.prod(shape) for shape in shapes.values()) * size
    told = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(told))
    return total


def _write_shard(file: Path, shapes: Mapping[str, tuple[int, ...]], normal: torch.Tensor, dtype: torch.dtype) -> None:
    """A safetensors file of these tensors, written piece by piece."""
    header, offset, size = {}, 0, torch.empty((), dtype=dtype).element_size()
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * size
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as content:
        content.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            left = math.prod(shape)
            values = (normal * _deviation(name, shape)).to(dtype) if len(shape) > 1 else _vector(name, left, dtype)
            piece = values.view(torch.uint8).numpy()
            while left:
                count = min(left, len(values))
                content.write(piece[: count * size].data)
                left -= count


def _deviation(name: str, shape: tuple[int, ...]) -> float:
    """Of a matrix: one over the root of what it sums over; of a table of modulation: small."""
    return 0.05 if name.endswith("scale_shift_table") else math.prod(shape[1:]) ** -0.5


def _vector(name: str, length: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(length, dtype=dtype) if name.endswith("weight") else torch.zeros(length, dtype=dtype)
