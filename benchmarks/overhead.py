"""What wanlab costs: the same clip by `lab.run` and by diffusers' bare `WanPipeline`, in turn; and the other aims.

    python benchmarks/overhead.py [--pairs 12] [--steps 20]

These machines are noisy: each pair is measured back to back, alternating who goes first, and the median of the ratios is
what counts. Both use the same loaded weights and one thread; every pair has a seed of its own, so nothing is reused.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

PROMPT = "a red circle moves right on a blue background"
HELP = "import contextlib; from wanlab.__main__ import main\nwith contextlib.suppress(SystemExit): main(['--help'])"


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pairs(count: int, steps: int, folder: Path) -> list[tuple[float, float]]:
    """Seconds of `lab.run` (store, log, metrics, mp4 written) and of `WanPipeline` (frames as an array), per pair."""
    import torch
    from diffusers import WanPipeline

    import wanlab as wl

    torch.set_num_threads(1)
    lab = wl.Lab(folder)
    pipe = WanPipeline.from_pretrained(wl.tiny_path(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def ours(seed: int) -> None:
        _ = lab.run(PROMPT, steps=steps, seed=seed).clip.frames

    def theirs(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        _ = pipe(
            PROMPT,
            "",
            64,
            64,
            num_frames=17,
            num_inference_steps=steps,
            guidance_scale=5.0,
            generator=generator,
            output_type="np",
        ).frames

    ours(10**6)
    theirs(10**6)
    found = []
    for seed in range(count):
        if seed % 2:
            second = timed(lambda seed=seed: theirs(seed))
            found.append((timed(lambda seed=seed: ours(seed)), second))
        else:
            first = timed(lambda seed=seed: ours(seed))
            found.append((first, timed(lambda seed=seed: theirs(seed))))
    return found


def process(code: str) -> float:
    """Seconds of a new Python process that runs this code; the best of three."""
    return min(timed(lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)) for _ in range(3))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    print("| what | measured | aim |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        found = pairs(options.pairs, options.steps, Path(folder) / "lab")
        ratios = [ours / theirs for ours, theirs in found]
        low, middle, high = statistics.quantiles(ratios, n=4)
        what = f"lab.run against WanPipeline, {options.steps} steps, {len(ratios)} pairs"
        print(f"| {what}: median ratio (quartiles {low:.3f} to {high:.3f}) | {middle:.3f} | 1.00 |")
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"| seconds a clip of 64x64x17, one thread: lab.run, WanPipeline | {medians[0]:.2f}, {medians[1]:.2f} | 5 |")

        import wanlab as wl

        lab = wl.Lab(Path(folder) / "lab")
        lab.run(PROMPT, steps=options.steps, seed=0)
        replay = min(timed(lambda: list(lab.run(PROMPT, steps=options.steps, seed=0).replay())) for _ in range(3))
        latents = min(timed(lambda: lab.open(str(lab.log.index[-1])).latents(options.steps)) for _ in range(3))
        print(
            f"| a stored run again, with decode, clip and log; its latents alone (seconds) | {replay:.2f}, {latents:.2f} | 2 |"
        )
        code = f"import wanlab as wl; wl.Lab({str(Path(folder) / 'cold')!r}).run({PROMPT!r}, steps={options.steps}, fresh=True)"
        bare, lazy = process("pass"), process("import wanlab")
        print(f"| import wanlab, beyond bare Python (seconds) | {lazy - bare:.2f} | 0.1 |")
        print(f"| wanlab --help (seconds) | {process(HELP):.2f} | 1 |")
        print(
            f"| first clip from a cold start, of which importing torch and diffusers (seconds) | {process(code):.1f}, "
            f"{process('import torch, diffusers, wanlab.lab'):.1f} | 20 |"
        )
    print("\nThe log of 10,000 runs: python benchmarks/log_reading.py")


if __name__ == "__main__":
    main()
