"""Copiers: how bytes get from a master into a buffer on the device, beside the computation where that is possible.

Two things can go wrong when copies run beside the computation, and two events prevent them. A block must not be computed
before its copy is done: `wait`. A buffer must not be overwritten while the block before still computes from it: `used` gives
an event for that, and the next `copy` into the buffer takes it. On a GPU both are waited for by the GPU; the CPU only writes
down the order and runs ahead. Copies are done in the order in which they were asked for.

    CudaStream   host memory to a GPU, on a stream of its own
    ReadAhead    files, by a thread that reads; for a GPU it hands what it read to a CudaStream
    Direct       everything else, and when nothing shall run beside anything: the copy is done when `copy` returns
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from wanlab.placement.masters import HostBuffer, HostMaster, Master

Mark = Any  # a moment: seconds of time.perf_counter on a CPU, a torch.cuda.Event on a GPU


def mark(device: torch.device) -> Mark:
    """This moment in what the device computes; nothing is waited for."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds(first: Mark, second: Mark) -> float:
    """Seconds between two moments; on a GPU both must be over."""
    return second - first if isinstance(first, float) else first.elapsed_time(second) / 1000


@dataclass(eq=False)
class Copy:
    """One copy on its way: its bytes, and when it began and ended (None: not yet)."""

    nbytes: int
    began: Mark = None
    ended: Mark = None

    @property
    def last(self) -> Copy:
        """The copy that ends on the device, if there are two on the way there."""
        return self


class Copier(Protocol):
    """How bytes get into buffers. Buffers and masters are told by the caller; a copier keeps none of them."""

    def copy(self, buffer: Tensor, master: Master, after: Any) -> Copy:
        """Begin to fill the buffer (uint8, on the device) as soon as `after`, the last `used` of the buffer, has happened."""

    def wait(self, copy: Copy) -> None:
        """What is computed from now on comes after this copy. Raises what went wrong in it."""

    def used(self, buffer: Tensor) -> Any:
        """An event: all that was computed from the buffer until now is done."""

    def close(self) -> None:
        """Return when no copy is on its way any more."""


class Direct:
    """Copies that are done at once, in order with what is computed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staged: Tensor | None = None

    def copy(self, buffer: Tensor, master: Master, after: Any) -> Copy:
        """Fill the buffer now."""
        began = mark(self._device)
        if isinstance(master, HostMaster):
            buffer[: master.layout.nbytes].copy_(master.bytes)
        elif self._device.type == "cpu":
            master.fill(buffer)
        else:
            if self._staged is None or self._staged.nbytes < master.layout.nbytes:
                self._staged = torch.empty(master.layout.nbytes, dtype=torch.uint8)
            master.fill(self._staged)
            buffer[: master.layout.nbytes].copy_(self._staged[: master.layout.nbytes])
        return Copy(master.layout.nbytes, began, mark(self._device))

    def wait(self, copy: Copy) -> None:
        """Nothing: it is done."""

    def used(self, buffer: Tensor) -> Any:
        """No event is needed: the next copy comes after what was computed."""
        return True

    def close(self) -> None:
        """Let go of the buffer between file and device."""
        self._staged = None


class CudaStream:
    """Copies from host memory on a stream of their own, beside the stream that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def copy(self, buffer: Tensor, master: Master, after: Any) -> Copy:
        """Put the copy into the stream, behind `after`."""
        assert isinstance(master, HostMaster)  # files come through ReadAhead
        self._stream.wait_event(after)
        with torch.cuda.stream(self._stream):
            began = mark(self._device)
            buffer[: master.layout.nbytes].copy_(master.bytes, non_blocking=True)
            return Copy(master.layout.nbytes, began, mark(self._device))

    def wait(self, copy: Copy) -> None:
        """Let the stream that computes wait."""
        torch.cuda.current_stream(self._device).wait_event(copy.ended)

    def used(self, buffer: Tensor) -> Any:
        """An event on the stream that computes."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def finish(self, copy: Copy) -> None:
        """Let the CPU wait until the copy is done."""
        copy.ended.synchronize()

    def close(self) -> None:
        """Let the CPU wait for all copies."""
        self._stream.synchronize()


class Onward(Copier, Protocol):
    """A copier from host memory that can be waited for by the CPU."""

    def finish(self, copy: Copy) -> None:
        """Return when this copy is done."""


@dataclass(eq=False)
class _Reading(Copy):
    """A copy that the reading thread does; what it needs is let go of when it is done."""

    work: tuple[Tensor, Master, Any] | None = None
    onward: Copy | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.done = threading.Event()

    @property
    def last(self) -> Copy:
        return self if self.onward is None else self.onward


class ReadAhead:
    """Reads blocks from files by a thread, in the order in which they were asked for.

    On a CPU straight into the buffer. For a GPU into one of two buffers on the host, from where `onward` copies them while
    the thread reads into the other.
    """

    def __init__(self, device: torch.device, onward: Onward | None = None, stage_bytes: int = 0) -> None:
        self._onward = onward
        pin = device.type == "cuda"
        stages = [HostBuffer(stage_bytes, pin) for _ in range(2)] if onward is not None else []
        asked: queue.SimpleQueue[_Reading | None] = queue.SimpleQueue()
        thread = threading.Thread(target=_read_all, args=(asked, onward, stages), name="wanlab reads blocks", daemon=True)
        thread.start()
        self._asked = asked
        self._stop = weakref.finalize(self, _stop, asked, thread, onward)  # the thread does not know us, so we can go

    def copy(self, buffer: Tensor, master: Master, after: Any) -> Copy:
        """Ask the thread to fill the buffer."""
        reading = _Reading(master.layout.nbytes, work=(buffer, master, after))
        self._asked.put(reading)
        return reading

    def wait(self, copy: Copy) -> None:
        """Wait for the thread, and let the device wait for the rest."""
        assert isinstance(copy, _Reading)
        copy.done.wait()
        if copy.error is not None:
            raise copy.error.with_traceback(None)
        if self._onward is not None and copy.onward is not None:
            self._onward.wait(copy.onward)

    def used(self, buffer: Tensor) -> Any:
        """On a CPU what was computed is done."""
        return True if self._onward is None else self._onward.used(buffer)

    def close(self) -> None:
        """End the thread; what it has not begun is not read."""
        self._stop()


def _stop(asked: queue.SimpleQueue[_Reading | None], thread: threading.Thread, onward: Onward | None) -> None:
    while True:
        try:
            asked.get_nowait()
        except queue.Empty:
            break
    asked.put(None)
    thread.join()
    if onward is not None:
        onward.close()


def _read_all(asked: queue.SimpleQueue[_Reading | None], onward: Onward | None, stages: list[HostBuffer]) -> None:
    """What the thread does until it is told None."""
    busy: list[Copy | None] = [None] * len(stages)
    turn = 0
    while (reading := asked.get()) is not None:
        try:
            assert reading.work is not None
            buffer, master, after = reading.work
            if onward is None:
                reading.began = time.perf_counter()
                master.fill(buffer)
                reading.ended = time.perf_counter()
            else:
                source, turn = master, (turn + 1) % len(stages)
                if not isinstance(master, HostMaster):
                    before = busy[turn]
                    if before is not None:
                        onward.finish(before)
                    master.fill(stages[turn].bytes)
                    source = HostMaster(master.layout, stages[turn])
                reading.onward = busy[turn] = onward.copy(buffer, source, after)
        except BaseException as error:  # told to whoever waits
            reading.error = error
        finally:
            reading.work = None
            reading.done.set()
        buffer = master = after = source = reading = None  # type: ignore[assignment]  # what was read for may go


def copier_for(device: torch.device, masters: list[Master], non_blocking: bool) -> Copier:
    """The copier for a device and these masters. Where the device is neither a CPU nor a CUDA GPU copies are done at once."""
    from_files = [master.layout.nbytes for master in masters if not isinstance(master, HostMaster)]
    if non_blocking and device.type == "cuda":
        stream = CudaStream(device)
        return ReadAhead(device, stream, max(from_files)) if from_files else stream
    if non_blocking and device.type == "cpu" and from_files:
        return ReadAhead(device)
    return Direct(device)
