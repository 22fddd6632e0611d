"""What benchmarks of memory share: letting go of it, reading how much there is, and saying on what it was measured."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import os
import platform

import diffusers
import psutil
import torch

GIB = 2**30


def settle(device: torch.device) -> None:
    """Let go of all memory that nothing holds any more, also of what allocators keep for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # pinned memory of others, which torch keeps
            torch.accelerator.empty_host_cache()
    with contextlib.suppress(AttributeError, OSError):  # glibc's; other systems have no such function
        ctypes.CDLL(None).malloc_trim(0)


def held(device: torch.device) -> int:
    """Bytes in use now: torch's on a GPU, the process's resident ones on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def machine(device: torch.device) -> str:
    """The device, versions and the date, as a sentence for the head of a table."""
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1] / GIB
        what = f"{torch.cuda.get_device_name(device)} ({memory:.1f} GiB), CUDA {torch.version.cuda}"
    else:
        threads = torch.get_num_threads()
        memory = psutil.virtual_memory().total / GIB
        what = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {threads} thread{'s' * (threads > 1)}"
    return f"{what}; torch {torch.__version__}, diffusers {diffusers.__version__}; {datetime.date.today().isoformat()}"


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
