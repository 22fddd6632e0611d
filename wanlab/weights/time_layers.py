"""The four small tensors of a transformer that embed its timesteps, read without the rest. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wanlab.errors import ModelError
from wanlab.time_embedding import TimeEmbedding
from wanlab.weights.entries import TensorEntry
from wanlab.weights.headers import read_header
from wanlab.weights.layouts import translate

_PREFIX = "condition_embedder.time_embedder."
_NAMES = ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")


def read_time_embedding(path: Path) -> TimeEmbedding:
    """The time embedding of the transformer in this file or folder, of which only a few MB are read.

    Raises ModelError if it is not there, or in a number format that numpy cannot hold.
    """
    header = read_header(path)
    names = translate(header).names
    missing = [name for name in _NAMES if _PREFIX + name not in names]
    if missing:
        raise ModelError(f"{path} has no {_PREFIX}{missing[0]}; it is not the transformer of a Wan model.")
    return TimeEmbedding(*(_floats(header.tensors[names[_PREFIX + name]]) for name in _NAMES))


def _floats(entry: TensorEntry) -> np.ndarray:
    """The numbers of a tensor as float32."""
    reason = ""
    try:
        with entry.file.open("rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.nbytes)
        if entry.dtype == "BF16":  # the upper half of a float32
            numbers = (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry.dtype in ("F16", "F32", "F64"):
            numbers = np.frombuffer(content, f"<f{int(entry.dtype[1:]) // 8}").astype(np.float32)
        else:
            raise ValueError(f"numbers of the type {entry.dtype}")
        return numbers.reshape(entry.shape)
    except (OSError, ValueError) as error:
        reason = str(error)
    raise ModelError(f"{entry.file} cannot be read: {reason}.")
