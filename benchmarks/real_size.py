"""Wan 1.3B and 14B at their true size, without their weights: seconds and memory do not depend on the values.

    python benchmarks/real_size.py --model 14B                  on a GPU: 81 frames of 832 x 480
    python benchmarks/real_size.py --model 14B --rows "swap*,group*"
    python benchmarks/real_size.py --model 1.3B --small         on a CPU: few blocks, few frames

A row is a way to load the transformer: number format, quantization, swapped blocks, attention, compile. For each: seconds of a
step in wanlab's own loop (`denoise`, with its store), the peak of memory, and both beside the plan. In the same run the same by
diffusers alone, all resident and with its group offloading. Weights are made on the device, so nothing is read or written but
what a row keeps on the disk. Only the transformer is there: no text encoder, no VAE.

A step is two passes of the transformer, one for each branch of guidance (`--cfg batched`: one pass for both, `--cfg off`: one
branch). Seconds are the median of `--steps` steps after one that warms up, on a GPU when it has finished. Peaks are from
after the warm-up on: on a GPU torch's allocated bytes, on a CPU the resident memory beyond what was there before loading. On a
CPU seconds are those of the processor, so that other work on the machine hardly counts.

The overhead is that of the loop against the bare passes of the same transformer, in turn: the median of the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from measuring import GIB, held, machine, settle
from random_reader import RandomReader
from torch import Tensor

from wanlab.cost.calibrate import calibrate
from wanlab.cost.estimate import Configs, Estimate, Request, estimate
from wanlab.cost.memory import DENOISE
from wanlab.denoise import denoise
from wanlab.failures import Failure
from wanlab.meter import Meter, clock
from wanlab.model.checkpoint import Checkpoint
from wanlab.model.loaded import Loaded, load, lora_set
from wanlab.model.model import Model
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.timeline import Timeline
from wanlab.weights.registry import known

GUIDANCE = {"two": {}, "batched": {"batched_cfg": True}, "off": {"cfg": 1.0}}
HEAD = ("row", "s a step", "planned", "peak GiB", "planned", "warm-up s", "")


@dataclass(frozen=True)
class Row:
    """A way to load the transformer: `loader` are settings of wanlab, `group` those of diffusers' group offloading.

    `by` is who computes: "wanlab" in its loop, "diffusers" in bare passes.
    """

    name: str
    loader: Mapping[str, Any] = field(default_factory=dict)
    by: str = "wanlab"
    group: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured: a transformer's configuration, a clip, a device, so many steps."""

    config: Mapping[str, Any]
    settings: Settings
    device: str
    steps: int

    @property
    def seconds(self) -> Callable[[], float]:
        """The clock: of the wall on a GPU, when it has finished; of the processor on a CPU."""
        device = torch.device(self.device)
        return time.process_time if device.type == "cpu" else lambda: clock(device)

    def loader(self, row: Row) -> ModelSettings:
        """The settings of a row; what is not said is a model in bf16."""
        cuda = self.device.startswith("cuda")
        room = torch.cuda.mem_get_info(self.device)[1] if cuda else psutil.virtual_memory().total
        known = {"base_precision": "bf16", "load_device": self.device, "device_gib": room / GIB}
        return ModelSettings().but({**known, **row.loader})

    def request(self, row: Row) -> Request:
        """What the plan of a row is asked for."""
        return Request(self.settings, self.loader(row), Configs(self.config))


@dataclass(frozen=True)
class Measured:
    """A row's numbers; None where there is none, and then `note` says why. `overhead` is a fraction of the bare passes."""

    row: str
    seconds: float | None = None
    planned_seconds: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None
    warm_up: float | None = None
    overhead: float | None = None
    note: str = ""


class RandomModel(Model):
    """wanlab's model around a transformer with random weights; every prompt is embedded as noise."""

    @cached_property
    def _loaded(self) -> tuple[Loaded, ...]:
        reader = RandomReader(self.checkpoint.transformer, self.device)
        return (load(self.checkpoint, self.settings, lora_set(self.settings), self.folder / "scratch", reader),)

    def encode(self, text: str) -> Tensor:
        """(1, 512, d)."""
        return self._embedded

    @cached_property
    def _embedded(self) -> Tensor:
        noise = torch.randn(1, 512, self.checkpoint.transformer["text_dim"], generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, self.dtype)


def rows_for(blocks: int, cuda: bool) -> list[Row]:
    """All rows, the important ones first."""
    half, e4m3 = blocks // 2, "fp8_e4m3fn_scaled"
    stream = {"num_blocks_per_group": 1, "use_stream": True} if cuda else {"num_blocks_per_group": 1}
    rows = [
        Row("diffusers", by="diffusers"),
        Row("resident"),
        Row(f"swap {half}", {"blocks_to_swap": half}),
        Row(f"swap {blocks}", {"blocks_to_swap": blocks}),
        Row("group offload", {}, "diffusers", stream),
        *([Row("group offload, record_stream", {}, "diffusers", {**stream, "record_stream": True})] if cuda else []),
        Row(e4m3, {"quantization": e4m3}),
        Row(f"{e4m3}, swap {half}", {"quantization": e4m3, "blocks_to_swap": half}),
        Row("compile", {"compile": True}),
        Row(f"compile, swap {half}", {"compile": True, "blocks_to_swap": half}),
        *(Row(f"attention {mode}", {"attention_mode": mode}) for mode in _attention(cuda)),
        *(Row(kind, {"quantization": kind}) for kind in ("int8", "gguf_q8_0", "gguf_q4_0")),
        Row(f"swap {blocks}, prefetch 2", {"blocks_to_swap": blocks, "prefetch_blocks": 2}),
        Row(f"swap {blocks}, in order", {"blocks_to_swap": blocks, "use_non_blocking": False}),
        Row(f"swap {blocks}, disk", {"blocks_to_swap": blocks, "offload_device": "disk"}),
        Row("group offload, 4 blocks", {}, "diffusers", {"num_blocks_per_group": 4}),
        *(Row(precision, {"base_precision": precision}) for precision in (("fp16", "fp16_fast") if cuda else ("fp32",))),
        Row("compile, whole", {"compile": {"whole": True}}),
    ]
    return rows


def _attention(cuda: bool) -> Sequence[str]:
    return ("sdpa_cudnn", "sdpa_flash", "flash_attn_2", "flash_attn_3", "sageattn") if cuda else ("sdpa_flash", "sdpa_math")


def measure(subject: Subject, row: Row, scratch: Path) -> Measured:
    """A row, with all of its memory let go afterwards; what goes wrong is its note."""
    device = torch.device(subject.device)
    plan, error = None, ""
    try:
        request = subject.request(row)
        plan = estimate(request, calibrate(request, clock=subject.seconds))
        if plan.fits is False and device.type == "cpu":  # where the system would end the program
            return _not_measured(row, plan, f"not tried: {plan.verdict}")
        settle(device)
        with ExitStack() as model:
            return _measured(subject, row, plan, scratch, model)
    except Exception as raised:
        failure = Failure.of(raised)
        error = "out of memory" if failure.out_of_memory else failure.text.splitlines()[0]
        if failure.out_of_memory and plan:
            error += f"; the plan: {plan.verdict}"
    finally:
        settle(device)
    return _not_measured(row, plan, error)


def _not_measured(row: Row, plan: Estimate | None, why: str) -> Measured:
    return Measured(row.name, planned_gib=plan.stages[DENOISE] if plan and row.group is None else None, note=why)


def _measured(subject: Subject, row: Row, plan: Estimate, scratch: Path, model: ExitStack) -> Measured:
    device, seconds = torch.device(subject.device), subject.seconds
    before = held(device)
    step, bare = (_wanlab if row.by == "wanlab" else _diffusers)(subject, row, scratch, model)
    began = seconds()
    step()
    if row.name == "resident":
        bare()
    warm_up = seconds() - began
    settle(device)
    meter, taken, ratios = Meter(device), list[float](), list[float]()
    for turn in range(subject.steps):
        both = [step, bare] if row.name == "resident" else [step]
        took = {}
        for one in both if turn % 2 else reversed(both):
            began = seconds()
            one()
            took[one] = seconds() - began
        taken.append(took[step])
        ratios += [took[step] / took[bare]] if len(both) > 1 else []
    peak = next(iter(meter.peak().values())) - before / GIB
    planned = (plan.seconds[DENOISE] / len(subject.settings.grid), plan.stages[DENOISE]) if row.group is None else (None, None)
    overhead = statistics.median(ratios) - 1 if ratios else None
    return Measured(row.name, statistics.median(taken), planned[0], peak, planned[1], warm_up, overhead)


Step = Callable[[], object]


def _wanlab(subject: Subject, row: Row, scratch: Path, work: ExitStack) -> tuple[Step, Step]:
    """A step of wanlab's loop, and the same passes bare."""
    folder = Path(work.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
    found = Checkpoint("random", {}, {"transformer": subject.config})
    model = RandomModel(subject.loader(row), found, folder)
    work.callback(model.unload)
    loop = denoise(model, Timeline(subject.settings), StepStore(folder / "steps"), fresh=True)
    work.callback(loop.close)
    return lambda: next(loop), passes(subject, model.transformer, model)


def _diffusers(subject: Subject, row: Row, scratch: Path, work: ExitStack) -> tuple[Step, Step]:
    """The passes of a step by diffusers' own class and hooks."""
    here = subject.device if row.group is None else "cpu"
    how = subject.loader(row).but({"load_device": here})
    found = Checkpoint("random", {}, {"transformer": subject.config})
    model = RandomModel(how, found, scratch)
    work.callback(model.unload)
    if row.group is not None:
        model.transformer.enable_group_offload(
            onload_device=torch.device(subject.device), offload_device=torch.device("cpu"), offload_type="block_level", **row.group
        )
    step = passes(subject, model.transformer, model)
    return step, step


def passes(subject: Subject, transformer: Any, model: RandomModel) -> Step:
    """The transformer's passes of one step, with nothing around them."""
    settings, device, config = subject.settings, torch.device(subject.device), subject.config
    batch = 2 if settings.batched_cfg and settings.cfg != 1 else 1
    count = 1 if settings.cfg == 1 or batch == 2 else 2
    shape = batch, config["in_channels"], settings.latent_frames, settings.height // 8, settings.width // 8
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, model.dtype)
    text = model.encode("").expand(batch, -1, -1).to(device)
    timestep = torch.full((batch,), 500, device=device)

    @torch.inference_mode()
    def step() -> None:
        for _ in range(count):
            transformer(latents, timestep, text, return_dict=False)

    return step


def chosen(rows: Sequence[Row], patterns: str) -> list[Row]:
    """The rows whose names fit one of the patterns, which are separated by commas."""
    asked = [one.strip() for one in patterns.split(",") if one.strip()]
    return [row for row in rows if not asked or any(fnmatch(row.name, one) for one in asked)]


def run(subject: Subject, rows: Sequence[Row], budget: float, told: Callable[[Measured], None]) -> list[Measured]:
    """Measure rows until the budget is spent: none is begun that would end after it if it took as long as the longest so far."""
    began, longest, found = time.monotonic(), 0.0, list[Measured]()
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows:
            start = time.monotonic()
            if start - began + longest > budget:
                found.append(Measured(row.name, note="not begun: the budget was spent"))
            else:
                found.append(measure(subject, row, Path(scratch)))
            longest = max(longest, time.monotonic() - start)
            told(found[-1])
    return found
