"""Metrics of runs, kept beside them: each is a column of the log, `metrics.flicker` and so on."""

from __future__ import annotations

import numpy as np

from wanlab import metrics
from wanlab.errors import SettingsError
from wanlab.run import Run
from wanlab.tiny.wording import prompt_score

TINY = ("tiny", "tiny-i2v")  # the models whose clips the judge can read


def measure(run: Run, reference: Run | None = None) -> dict[str, float | None]:
    """What can be said of a clip by arithmetic, as numbers by name; also kept in the log, as columns `metrics.*`.

    By itself: `flicker`, `motion` (pixels a frame), `sharpness`, and for clips of the tiny models `prompt_score`, the part of
    the prompt that shows. Against a reference run of the same size also `psnr` (decibels), `ssim` and `latent_error`. What is
    not defined is None, such as the motion of a picture; of equal clips psnr is infinite, which the log cannot hold. Raises
    SettingsError for a reference of another size.
    """
    frames, settings = run.clip.frames, run.settings
    judged = run.facts["model"]["name"] in TINY
    found: dict[str, float | None] = {
        "flicker": metrics.flicker(frames),
        "motion": metrics.motion(frames),
        "sharpness": metrics.sharpness(frames),
        "prompt_score": prompt_score(frames, settings.prompt) if judged else None,
    }
    if reference is not None:
        found |= _against(run, reference)
    found = {name: None if value is None or np.isnan(value) else value for name, value in found.items()}
    run._bench.log.measure(run.id, found)
    return found


def _against(run: Run, reference: Run) -> dict[str, float | None]:
    """The metrics that need another run."""
    frames, other = run.clip.frames, reference.clip.frames
    if frames.shape != other.shape:
        raise SettingsError(
            f"Run {run.id} has frames {_size(frames)} and its reference {reference.id} {_size(other)}; take a reference of the "
            "same size and length."
        )
    mine, its = _end(run), _end(reference)
    return {
        "psnr": metrics.psnr(frames, other),
        "ssim": metrics.ssim(frames, other),
        "latent_error": metrics.latent_error(mine, its) if mine.shape == its.shape else None,
    }


def _size(frames: np.ndarray) -> str:
    return f"{len(frames)} x {frames.shape[2]} x {frames.shape[1]}"


def _end(run: Run) -> np.ndarray:
    """The latents that a run ended with (1, c, t, h, w), as they were decoded."""
    return run.final.float().cpu().numpy()
