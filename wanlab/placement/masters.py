"""Masters: where the weights of a block stay while it is not computed. Weights are read only, so nothing is ever copied back.

A `HostMaster` is one buffer in the computer's memory. For a GPU it is pinned (locked in memory), since only then can a copy
run beside the computation. torch's own pinned memory comes in powers of two, which makes 1 GiB of a block of 670 MiB; here a
buffer of the exact size is registered with CUDA instead.

A `FileMaster` is a list of places in files. They are read by position into the buffer where the block is computed, so the
block takes no memory of its own. Files are not memory-mapped: a mapped file that someone truncates kills the process, and its
pages count as memory of ours. The file is held open, so that deleting or replacing it changes nothing, and a file that is
changed in place is noticed.

For weights that no file holds in the wanted format a scratch file is written. It has no name in its folder: nothing can find,
reuse or leave behind a stale one, even if the process is killed. (diffusers names offload files by the block's number and uses
what it finds, so a second model computes with the weights of the first.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from torch import Tensor, nn

from wanlab.errors import FileError, ModelError
from wanlab.files import read_into
from wanlab.placement.layout import Layout, Place, layout_of, poisoned, tensors_of
from wanlab.weights.dtypes import CODES


class Master(Protocol):
    """What keeps the bytes of a block."""

    layout: Layout

    def fill(self, buffer: Tensor) -> None:
        """Bring all bytes into a uint8 buffer on the CPU, of at least `layout.nbytes`."""

    def resting(self) -> list[Tensor]:
        """What the block's tensors are while it is not computed."""

    def close(self) -> None:
        """Let go of what is held outside of torch."""


class HostBuffer:
    """Uninitialised bytes in host memory, of an exact size; pinned for a GPU if wanted and possible."""

    def __init__(self, nbytes: int, pin: bool) -> None:
        with torch.inference_mode(False):
            self.bytes = torch.empty(nbytes, dtype=torch.uint8)
        self.pinned = pin and nbytes > 0 and _pin(self.bytes)
        # The finalizer holds the tensor, so its memory outlives its registration.
        self.close = weakref.finalize(self, _unpin, self.bytes) if self.pinned else _nothing


def _nothing() -> None:
    """There is nothing to undo."""


def _pin(buffer: Tensor) -> bool:
    failure = int(torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0))
    if failure:
        warnings.warn(
            f"{buffer.nbytes / 2**20:.0f} MiB of host memory cannot be pinned (CUDA error {failure}), so copies to the GPU "
            "run beside nothing; swap fewer blocks, free memory, or set use_non_blocking to False.",
            stacklevel=2,
        )
    return not failure


def _unpin(buffer: Tensor) -> None:
    torch.cuda.synchronize()  # a copy may still read it
    torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())


class HostMaster:
    """The weights of a block in one buffer of host memory; `build_host_master` makes it."""

    def __init__(self, layout: Layout, buffer: HostBuffer) -> None:
        self.layout, self.buffer = layout, buffer

    @property
    def bytes(self) -> Tensor:
        """All bytes, (layout.nbytes,) uint8."""
        return self.buffer.bytes[: self.layout.nbytes]

    def fill(self, buffer: Tensor) -> None:
        """Copy the bytes into a buffer."""
        buffer[: self.layout.nbytes].copy_(self.bytes)

    def resting(self) -> list[Tensor]:
        """Views into the host's buffer: the weights themselves."""
        return self.layout.views(self.bytes)

    def close(self) -> None:
        """Unpin the buffer. The weights stay: whoever has a view has the memory."""
        self.buffer.close()


def build_host_master(block: nn.Module, pin: bool) -> HostMaster:
    """A block's weights gathered in one host buffer.

    From now on the block's tensors are views of it, so that there is no second copy.
    """
    master = HostMaster(layout_of(block), HostBuffer(layout_of(block).nbytes, pin))
    with torch.no_grad():
        for view, tensor in zip(master.resting(), tensors_of(block).values(), strict=True):
            view.copy_(tensor)
    point(block, master.resting())
    return master


@dataclass(frozen=True)
class Piece:
    """A stretch of a file and where its bytes go in the buffer."""

    file: int  # its number among the master's files
    position: int
    offset: int
    nbytes: int


class FileMaster:
    """The weights of a block in files; `build_file_master` and `write_file_master` make it. For one reader at a time."""

    def __init__(self, layout: Layout, files: Sequence[IO[bytes]], pieces: Sequence[Piece]) -> None:
        self.layout, self._files, self._pieces = layout, tuple(files), tuple(pieces)
        self._stamps = [_stamp(file) for file in self._files]
        self._close = weakref.finalize(self, _close_all, self._files)

    def fill(self, buffer: Tensor) -> None:
        """Read the bytes into a buffer; ModelError if the file was changed, FileError if it cannot be read."""
        target = memoryview(buffer.numpy())  # type: ignore[arg-type]
        for file, stamp in zip(self._files, self._stamps, strict=True):
            if _stamp(file) != stamp:
                raise ModelError(f"{_name(file)} was changed while its weights are in use; load the model again.")
        for piece in self._pieces:
            _read(self._files[piece.file], piece.position, target[piece.offset : piece.offset + piece.nbytes])

    def resting(self) -> list[Tensor]:
        """NaN everywhere, in no memory: a block that is computed without its weights is noticed."""
        return poisoned(self.layout.places)

    def close(self) -> None:
        """Close the files; a scratch file is gone with that."""
        self._close()


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _name(file: IO[bytes]) -> str:
    return str(file.name) if isinstance(file.name, str | os.PathLike) else "The scratch file of a block"


def _close_all(files: Sequence[IO[bytes]]) -> None:
    for file in files:
        file.close()


def _read(file: IO[bytes], position: int, target: memoryview) -> None:
    """Fill the target from this position on. Reading lets other threads run."""
    try:
        if read_into(file, position, target):
            raise ModelError(f"{_name(file)} ends before the weights that its header names; download it again.")
    except OSError as error:
        raise FileError(f"{_name(file)} cannot be read: {error.strerror or error}; check the disk.") from None


def build_file_master(block: nn.Module, entries: Mapping[str, Any], folder: Path | None = None) -> FileMaster:
    """A master that reads a block from the files where it is stored, and frees its tensors, which may be on the meta device.

    `entries` maps each tensor's name in the block to its place: `.file`, `.offset`, `.nbytes`, and `.dtype` (a safetensors
    code) if known. With a `folder`, tensors that have no entry or are stored in another format than the block's are written to
    a scratch file on its disk; without one they are a ModelError. FileError if a file cannot be read or the disk is full; the
    block is as it was then.
    """
    layout = layout_of(block)
    stored = {place.name: entries[place.name] for place in layout.places if not _differs(place, entries.get(place.name))}
    if folder is None:
        for place in layout.places:
            if place.name not in stored:
                raise ModelError(f"{_differs(place, entries.get(place.name))}; write a scratch file for the block.")
    paths = sorted({Path(entry.file) for entry in stored.values()})
    pieces = [
        Piece(paths.index(Path(stored[one.name].file)), stored[one.name].offset, one.offset, one.nbytes)
        for one in layout.places
        if one.name in stored
    ]
    left = [place for place in layout.places if place.name not in stored]
    with contextlib.ExitStack() as opened:
        files: list[IO[bytes]] = [opened.enter_context(_opened(path)) for path in paths]
        if left and folder is not None:
            pieces += [Piece(len(files), position, one.offset, one.nbytes) for one, position in _positions(left)]
            files.append(opened.enter_context(_scratch(folder, left, tensors_of(block))))
        master = FileMaster(layout, files, pieces)
        opened.pop_all()
    point(block, master.resting())
    return master


def write_file_master(block: nn.Module, folder: Path) -> FileMaster:
    """Write a block's weights to a new scratch file on the disk of `folder`, and free them.

    The file has no name and is gone when the master is closed, when Python ends and when the process is killed. FileError if
    the disk is full; nothing is left then, and the block is as it was.
    """
    return build_file_master(block, {}, folder)


def _differs(place: Place, entry: Any) -> str:
    """What keeps a file's tensor from being the block's, as the beginning of a sentence; "" if nothing does."""
    if entry is None:
        return f"No file holds {place.name} of a block that is to stay on the disk"
    code = getattr(entry, "dtype", "")
    wanted = "" if place.dtype == torch.uint8 else CODES.get(place.dtype, "")  # uint8 holds packed formats of any name
    if entry.nbytes == place.nbytes and (not code or not wanted or code == wanted):
        return ""
    return (
        f"{place.name} is stored as {code or 'unknown'} in {entry.nbytes} bytes, but is wanted as {wanted or place.dtype} in "
        f"{place.nbytes}"
    )


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}; check the file.") from None


def _positions(places: Sequence[Place]) -> list[tuple[Place, int]]:
    """Where each tensor lies in a scratch file: one behind the other."""
    ends = list(accumulate(place.nbytes for place in places))
    return [(place, end - place.nbytes) for place, end in zip(places, ends, strict=True)]


def _scratch(folder: Path, places: Sequence[Place], tensors: Mapping[str, Tensor]) -> IO[bytes]:
    """A file without a name on the disk of `folder` that holds these tensors."""
    with contextlib.ExitStack() as opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _check_room(folder, sum(place.nbytes for place in places))
            file: Any = opened.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            for place in places:
                _write(file, tensors[place.name])
            opened.pop_all()
            return file
        except OSError as error:
            reason = error.strerror or str(error)
    raise FileError(  # here, so that it does not hold the other error with its frames
        f"Weights cannot be kept in {folder}: {reason}; free some space, choose another folder, or set offload_device to cpu."
    )


def _check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise OSError(f"a block needs {nbytes / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free")


def _write(file: IO[bytes], tensor: Tensor) -> None:
    plain = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    left = memoryview(plain.numpy())  # type: ignore[arg-type]
    while left:
        left = left[file.write(left) :]


def point(module: nn.Module, targets: Sequence[Tensor]) -> None:
    """Let the module's tensors be these. They stay the same objects, but those on the meta device, which cannot take memory."""
    for (name, tensor), target in zip(tensors_of(module).items(), targets, strict=True):
        if tensor.is_meta:
            _replace(module, tensor, target)
        else:
            assert tensor.dtype == target.dtype, name  # torch itself would let a weight change its format here
            tensor.data = target


def _replace(module: nn.Module, old: Tensor, target: Tensor) -> None:
    """Put a new parameter or buffer wherever the old one is, since it may be shared."""
    new = nn.Parameter(target, requires_grad=False) if isinstance(old, nn.Parameter) else target
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for name, tensor in table.items():
                if tensor is old:
                    table[name] = new  # type: ignore[assignment]
