"""What the sampler's techniques cost and change, on the tiny model: `python benchmarks/sampler.py [--pairs 5]`.

Four tables: every technique against the plain run; FETA's share of a step; the cost of context windows as the clip grows; and
the speed-up of caches against the one that was asked for. Seconds are CPU seconds of this process, which has one thread, so
that waiting for others does not count; runs are made in turn, each step computed; a ratio is the median of the pairs. The
error is that of the final latents, root mean square over that of the plain ones.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wanlab.denoise import Step, denoise
from wanlab.model import finding
from wanlab.model.model import Model
from wanlab.plans import PlannedRun, make_plan
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.timeline import Timeline

PLAIN = Settings()
LONG = {"frames": 33, "context.frames": 17}
ROWS: tuple[Mapping[str, Any], ...] = (
    {"feta.weight": 2.0},
    {"feta.weight": 8.0, "feta.start_percent": 0.5},
    {"cfg": 1.0},
    {"batched_cfg": True},
    {"cfg_zero": True},
    {"apg": True},
    {"slg": True},
    {"nag": True, "cfg": 1.0, "negative_prompt": "a red star"},
    {"riflex": True},
    {"loop": True},
    {"freeinit": True},
    {"cache.kind": "teacache"},
    {"cache.kind": "magcache"},
    {"cache.kind": "easycache"},
    {"cache.kind": "firstblock"},
    {"cache.kind": "taylorseer"},
    {"frames": 33},
    LONG,
    LONG | {"context.schedule": "uniform_standard"},
    LONG | {"context.schedule": "uniform_looped"},
    LONG | {"context.anchor": "causal"},
    LONG | {"context.freenoise": True},
    LONG | {"cache.kind": "magcache"},
)
SPEED_UPS = (1.3, 1.5, 1.8, 2.0, 2.5)
LENGTHS = (33, 65, 97, 129, 193, 257)


def run(model: Model, settings: Settings) -> list[Step]:
    """All steps, computed."""
    return timed(model, settings)[1]


def timed(model: Model, settings: Settings) -> tuple[float, list[Step]]:
    """CPU seconds of the whole loop with its store, and all steps, computed."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        steps = list(denoise(model, Timeline(settings), StepStore(Path(folder) / "steps"), fresh=True))
        return time.process_time() - began, steps


def planned(model: Model, settings: Settings) -> PlannedRun:
    """The plan of a run of which nothing is stored."""
    return make_plan(model.facts, [(Timeline(settings), {})], lambda name: False).runs[0]


def paired(model: Model, base: Settings, other: Settings, pairs: int) -> tuple[list[float], list[Step], list[Step]]:
    """The ratios of seconds of runs in turn, and the last runs."""
    ratios, steps = [], {}
    for turn in range(pairs):
        took = {}
        for settings in (base, other) if turn % 2 else (other, base):
            took[settings], steps[settings] = timed(model, settings)
        ratios.append(took[other] / took[base])
    return ratios, steps[base], steps[other]


def spread(ratios: list[float]) -> str:
    """The median, with the least and the greatest."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def techniques(model: Model, pairs: int) -> None:
    """Every technique against the plain run of the same length."""
    print("| settings | planned calls | counted | planned work | seconds, ratio | error of the latents |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        base = PLAIN.but({"frames": row["frames"]}) if len(row) > 1 and "frames" in row else PLAIN
        settings = PLAIN.but(row)
        ratios, without, with_it = paired(model, base, settings, pairs)
        plan, last, other = planned(model, settings), without[-1].after, with_it[-1].after
        calls = f"{plan.fewest_calls} to {plan.model_calls}" if plan.fewest_calls != plan.model_calls else plan.model_calls
        error = f"{float((other - last).norm() / last.norm()):.3f}" if other.shape == last.shape else ""
        told = ", ".join(f"{name} {value}" for name, value in row.items())
        counted = sum(step.calls for step in with_it)
        share = planned(model, settings).work if other.shape == last.shape else float("nan")
        print(f"| {told} | {calls} | {counted} | {share:.2f} | {spread(ratios)} | {error} |", flush=True)


def feta_share(model: Model, pairs: int) -> None:
    """What FETA adds to a step: runs of 20 steps in turn."""
    base = PLAIN.but({"cfg": 1.0})
    ratios, _, _ = paired(model, base, base.but({"feta": True}), 4 * pairs)
    print("| what | measured | aim |\n|---|---|---|")
    print(f"| FETA, a run of 20 calls against one without | {spread(ratios)} | 1.03 |", flush=True)


def windows(model: Model, pairs: int) -> None:
    """Seconds of windows as the clip grows, against the planned passes; and of the clip in one piece."""
    how = {"steps": 4, "cfg": 1.0, "context.frames": 17, "context.overlap": 8}
    every = {frames: PLAIN.but(how | {"frames": frames}) for frames in LENGTHS}
    taken: dict[int, list[float]] = {frames: [] for frames in LENGTHS}
    whole: dict[int, list[float]] = {frames: [] for frames in LENGTHS}
    for _ in range(pairs):
        for frames, settings in every.items():
            taken[frames].append(timed(model, settings)[0])
            whole[frames].append(timed(model, settings.but({"context": False}))[0])
    passes = {frames: planned(model, settings).window_passes for frames, settings in every.items()}
    fastest = {frames: min(taken[frames]) for frames in LENGTHS}
    one = sum(fastest.values()) / sum(passes.values())
    print("| frames | passes | seconds | seconds a pass, against the mean | in one piece, seconds |\n|---|---|---|---|---|")
    for frames in LENGTHS:
        a_pass = fastest[frames] / passes[frames] / one
        print(f"| {frames} | {passes[frames]} | {fastest[frames]:.2f} | {a_pass:.3f} | {min(whole[frames]):.2f} |", flush=True)


def speed_ups(model: Model, pairs: int) -> None:
    """The measured speed-up of caches against the asked one."""
    print("| cache | asked | planned calls | by calls | by seconds | error of the latents |\n|---|---|---|---|---|---|")
    for kind in ("teacache", "magcache", "taylorseer"):
        for asked in SPEED_UPS:
            settings = PLAIN.but({"cache.kind": kind, "cache.speed_up": asked})
            ratios, without, with_it = paired(model, PLAIN, settings, pairs)
            calls = planned(model, settings).model_calls
            last, other = without[-1].after, with_it[-1].after
            faster = 1 / statistics.median(ratios)
            error = float((other - last).norm() / last.norm())
            print(
                f"| {kind} | {asked} | {calls} | {40 / calls:.2f} | {faster:.2f} ({faster / asked - 1:+.0%}) | {error:.3f} |",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("techniques", "feta", "windows", "speed_ups"), help="one of the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Model(ModelSettings(), finding.find("tiny"))
    run(model, PLAIN)  # load and warm up
    tables = {"techniques": techniques, "feta": feta_share, "windows": windows, "speed_ups": speed_ups}
    for name, table in tables.items():
        if options.only in (None, name):
            print(f"\n{table.__doc__}\n", flush=True)
            table(model, options.pairs)
    print(f"\n{options.pairs} pairs, one thread, on a machine that does other things too")


if __name__ == "__main__":
    main()
