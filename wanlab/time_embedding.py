"""The embedded timestep of a Wan transformer, from four small tensors of its files: known without loading the model. No torch.

Wan tells its blocks the time by e(t) = W2 silu(W1 s(t) + b1) + b2, where s(t) are cosines and sines of t at falling
frequencies. It depends on nothing but t, so what a cache decides by it (TeaCache) can be known before the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wanlab.errors import ModelError

_PREFIX = "condition_embedder.time_embedder."
_NAMES = ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")
_LONGEST_HEADER = 100 * 2**20  # of a safetensors file, as the format has it


@dataclass(frozen=True, eq=False)
class TimeEmbedding:
    """The layers of e(t), float32: `inner` (dim, frequencies) and `outer` (dim, dim), each with its bias (dim,)."""

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray

    def embed(self, timesteps: np.ndarray) -> np.ndarray:
        """e(t) of timesteps (n,) in 0..1000: (n, dim) float32."""
        half = self.inner.shape[1] // 2
        # In float32 as diffusers has them: at t near 1000 their last bits are seen in the sines.
        frequencies = np.exp(np.float32(-math.log(10000)) * np.arange(half, dtype=np.float32) / np.float32(half))
        angles = np.asarray(timesteps, dtype=np.float32)[:, None] * frequencies
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        hidden = waves @ self.inner.T + self.inner_bias
        return (hidden / (1 + np.exp(-hidden))) @ self.outer.T + self.outer_bias

    def changes(self, timesteps: np.ndarray) -> np.ndarray:
        """From each timestep to the next, mean |e' - e| / mean |e|: (n - 1,) float64."""
        embedded = self.embed(timesteps).astype(np.float64)
        return np.abs(np.diff(embedded, axis=0)).mean(1) / np.abs(embedded[:-1]).mean(1)


def read_time_embedding(folder: Path) -> TimeEmbedding:
    """The time embedding of the checkpoint in this folder; of its transformer's files only a few MB are read.

    Raises ModelError if it is not there, or in a number format that numpy cannot hold.
    """
    found: dict[str, np.ndarray] = {}
    for file in sorted((folder / "transformer").glob("*.safetensors")):
        found |= _read(file)
    missing = [name for name in _NAMES if name not in found]
    if missing:
        raise ModelError(f"{folder / 'transformer'} has no {_PREFIX}{missing[0]}; it is not the transformer of a Wan model.")
    return TimeEmbedding(*(found[name] for name in _NAMES))


def _read(file: Path) -> dict[str, np.ndarray]:
    """Those of the four tensors that this file of a sharded or whole transformer holds."""
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(content.read(length))
            found = {}
            for name, entry in _entries(header):
                first, end = entry["data_offsets"]
                content.seek(8 + length + first)
                found[name] = _floats(content.read(end - first), entry["dtype"]).reshape(entry["shape"])
            return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise ModelError(f"{file} cannot be read: {reason}.")


def _entries(header: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _NAMES:
        if _PREFIX + name in header:
            yield name, header[_PREFIX + name]


def _floats(content: bytes, dtype: str) -> np.ndarray:
    """Numbers of a safetensors file as float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype not in ("F16", "F32", "F64"):
        raise ValueError(f"numbers of the type {dtype}")
    return np.frombuffer(content, f"<f{int(dtype[1:]) // 8}").astype(np.float32)
