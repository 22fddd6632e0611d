"""The header of a GGUF file: the format of llama.cpp and of quantized Wans for ComfyUI. No torch.

A GGUF file is its header (magic, version, counts), remarks as typed values, a description of each tensor, and the
tensors' bytes, aligned (ggml-org/ggml, docs/gguf.md, versions 2 and 3). Two things surprise. Shapes are stored in
reverse. And since ggml has at most four dimensions, ComfyUI-GGUF stores a patch embedding of five flattened and puts
its shape in the remark `comfy.gguf.orig_shape.<name>`.
"""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import BinaryIO

from wanlab.errors import ModelError
from wanlab.quantize.kinds import GGML
from wanlab.weights.entries import Header, TensorEntry

# ggml's types by number (ggml/include/ggml.h); numbers that are missing were given up.
_TYPES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 6)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), 16)),
    **dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 24)),
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_TEXT = 2**24
_MOST_KEPT = 16  # of a list: shapes are kept, the words of a tokenizer are passed over
_ORIGINAL = "comfy.gguf.orig_shape."


class _Damaged(Exception):
    """What is wrong, without the file's name."""


def read_gguf(path: Path) -> Header:
    """The tensors of a GGUF file, their shapes in torch's order. Raises ModelError."""
    try:
        with path.open("rb") as file:
            return _read(path, _Bytes(file, path.stat().st_size))
    except _Damaged as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read ({error.strerror or error})"
    raise ModelError(f"{path} is no GGUF file that wanlab reads: {reason}. Fetch it again, or take a .safetensors file.")


class _Bytes:
    """A file that says so when it ends too early."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.at = file, size, 0

    def take(self, count: int) -> bytes:
        content = self.file.read(count) if self.at + count <= self.size else b""
        if len(content) < count:
            raise _Damaged(f"it is cut off at byte {self.size}")
        self.at += count
        return content

    def skip(self, count: int) -> None:
        if self.at + count > self.size:
            raise _Damaged(f"it is cut off at byte {self.size}")
        self.file.seek(count, 1)
        self.at += count

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        length = self.number("<Q")
        if length > _MOST_TEXT:
            raise _Damaged(f"a text in its header would have {length} bytes")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _Damaged("a text in its header is not legible") from None


def _read(path: Path, content: _Bytes) -> Header:
    content.take(4)
    version = content.number("<I")
    if version not in (2, 3):
        raise _Damaged(f"it has version {version if version < 2**16 else 'of the other byte order'}, and 2 and 3 are read")
    tensors, remarks = content.number("<Q"), content.number("<Q")
    if 24 * tensors + 12 * remarks > content.size:
        raise _Damaged(f"it would have {tensors} tensors and {remarks} remarks, which is more than its size allows")
    values = [(content.text(), _value(content)) for _ in range(remarks)]
    metadata = dict(values)
    if len(metadata) != len(values):
        raise _Damaged("a remark stands in it twice")
    described = [_described(content) for _ in range(tensors)]
    alignment = _natural(metadata.get("general.alignment", "32"))
    if not 0 < alignment <= 2**20:
        raise _Damaged("its alignment is no number of bytes")
    start = -(-content.at // alignment) * alignment
    entries: dict[str, TensorEntry] = {}
    for name, dims, kind, offset in described:
        if name in entries:
            raise _Damaged(f"the tensor {name} stands in it twice")
        entries[name] = _entry(path, name, dims, kind, start + offset, metadata.get(_ORIGINAL + name), content.size)
    _refuse_overlap(entries)
    kept = {name: value for name, value in metadata.items() if not name.startswith(_ORIGINAL)}
    return Header("gguf", entries, kept, path)


def _described(content: _Bytes) -> tuple[str, tuple[int, ...], int, int]:
    name, count = content.text(), content.number("<I")
    if count > 8:
        raise _Damaged(f"the tensor {name} would have {count} dimensions")
    return name, tuple(content.number("<Q") for _ in range(count)), content.number("<I"), content.number("<Q")


def _value(content: _Bytes, depth: int = 0) -> str:
    """A remark as text; of a long list nothing is kept."""
    kind = content.number("<I")
    if kind == _STRING:
        return content.text()
    if kind in _SCALARS:
        return _scalar(content, kind)
    if kind != _ARRAY:
        raise _Damaged(f"a remark has the type {kind}, which there is not")
    of, count = content.number("<I"), content.number("<Q")
    if of in _SCALARS and count > _MOST_KEPT:
        content.skip(count * struct.calcsize(_SCALARS[of]))
        return ""
    if count > content.size:
        raise _Damaged(f"a list in its header would have {count} values")
    if of in _SCALARS:
        return ",".join(_scalar(content, of) for _ in range(count))
    if of == _STRING:
        for _ in range(count):
            content.skip(content.number("<Q"))
        return ""
    raise _Damaged("a list in its header holds lists")


def _scalar(content: _Bytes, kind: int) -> str:
    form = _SCALARS[kind]
    return str(struct.unpack(form, content.take(struct.calcsize(form)))[0])


def _natural(text: str) -> int:
    """The number that a text is, or -1."""
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def _entry(
    path: Path, name: str, dims: tuple[int, ...], kind: int, offset: int, original: str | None, size: int
) -> TensorEntry:
    dtype = _TYPES.get(kind, f"number {kind}")
    if dtype.lower() not in GGML:
        read = ", ".join(name.upper() for name in GGML)
        raise _Damaged(f"the tensor {name} has the type {dtype}, and the types read are {read}")
    block, size_of_block = GGML[dtype.lower()]
    shape = tuple(reversed(dims))
    numbers = math.prod(shape)
    if shape and shape[-1] % block:
        raise _Damaged(f"the tensor {name} has rows of {shape[-1]} numbers, and {dtype} takes {block} together")
    nbytes = numbers // block * size_of_block
    if offset + nbytes > size:
        raise _Damaged(f"it is cut off: the tensor {name} would end at byte {offset + nbytes}, and the file has {size}")
    if original is not None:
        shape = tuple(_natural(part) for part in original.split(","))
        if math.prod(shape) != numbers:
            raise _Damaged(f"the remark on the shape of {name} says {original[:99]}, and the tensor has {numbers} numbers")
    return TensorEntry(name, dtype, shape, path, offset, nbytes)


def _refuse_overlap(entries: dict[str, TensorEntry]) -> None:
    placed = sorted((entry for entry in entries.values() if entry.nbytes), key=lambda entry: entry.offset)
    for one, two in itertools.pairwise(placed):
        if one.offset + one.nbytes > two.offset:
            raise _Damaged(f"the tensors {one.name} and {two.name} share bytes")
