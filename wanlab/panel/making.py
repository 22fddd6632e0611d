"""Makes the runs of a panel's queue, one after the other, and tells what becomes of each."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable
from typing import Any

from wanlab.document import shortened
from wanlab.errors import BusyError
from wanlab.panel.benches import Benches
from wanlab.panel.queue import Job, Queue
from wanlab.panel.told import measured_told, planned_numbers
from wanlab.panel.watching import Watch
from wanlab.run import Run, check_run, performing, preview_of
from wanlab.timeline import Timeline

Say = Callable[..., None]
_ENDED = 6  # jobs that ended are listed, no more


class Maker:
    """The queue of a panel and the runs that came of it.

    `say` tells the browser, `failed` hears of errors, and `ended` is called after each run.
    """

    def __init__(self, benches: Benches, say: Say, failed: Callable[[Exception], None], ended: Callable[[], None]) -> None:
        self._benches, self._say, self._failed, self._over = benches, say, failed, ended
        self.runs: list[Run] = []
        self.ended: list[Job] = []
        self._telling = threading.RLock()
        self.queue = Queue(self._work, self.tell)

    def tell(self) -> None:
        """Tell of the queue as it is."""
        # Looked at and told in one: two threads change the queue, and what is told last must be what came last.
        with self._telling:
            running = self.queue.running
            self._say(
                queue={
                    "running": None if running is None else _row(running),
                    "waiting": [_row(job) for job in self.queue.waiting],
                    "ended": [_row(job) for job in self.ended[-_ENDED:]][::-1],
                }
            )

    def _work(self, job: Job) -> None:
        """Make one run. Whatever goes wrong is told and noted, and the next job begins: nobody else would see it here."""
        try:
            self._make(job)
        except Exception as error:
            job.status, job.problem = "failed", "".join(traceback.format_exception_only(error)).strip()
            self._failed(error)
        if job.run is not None:
            job.status = job.run.status
            self.runs.append(job.run)
        elif job.status == "running":
            job.status = "stopped"
        self.ended.append(job)
        self._say(running=None)
        if job.status == "done":
            self._say(clip=clip_told(job), compared=None)
        self._over()

    def _make(self, job: Job) -> None:
        """Wait for the model if a cell has it, then make the run."""
        while not job.stopping.is_set():
            try:
                self._made(job)
            except BusyError:
                if job.run is not None:
                    raise
            else:
                return
            self._say(running={"number": job.number, "stage": "wait", "done": 0, "of": 0})
            self._benches.own.model.turn.free(0.5)

    def _made(self, job: Job) -> None:
        bench, timeline = self._benches.ready(job.model), Timeline(job.settings)
        check_run(bench, timeline)
        planned = bench.planned(timeline, {}, set())
        job.planned = planned_numbers(planned)
        watch = Watch(job, planned, bench.preview, lambda told: self._say(running=told))
        with contextlib.closing(performing(bench, timeline)) as events:  # who closes them stops the run
            for now in events:
                job.run = now.run
                watch.heard(now)
                if job.stopping.is_set():
                    break
        if job.run is not None and job.run.status == "done" and bench.preview is None:
            preview_of(job.run)  # fitted, so that the next run is seen while it is made


def clip_told(job: Job) -> dict[str, Any]:
    """The finished clip of a job: what a player is given, and measured beside planned numbers."""
    run: Run = job.run
    return {
        "number": job.number,
        "run": run.id,
        "label": shortened(run.settings.prompt, 80) or "no prompt",
        "content": run.page().content,
        "measured": measured_told(run.facts, job.planned),
    }


def _row(job: Job) -> dict[str, Any]:
    run = job.run
    return {
        "number": job.number,
        "label": job.label,
        "status": job.status,
        "stopping": job.stopping.is_set(),
        "problem": job.problem,
        "run": run.id if run else "",
        "seconds": run.seconds if run and job.status != "running" else None,
        "steps": [run.facts["steps_done"], len(run.timeline)] if run else None,
    }
