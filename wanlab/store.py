"""The step store: a dict from step name to velocity, as files that never change.

A file appears by renaming, so any number of kernels can share the folder without locks; two that compute the same step
write the same file. It is a safetensors file whose metadata hold the seconds of the computation, the notes of techniques
and a BLAKE2b checksum over the whole file (safetensors has none of its own): a file with a flipped byte counts as missing,
and the step is computed again. Files are read by bytes, not memory-mapped: truncating a mapped file would kill the kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wanlab.errors import SettingsError
from wanlab.files import write_whole

_BLANK = "0" * 32
_DEAR = 0.5  # seconds; waiting for the disk takes about a hundredth of that


@dataclass(frozen=True)
class Stored:
    """A velocity (b, 16, t, h, w); what it cost when it was computed, also by block; and what techniques measured, by name."""

    velocity: Tensor
    seconds: float
    notes: Mapping[str, float] = field(default_factory=dict)
    block_seconds: tuple[float, ...] = ()


def _sum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class StepStore:
    """Velocities by step name in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"

    def __contains__(self, name: str) -> bool:
        return self._file(name).exists()

    def put(self, name: str, step: Stored) -> None:
        """Store a step; raises FileError when the disk is full, leaving nothing half-written."""
        metadata = {
            "name": name,
            "seconds": repr(step.seconds),
            "notes": json.dumps(dict(step.notes)),
            "block_seconds": json.dumps(step.block_seconds),
            "checksum": _BLANK,
        }
        blank = save({"velocity": step.velocity.detach().cpu().contiguous()}, metadata)
        content = blank.replace(f'"checksum":"{_BLANK}"'.encode(), f'"checksum":"{_sum(blank)}"'.encode(), 1)
        file = self._file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        # A torn file is found by its checksum, so a power cut costs only the step: wait for the disk where that is dear.
        write_whole(file, content, durable=step.seconds > _DEAR)

    def get(self, name: str) -> Stored | None:
        """The stored step, or None if there is none or its file is damaged (then with a warning)."""
        file = self._file(name)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(ValueError, KeyError, TypeError, SafetensorError):
            length = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + length])["__metadata__"]
            checksum = metadata["checksum"]
            blank = content.replace(f'"checksum":"{checksum}"'.encode(), f'"checksum":"{_BLANK}"'.encode(), 1)
            if _sum(blank) == checksum and metadata["name"] == name:
                # cloned, since a tensor at an unaligned address gives slightly other results
                notes, blocks = (json.loads(metadata.get(key, "{}")) for key in ("notes", "block_seconds"))
                return Stored(load(content)["velocity"].clone(), float(metadata["seconds"]), notes, tuple(map(float, blocks)))
        warnings.warn(f"{file} is damaged; its step is computed again.", stacklevel=2)
        return None

    def discard(self, name: str) -> None:
        """Remove a step if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._file(name).unlink()

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for file in self.folder.glob("*/*.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # another kernel trims too
                yield file, file.stat()

    @property
    def gib(self) -> float:
        """Size of all stored steps in GiB."""
        return sum(stat.st_size for _, stat in self._files()) / 2**30

    def trim(self, gib: float) -> float:
        """Delete the steps that were written longest ago until at most `gib` are left; returns the GiB freed.

        Runs keep their rows and clips; a step that is needed again is computed again. Raises SettingsError for a size that
        is no size.
        """
        if not gib >= 0:
            raise SettingsError(f"gib is {gib}; it must be 0 or more.")
        files = sorted(self._files(), key=lambda entry: entry[1].st_mtime, reverse=True)
        kept, freed = 0, 0
        for file, stat in files:
            kept += stat.st_size
            if kept > gib * 2**30:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
                    freed += stat.st_size
        return freed / 2**30
