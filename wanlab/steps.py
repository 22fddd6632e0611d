"""The steps of a run, replayed from the store as they are asked for: one by one, as a table, or as a scrubber."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np

from wanlab import show
from wanlab.bench import Bench
from wanlab.denoise import Step
from wanlab.latents import Preview
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas


class Replayed(Protocol):
    """Whose steps they are; `wanlab.run.Run` is one."""

    id: str
    timeline: Timeline
    facts: Mapping[str, Any]

    def replay(self) -> Iterator[Step]: ...  # noqa: D102


class Steps(Sequence[Step]):
    """The steps of a run, replayed from the store as they are asked for."""

    def __init__(self, run: Replayed, bench: Bench, preview: Callable[[], Preview]) -> None:
        self._run, self._bench, self._preview = run, bench, preview

    def __len__(self) -> int:
        return int(self._run.facts["steps_done"])

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return list(self)[index]
        wanted = range(len(self))[index]
        return next(step for step in self if step.index == wanted)

    def __iter__(self) -> Iterator[Step]:
        return self._run.replay()

    def decode(self, k: int) -> np.ndarray:
        """Frames (t, h, w, 3) uint8 of the clean estimate of step k, by the VAE."""
        return self._bench.model.decode(self[k].clean)

    def page(self, *, full: bool = False) -> show.Page:
        """A scrubber over the clean estimates: quick previews by a linear map, or with `full` decoded by the VAE."""
        steps, settings = list(self), self._run.timeline.settings
        preview = self._bench.model.decode if full else self._preview()
        return show.steps_page(
            [preview(step.clean) for step in steps],
            [_caption(step) for step in steps],
            [step.sigma for step in steps],
            frame_rate=settings.clip.frame_rate,  # not of the clip, which would have to be decoded
            title=settings.prompt,
        )

    def table(self) -> pandas.DataFrame:
        """A row a step: sigma, standard deviation of the velocity, seconds, reused, and what techniques measured (`feta`)."""
        import pandas

        rows = [
            {
                "sigma": step.sigma,
                "velocity": float(step.velocity.float().std()),
                "seconds": step.seconds,
                "reused": step.reused,
                **step.notes,
            }
            for step in self
        ]
        return pandas.DataFrame(rows).rename_axis("step")

    def __repr__(self) -> str:
        return f"Steps({len(self)} of {len(self._run.timeline)} steps of run {self._run.id})"

    def to_html(self, path: str | Path, *, full: bool = False) -> Path:
        """Write the scrubber as one complete HTML file; the path is returned. FileError if it cannot be written."""
        return self.page(full=full).to_html(path)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)} if len(self) else {"text/plain": repr(self)}


def _caption(step: Step) -> str:
    notes = "".join(f"{name} {value:.3f}, " for name, value in step.notes.items())
    return f"velocity {step.velocity.float().std():.2f}, {notes}{step.seconds:.2f} s"
