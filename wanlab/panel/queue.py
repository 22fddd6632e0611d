"""A queue of runs, worked off by one thread. No torch: what a run does is somebody else's.

A thread of its own, because whether a click is heard while a cell runs differs from one version of ipykernel to the next.
It begins with the first job and ends with the last, so a panel that does nothing has none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wanlab import aside
from wanlab.model_settings import ModelSettings
from wanlab.settings import Settings

Status = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(eq=False)
class Job:
    """What somebody asked for: settings, how the model is to be loaded, and what has become of it.

    `plan` is the number of the plan that was shown for it, `run` is the Run once it has begun, `problem` why it failed.
    """

    number: int
    settings: Settings
    model: ModelSettings
    label: str = ""
    plan: int = 0
    status: Status = "waiting"
    run: Any = None
    problem: str = ""
    planned: Mapping[str, float] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)


class Queue:
    """Jobs in their order. `work` does one, in the queue's thread, and ends soon after `job.stopping` is set.

    `changed` is told after every change, in the thread that made it.
    """

    def __init__(self, work: Callable[[Job], None], changed: Callable[[], None]) -> None:
        self._work, self._changed = work, changed
        self._idle = threading.Condition()
        self._waiting: list[Job] = []
        self._thread: threading.Thread | None = None
        self._count = 0
        self.running: Job | None = None

    @property
    def waiting(self) -> tuple[Job, ...]:
        """The jobs that have not begun, the next one first."""
        with self._idle:
            return tuple(self._waiting)

    def __len__(self) -> int:
        """How many jobs wait or run."""
        with self._idle:
            return len(self._waiting) + (self.running is not None)

    def add(self, settings: Settings, model: ModelSettings, label: str = "", plan: int = 0) -> Job:
        """Put a job at the end."""
        with self._idle:
            self._count += 1
            job = Job(self._count, settings, model, label, plan)
            self._waiting.append(job)
            if self._thread is None:
                self._thread = aside.start(self._loop, "wanlab panel", self.stop_all)
        self._changed()
        return job

    def remove(self, number: int) -> None:
        """Take a job out that has not begun."""
        with self._idle:
            self._waiting = [job for job in self._waiting if job.number != number]
        self._changed()

    def move(self, number: int, by: int) -> None:
        """Let a job wait so many places longer, or if `by` is below 0 shorter."""
        with self._idle:
            place = next((index for index, job in enumerate(self._waiting) if job.number == number), None)
            if place is not None:
                job = self._waiting.pop(place)
                self._waiting.insert(max(0, place + by), job)
        self._changed()

    def stop(self) -> None:
        """Stop the job that runs; the next one begins."""
        with self._idle:
            if self.running is not None:
                self.running.stopping.set()
        self._changed()

    def stop_all(self) -> None:
        """Stop the job that runs, and forget the others."""
        with self._idle:
            self._waiting.clear()
        self.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing runs or waits; False if that takes longer."""
        with self._idle:
            return self._idle.wait_for(lambda: self._thread is None, seconds)

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._changed()
            self._work(job)
        self._changed()

    def _next(self) -> Job | None:
        with self._idle:
            self.running = self._waiting.pop(0) if self._waiting else None
            if self.running is None:
                self._thread = None
                self._idle.notify_all()
            else:
                self.running.status = "running"
            return self.running
