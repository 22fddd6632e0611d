"""Sweeps against single calls: 5 x 5 values and 2 seeds, with what they share, and 50 calls of `WanPipeline` for them.

    python benchmarks/sweeps.py [--rounds 1] [--steps 20] [--kinds late cost apart]

Both work in this process with one thread and their weights loaded; half of the calls are made before the sweep and half after
it. Seconds are CPU seconds of the process, so that waiting for other programs does not count; of several rounds the median
ratio counts, with the least and the greatest. The sweep also writes clips and log and measures every clip; the pipeline does
none of these, and techniques that it lacks cost it nothing here: its calls are plain ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import WanPipeline
from measuring import machine

import wanlab as wl
from wanlab.settings import Settings

PROMPT = "a red circle moves right on a blue background"
SEEDS = (0, 1)
KINDS: Mapping[str, tuple[str, Mapping[str, Sequence[Any]]]] = {
    "late": (
        "act from half-way: feta.weight x feta.start_percent",
        {"feta.weight": [1, 2, 4, 6, 8], "feta.start_percent": [0.5, 0.6, 0.7, 0.8, 0.9]},
    ),
    "cost": (
        "cost only: blocks_to_swap x prefetch_blocks",
        {"blocks_to_swap": [0, 2, 4, 6, 8], "prefetch_blocks": [0, 1, 2, 3, 4]},
    ),
    "apart": (
        "share nothing: cfg x shift, one prompt a cell",
        {"cfg": [1.5, 2, 3, 4, 5], "shift": [1, 2, 3, 5, 8]},
    ),
}


def pipeline() -> Callable[[Settings], object]:
    """What makes the same clip with diffusers alone, as an array."""
    pipe = WanPipeline.from_pretrained(wl.tiny_path(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def call(settings: Settings) -> object:
        return pipe(
            settings.prompt,
            settings.negative_prompt,
            settings.height,
            settings.width,
            num_frames=settings.frames,
            num_inference_steps=settings.steps,
            guidance_scale=settings.cfg,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="np",
        ).frames

    return call


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def one_round(kind: str, steps: int, call: Callable[[Settings], object], folder: Path) -> tuple[float, float, int, int]:
    """Seconds of the sweep and of the calls, and the passes of the model that the sweep made and that its runs alone would."""
    lab = wl.Lab(folder)
    lab.run(PROMPT, steps=1, seed=99)  # both have their weights before the clock starts
    sweep = lab.sweep({"prompt": PROMPT, "steps": steps}, KINDS[kind][1], seeds=SEEDS)
    plan, half = sweep.plan(), len(sweep) // 2
    theirs = timed(lambda: [call(cell.timeline.settings) for cell in sweep.cells[:half]])
    ours = timed(sweep.run)
    theirs += timed(lambda: [call(cell.timeline.settings) for cell in sweep.cells[half:]])
    counted = int(sweep.frame()["model_calls"].sum())
    if counted != plan.model_calls:
        raise RuntimeError(f"{plan.model_calls} calls were planned and {counted} made")
    return ours, theirs, counted, plan.calls_alone


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    call = pipeline()
    call(Settings(steps=1))
    print("| axes | calls, shared and alone | CPU seconds: sweep, 50 calls | ratio | aim |\n|---|---|---|---|---|")
    for kind in options.kinds:
        found = []
        for _ in range(options.rounds):
            with TemporaryDirectory() as folder:
                found.append(one_round(kind, options.steps, call, Path(folder) / "lab"))
        ratios = [ours / theirs for ours, theirs, _, _ in found]
        ours, theirs = (statistics.median(one[k] for one in found) for k in (0, 1))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        aim = "0.5" if kind != "apart" else "1.0"
        calls = f"{found[0][2]}, {found[0][3]}"
        print(f"| {KINDS[kind][0]} | {calls} | {ours:.1f}, {theirs:.1f} | {spread} | {aim} |", flush=True)
    print(f"\n{options.rounds} rounds of 50 clips of {options.steps} steps; {machine(torch.device('cpu'))}")


if __name__ == "__main__":
    main()
