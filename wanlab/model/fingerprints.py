"""Hashes of files of weights: who a model is. Large files are known by their size and by samples all over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from wanlab.weights.json_files import read_json

_WHOLE = 64 * 2**20  # files up to this size are hashed whole
_SAMPLES, _SAMPLE = 256, 64 * 2**10


def parts_hash(parts: Mapping[str, Path], wanted: tuple[str, ...]) -> str:
    """A hash of these parts, folders or files, by what is in them."""
    total = hashlib.blake2b(digest_size=16)
    for part in wanted:
        path = parts.get(part)
        if path is None:
            continue
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix == ".json" and file.name == "config.json":  # without the version and the path it was saved from
                content = {key: value for key, value in read_json(file).items() if not key.startswith("_")}
                total.update(json.dumps(content, sort_keys=True).encode())
            elif file.suffix in (".json", ".model", ".safetensors", ".txt", ".gguf"):
                if path.is_dir():  # of a single file the content counts, not its name
                    total.update(file.name.encode())
                _update(total, file)
    return total.hexdigest()


def file_hash(file: Path) -> str:
    """A hash of a file."""
    total = hashlib.blake2b(digest_size=16)
    _update(total, file)
    return total.hexdigest()


def _update(total: hashlib.blake2b, file: Path) -> None:
    """Add a file: whole if it is small, else its size and samples all over it (the first one holds the header)."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if size <= _WHOLE:
            total.update(content.read())
            return
        total.update(str(size).encode())
        for index in range(_SAMPLES):
            content.seek(index * (size - _SAMPLE) // (_SAMPLES - 1))
            total.update(content.read(_SAMPLE))
