"""Which process began something, and whether it still lives: also for a reader in another process, later, or elsewhere."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

# A process on another machine counts as dead when its heart has not beaten for this long. A run beats once a step, and its
# longest gaps, loading the 14B model or a step of it with swapped blocks, take minutes; so far, too, clocks may disagree.
SILENCE_SECONDS = 15 * 60


def this_process() -> dict[str, Any]:
    """Who this process is, in JSON's types: its number and start, and the machine (host, boot, namespace of numbers)."""
    boot = namespace = ""
    with contextlib.suppress(OSError):  # only Linux has these
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    pid = os.getpid()
    return {"pid": pid, "host": platform.node(), "boot": boot, "namespace": namespace, "started": _started(pid)}


def lives(process: Any, beat: float, here: Mapping[str, Any]) -> bool:
    """Whether a process, noted by `this_process`, still lives. `beat`: when it last said so; `here`: the process that asks.

    On the same machine its number and its start decide, so that another process that got its number later is not taken for
    it. Elsewhere, and in containers with their own numbers, only the heartbeat tells; but one before this boot of its
    own host was its last. A note that makes no sense, since its file is damaged, is treated as one from elsewhere.
    """
    process = process if isinstance(process, dict) else {}
    if all(process.get(name) == here[name] for name in ("host", "boot", "namespace")):
        started = _started(process.get("pid"))
        return started is not None and started == process.get("started")
    if process.get("host") == here["host"] and beat < psutil.boot_time():
        return False
    return abs(time.time() - beat) < SILENCE_SECONDS


def _started(pid: Any) -> float | None:
    """When a process of this machine started, on a clock that nobody sets where there is one; None if it is gone."""
    if type(pid) is not int or not 0 < pid < 2**31:
        return None
    with contextlib.suppress(OSError, psutil.Error):
        if not psutil.LINUX:
            return psutil.Process(pid).create_time()
        # psutil adds the time of the boot, which moves when the clock is set; the kernel's own number, in ticks since
        # the boot, does not (man 5 proc_pid_stat: field 22; field 3 is Z or X for what is dead and not yet taken away)
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    return None
