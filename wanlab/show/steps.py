"""The denoising, step by step: two sliders, one for the step and one for the frame, over the clean estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wanlab.show.page import Page, build_page, table_html
from wanlab.show.player import PLAYER, check_frame_rate
from wanlab.show.stills import Frames, check_frames, contact_sheet, encode, plural, spread


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
    clips = list(clips)
    check_frame_rate(frame_rate)
    _check_steps(clips, captions, sigmas)
    kind, encoded = encode(clips)
    frames, height, width, _ = clips[0].shape
    rows = [(str(index), [f"{sigmas[index]:.4g}", caption]) for index, caption in enumerate(captions)]
    return build_page(
        PLAYER,
        {
            "kind": kind,
            "rate": float(frame_rate),
            "mode": "step",
            "sigmas": [float(sigma) for sigma in sigmas],
            "clips": [
                {"label": caption, "height": height, "width": width, **stills.packed()}
                for caption, stills in zip(captions, encoded, strict=True)
            ],
        },
        sheet=contact_sheet([[clips[step][frame] for step in spread(len(clips), 8)] for frame in spread(frames, 3)]),
        title=title,
        text=(
            f"Denoising in {plural(len(clips), 'step')}, sigma {sigmas[0]:.3g} to {sigmas[-1]:.3g}: "
            f"the clean estimate after each, {plural(frames, 'frame')} of {width}x{height}, {frame_rate:g} a second."
        ),
        tables=table_html(rows, ["sigma", ""], folded="All steps"),
    )


def _check_steps(clips: Sequence[Frames], captions: Sequence[str], sigmas: Sequence[float]) -> None:
    if not clips or not len(clips) == len(captions) == len(sigmas):
        found = f"{len(clips)} clips, {len(captions)} captions and {len(sigmas)} sigmas"
        raise ValueError(f"There are {found}; there must be one of each per step, and at least one step.")
    for index, clip in enumerate(clips):
        check_frames(clip, f"The clip of step {index}")
        if clip.shape != clips[0].shape:
            raise ValueError(f"The clip of step {index} is {clip.shape}, not {clips[0].shape}; all must have one shape.")
        if not math.isfinite(sigmas[index]):
            raise ValueError(f"The sigma of step {index} is {sigmas[index]}; it must be finite.")
