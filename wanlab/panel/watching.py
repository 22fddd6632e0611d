"""What people see of a run while it is made: the stage, step k of n, seconds, and a preview of the clean estimate."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from wanlab.denoise import Step
from wanlab.latents import Preview
from wanlab.panel.queue import Job
from wanlab.plans import PlannedRun
from wanlab.run import Now
from wanlab.show.stills import Stills, spread

# A preview is small and quick, so that it takes no part of the run's time: frames, pixels of the longer side, a second.
_FRAMES, _SIDE, _EVERY = 33, 320, 0.1
_QUALITY = 80


class Watch:
    """Follows one run and tells the browser of it; `tell` takes what is worth saying."""

    def __init__(self, job: Job, planned: PlannedRun, preview: Preview | None, tell: Callable[[dict[str, Any]], None]) -> None:
        self._job, self._planned, self._preview, self._tell = job, planned, preview, tell
        self._done = 0
        self._seconds = self._passes = 0.0
        self._previewed = 0.0
        self._step: dict[str, Any] = {}

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step that is computed, so far in this run; None before the first."""
        computed = self._done - sum(self._planned.reused[: self._done])
        return self._seconds / computed if computed and self._seconds else None

    def heard(self, now: Now) -> None:
        """Tell of a stage that begins, or of a step that was made."""
        preview = None
        if now.step is not None:
            self._count(now.step)
            preview = self._pictures(now.step)
        self._tell(
            {
                "number": self._job.number,
                "plan": self._job.plan,
                "stage": now.stage,
                "done": self._done,
                "of": len(self._planned.reused),
                "step_seconds": self.step_seconds,
                "left": self._left(),
                "stopping": self._job.stopping.is_set(),
                **self._step,
                **({} if preview is None else {"preview": preview}),
            }
        )

    def _count(self, step: Step) -> None:
        self._done = step.index + 1
        self._step |= {"sigma": step.sigma, "reused": step.reused}
        if not step.reused:
            self._seconds += step.seconds
            self._passes += step.calls

    def _left(self) -> float | None:
        """Seconds until the clip is there, from those of the passes so far; None before the first."""
        if not self._passes:
            return None
        ahead = sum(self._planned.passes[self._done :])
        return self._seconds / self._passes * ahead + self._job.planned.get("decode", 0.0)

    def _pictures(self, step: Step) -> dict[str, Any] | None:
        """A preview, unless the last one was a moment ago; of the last step always."""
        now = time.perf_counter()
        if self._preview is None or (now - self._previewed < _EVERY and self._done < len(self._planned.reused)):
            return None
        self._previewed, self._step["seen"] = now, step.index
        return _stills(self._preview(step.clean), self._planned.timeline.settings.clip.frame_rate)


def _stills(frames: np.ndarray, rate: float) -> dict[str, Any]:
    """A few small pictures of frames (t, h, w, 3) uint8, as the players take them, and how fast they play."""
    kept = spread(len(frames), _FRAMES)
    pieces = []
    for index in kept:
        picture = Image.fromarray(frames[index])
        picture.thumbnail((_SIDE, _SIDE))
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=_QUALITY)
        pieces.append(written.getvalue())
    size = {"width": picture.width, "height": picture.height, "rate": rate * len(kept) / len(frames)}
    return {**Stills(tuple(pieces)).packed(), **size}
