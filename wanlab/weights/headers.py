"""The headers of .safetensors and .gguf files: names, formats, shapes and places of tensors, without reading one. No torch.

A safetensors file is a number of 8 bytes (the header's length), the header as JSON, and the tensors' bytes
(huggingface/safetensors, "Format"). Everything that the header claims is checked against the file here, because what
reads by these places afterwards trusts them: a file that was cut off, or made to do harm, is one sentence. Pickles are
refused: reading one can run any program.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError
from wanlab.weights.entries import SIZES, Header, TensorEntry
from wanlab.weights.gguf_header import read_gguf

_MOST_HEADER = 100 * 10**6  # bytes; safetensors' own limit
_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")
_PICKLE_ENDINGS = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_PICKLE_STARTS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
_USUAL = ("diffusion_pytorch_model", "model")  # what diffusers and transformers call their weights


def read_header(path: str | Path) -> Header:
    """The tensors of a .safetensors or .gguf file, or of a folder with one checkpoint (in shards or not).

    A file that is one of several shards stands for all of them. Raises ModelError.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    start = _start(path)
    _refuse_pickle(path, start)
    if start.startswith(b"GGUF"):
        return read_gguf(path)
    shard = _SHARD.fullmatch(path.name)
    if shard:
        return _merged(path, _shards(path.parent, shard["stem"], int(shard["total"])))
    tensors, metadata = _read_safetensors(path)
    return Header("safetensors", tensors, metadata, path)


def _read_folder(folder: Path) -> Header:
    if (folder / "model_index.json").exists():
        raise ModelError(f"{folder} is a whole pipeline; name one part of it, such as {folder / 'transformer'}.")
    files = _listed(folder)
    indices = _preferred([name for name in files if name.endswith(_INDEX)], _INDEX)
    if len(indices) == 1:
        return _read_index(folder / indices[0])
    weights = [name for name in files if name.endswith((".safetensors", ".gguf"))]
    sets = {(shard["stem"], int(shard["total"])) for name in weights if (shard := _SHARD.fullmatch(name))}
    if len(sets) == 1:
        return _merged(folder, _shards(folder, *sets.pop()))
    single = _preferred([name for name in weights if not _SHARD.fullmatch(name)], ".safetensors")
    if len(single) == 1 and not sets:
        return Header(**{**vars(read_header(folder / single[0])), "path": folder})
    if weights:
        shown = ", ".join(sorted(weights)[:5]) + (" ..." if len(weights) > 5 else "")
        raise ModelError(f"{folder} holds more than one checkpoint ({shown}); name one of these files.")
    for name in files:
        if Path(name).suffix.lower() in _PICKLE_ENDINGS:
            _refuse_pickle(folder / name, _start(folder / name))
    raise ModelError(f"{folder} holds no weights; give a folder with .safetensors files, or one such file.")


def _listed(folder: Path) -> list[str]:
    reason = ""
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        reason = error.strerror or str(error)
    raise ModelError(f"{folder} cannot be read: {reason}.")


def _preferred(names: list[str], ending: str) -> list[str]:
    """Beside `model.safetensors`, `model.fp16.safetensors` is another precision of it: the plain name is meant."""
    usual = [name for name in names if name.removesuffix(ending) in _USUAL]
    return usual if len(usual) == 1 else names


def _shards(folder: Path, stem: str, total: int) -> list[Path]:
    if not 0 < total < 10**4:
        raise ModelError(f"{folder} has a shard of {total}; such a checkpoint cannot be. Give its single file.")
    return [folder / f"{stem}-{number:05}-of-{total:05}.safetensors" for number in range(1, total + 1)]


def _read_index(index: Path) -> Header:
    """The checkpoint that an index describes: which file each tensor is in."""
    content = _json(_content(index, _MOST_HEADER), index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise ModelError(f"{index} is damaged: it has no weight_map of file names. Fetch it again.")
    strange = next((file for file in named.values() if Path(file).name != file or not file.endswith(".safetensors")), None)
    if strange is not None:
        raise ModelError(f"{index} names the file {strange!r}; only .safetensors files beside it are read.")
    header = _merged(index.parent, [index.parent / file for file in sorted(set(named.values()))])
    for name, file in named.items():
        entry = header.tensors.get(name)
        if entry is None or entry.file.name != file:
            raise ModelError(f"{index.parent / file} has no tensor {name}, which {index.name} says is in it. Fetch it again.")
    return header


def _merged(path: Path, files: Iterable[Path]) -> Header:
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    files = list(files)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(
            f"{path} is not complete: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''} missing "
            f"({len(missing)} of {len(files)} files). Fetch what is missing."
        )
    for file in files:
        _refuse_pickle(file, _start(file))
        found, remarks = _read_safetensors(file)
        twice = next((name for name in found if name in tensors), None)
        if twice is not None:
            raise ModelError(
                f"{path}: the tensor {twice} is in {tensors[twice].file.name} and in {file.name}. Remove one of them."
            )
        tensors |= found
        metadata |= remarks
    return Header("safetensors", tensors, metadata, path)


def _read_safetensors(file: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    size = file.stat().st_size
    start = _start(file)
    if len(start) < 8:
        raise ModelError(f"{file} is no safetensors file: it has only {size} bytes. Fetch it again.")
    (length,) = struct.unpack("<Q", start[:8])
    if length > _MOST_HEADER:
        raise ModelError(
            f"{file} is no safetensors file, or damaged: its header would have {length} bytes, and at most {_MOST_HEADER} are "
            "read. Fetch it again."
        )
    if 8 + length > size:
        raise ModelError(f"{file} is cut off: its header has {length} bytes and the file {size}. Fetch it again.")
    content = _json(_content(file, 8 + length)[8:], file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} is damaged: its header is no list of tensors. Fetch it again.")
    remarks = content.pop("__metadata__", None) or {}
    if not isinstance(remarks, dict) or not all(isinstance(value, str) for value in remarks.values()):
        raise ModelError(f"{file} is damaged: the remarks in its header are no texts. Fetch it again.")
    tensors = {name: _entry(file, name, described, 8 + length, size) for name, described in content.items()}
    _refuse_overlap(file, tensors.values())
    return tensors, remarks


def _entry(file: Path, name: str, described: Any, start: int, size: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = described["dtype"], described["shape"], described["data_offsets"]
        whole = [*shape, begin, end]
    except (TypeError, KeyError, ValueError):
        raise ModelError(f"{file} is damaged: the tensor {name} is not described in its header. Fetch it again.") from None
    if any(type(number) is not int or not 0 <= number < 2**63 for number in whole) or len(shape) > 16:
        raise ModelError(
            f"{file} is damaged: the shape or the place of the tensor {name} is no list of numbers. Fetch it again."
        )
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ModelError(
            f"{file}: the tensor {name} has the format {dtype!r}, which wanlab does not read; take another precision."
        )
    if not begin <= end <= size - start:
        raise ModelError(
            f"{file} is cut off or damaged: the tensor {name} would end at byte {start + end}, and the file has {size}. "
            "Fetch it again."
        )
    needed = math.prod(shape) * SIZES[dtype]
    if needed != end - begin:
        raise ModelError(
            f"{file} is damaged: the tensor {name} of shape {shape} in {dtype} has {needed} bytes, and {end - begin} are given "
            "to it. Fetch it again."
        )
    return TensorEntry(name, dtype, tuple(shape), file, start + begin, end - begin)


def _refuse_overlap(file: Path, tensors: Iterable[TensorEntry]) -> None:
    placed = sorted((entry for entry in tensors if entry.nbytes), key=lambda entry: entry.offset)
    for one, two in itertools.pairwise(placed):
        if one.offset + one.nbytes > two.offset:
            raise ModelError(f"{file} is damaged: the tensors {one.name} and {two.name} share bytes. Fetch it again.")


def _refuse_pickle(path: Path, start: bytes) -> None:
    if start.startswith(_PICKLE_STARTS) or (path.suffix.lower() in _PICKLE_ENDINGS and not start.startswith(b"GGUF")):
        raise ModelError(
            f"{path} is a pickle, which can run any program when it is read, so wanlab does not read it. Take a .safetensors "
            "file of the same weights, or make one: "
            'safetensors.torch.save_file(torch.load("old.pth", weights_only=True), "new.safetensors").'
        )
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} only says where the weights are (a Git LFS pointer); fetch them with: git lfs pull.")


def _start(path: Path) -> bytes:
    if not path.exists():
        raise ModelError(f"{path} does not exist; give a .safetensors or .gguf file, or a folder with such files.")
    return _content(path, 64)


def _content(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    reason = ""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        reason = error.strerror or str(error)
    raise ModelError(f"{path} cannot be read: {reason}.")


def _json(content: bytes, file: Path) -> Any:
    reason = ""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
    raise ModelError(f"{file} is damaged: its header is not legible ({reason}). Fetch it again.")


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found
