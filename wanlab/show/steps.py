"""The denoising of one run, or of two beside each other: a face with a slider for the step and one for the frame.

It shows what the model believed at each step (clean estimates), the numbers that the solver moved (latents and velocities,
channel by channel), curves over the steps, and the seconds of blocks beneath them. All of it travels with the page, so it has
to stay small: pictures and numbers are taken from every n-th frame and cell where there are too many (`thinning`), and numbers
travel in 8 bits.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wanlab.document import Row, table_html
from wanlab.show.page import Face, Page, build_page
from wanlab.show.player import check_frame_rate
from wanlab.show.stills import Frames, check_frames, compressed, contact_sheet, encode, plural, spread

STEPS = Face(
    "Steps",
    (
        "common/clock",
        "common/pictures",
        "steps/maps",
        "steps/curves",
        "steps/blocks",
        "steps/card",
        "steps/stage",
        "steps/steps",
    ),
    ("common/controls", "player/player", "steps/steps"),
)

Numbers = NDArray[np.float32]
_MOST_NUMBERS = 2**20  # of latents, and of velocities: 8 bits each
_MOST_PIXELS = 2**22  # of clean estimates; as JPEG about a third of a byte each
_NOISE_QUALITY = 60  # of pictures of noise, which would take most of the room and of which nobody looks at the pixels


@dataclass(frozen=True, eq=False)
class Denoising:
    """The steps of one run, each of these with one entry a step.

    `clean` are the clean estimates (t, h, w, 3) uint8, and `noisy` pictures of the latents before the step, one for each latent
    frame, or none; `latents` and `velocity` are (c, t, h, w), already thinned, or none. `sigmas` are the noise levels that the
    steps start from, `reused` says whether they were found in the store, `captions` is a line about each, and `block_seconds`
    are those of each block, or nothing where that is unknown. `forks` are no entries a step: what changed from which step on.
    """

    label: str
    sigmas: Sequence[float]
    clean: Sequence[Frames]
    noisy: Sequence[Frames] = ()
    latents: Sequence[Numbers] = ()
    velocity: Sequence[Numbers] = ()
    reused: Sequence[bool] = ()
    captions: Sequence[str] = ()
    block_seconds: Sequence[Sequence[float]] = ()
    forks: Sequence[tuple[int, str]] = ()

    def __post_init__(self) -> None:
        """Refuse what does not fit together here, where the mistake was made."""
        _check(self)


@dataclass(frozen=True)
class Curve:
    """A number a step, None where it is unknown. `log`: it shares a logarithmic axis with others of its kind."""

    name: str
    values: Sequence[float | None]
    unit: str = ""
    shown: bool = False
    log: bool = False


@dataclass(frozen=True)
class Thinning:
    """Of how many frames and cells one is taken: latent frames, cells in a row and in a column, and frames of pixels."""

    latent_frames: int = 1
    cells: int = 1
    frames: int = 1
    pixels: int = 1

    def note(self) -> str:
        """What was left out, as a sentence, or nothing."""
        parts = []
        if self.cells > 1 or self.latent_frames > 1:
            parts.append(f"of latents and velocities {_nth(self.cells, 'cell')} of {_nth(self.latent_frames, 'latent frame')}")
        if self.frames > 1 or self.pixels > 1:
            parts.append(f"of pictures {_nth(self.pixels, 'pixel')} of {_nth(self.frames, 'frame')}")
        return f"To keep the page small it holds {' and '.join(parts)}." if parts else ""


def thinning(steps: int, numbers: tuple[int, ...], pictures: tuple[int, int, int]) -> Thinning:
    """What has to be left out of so many steps, where `numbers` is (c, t, h, w) and `pictures` (frames, height, width).

    Frames are left out before cells, down to about eight latent frames, and of pixels to one for each latent frame.
    """
    channels, latent_frames, height, width = numbers
    frames = cells = 1
    while _left(steps * channels, (latent_frames, frames), (height, cells), (width, cells)) > _MOST_NUMBERS:
        if _left(1, (latent_frames, frames)) > 8 and frames <= cells:
            frames += 1
        else:
            cells += 1
    every = 1 if steps * math.prod(pictures) <= _MOST_PIXELS else 4
    pixels = 1
    while _left(steps, (pictures[0], every), (pictures[1], pixels), (pictures[2], pixels)) > _MOST_PIXELS:
        pixels += 1
    return Thinning(frames, cells, every, pixels)


def steps_page(
    clips: Sequence[Frames],
    captions: Sequence[str],
    sigmas: Sequence[float],
    *,
    frame_rate: float = 16.0,
    title: str = "",
) -> Page:
    """A page that shows the clean estimate of each denoising step: `clips[k]` is (t, h, w, 3) uint8, all of one shape.

    `captions[k]` is a line about step k, `sigmas[k]` the noise level it started from; both one per clip.
    ValueError if the three do not fit together.
    """
    run = Denoising("", list(sigmas), list(clips), captions=list(captions))
    sigma = Curve("sigma", run.sigmas, shown=True)
    return denoising_page([run], [sigma], frame_rate=frame_rate, title=title)


def denoising_page(
    runs: Sequence[Denoising],
    curves: Sequence[Curve] = (),
    *,
    frame_rate: float = 16.0,
    title: str = "",
    pairs: Sequence[tuple[int, ...]] = (),
    thinned: Thinning | None = None,
    told: Sequence[str] = (),
    parted: int | None = None,
) -> Page:
    """A page with one or two runs on a scrubber over steps and frames, and curves over the steps.

    Of two runs `pairs` says which steps stand beside each other, (k, j) for each place of the slider; `told` are sentences
    about them and `parted` is the place from which they differ. ValueError if the parts do not fit together.
    """
    runs, thinned = list(runs), thinned or Thinning()
    check_frame_rate(frame_rate)
    if len(runs) not in (1, 2):
        raise ValueError(f"There are {len(runs)} runs; the steps of one or two can be shown.")
    if len({run.clean[0].shape for run in runs}) > 1:
        raise ValueError("The runs have pictures of different size; only those of one size can stand beside each other.")
    places = list(pairs) or [(k,) * len(runs) for k in range(min(len(run.sigmas) for run in runs))]
    for curve in curves:
        if len(curve.values) != len(places):
            raise ValueError(f"The curve {curve.name!r} has {len(curve.values)} values; there are {len(places)} steps.")
    frames, height, width, _ = runs[0].clean[0].shape
    sigmas = [runs[0].sigmas[place[0]] for place in places]
    notes = [thinned.note()] if thinned.note() else []
    if runs[0].latents:
        notes.append("Latents and velocities are shown in 8 bits.")
    return build_page(
        STEPS,
        {**_content(runs, thinned), "rate": frame_rate / thinned.frames, "pairs": places, "told": list(told), "parted": parted}
        | {"curves": [_curve(curve) for curve in curves]},
        sheet=_sheet(runs, places),
        title=title,
        text=(
            f"Denoising in {plural(len(places), 'step')}, sigma {sigmas[0]:.3g} to {sigmas[-1]:.3g}: "
            f"the clean estimate after each, {plural(frames, 'frame')} of {width}x{height}, {frame_rate:g} a second."
        ),
        notes=[*told, *notes],
        tables=_table(runs, places, curves) + _blocks_table(runs),
    )


def _content(runs: Sequence[Denoising], thinned: Thinning) -> dict[str, object]:
    """What the face shows of the runs: pictures, numbers, and the scale of the numbers, which is one for all steps and runs."""
    kind, clean = encode([frames for run in runs for frames in run.clean])
    stills = iter(clean)
    scales = {
        name: max((float(np.abs(one).max()) for run in runs for one in getattr(run, name)), default=0.0) or 1.0
        for name in ("latents", "velocity")
    }
    limits = {name: min(scale, _large([one for run in runs for one in getattr(run, name)])) for name, scale in scales.items()}
    told = [
        {
            "label": run.label,
            "sigmas": [float(sigma) for sigma in run.sigmas],
            "clean": [next(stills).packed() for _ in run.clean],
            "noisy": [one.packed() for one in compressed(run.noisy, _NOISE_QUALITY)],
            "reused": list(map(bool, run.reused)),
            "captions": list(run.captions),
            "forks": [list(fork) for fork in run.forks],
            "block_seconds": [list(step) for step in run.block_seconds],
            **{name: _bytes(getattr(run, name), scales[name]) for name in scales},
        }
        for run in runs
    ]
    frames, height, width, _ = runs[0].clean[0].shape
    shape = runs[0].latents[0].shape if runs[0].latents else (0, 0, 0, 0)
    size = {"frames": frames, "height": height, "width": width, "every": thinned.frames}
    map_size = dict(zip(("channels", "frames", "height", "width"), shape, strict=True)) | {"every": thinned.latent_frames}
    return {"kind": kind, "runs": told, "pictures": size, "maps": map_size, "scales": scales, "limits": limits}


def _large(numbers: Sequence[Numbers]) -> float:
    """A number than which only one in 200 is larger: outliers would make all others pale."""
    return float(np.quantile(np.abs(np.stack(numbers)), 0.995)) or 1.0 if numbers else 1.0


def _bytes(numbers: Sequence[Numbers], scale: float) -> str:
    """All steps as bytes from 0 to 254, where 127 is zero: step, channel, frame, row, column."""
    if not numbers:
        return ""
    codes = np.rint(np.stack(numbers).astype(np.float64) / scale * 127) + 127
    return base64.b64encode(codes.astype(np.uint8).tobytes()).decode()


def _curve(curve: Curve) -> dict[str, object]:
    known = [None if value is None or not math.isfinite(value) else float(value) for value in curve.values]
    return {"name": curve.name, "unit": curve.unit, "values": known, "shown": curve.shown, "log": curve.log}


def _sheet(runs: Sequence[Denoising], places: Sequence[tuple[int, ...]]) -> Image.Image:
    """Three frames of eight steps; of two runs one frame of each."""
    columns = [places[place] for place in spread(len(places), 8)]
    frames = len(runs[0].clean[0])
    rows = [(0, frame) for frame in spread(frames, 3)] if len(runs) == 1 else [(0, frames // 2), (1, frames // 2)]
    return contact_sheet([[runs[index].clean[place[index]][frame] for place in columns] for index, frame in rows])


def _table(runs: Sequence[Denoising], places: Sequence[tuple[int, ...]], curves: Sequence[Curve]) -> str:
    """All numbers of all steps, and what changed on the way."""
    heads = [f"{curve.name}, {curve.unit}" if curve.unit else curve.name for curve in curves]
    sigmas = [] if any(curve.name == "sigma" for curve in curves) else [run.sigmas for run in runs]
    rows: list[Row] = []
    for number, place in enumerate(places):
        levels = [_short(of[k]) for of, k in zip(sigmas, place, strict=False)]
        step = " | ".join(map(str, dict.fromkeys(place)))
        rows.append((step, [*levels, *(_short(curve.values[number]) for curve in curves), _remark(runs, place)]))
    return table_html(rows, [*(["sigma"] * len(sigmas)), *heads, ""], folded="Numbers of all steps")


def _blocks_table(runs: Sequence[Denoising]) -> str:
    """Milliseconds of each block, a row a block and a column a step."""
    rows: list[Row] = []
    for run in runs:
        label = f"{run.label}, " if run.label else ""
        for block in range(max(map(len, run.block_seconds), default=0)):
            spent = [_short(1000 * step[block]) if block < len(step) else "" for step in run.block_seconds]
            rows.append((f"{label}block {block}", spent))
    steps = max((len(run.sigmas) for run in runs), default=0)
    return table_html(rows, [f"step {step}" for step in range(steps)], folded="Milliseconds of each block")


def _remark(runs: Sequence[Denoising], place: tuple[int, ...]) -> str:
    parts = []
    for run, k in zip(runs, place, strict=True):
        found = ["reused"] if run.reused and run.reused[k] else []
        found += [run.captions[k]] if run.captions and run.captions[k] else []
        found += [f"from here {text}" for at, text in run.forks if at == k]
        if found:
            parts.append(", ".join(found) if len(runs) == 1 else f"{run.label}: {', '.join(found)}")
    return "; ".join(parts)


def _short(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _left(count: int, *sizes: tuple[int, int]) -> int:
    """How many numbers are left of so many times these sizes, of each of which one in so many is taken."""
    return count * math.prod(math.ceil(size / every) for size, every in sizes)


def _nth(every: int, noun: str) -> str:
    return f"every {noun}" if every == 1 else f"one {noun} in {every}"


def _check(run: Denoising) -> None:
    count = len(run.sigmas)
    if not count or len(run.clean) != count:
        raise ValueError(f"There are {len(run.clean)} clips and {count} sigmas; there must be one of each a step, and a step.")
    for name in ("noisy", "latents", "velocity", "reused", "captions", "block_seconds"):
        found = len(getattr(run, name))
        if found not in (0, count):
            raise ValueError(f"{name} has {found} entries; there are {count} steps.")
    for index, clip in enumerate(run.clean):
        check_frames(clip, f"The clip of step {index}")
        if clip.shape != run.clean[0].shape:
            raise ValueError(f"The clip of step {index} is {clip.shape}, not {run.clean[0].shape}; all must have one shape.")
        if not math.isfinite(run.sigmas[index]):
            raise ValueError(f"The sigma of step {index} is {run.sigmas[index]}; it must be finite.")
    shapes = {one.shape for one in (*run.latents, *run.velocity)}
    if len(shapes) > 1 or any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"latents and velocity have the shapes {shapes}; all must be alike, (c, t, h, w).")
