"""The steps of a run, replayed from the store as they are asked for: one by one, as a table, or as a scrubber."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from torch import Tensor

from wanlab import show
from wanlab.bench import Bench
from wanlab.denoise import Step
from wanlab.latents import Preview
from wanlab.outline import Outline
from wanlab.show.steps import Thinning, thinning
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas

_NOTES = {"feta": "feta factor", "cache": "cache answers"}  # what a technique's number is called beside the others


class Replayed(Protocol):
    """Whose steps they are; `wanlab.run.Run` is one."""

    id: str
    timeline: Timeline
    facts: Mapping[str, Any]

    def replay(self) -> Iterator[Step]: ...  # noqa: D102


@dataclass(frozen=True)
class Measured:
    """Numbers of a step; None is unknown.

    `velocity` and `latents` are standard deviations, `change` is how far the clean estimate is from that of the step before, as
    a part of its size (`relative`), `calls` the passes of the model that the step takes, whenever it was computed.
    """

    sigma: float
    velocity: float
    latents: float
    change: float | None
    calls: float | None
    seconds: float
    reused: bool
    block_seconds: tuple[float, ...]
    notes: Mapping[str, float]


class Steps(Sequence[Step]):
    """The steps of a run, replayed from the store as they are asked for."""

    def __init__(self, run: Replayed, bench: Bench, preview: Callable[[], Preview]) -> None:
        self._run, self._bench, self._preview = run, bench, cache(preview)  # asked for at every step, and read from a file

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

    def measured(self) -> Iterator[tuple[Step, Measured]]:
        """Each step with its numbers."""
        calls = Outline(self._run.timeline, self._bench.facts).calls
        before: Tensor | None = None
        for step in self:
            clean = step.clean
            seconds = _own(self._run.facts["seconds"].get("steps", []), step)
            yield (
                step,
                Measured(
                    sigma=step.sigma,
                    velocity=float(step.velocity.float().std()),
                    latents=float(step.latents.float().std()),
                    change=None if before is None else relative(before, clean),
                    calls=_calls([call.skipped for call in calls[step.index]], step.notes.get("cache")),
                    seconds=step.seconds if seconds is None else seconds,
                    reused=seconds is None,
                    block_seconds=self._block_seconds(step),
                    notes=step.notes,
                ),
            )
            before = clean

    def _block_seconds(self, step: Step) -> tuple[float, ...]:
        """The seconds of each block: this run's own, or of a reused step those of the run that computed it last."""
        own = _own(self._run.facts.get("block_seconds", []), step)
        return step.block_seconds if own is None else tuple(own)

    def gather(self, label: str, *, full: bool = False, share: int = 1) -> tuple[show.Denoising, list[Measured], Thinning]:
        """What the scrubber shows of the run, small enough to be one of `share` in a page, with the numbers of its steps."""
        draw, thinned = self._bench.model.decode if full else self._preview(), Thinning()
        parts: list[tuple[np.ndarray, ...]] = []
        numbers = []
        for step, measured in self.measured():
            clean = draw(step.clean)
            if not parts:
                count = share * len(self)
                thinned = thinning(count, tuple(step.latents.shape[1:]), (len(clean), *clean.shape[1:3]))
            # Of the noisy ones a frame for each latent frame: noise takes much room, and there is little to see in it
            noisy = self._preview()(step.latents)[::4] if share == 1 else clean[:0]
            pictures = [_smaller(frames, thinned.pixels) for frames in (clean[:: thinned.frames], noisy)]
            parts.append((*pictures, _thin(step.latents, thinned), _thin(step.velocity, thinned)))
            numbers.append(measured)
        told = show.Denoising(
            label=label,
            sigmas=[one.sigma for one in numbers],
            clean=[part[0] for part in parts],
            noisy=[part[1] for part in parts] if share == 1 else (),
            latents=[part[2] for part in parts],
            velocity=[part[3] for part in parts],
            reused=[one.reused for one in numbers],
            block_seconds=[one.block_seconds for one in numbers],
            forks=[(at, _told(changes)) for at, changes in self._run.timeline.forks if at < len(numbers)],
        )
        return told, numbers, thinned

    def page(self, *, full: bool = False) -> show.Page:
        """A scrubber over steps and frames: clean estimates, latents, velocities, and curves over the steps.

        The clean estimates are quick previews by a linear map, or with `full` decoded by the VAE. Beneath the curves, and on
        their axis, is a map of the seconds of each block, as `blocks()` has them.
        """
        told, numbers, thinned = self.gather("", full=full)
        settings = self._run.timeline.settings
        return show.denoising_page(
            [told],
            curves(numbers),
            frame_rate=settings.clip.frame_rate,  # not of the clip, which would have to be decoded
            title=settings.prompt,
            thinned=thinned,
        )

    def table(self) -> pandas.DataFrame:
        """A row a step: sigma, standard deviations of velocity and latents, change of the estimate, calls, seconds, reused.

        Then what techniques measured (`feta`, `cache`). `change` is relative to the step before; `reused` is of this run,
        and so are `seconds`; of a reused step they are those of the run that computed it. Unknown is NaN.
        """
        import pandas

        names = ("sigma", "velocity", "latents", "change", "calls", "seconds", "reused")
        rows = [{name: getattr(one, name) for name in names} | dict(one.notes) for _, one in self.measured()]
        return pandas.DataFrame(rows).astype({"change": float, "calls": float} if rows else {}).rename_axis("step")

    def blocks(self) -> pandas.DataFrame:
        """A row a step, a column a block: its seconds, all passes together, and with the wait for its weights.

        0 is a block that a cache or skip-layer guidance left out. NaN is unknown: of a transformer that is compiled whole, and
        of steps that an earlier version stored. Of a reused step they are those of the run that computed it.
        """
        import pandas

        rows = [self._block_seconds(step) for step in self]
        count = max(map(len, rows), default=0)
        table = pandas.DataFrame([row or [float("nan")] * count for row in rows], columns=range(count), dtype=float)
        return table.rename_axis(index="step", columns="block")

    def __repr__(self) -> str:
        return f"Steps({len(self)} of {len(self._run.timeline)} steps of run {self._run.id})"

    def to_html(self, path: str | Path, *, full: bool = False) -> Path:
        """Write the scrubber as one complete HTML file; the path is returned. FileError if it cannot be written."""
        return self.page(full=full).to_html(path)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)} if len(self) else {"text/plain": repr(self)}


def curves(numbers: Sequence[Measured]) -> list[show.Curve]:
    """The curves over the steps of one run."""
    noted = dict.fromkeys(name for one in numbers for name in one.notes)
    return [
        show.Curve("sigma", [one.sigma for one in numbers], shown=True),
        show.Curve("velocity (std)", [one.velocity for one in numbers], shown=True),
        show.Curve("latents (std)", [one.latents for one in numbers]),
        show.Curve("change of the estimate", [one.change for one in numbers], shown=True),
        *(show.Curve(_NOTES.get(name, f"{name} "), [one.notes.get(name) for one in numbers], shown=True) for name in noted),
        show.Curve("model calls", [one.calls for one in numbers]),
        show.Curve("seconds", [one.seconds for one in numbers], "s"),
    ]


def relative(value: Tensor, reference: Tensor) -> float:
    """How far a tensor is from another one, as a part of that one's size (Frobenius norms)."""
    value, reference = value.float(), reference.float()
    return float((value - reference).norm() / reference.norm())


def _own(noted: Sequence[Any], step: Step) -> Any:
    """What a run noted of a step that it computed itself; None if it did not, or noted nothing."""
    return noted[step.index] if step.index < len(noted) else None


def _calls(skipped: Sequence[bool | None], answered: float | None) -> float | None:
    """The passes that a step takes: as counted when it was computed, or else as planned."""
    if answered is not None:
        return round(len(skipped) * (1 - answered))
    return None if None in skipped else float(sum(not one for one in skipped))


def _thin(latents: Tensor, thinned: Thinning) -> np.ndarray:
    """(1, c, t, h, w) -> (c, t', h', w') float32."""
    cells = slice(None, None, thinned.cells)
    return latents[0, :, :: thinned.latent_frames, cells, cells].float().cpu().numpy()


def _smaller(frames: np.ndarray, every: int) -> np.ndarray:
    """Pictures (t, h, w, 3) in which one pixel stands for the mean of so many in a row and in a column."""
    t, h, w, _ = (size // (every if axis in (1, 2) else 1) for axis, size in enumerate(frames.shape))
    blocks = frames[:, : h * every, : w * every].reshape(t, h, every, w, every, 3)
    return blocks.mean((2, 4)).round().astype(np.uint8) if every > 1 else frames


def _told(changes: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes)
