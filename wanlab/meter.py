"""Seconds and memory, measured so that they can be believed: on a GPU after it has finished, with the peak reset before.

On a GPU memory is torch's peak of allocated bytes; on a CPU it is the process's peak resident memory, which on Linux can
be reset for every run, and elsewhere is the largest of the values seen at the steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

_GIB = 2**30


def clock(device: torch.device) -> float:
    """A clock in seconds that waits until the GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class Meter:
    """Measures one run: `with meter.stage("decode"): ...`, `meter.peak()`."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    now: str = ""  # the stage that is measured, or was last
    _seen: int = 0

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets the peak resident size, VmHWM

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to this stage, also when it fails."""
        began, self.now = clock(self.device), name
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + clock(self.device) - began

    def look(self) -> None:
        """Take note of the memory in use now, where no peak is kept for us."""
        if self.device.type != "cuda":
            self._seen = max(self._seen, psutil.Process().memory_info().rss)

    def peak(self) -> dict[str, float]:
        """Peak memory since the meter was made: peak_vram_gib on a GPU, peak_rss_gib on a CPU."""
        if self.device.type == "cuda":
            return {"peak_vram_gib": torch.cuda.max_memory_allocated(self.device) / _GIB}
        self.look()
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            self._seen = max(self._seen, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
        return {"peak_rss_gib": self._seen / _GIB}
