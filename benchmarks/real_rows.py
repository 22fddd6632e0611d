"""A way to load Wan at its true size, measured beside its plan: seconds of a step, the peak of memory; the same by diffusers.

What the numbers are says real_size.py, which prints them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from measuring import GIB, held, settle
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

Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A way to load the transformer: `loader` are settings of wanlab, `group` those of diffusers' group offloading.

    `by` is who computes: "wanlab" in its loop, "diffusers" in bare passes. With `paired` loop and bare passes take turns.
    """

    name: str
    loader: Mapping[str, Any] = field(default_factory=dict)
    by: str = "wanlab"
    group: Mapping[str, Any] | None = None
    paired: bool = False


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


def measure(subject: Subject, row: Row, scratch: Path) -> Measured:
    """A row, with all of its memory let go afterwards; what goes wrong is its note."""
    device = torch.device(subject.device)
    plan, error = None, ""
    try:
        request = subject.request(row)
        plan = estimate(request)
        plan = estimate(request, calibrate(request, clock=subject.seconds))
        if plan.fits is False and device.type == "cpu":  # where the system would end the program
            return _not_measured(row, plan, f"not tried: {plan.verdict}")
        settle(device)
        with ExitStack() as model:
            return _measured(subject, row, plan, scratch, model)
    except Exception as raised:
        failure = Failure.of(raised)
        error = "out of memory" if failure.out_of_memory else failure.text.splitlines()[0].removeprefix("wanlab.errors.")
        if failure.out_of_memory and plan:
            error += f"; the plan: {plan.verdict}"
    finally:
        settle(device)
    return _not_measured(row, plan, error)


def _not_measured(row: Row, plan: Estimate | None, why: str) -> Measured:
    return Measured(row.name, planned_gib=plan.stages[DENOISE] if plan and row.group is None else None, note=why)


def _measured(subject: Subject, row: Row, plan: Estimate, scratch: Path, work: ExitStack) -> Measured:
    device, seconds = torch.device(subject.device), subject.seconds
    before = held(device)
    step, bare = (_wanlab if row.by == "wanlab" else _diffusers)(subject, row, scratch, work)
    timed = [step, bare] if row.paired else [step]

    def spent(one: Step) -> float:
        began = seconds()
        one()
        return seconds() - began

    warm_up, *_ = [spent(one) for one in timed]
    settle(device)
    meter, taken, ratios = Meter(device), list[float](), list[float]()
    for turn in range(subject.steps):
        took = {one: spent(one) for one in (timed if turn % 2 else reversed(timed))}
        taken.append(took[step])
        if row.paired:
            ratios.append(took[step] / took[bare])
    peak = next(iter(meter.peak().values())) - before / GIB
    planned = (None, None) if row.group is not None else (plan.seconds[DENOISE] / subject.settings.steps, plan.stages[DENOISE])
    overhead = statistics.median(ratios) - 1 if ratios else None
    return Measured(row.name, statistics.median(taken), planned[0], peak, planned[1], warm_up, overhead)


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
            onload_device=torch.device(subject.device),
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            **row.group,
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

    @torch.no_grad()  # as diffusers' pipelines do; its offloading gives weights memory anew, which inference mode may refuse
    def step() -> None:
        for _ in range(count):
            transformer(latents, timestep, text, return_dict=False)

    return step
