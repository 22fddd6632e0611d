"""The image mode of the evaluation: pictures of held-out scenes are set in motion (`python -m wanlab.tiny.evaluate --image`).

The picture is the first frame of a rendered clip, the prompt the scene's canonical caption. Two questions are asked: does
the judge of detector.py see the motion that was asked for, and does the clip begin (and end, where the last picture is
given too) with the very picture that was given, measured as the peak signal-to-noise ratio (PSNR).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wanlab.metrics import psnr
from wanlab.tiny import clips, tiny_path, vae
from wanlab.tiny.evaluate import BATCH, Frames, Score, as_json, details, score, sheet, spread, table, through_vae
from wanlab.tiny.image_to_video import Animator, known_frames

ROWS = {"start": "first picture", "both": "first and last picture", "end": "last picture", "clip": "first five frames"}


@dataclass(frozen=True)
class Result:
    """The clips of one kind of known frames, how they are judged, and how near their known ends are to the given ones."""

    made: tuple[Frames, ...]
    score: Score
    psnr: dict[int, list[float]]  # by frame (0 or -1), in dB, for every clip


def animate(animator: Animator, scenes: Sequence[clips.Scene], true: Tensor, kind: str, cfg: float, steps: int) -> Result:
    """Make a clip of each of the `true` ones (n, 3, t, h, w) from its known frames and its caption; the seed is its index."""
    known = known_frames(kind, true.shape[2])
    made: list[Frames] = []
    for first in range(0, len(scenes), BATCH):
        some = slice(first, first + BATCH)
        captions = [clips.caption(scene) for scene in scenes[some]]
        moving = animator(true[some], known, captions, range(first, first + len(captions)), cfg, steps)
        made += [clips.to_frames(clip).numpy() for clip in moving]
    given = [clips.to_frames(clip).numpy() for clip in true]
    ends = [frame for frame in (0, -1) if known[frame]]
    found = {frame: [psnr(one[[frame]], other[[frame]]) for one, other in zip(made, given, strict=True)] for frame in ends}
    return Result(tuple(made), score(scenes, made), found)


def psnr_table(results: dict[str, dict[int, list[float]]]) -> str:
    """Markdown: mean and lowest PSNR of the first and the last frame, where these were given."""
    lines = ["| clips | n | first frame, dB (lowest) | last frame, dB (lowest) |", "|---|---|---|---|"]
    for name, found in results.items():
        cells = [f"{np.mean(found[frame]):.1f} ({min(found[frame]):.1f})" if frame in found else "" for frame in (0, -1)]
        lines.append(f"| {name} | {len(next(iter(found.values())))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def held_out(count: int | None, frames: int) -> tuple[list[clips.Scene], Tensor]:
    """So many held-out scenes (all if None), evenly spread, and a true clip of each: (n, 3, t, h, w) in -1..1."""
    every = clips.scenes(held_out=True)
    seeds = spread(len(every), len(every) if count is None else count)
    scenes = [every[seed] for seed in seeds]
    made = [
        clips.random_clip(scene, frames, vae.SIDE, random.Random(seed), lattice=True)
        for seed, scene in zip(seeds, scenes, strict=True)
    ]
    return scenes, _rounded(torch.stack(made))


def every_motion(count: int, frames: int) -> tuple[list[clips.Scene], Tensor]:
    """Pictures of held-out scenes that stand still, each with all motions: scenes, and clips that begin so (n, 3, t, h, w).

    A picture then tells nothing of the motion; the prompt alone does. (With another motion a scene may be one of training.)
    """
    still = [scene for scene in clips.scenes(held_out=True) if scene.motion == "still"]
    scenes: list[clips.Scene] = []
    shown: list[Tensor] = []
    for k in spread(len(still), count):
        clip = clips.random_clip(still[k], frames, vae.SIDE, random.Random(k), lattice=True)
        asked = [replace(still[k], motion=motion) for motion in clips.MOTIONS]
        scenes += [scene for scene in asked if scene.allowed]
        shown += [clip] * (len(scenes) - len(shown))
    return scenes, _rounded(torch.stack(shown))


def _rounded(clip: Tensor) -> Tensor:
    """The values that pictures of uint8 have."""
    return ((clip + 1) * 127.5).round() / 127.5 - 1


def main(options: argparse.Namespace) -> int:
    """Animate, judge and print; `options` are those of evaluate.py."""
    folder = options.folder or Path(tiny_path("tiny-i2v") if options.model == "tiny" else options.model)
    animator = Animator(folder)
    scenes, true = held_out(options.count, options.frames)
    begin = time.perf_counter()
    results = {ROWS[kind]: animate(animator, scenes, true, kind, options.cfg, options.steps) for kind in options.known}
    if options.stills:
        alike = every_motion(options.stills, options.frames)
        results["still pictures, every motion"] = animate(animator, *alike, "start", options.cfg, options.steps)
    seconds = (time.perf_counter() - begin) / sum(len(result.made) for result in results.values())
    given = [clips.to_frames(clip).numpy() for clip in true]
    some = spread(len(given), min(50, len(given)))
    decoded = through_vae(animator.vae, [given[k] for k in some])
    bound = {end: [psnr(one[[end]], given[k][[end]]) for one, k in zip(decoded, some, strict=True)] for end in (0, -1)}
    first = next(iter(results.values()))
    asked = f"{options.folder or folder.name}: {options.frames} frames, {options.steps} steps, cfg {options.cfg:g}"
    scores = {name: result.score for name, result in results.items()} | {"true": score(scenes, given)}
    print(f"{asked}\n\n{table(scores)}\n\n{details(first.score)}\n")
    print(psnr_table({name: result.psnr for name, result in results.items()} | {"true, through the VAE": bound}))
    print(f"\nGeneration: {seconds:.2f} seconds a clip, {BATCH} at a time.")
    if options.json:
        facts: dict[str, Any] = {"asked": asked, "seconds_per_clip": seconds}
        for name, result in results.items():
            facts[name] = as_json(result.score) | {f"psnr_db_of_frame_{end}": values for end, values in result.psnr.items()}
        options.json.write_text(json.dumps(facts, indent=1))
    if options.sheet:
        sheet(first.score, first.made).save(options.sheet)
    return 0
