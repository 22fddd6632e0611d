"""Seconds and memory, measured so that they can be believed: on a GPU after it has finished, with the peak reset before.

On a GPU memory is torch's peak of allocated bytes; on a CPU it is the process's peak resident memory, which on Linux can
be reset for every stage, and elsewhere is the largest of the values seen at the steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

MOST_SAMPLES = 200  # of memory over time, kept with a run
_GIB = 2**30


def clock(device: torch.device) -> float:
    """A clock in seconds that waits until the GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class Meter:
    """Measures one run: `with meter.stage("decode"): ...`, `meter.look()` now and then, `meter.peak()`, `meter.facts()`."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)  # GiB, of each stage that has ended
    now: str = ""  # the stage that is measured, or was last

    def __post_init__(self) -> None:
        self._began = time.perf_counter()
        self._samples: list[tuple[float, float, str]] = []  # seconds since the meter was made, GiB, stage
        self._most = self._seen = 0  # bytes: the most of all stages that have ended, the most seen in this one
        self._reset()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to this stage and note its peak, also when it fails."""
        self._most = max(self._most, self._largest())
        self._reset()
        began, self.now = clock(self.device), name
        self.look()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + clock(self.device) - began
            self.look()
            self.peaks[name] = max(self.peaks.get(name, 0.0), self._largest() / _GIB)

    def look(self) -> None:
        """Take note of the memory in use now. Of very many looks every second one is forgotten, again and again."""
        used = torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else psutil.Process().memory_info().rss
        self._seen = max(self._seen, used)
        self._samples.append((time.perf_counter() - self._began, used / _GIB, self.now))
        if len(self._samples) > MOST_SAMPLES:
            del self._samples[1::2]

    def peak(self) -> dict[str, float]:
        """Peak memory since the meter was made: peak_vram_gib on a GPU, peak_rss_gib on a CPU."""
        self.look()
        name = "peak_vram_gib" if self.device.type == "cuda" else "peak_rss_gib"
        return {name: max(self._most, self._largest()) / _GIB}

    def facts(self) -> dict[str, Any]:
        """Memory over time, for a run's facts: what each look saw, the peak of each stage, and what the device has (GiB)."""
        cuda = self.device.type == "cuda"
        whole = torch.cuda.get_device_properties(self.device).total_memory if cuda else psutil.virtual_memory().total
        seconds, gib, stages = zip(*self._samples, strict=True) if self._samples else ((), (), ())
        return {
            "seconds": [round(one, 4) for one in seconds],
            "gib": [round(one, 5) for one in gib],
            "stage": list(stages),
            "peaks": {name: round(one, 5) for name, one in self.peaks.items()},
            "device_gib": whole / _GIB,
        }

    def _reset(self) -> None:
        """Begin to look for the largest anew."""
        self._seen, self._resets = 0, True
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak resident size, VmHWM
        except OSError:
            self._resets = False

    def _largest(self) -> int:
        """The most bytes since the last reset; where no peak is kept for us, the most that was seen."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if not self._resets:
            return self._seen
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return max(self._seen, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
        return self._seen
