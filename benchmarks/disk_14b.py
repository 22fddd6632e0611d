"""A transformer that is larger than the memory: `python benchmarks/disk_14b.py [--folder F]`, on a CPU.

Writes the whole Wan2.1-T2V-14B in bf16 with random weights (26.6 GiB, removed afterwards unless a folder is given), and
computes a velocity of a small clip with all 40 blocks on the disk. Two blocks are in memory at a time: the one that is computed
and the one that is read meanwhile. Printed are seconds, the bytes that were read, what blocks waited for, and the resident
memory beside the plan. Then the first blocks alone, which fit into memory: swapped and resident they have to give the same
bits.

Seconds are those of the clock. Before each velocity the system is told to forget the file, so that it is read from the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from measuring import GIB, held, machine, settle
from random_weights import write_transformer
from torch import Tensor

from wanlab.cost.calibrate import calibrate
from wanlab.cost.estimate import Configs, Request, estimate
from wanlab.cost.memory import DENOISE, LOAD
from wanlab.meter import Meter
from wanlab.model.checkpoint import Checkpoint
from wanlab.model.loaded import Loaded, load, lora_set
from wanlab.placement.timeline import Timeline
from wanlab.settings import ModelSettings, Settings
from wanlab.weights.parameters import parameter_count, parameter_shapes
from wanlab.weights.registry import known

CPU = torch.device("cpu")
ROOM = 2**30  # bytes of disk that are left to others


@dataclass(frozen=True)
class Measured:
    """What was seen of a transformer with swapped blocks. `seconds` are of each call; peaks are bytes beyond what was there."""

    velocities: tuple[Tensor, ...]
    load_seconds: float
    load_peak: int
    seconds: tuple[float, ...]
    peak: int
    copied: int  # bytes into slots, by the swap's own count
    read: int  # bytes from the disk, by the system's count
    timeline: Timeline


def loader(blocks: int) -> ModelSettings:
    """So many blocks on the disk."""
    return ModelSettings(base_precision="bf16", offload_device="disk", blocks_to_swap=blocks)


def loaded_from(folder: Path, config: Mapping[str, Any], how: ModelSettings) -> Loaded:
    """The transformer of this configuration; the files in the folder may hold more blocks."""
    found = Checkpoint("random", {"transformer": folder}, {"transformer": config})
    return load(found, how, lora_set(how), folder / "scratch")


@torch.inference_mode()
def velocity(loaded: Loaded, config: Mapping[str, Any], clip: Settings) -> Tensor:
    """The velocity of one call, always of the same noise and text."""
    generator = torch.Generator().manual_seed(0)
    shape = 1, config["in_channels"], clip.latent_frames, clip.height // 8, clip.width // 8
    noise = torch.randn(shape, generator=generator).bfloat16()
    text = torch.randn(1, 512, config["text_dim"], generator=generator).bfloat16()
    return loaded.transformer(noise, torch.tensor([500]), text, return_dict=False)[0]


def measure(folder: Path, config: Mapping[str, Any], clip: Settings, blocks: int, calls: int = 2) -> Measured:
    """Load with so many blocks on the disk and compute."""
    settle(CPU)
    before, meter, began = held(CPU), Meter(CPU), time.perf_counter()
    loaded = loaded_from(folder, config, loader(blocks))
    load_seconds, load_peak = time.perf_counter() - began, _peak(meter) - before
    assert loaded.swap is not None
    settle(CPU)
    meter, came, seconds, velocities = Meter(CPU), _disk_bytes(), list[float](), list[Tensor]()
    with loaded.swap.record() as timeline:
        for _ in range(calls):
            forget(folder)
            began = time.perf_counter()
            velocities.append(velocity(loaded, config, clip))
            seconds.append(time.perf_counter() - began)
    peak, copied, read = _peak(meter) - before, loaded.swap.bytes_to_device, _disk_bytes() - came
    loaded.unload()
    return Measured(tuple(velocities), load_seconds, load_peak, tuple(seconds), peak, copied, read, timeline)


def _peak(meter: Meter) -> int:
    return int(meter.peak()["peak_rss_gib"] * GIB)


def _disk_bytes() -> int:
    """Bytes that came from the disk for this process so far, which what lay in the system's cache did not."""
    try:
        return int(psutil.Process().io_counters().read_bytes)
    except (AttributeError, psutil.Error):  # macOS does not tell
        return 0


def forget(folder: Path) -> None:
    """Let the system forget the weights in its cache, where it can be told to."""
    if hasattr(os, "posix_fadvise"):
        for file in folder.glob("*.safetensors"):
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def same_bits(folder: Path, config: Mapping[str, Any], clip: Settings, blocks: int) -> bool:
    """Whether the first blocks give the same velocity from the disk as from memory."""
    first = {**config, "num_layers": blocks}
    swapped = measure(folder, first, clip, blocks, calls=1).velocities[0]
    resident = loaded_from(folder, first, loader(0))
    same = torch.equal(velocity(resident, first, clip), swapped)
    resident.unload()
    return same


def table(config: Mapping[str, Any], clip: Settings, nbytes: int, found: Measured) -> str:
    """What was measured, beside what was planned."""
    request = Request(clip, loader(config["num_layers"]), Configs(config))
    calibration = calibrate(request)
    planned = estimate(request, calibration)
    rows = found.timeline.rows()
    last = [row for row in rows if row.forward == rows[-1].forward]
    waited, copied, computed = (sum(getattr(row, f"{name}_seconds") for row in last) for name in ("wait", "copy", "compute"))
    speed = sum(row.bytes_to_device for row in last) / copied
    finite = all(bool(one.isfinite().all()) for one in found.velocities)
    equal = all(torch.equal(one, found.velocities[0]) for one in found.velocities)
    memory = psutil.virtual_memory().total / GIB
    lines = [
        ("weights on the disk; memory of the machine (GiB)", f"{nbytes / GIB:.2f}; {memory:.1f}", ""),
        ("loading: seconds", f"{found.load_seconds:.1f}", ""),
        ("loading: peak memory (GiB)", f"{found.load_peak / GIB:.2f}", f"{planned.stages[LOAD]:.2f}"),
        ("a velocity: peak memory (GiB)", f"{found.peak / GIB:.3f}", f"{planned.stages[DENOISE]:.3f}"),
        ("a velocity: seconds", ", ".join(f"{one:.1f}" for one in found.seconds), f"{planned.seconds[DENOISE]:.1f}"),
        ("in the last one: blocks wait, copy, compute (seconds)", f"{waited:.1f}, {copied:.1f}, {computed:.1f}", ""),
        ("in all: bytes into slots; from the disk (GiB)", f"{found.copied / GIB:.1f}; {found.read / GIB:.1f}", ""),
        ("reading in the last one (GB/s)", f"{speed / 1e9:.2f}", _speed(calibration.link)),
        ("the velocity is finite; both are equal", f"{_yes(finite)}; {_yes(equal)}", ""),
    ]
    return "\n".join(["| what | measured | planned |", "|---|---|---|", *(f"| {' | '.join(line)} |" for line in lines)])


def _speed(link: float | None) -> str:
    return "" if link is None else f"{link / 1e9:.2f}"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "NO"


def written(folder: Path, config: Mapping[str, Any], nbytes: int) -> None:
    """Write the checkpoint, unless it is there from an earlier time; ends the program if the disk is too small."""
    if (folder / "diffusion_pytorch_model.safetensors.index.json").exists():
        return
    free = shutil.disk_usage(folder).free
    if free < nbytes + ROOM:
        sys.exit(f"{folder} has {free / GIB:.0f} GiB free, and {(nbytes + ROOM) / GIB:.0f} are needed; give another --folder.")
    began = time.perf_counter()
    write_transformer(folder, config)
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    print(f"{nbytes / GIB:.2f} GiB of random weights written in {time.perf_counter() - began:.0f} s", flush=True)


def run(folder: Path, config: Mapping[str, Any], clip: Settings, few: int) -> None:
    """Write, measure, print."""
    nbytes = 2 * parameter_count(parameter_shapes("transformer", config))
    written(folder, config, nbytes)
    found = measure(folder, config, clip, config["num_layers"])
    print(f"\n{machine(CPU)}. {clip.frames} frame{'s' * (clip.frames > 1)} of {clip.width} x {clip.height} pixels.\n")
    print(table(config, clip, nbytes, found), flush=True)
    same = same_bits(folder, config, clip, few)
    print(f"\n{few} blocks of it, from the disk and in memory: {'the same bits' if same else 'NOT the same bits'}")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the weights are written, and stay; not given: a temporary folder")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--side", type=int, default=128, help="width and height in pixels")
    parser.add_argument("--few", type=int, default=4, help="blocks that are compared with those in memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = known("Wan2.1-T2V-14B").transformer
    clip = Settings(width=options.side, height=options.side, frames=options.frames, steps=1, cfg=1.0)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        run(options.folder, config, clip, options.few)
        return
    with tempfile.TemporaryDirectory(prefix="wanlab-14b-") as folder:
        run(Path(folder), config, clip, options.few)


if __name__ == "__main__":
    main()
