"""Loading a transformer: from files to modules in their places, one tensor at a time.

It is built without memory and then filled parameter by parameter: read, LoRAs merged, brought to its number format or
quantized, placed. So loading needs little more memory than the finished model, whatever the file's layout, and the same weights
have the same precision by every route: diffusers keeps some modules in float32 in `from_pretrained` that it casts in
`from_single_file`. Here they stay in float32 always.

A block that is swapped is filled on the CPU and becomes a master copy there, or on the disk: what the checkpoint's file holds
in the wanted format is read from there each time, and only the rest is written to a scratch file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from torch import Tensor, nn

from wanlab.errors import ModelError, SettingsError
from wanlab.lora.apply import LoraSet
from wanlab.quantize.formats import pack, unpack
from wanlab.quantize.kinds import KINDS, is_quantized, kept_in_fp32
from wanlab.quantize.linear import QuantizedLinear
from wanlab.quantize.packed import Packed
from wanlab.settings import ModelSettings
from wanlab.weights.dtypes import CODES, PRECISIONS
from wanlab.weights.entries import TensorEntry
from wanlab.weights.reader import Reader

_PLAIN_FP8 = {torch.float8_e4m3fn: "fp8_e4m3fn", torch.float8_e5m2: "fp8_e5m2"}


class Filling:
    """Fills a transformer that was built without memory, in pieces: all that is under a prefix.

    Raises ModelError if the reader lacks a parameter, or has it in another shape, and SettingsError for a quantization that
    does not go with the file's.
    """

    def __init__(self, reader: Reader, config: Mapping[str, object], settings: ModelSettings, loras: LoraSet) -> None:
        self.reader, self.settings, self.loras = reader, settings, loras
        self.base = PRECISIONS[settings.base_precision]
        with init_empty_weights(include_buffers=False):
            kind = WanVACETransformer3DModel if config.get("vace_layers") else WanTransformer3DModel
            self.transformer = kind.from_config(dict(config))
        self.transformer.requires_grad_(False).eval()
        self.shapes = {name: tuple(one.shape) for name, one in self.transformer.named_parameters()}
        self._check()

    def _check(self) -> None:
        known = set(self.reader.names())
        missing = [name for name in self.shapes if name not in known]
        wrong = [name for name in self.shapes if name in known and self.reader.shape(name) != self.shapes[name]]
        where = self.reader.header.path
        if missing:
            raise ModelError(
                f"{where} lacks {len(missing)} tensors of this transformer, first {missing[0]}; download it again."
            )
        if wrong:
            raise ModelError(
                f"{where}: {wrong[0]} has the shape {self.reader.shape(wrong[0])}, and this transformer needs "
                f"{self.shapes[wrong[0]]}; take the config.json that belongs to the weights."
            )

    def fill(self, prefix: str, device: torch.device, without: Sequence[str] = ()) -> None:
        """Fill all parameters whose names begin with this prefix, and with none of those in `without`, on the device."""
        for name in self._under(prefix, without):
            kind, module = self.kind(name), self._module(name)
            if kind:
                packed = self._packed(name, kind).to(device)
                self.transformer.set_submodule(_parent(name), QuantizedLinear.of(packed, self._bias(name, device)))
            elif not isinstance(module, QuantizedLinear):  # whose bias is there already
                put(self.transformer, name, self._plain(name).to(device))

    def fill_for_the_disk(self, prefix: str) -> dict[str, TensorEntry]:
        """Fill what the file does not hold as it is wanted, on the CPU; returns where the rest is, by name under the prefix.

        That stays on the meta device, in the shape and format that it will have.
        """
        cpu, entries = torch.device("cpu"), dict[str, TensorEntry]()
        for name in self._under(prefix, ()):
            kind, module, short = self.kind(name), self._module(name), name.removeprefix(prefix)
            if kind:
                found = self._stored_parts(name, kind)
                packed = _hollow(kind, self.shapes[name], found) if found else self._packed(name, kind)
                self.transformer.set_submodule(_parent(name), QuantizedLinear.of(packed, self._bias(name, cpu)))
                entries |= {f"{short.removesuffix('weight')}packed_{part}": entry for part, entry in found.items()}
            elif isinstance(module, QuantizedLinear):
                continue
            elif self._is_as_stored(name):
                put(self.transformer, name, torch.empty(self.shapes[name], dtype=self.dtype(name), device="meta"))
                entries[short] = self.reader.entry(name)
            else:
                put(self.transformer, name, self._plain(name))
        return entries

    def _under(self, prefix: str, without: Sequence[str]) -> Iterator[str]:
        for name in self.shapes:
            if name.startswith(prefix) and not name.startswith(tuple(without)):
                yield name

    def kind(self, name: str) -> str:
        """The kind in which a parameter is kept: one of `KINDS`, one of a file, or "" for a number format of torch."""
        shape, asked = self.shapes[name], self.settings.quantization
        stored = self.reader.kind(name) if is_quantized(name, shape) else ""
        if asked == "disabled" or not KINDS[asked].packed:
            return stored
        if stored and stored != asked:
            raise SettingsError(
                f"quantization is {asked!r}, but the file holds its weights as {stored}; take disabled, which keeps them so, "
                "or a file in bf16 or fp16."
            )
        return asked if is_quantized(name, shape, asked) else ""

    def dtype(self, name: str) -> torch.dtype:
        """The number format of a parameter that is not quantized."""
        return torch.float32 if kept_in_fp32(name) else self.base

    def _packed(self, name: str, kind: str) -> Packed:
        read = _as_packed(self.reader.read(name))
        if isinstance(read, Packed):
            if self.loras.touches(name):
                raise SettingsError(
                    f"A LoRA has merge on, but the file holds its weights as {read.kind}, which are left as they are; take "
                    "merge off."
                )
            return read
        return pack(kind, self.loras.merge(name, read.float()))

    def _plain(self, name: str) -> Tensor:
        read = self.reader.read(name)
        weight = unpack(read, torch.float32) if isinstance(read, Packed) else read
        if self.loras.touches(name):
            weight = self.loras.merge(name, weight.float())
        return weight.to(self.dtype(name))

    def _bias(self, name: str, device: torch.device) -> Tensor | None:
        bias = name.removesuffix("weight") + "bias"
        return self._plain(bias).to(device) if bias in self.shapes else None

    def _is_as_stored(self, name: str) -> bool:
        entry = self.reader.entry(name)
        return entry.dtype == CODES[self.dtype(name)] and not self.loras.touches(name) and not self.reader.kind(name)

    def _stored_parts(self, name: str, kind: str) -> dict[str, TensorEntry]:
        """Where the parts of a quantized weight are in the file; none if they are not there as they are wanted."""
        if self.reader.kind(name) != kind or self.loras.touches(name):
            return {}
        return self.reader.parts(name)

    def _module(self, name: str) -> nn.Module:
        return self.transformer.get_submodule(_parent(name))


def _as_packed(read: Any) -> Any:
    """Plain fp8, which a reader gives as a tensor, as a `Packed` too; others as they are."""
    if isinstance(read, Tensor) and read.dtype in _PLAIN_FP8:
        return Packed(_PLAIN_FP8[read.dtype], (read.shape[0], read.shape[1]), {"weight": read})
    return read


def _hollow(kind: str, shape: tuple[int, ...], parts: Mapping[str, TensorEntry]) -> Packed:
    """A quantized weight without memory, of the parts that these places hold."""
    rows, columns = shape
    small = next((one for one, plain in _PLAIN_FP8.items() if kind.startswith(plain)), torch.int8)
    formats = {"blocks": torch.uint8, "scale": torch.float32, "weight": small}
    shapes = {
        "blocks": lambda entry: (rows, entry.nbytes // rows),
        "scale": lambda entry: (rows, 1) if entry.parameters > 1 else (),
        "weight": lambda _: (rows, columns),
    }
    empty = {part: torch.empty(shapes[part](entry), dtype=formats[part], device="meta") for part, entry in parts.items()}
    return Packed(kind, (rows, columns), empty)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def put(module: nn.Module, name: str, value: Tensor) -> None:
    """Make this the parameter of that name in a module, in place of the one that is there, which may be on the meta device."""
    owner, _, leaf = name.rpartition(".")
    module.get_submodule(owner)._parameters[leaf] = nn.Parameter(value, requires_grad=False)


class Weights(Mapping[str, Tensor]):
    """The matrices that quantization is about, as a file has them, in float32; each is read when it is asked for.

    Those that are quantized in the file are not there.
    """

    def __init__(self, path: Path) -> None:
        self._reader = Reader.of(path)
        self._all = [name for name in self._reader.names() if is_quantized(name, self._reader.shape(name))]
        self._names = [name for name in self._all if not self._reader.kind(name)]

    def quantized(self) -> Iterator[tuple[str, Packed]]:
        """Those that are quantized in the file, by name."""
        for name in self._all:
            if self._reader.kind(name):
                yield name, _as_packed(self._reader.read(name))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        read = self._reader.read(name)
        assert isinstance(read, Tensor)
        return read.float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
