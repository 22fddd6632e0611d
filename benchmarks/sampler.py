"""What techniques cost and change: `python benchmarks/sampler.py [PAIRS]`, on the tiny model as declared.

The plain run and the run with the technique are made in turn, each step computed, PAIRS times (default 5); the ratio of their
seconds is the median of the pairs. The error is that of the final latents, root mean square over that of the plain ones.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import torch

from wanlab.denoise import Step, denoise
from wanlab.model import checkpoint
from wanlab.model.model import Model
from wanlab.plan import make_plan
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.timeline import Timeline

ROWS = ({"feta.weight": 2.0}, {"feta.weight": 8.0}, {"feta.weight": 8.0, "feta.start_percent": 0.5})
AIM = "aim: FETA at most 1.03"


def run(model: Model, settings: Settings) -> list[Step]:
    """All steps, computed."""
    with tempfile.TemporaryDirectory() as folder:
        return list(denoise(model, Timeline(settings), StepStore(Path(folder)), fresh=True))


def main() -> None:
    """Print the table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    model, plain = Model(ModelSettings(), checkpoint.find("tiny")), Settings()
    run(model, plain)  # load and warm up
    print("| settings | model calls | seconds, ratio | error of the latents |\n|---|---|---|---|")
    for row in ROWS:
        settings, ratios, error = plain.but(row), [], 0.0
        for _ in range(pairs):
            without, with_it = run(model, plain), run(model, settings)
            ratios.append(sum(step.seconds for step in with_it) / sum(step.seconds for step in without))
            last, other = without[-1].after, with_it[-1].after
            error = float((other - last).norm() / last.norm())
        calls = make_plan(model.id, [(Timeline(settings), {})], lambda name: False).model_calls
        told = ", ".join(f"{name} {value:g}" for name, value in row.items())
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"| {told} | {calls} | {statistics.median(ratios):.3f} ({spread}) | {error:.3f} |")
    print(f"\n{AIM}; {pairs} pairs, one thread")


if __name__ == "__main__":
    main()
