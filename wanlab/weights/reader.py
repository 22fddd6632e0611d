"""The tensors of a checkpoint, one at a time, under diffusers' names.

Bytes are read from their place in the file into new memory. Files are not mapped into memory: a mapped file that
someone cuts off kills the process, and addresses that depend on the length of a header change results in the last bits
(by 2e-6: vector instructions begin elsewhere). What a file stores in 8 bits or less is not blown up: it comes as a
`Packed`, its scale with it.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wanlab.errors import ModelError
from wanlab.files import read_into
from wanlab.quantize.kinds import GGML
from wanlab.quantize.packed import Packed
from wanlab.weights.dtypes import STORED
from wanlab.weights.entries import Header, TensorEntry
from wanlab.weights.headers import read_header
from wanlab.weights.layouts import Layout, translate

_FP8 = {"F8_E4M3": "fp8_e4m3fn", "F8_E5M2": "fp8_e5m2"}


class Reader:
    """Reads the tensors of a checkpoint by diffusers' names.

    >>> reader = Reader.of("wan2.1_t2v_14B_fp8_scaled.safetensors")     # doctest: +SKIP
    >>> reader.read("blocks.0.attn1.to_q.weight").kind                  # doctest: +SKIP
    'fp8_e4m3fn_scaled'
    """

    def __init__(self, layout: Layout, header: Header) -> None:
        self.layout, self.header = layout, header
        self._notes = _notes(header)

    @classmethod
    def of(cls, path: str | Path) -> Reader:
        """A reader of a file or a folder. Raises ModelError."""
        header = read_header(path)
        return cls(translate(header), header)

    def names(self) -> tuple[str, ...]:
        """All tensors that can be read."""
        return tuple(self.layout.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.entry(name).shape

    def entry(self, name: str) -> TensorEntry:
        """Where the bytes of a tensor are, for reading them at any time. Raises ModelError for a name that is not there."""
        if name not in self.layout.names:
            raise ModelError(f"{self.header.path} has no tensor {name}.")
        whole = self.header.tensors[self.layout.names[name]]
        piece = self.layout.pieces.get(name)
        if piece is None:
            return whole
        row = whole.nbytes // whole.shape[0]
        return replace(whole, shape=piece.shape, offset=whole.offset + piece.first * row, nbytes=piece.rows * row)

    def kind(self, name: str) -> str:
        """The kind in which a matrix is stored, by `wanlab.quantize.kinds`; "" for one in a number format of its own."""
        entry = self.entry(name)
        if len(entry.shape) != 2:
            return ""
        if entry.dtype.lower() in GGML and entry.dtype not in STORED:
            return f"gguf_{entry.dtype.lower()}" if entry.shape[1] % GGML[entry.dtype.lower()][0] == 0 else ""
        if entry.dtype == "I8":
            return "int8"
        if entry.dtype not in _FP8 or name not in self.layout.scales:
            return _FP8.get(entry.dtype, "")
        channel = self.header.tensors[self.layout.scales[name]].parameters > 1 and entry.dtype == "F8_E4M3"
        return f"{_FP8[entry.dtype]}_scaled{'_channel' * channel}"

    def parts(self, name: str) -> dict[str, TensorEntry]:
        """Where the parts of a quantized matrix are, as `read` returns them; none if they are stored in another form."""
        entry, kind = self.entry(name), self.kind(name)
        if not kind or kind.startswith("gguf_"):
            return {"blocks": entry} if kind else {}
        if name not in self.layout.scales:
            return {"weight": entry}
        scale, rows = self.header.tensors[self.layout.scales[name]], entry.shape[0]
        fits = scale.parameters == rows or (scale.parameters == 1 and kind != "int8")
        return {"weight": entry, "scale": scale} if fits and scale.dtype == "F32" and name not in self.layout.pieces else {}

    def read(self, name: str) -> Tensor | Packed:
        """A tensor in the format of the file; a `Packed` if it is scaled fp8, int8 or of a ggml type below 16 bits.

        Raises ModelError, also if the file has become shorter since its header was read.
        """
        entry = self.entry(name)
        if entry.dtype.lower() in GGML and entry.dtype not in STORED:
            return _from_ggml(entry)
        if entry.dtype not in STORED:
            raise ModelError(f"{entry.file}: {entry.name} has the format {entry.dtype}, which wanlab does not read.")
        self._check_note(name, entry)
        stored = _tensor(entry)
        scale = self._scale(name, entry)
        if scale is None:
            if entry.dtype == "I8":
                raise ModelError(f"{entry.file}: {entry.name} is int8 and has no scale; take another file of this model.")
            return stored
        if len(entry.shape) != 2 or entry.dtype not in ("I8", *_FP8):
            wide = scale.reshape(-1, *[1] * (len(entry.shape) - 1)) if scale.ndim else scale
            product = stored.float() * wide
            return product.to(stored.dtype) if stored.is_floating_point() and stored.itemsize > 1 else product
        out, into = entry.shape
        if entry.dtype == "I8":
            return Packed("int8", (out, into), {"weight": stored, "scale": scale.expand(out, 1).clone()})
        channel = "_channel" if scale.ndim and entry.dtype == "F8_E4M3" else ""
        return Packed(f"{_FP8[entry.dtype]}_scaled{channel}", (out, into), {"weight": stored, "scale": scale})

    def _scale(self, name: str, entry: TensorEntry) -> Tensor | None:
        """What a weight has to be multiplied by, fp32 of shape () or (out, 1)."""
        if name not in self.layout.scales:
            return None
        stored = self.header.tensors[self.layout.scales[name]]
        if stored.dtype not in ("F32", "F16", "BF16", "F64"):
            raise ModelError(
                f"{stored.file}: the scale {stored.name} has the format {stored.dtype}, which wanlab does not read."
            )
        scale = _tensor(stored).float().flatten()
        if scale.numel() == 1:
            return scale.reshape(())
        piece = self.layout.pieces.get(name)
        rows = self.header.tensors[self.layout.names[name]].shape[:1]
        if (scale.numel(),) != rows:
            raise ModelError(
                f"{stored.file}: the scale {stored.name} has the shape {list(stored.shape)}; read are one scale for a tensor, "
                f"or one for each of its {rows[0] if rows else 0} rows. Take another precision of this model."
            )
        scale = scale.reshape(-1, 1)
        return scale[piece.first : piece.first + piece.rows].clone() if piece else scale

    def _check_note(self, name: str, entry: TensorEntry) -> None:
        """ComfyUI notes how each layer was quantized; a way that is not understood must not be read as one that is."""
        layer = entry.name.removesuffix(".weight")
        note: Any = self._notes.get(layer, self._notes.get(layer.removeprefix(self.layout.prefix)))
        if name in self.layout.marks:
            marked = self.header.tensors[self.layout.marks[name]]
            note = _object(
                bytes(_tensor(replace(marked, dtype="U8", shape=(marked.nbytes,))).tolist()).decode("utf-8", "replace")
            )
        if note is None:
            return
        way = note.get("format", "")
        if not str(way).startswith(("float8_e4m3fn", "float8_e5m2", "int8")) or note.get("convrot"):
            shown = f"{way} with rotation" if note.get("convrot") else way
            raise ModelError(
                f"{entry.file}: {entry.name} was quantized as {shown!r}, which wanlab does not read; take fp8 or GGUF."
            )


def _from_ggml(entry: TensorEntry) -> Tensor | Packed:
    kind = f"gguf_{entry.dtype.lower()}"
    block, size = GGML[entry.dtype.lower()]
    raw = _tensor(replace(entry, dtype="U8", shape=(entry.nbytes,)))
    if len(entry.shape) == 2 and entry.shape[1] % block == 0:
        out, into = entry.shape
        return Packed(kind, (out, into), {"blocks": raw.reshape(out, into // block * size)})
    from wanlab.quantize.formats import unpack

    # A patch embedding of five dimensions was flattened; a row of blocks is then no row of the tensor.
    blocks = raw.reshape(-1, size)
    whole = unpack(Packed(kind, (blocks.shape[0], block), {"blocks": blocks}), torch.float32)
    return whole.reshape(entry.shape)


def _tensor(entry: TensorEntry) -> Tensor:
    """The bytes of an entry, read into memory of its own."""
    dtype = STORED[entry.dtype]
    memory = torch.empty(entry.nbytes, dtype=torch.uint8)
    _fill(memory, entry)
    if math.prod(entry.shape) == 0:
        return torch.empty(entry.shape, dtype=dtype)
    return memory.view(dtype).reshape(entry.shape)


def _fill(memory: Tensor, entry: TensorEntry) -> None:
    reason = ""
    try:
        with entry.file.open("rb", buffering=0) as file:
            lacking = read_into(file, entry.offset, memoryview(memory.numpy().data))
        if lacking:
            reason = f"it ends {lacking} bytes too early; it has changed since it was opened"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ModelError(f"{entry.file}: {entry.name} cannot be read: {reason}.")


def _notes(header: Header) -> dict[str, dict[str, Any]]:
    """ComfyUI's notes on layers, where they are in the metadata."""
    layers = _object(header.metadata.get("_quantization_metadata", "")).get("layers")
    return {name: note for name, note in layers.items() if isinstance(note, dict)} if isinstance(layers, dict) else {}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
