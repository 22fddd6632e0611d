"""How long it takes to read a log of 10,000 finished runs, without and with its index, and to write one run.

    python benchmarks/log_reading.py [runs]

Each reading is a new process that has imported pandas; the files are in the page cache, as they are just written. On a
busy machine the CPU seconds tell more than those of the clock.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AIM_SECONDS = 1.0

READ = """
import sys, time
import pandas
from wanlab.log import RunLog
begin, cpu = time.perf_counter(), time.process_time()
frame = RunLog(sys.argv[1]).frame()
print(time.perf_counter() - begin, time.process_time() - cpu, *frame.shape)
"""


def facts(number: int) -> dict:
    """What a run of the tiny model notes, about 2 KB."""
    from wanlab.settings import Settings

    seconds = {"total": 3.1, "encode": 0.1, "denoise": 2.5, "decode": 0.4, "save": 0.1, "steps": [0.125 + number * 1e-6] * 20}
    return {
        "settings": Settings(seed=number).flat() | {"feta.weight": 2.0, "feta.start_percent": 0.0, "context.frames": 81},
        "forks": [[12, [["cfg", 3.0]]]],
        "forked_from": "20261122-171503-k3f9xq",
        "forked_at": 12,
        "changes": [["cfg", 3.0]],
        "model": {"name": "tiny", "id": "9b1f0c44d1", "base_precision": "fp32"},
        "seconds": seconds,
        "peak_rss_gib": 0.71,
        "peak_vram_gib": None,
        "steps_reused": 12,
        "versions": {"wanlab": "0.1", "torch": "2.9.1", "diffusers": "0.42.1", "python": "3.11.7"},
        "device": "cpu",
        "error": None,
        "clip": "clip_00001.mp4",
        "tags": ["lesson"],
    }


def write(folder: Path, runs: int) -> None:
    """Finished runs, without the cost of making each of them durable."""
    for number in range(runs):
        id = f"20261122-{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}-000{number % 10}00"
        own = {"format": 1, "id": id, "status": "done", "created": "2026-11-22T17:15:03.000001+00:00"}
        (folder / id).mkdir()
        (folder / id / "run.json").write_text(json.dumps(own | facts(number)))


def write_seconds(folder: Path, times: int) -> dict[str, float]:
    """Median seconds of each thing that a run does to the log; start and finish wait for the disk."""
    from wanlab.log import RunLog

    spent: dict[str, list[float]] = {"start": [], "beat": [], "finish": []}
    for number in range(times):
        moments = [time.perf_counter()]
        run = RunLog(folder).start(facts(number))
        moments.append(time.perf_counter())
        run.beat()
        moments.append(time.perf_counter())
        run.finish("done")
        moments.append(time.perf_counter())
        for name, begin, end in zip(spent, moments, moments[1:], strict=False):
            spent[name].append(end - begin)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def main() -> None:
    """Print the tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), runs)
        print(f"{'reading':28} seconds  of CPU    rows  columns")
        for reading in ("first, writes the index", "with the index", "with the index, again"):
            answer = subprocess.run([sys.executable, "-c", READ, name], capture_output=True, text=True, check=True)
            seconds, cpu, rows, columns = answer.stdout.split()
            aim = f"   (aim: {AIM_SECONDS:g})" if reading.startswith("with") else ""
            print(f"{reading:28} {float(seconds):7.2f} {float(cpu):7.2f} {rows:>7} {columns:>8}{aim}")
    with tempfile.TemporaryDirectory() as name:
        print("\nwriting, median ms: ", end="")
        print(", ".join(f"{what} {seconds * 1e3:.3g}" for what, seconds in write_seconds(Path(name), 100).items()))


if __name__ == "__main__":
    main()
