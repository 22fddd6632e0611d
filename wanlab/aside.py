"""Threads aside of the kernel's own, which end before Python does. No torch.

A daemon thread that is within torch while Python goes away takes the process down with it ("terminate called without an active
exception"), and one that is no daemon keeps Python from ending until all is done. So at the end each is asked to stop, and
waited for a few seconds, the time that Jupyter gives a kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable

_GRACE = 5.0  # seconds for all together

_alive: dict[threading.Thread, Callable[[], object]] = {}


def start(work: Callable[[], object], name: str, stop: Callable[[], object] = lambda: None) -> threading.Thread:
    """Do this in a thread; `stop` is called when Python ends first, and has to make `work` return soon."""

    def whole() -> None:
        try:
            work()
        finally:
            _alive.pop(thread, None)

    thread = threading.Thread(target=whole, name=name, daemon=True)
    _alive[thread] = stop
    thread.start()
    return thread


@atexit.register
def _end() -> None:
    until = time.monotonic() + _GRACE
    left = dict(_alive)
    for stop in left.values():
        with contextlib.suppress(Exception):  # whom it would tell may be gone
            stop()
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
