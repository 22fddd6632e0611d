"""A run: settings and the steps they led to, read lazily from the store; and `perform`, which makes one."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wanlab import show
from wanlab.bench import Bench
from wanlab.clip import Clip, contact_sheet
from wanlab.comfy import Workflow, to_comfy
from wanlab.declare import switches
from wanlab.denoise import Step, denoise
from wanlab.errors import SettingsError
from wanlab.failures import Failure
from wanlab.files import write_whole
from wanlab.latents import Preview
from wanlab.log import RunFolder
from wanlab.meter import Meter
from wanlab.model.condition import given
from wanlab.names import step_names
from wanlab.plans import Plan
from wanlab.progress import progress
from wanlab.run_facts import facts_of
from wanlab.settings import Settings, declared
from wanlab.show.page import Paged
from wanlab.steps import Steps
from wanlab.timeline import Timeline


class Run(Paged):
    """One run of the model. Its latents, velocities and clip are replayed from the store when they are asked for.

    `facts` is what `run.json` in `folder` says: settings, status, seconds, memory, versions.
    """

    def __init__(self, bench: Bench, id: str, timeline: Timeline, facts: Mapping[str, Any]) -> None:
        self.id, self.timeline, self.facts = id, timeline, facts
        self._bench = bench

    @property
    def settings(self) -> Settings:
        """The settings at the start; `run.timeline.at(k)` has those in force at step k of a fork."""
        return self.timeline.settings

    @property
    def folder(self) -> Path:
        """The run's folder, complete without wanlab: run.json, the clip, a picture."""
        return self._bench.log.folder / self.id

    @property
    def status(self) -> str:
        """done, stopped (by the user) or failed."""
        return str(self.facts["status"])

    @property
    def steps_reused(self) -> int:
        """How many steps were found in the store instead of computed."""
        return int(self.facts["steps_reused"])

    @property
    def model_calls(self) -> int:
        """How many passes of the model were made, as they were counted; those that a cache answered are none."""
        return int(self.facts["model_calls"])

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, without what was reused."""
        return float(self.facts["seconds"]["total"])

    @property
    def steps(self) -> Steps:
        """The steps: `run.steps[k].clean`, a loop over them, or shown as the last line of a cell, a scrubber."""
        return Steps(self, self._bench, partial(preview_of, self))

    @property
    def velocities(self) -> list[Tensor]:
        """The predicted velocities of all steps (1, 16, t, h, w), in the model's number format."""
        return [step.velocity for step in self.replay()]

    @property
    def condition(self) -> Tensor | None:
        """What its images tell an image-to-video model: (1, 20, t, h, w), a mask and latents; None without an image."""
        return given(self._bench.model, self.settings, self._bench.inputs).condition

    def velocity(self, k: int) -> Tensor:
        """The velocity predicted at step k (1, 16, t, h, w)."""
        return self.steps[k].velocity

    def latents(self, k: int) -> Tensor:
        """The latents before step k (1, 16, t, h, w) float32; k = steps gives the final ones."""
        count = len(self.timeline)
        if not 0 <= k <= count:
            raise SettingsError(
                f"k is {k}; this run has latents before steps 0 to {count - 1} and, as {count}, the final ones."
            )
        return self.steps[k].latents if k < count else self.steps[count - 1].after

    def replay(self) -> Iterator[Step]:
        """All steps from the store, without the model. Of a finished run, steps that were trimmed are computed again."""
        bench = self._bench
        return denoise(bench.model, self.timeline, bench.store, bench.inputs, only_stored=self.status != "done")

    @cached_property
    def clip(self) -> Clip:
        """The frames. Of a run that did not finish: the clean estimate of its last step."""
        return self._clip(self._bench.model.decode(self.final))

    @cached_property
    def final(self) -> Tensor:
        """The latents that the clip is decoded from (1, 16, t, h, w) float32."""
        last = next(iter(deque(self.replay(), maxlen=1)), None)
        if last is None:
            raise SettingsError(f"Run {self.id} was {self.status} before its first step and has no clip; run it again.")
        return self._shown(last)

    def _shown(self, last: Step) -> Tensor:
        """The latents to decode, after the last step: those left, or while there is noise in them the clean estimate."""
        finished = self.status == "done" or last.index + 1 == len(self.timeline)
        return last.after if finished and not self.timeline.settings.grid.sigmas[-1] else last.clean

    def _clip(self, frames: np.ndarray) -> Clip:
        settings = self.timeline.at(len(self.timeline) - 1)
        metadata = {
            **settings.flat(),
            "forks": self.facts["forks"],
            "model": self.facts["model"],
            "versions": self.facts["versions"],
        }
        return Clip(frames, settings.clip, {**metadata, "run": self.id})

    def fork(self, at: int, *, fresh: bool = False, **changes: Any) -> Run:
        """The same run, but with these settings from step `at` on; the steps before are reused.

        Settings of a group are given as a mapping: `changes={"clip.frame_rate": 8}`. Raises SettingsError for settings
        that hold for a whole run, such as steps or shift.
        """
        changes = {**changes.pop("changes", {}), **changes}
        timeline = self.timeline.fork(at, self._bench.kept(changes, self.settings))
        return perform(self._bench, timeline, fresh=fresh, origin={"forked_from": self.id, "forked_at": at, "changes": changes})

    def plan(self, at: int, **changes: Any) -> Plan:
        """What `run.fork(at, ...)` with these changes will do, beside this run, before it starts."""
        changes = {**changes.pop("changes", {}), **changes}
        fork = self.timeline.fork(at, self._bench.kept(changes, self.settings))
        self._bench.check(fork)
        known = set[str]()
        return Plan((self._bench.planned(self.timeline, {}, known), self._bench.planned(fork, changes, known)))

    def to_comfy(self, path: str | Path | None = None, *, api: bool = False) -> Workflow:
        """The run as a workflow that ComfyUI with WanVideoWrapper opens, written to `path` if that is given.

        A dict of the form that its editor opens, or with `api` of the one that its server runs; `left_out` says what has no
        place there. Of a fork it has the settings at the start.
        """
        return to_comfy(self.settings, self._bench.settings, path, api=api, forks=self.timeline.forks)

    def __repr__(self) -> str:
        reused = f", {self.steps_reused} reused" if self.steps_reused else ""
        steps = f"{len(self.timeline)} steps{reused}"
        return f"Run({self.id}: {self.settings.prompt!r}, {steps}, {self.status} in {self.seconds:.1f} s)"

    def page(self) -> show.Page:
        """The player with settings, seconds and memory beneath; also what a notebook shows."""
        details = {**_notable(self.timeline), "status": f"{self.status} in {self.seconds:.2f} s"}
        if self.steps_reused:
            details["steps reused"] = f"{self.steps_reused} of {len(self.timeline)}"
        memory = {"peak_vram_gib": "peak GPU memory", "peak_rss_gib": "peak memory"}
        details |= {label: f"{self.facts[name]:.2f} GiB" for name, label in memory.items() if name in self.facts}
        details["run"] = self.id
        tile = show.Tile(self.clip.frames, self.settings.prompt, {name: str(value) for name, value in details.items()})
        return show.player([tile], frame_rate=self.clip.frame_rate)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        if not self.facts["steps_done"]:
            return {"text/plain": repr(self)}
        return {**self.page()._repr_mimebundle_(), "text/plain": repr(self)}


@dataclass(frozen=True)
class Now:
    """Where a run is: the stage that begins (load, encode, denoise, decode, save) or, in denoise, the step that was made."""

    run: Run
    stage: str
    step: Step | None = None


def perform(
    bench: Bench,
    timeline: Timeline,
    *,
    fresh: bool = False,
    origin: Mapping[str, Any] | None = None,
    watch: Callable[[Now], object] | None = None,
    frames: np.ndarray | None = None,
) -> Run:
    """Run these settings: compute what the store lacks, decode, write clip and log. Stop (interrupt) keeps finished steps.

    It shows a progress bar, or leaves that to `watch`, which is told what happens. `frames` are the decoded clip, where a run
    with the same steps and the same VAE has made it already. Raises SettingsError for a prompt that the model cannot read,
    before anything is written; anything else that goes wrong after the log has its row; a KeyboardInterrupt is raised again as
    one, with the way to go on.
    """
    events = performing(bench, timeline, fresh=fresh, origin=origin, frames=frames)
    told = progress(events, len(timeline), "denoise", lambda now: now.step is not None) if watch is None else events
    try:
        for now in told:
            run = now.run
            if watch is not None:
                watch(now)
        return run
    except BaseException as error:
        problem = error
    events.throw(problem)  # raises it again; if the run had not ended, it does so now
    raise problem


def performing(
    bench: Bench,
    timeline: Timeline,
    *,
    fresh: bool = False,
    origin: Mapping[str, Any] | None = None,
    frames: np.ndarray | None = None,
) -> Generator[Now]:
    """The same as `perform`, told as it happens, for those who show more than a bar: who closes the generator stops the run."""
    check_run(bench, timeline)
    with bench.model.turn.taken():
        yield from _performed(bench, timeline, fresh, origin or {}, frames)


def check_run(bench: Bench, timeline: Timeline) -> None:
    """Raise SettingsError for what this model cannot do, or read, with these settings, before anything is computed."""
    bench.check(timeline)
    bench.check_texts(timeline)


def _performed(
    bench: Bench, timeline: Timeline, fresh: bool, origin: Mapping[str, Any], frames: np.ndarray | None
) -> Generator[Now]:
    """The run itself, from its row in the log to its clip."""
    bench.place(timeline)
    row = bench.log.start(facts_of(bench, timeline, origin))
    failure: Failure | None = None
    meter, done = Meter(torch.device(bench.settings.load_device)), _Done()
    run = Run(bench, row.id, timeline, row.facts)
    try:
        yield from _compute(run, row, meter, done, fresh, frames)
        _finish(run, row, "done", meter, done)
    except BaseException as error:
        failure = Failure.of(error)
    if failure:
        status = "stopped" if failure.interrupt else "failed"
        _finish(run, row, status, meter, done, error=None if failure.interrupt else failure.text)
        if failure.out_of_memory:
            failure.note(bench.advice(timeline, meter.now))
        failure.note(f"Stopped after {done.steps} of {len(timeline)} steps, which are kept: run the same line again to go on.")
        raise failure.error  # outside the except block and without its frames, so that a failed cell keeps no tensor alive


class _Done:
    """What a run has done so far, for its row."""

    def __init__(self) -> None:
        self.steps, self.reused, self.calls = 0, 0, 0
        self.seconds: list[float | None] = []
        self.block_seconds: list[list[float] | None] = []
        self.clip: str | None = None
        self.compiles: dict[str, float] | None = None


def _compute(run: Run, row: RunFolder, meter: Meter, done: _Done, fresh: bool, frames: np.ndarray | None) -> Iterator[Now]:
    bench, timeline = run._bench, run.timeline
    model = bench.model
    yield Now(run, "load")
    with meter.stage("load"):
        missing = [k for k, name in enumerate(step_names(model.id, timeline)) if fresh or name not in bench.store]
        if missing:
            model.load()  # now, so that no step's seconds include it
    yield Now(run, "encode")
    with meter.stage("encode"):
        model.text.prepare([text for k in missing for text in timeline.at(k).texts])
    last: Step | None = None
    before = model.compiles
    yield Now(run, "denoise")
    with meter.stage("denoise"):
        for step in denoise(model, timeline, bench.store, bench.inputs, fresh=fresh):
            last = step
            done.steps += 1
            done.calls += step.calls
            done.reused += step.reused
            done.seconds.append(None if step.reused else step.seconds)
            done.block_seconds.append(None if step.reused else list(step.block_seconds))
            row.beat()
            meter.look()
            yield Now(run, "denoise", step)
    if bench.settings.compile and missing:
        done.compiles = model.compiles.since(before).facts()
    if last is None:
        raise SettingsError("the run has no steps")  # settings are checked, so it has
    yield Now(run, "decode")
    with meter.stage("decode"):
        run.__dict__["final"] = run._shown(last)
        run.__dict__["clip"] = run._clip(model.decode(run.final) if frames is None else frames)
    yield Now(run, "save")
    with meter.stage("save"):
        write_whole(run.folder / "preview.png", contact_sheet(run.clip.frames, columns=6, height=64), durable=False)
        if run.clip.settings.save_output:
            done.clip = run.clip.save(folder=run.folder).relative_to(run.folder).as_posix()


def _finish(run: Run, row: RunFolder, status: Any, meter: Meter, done: _Done, error: str | None = None) -> None:
    seconds = {**meter.seconds, "total": sum(meter.seconds.values()), "steps": done.seconds}
    row.finish(
        status,
        seconds=seconds,
        **meter.peak(),
        memory=meter.facts(),
        block_seconds=done.block_seconds,
        steps_done=done.steps,
        steps_reused=done.reused,
        model_calls=done.calls,
        clip=done.clip,
        error=error,
        **({} if done.compiles is None else {"compile": done.compiles}),
    )
    run.facts = row.facts


def _notable(timeline: Timeline) -> dict[str, Any]:
    """The settings that everybody wants to see, then those that are not as declared, then forks."""
    values, known = timeline.settings.flat(), declared()
    always = ("steps", "cfg", "shift", "solver", "seed")
    groups = switches(Settings)
    shown = {
        name: value for name, value in values.items() if name != "prompt" and (name in always or value != known[name].default)
    }
    for group in groups:
        if getattr(timeline.settings, group) and not any(name.startswith(f"{group}.") for name in shown):
            shown[group] = "as declared"
    return shown | {f"from step {at}": json.dumps(dict(changes), ensure_ascii=False)[1:-1] for at, changes in timeline.forks}


def preview_of(run: Run) -> Preview:
    """The map of this VAE: shipped beside the checkpoint, or fitted once on a clip that it decoded, and kept in the lab."""
    bench = run._bench
    known = bench.preview
    if known is not None:
        return known
    last = run.steps[len(run.steps) - 1]
    fitted = Preview.fit(run._shown(last).cpu(), run.clip.frames[None], cell=2)
    bench.preview_file.parent.mkdir(parents=True, exist_ok=True)
    fitted.save(bench.preview_file)
    return fitted
