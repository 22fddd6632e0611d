"""Measure the constants of TeaCache and MagCache on the shipped tiny Wans, and write them beside their weights.

    python -m wanlab.tiny.calibrate            after each training: assembling the weights anew removes the constants

Both caches use the residual of the blocks again (wanlab/techniques/cache.py), so it is watched in runs without a cache:

- MagCache: the ratio of its norms from step to step, mean over tokens, prompts and branches, at the declared defaults.
- TeaCache: its relative change from step to step against that of the embedded timestep, at several numbers of steps and shifts.
  A line through zero, which is never negative and never falls, fits the tiny Wan as well (r^2 .67) as the authors' fourth
  degree (.68).

The thresholds are those that skip a third of the steps at the declared defaults.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wanlab.denoise import denoise
from wanlab.inputs import Inputs
from wanlab.model import finding
from wanlab.model.model import Model
from wanlab.settings import ModelSettings, Settings
from wanlab.skips import Facts, rule_of
from wanlab.store import StepStore
from wanlab.timeline import Timeline
from wanlab.tiny import clips, tiny_path
from wanlab.tiny.vae import SIDE
from wanlab.weights.time_layers import read_time_embedding

CLIPS = 4
GRIDS = tuple({"steps": steps, "shift": shift} for steps in (10, 20, 40) for shift in (1.0, 3.0, 6.0))
MAX_SKIP = 3
SPEED_UP = 1.5


@contextlib.contextmanager
def watched(transformer: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Within, a list that grows by the residual of the blocks (b, tokens, dim) at every call."""
    entered: list[Tensor] = []
    residuals: list[Tensor] = []

    def enter(module: torch.nn.Module, latents: object, embedded: Tensor) -> None:
        entered[:] = [embedded.flatten(2).transpose(1, 2)]

    def leave(module: torch.nn.Module, hidden: tuple[Tensor, ...]) -> None:
        residuals.append(hidden[0] - entered[0])

    hooks = [transformer.patch_embedding.register_forward_hook(enter)]  # type: ignore[union-attr]
    hooks += [transformer.norm_out.register_forward_pre_hook(leave)]  # type: ignore[union-attr]
    try:
        yield residuals
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def residuals(model: Model, scene: clips.Scene, **grid: float) -> tuple[list[Tensor], list[Tensor]]:
    """Those of the positive and of the negative calls of a run that makes a clip of this scene, step by step."""
    rng = random.Random(str(scene))
    settings = Settings(prompt=clips.caption(scene, rng)).but(grid)
    with tempfile.TemporaryDirectory() as folder, watched(model.transformer) as seen:
        inputs = Inputs(Path(folder) / "inputs")
        if model.facts.image_to_video:
            true = clips.to_frames(clips.random_clip(scene, settings.frames, SIDE, rng)).numpy()
            settings = settings.but({"image": inputs.keep("image", true[0])})
        for _ in denoise(model, Timeline(settings), StepStore(Path(folder) / "steps"), inputs, fresh=True):
            pass
    return seen[::2], seen[1::2]


def ratios(steps: list[Tensor]) -> np.ndarray:
    """How the norm of a token's residual changes from each step to the next, mean over tokens: (n,), the first one 1."""
    norms = [step.norm(dim=-1) for step in steps]
    return np.array([1.0, *(float((now / before).mean()) for before, now in pairwise(norms))])


def changes(steps: list[Tensor]) -> list[float]:
    """mean |r - r'| / mean |r'| from each step to the next."""
    return [float((now - before).abs().mean() / before.abs().mean()) for before, now in pairwise(steps)]


def calibrate(name: str) -> dict[str, dict[str, object]]:
    """The constants of the caches of the tiny Wan of this name."""
    model = Model(ModelSettings(model=name), finding.find(name))
    embedding = read_time_embedding(Path(tiny_path(name)) / "transformer")
    scenes = [clips.random_scene(random.Random(seed)) for seed in range(CLIPS)]
    told: list[float] = []
    seen: list[float] = []
    for grid in GRIDS:
        for branch in (branch for scene in scenes[:2] for branch in residuals(model, scene, **grid)):
            told += embedding.changes(Settings().but(grid).grid.timesteps).tolist()
            seen += changes(branch)
    slope = float(np.dot(told, seen) / np.dot(told, told))
    means = np.mean([ratios(branch) for scene in scenes for branch in residuals(model, scene)], axis=0)
    caches: dict[str, dict[str, object]] = {
        "teacache": {"polynomial": [round(slope, 4), 0.0], "threshold": 1.0},
        "magcache": {"ratios": means.round(5).tolist(), "threshold": 1.0, "max_skip": MAX_SKIP},
    }
    facts = Facts("", caches=caches, read=lambda: embedding)
    for kind, constants in caches.items():
        rule = rule_of(Settings().but({"cache.kind": kind, "cache.speed_up": SPEED_UP}), facts)
        assert rule is not None
        constants["threshold"] = float(np.ceil(1000 * rule.threshold) / 1000)
    return caches


def main() -> None:
    """Calibrate both tiny Wans."""
    torch.set_num_threads(1)
    for name in ("tiny", "tiny-i2v"):
        lines = (f" {json.dumps(kind)}: {json.dumps(constants)}" for kind, constants in calibrate(name).items())
        (Path(tiny_path(name)) / "caches.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
