"""Plots of runs: where the time went, what memory was used when, and how far runs are from a reference.

Each is a page: a drawing that a notebook shows, its numbers in a table, and `to_html(path)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wanlab.cost.estimate import estimate
from wanlab.document import Row, table_html
from wanlab.errors import SettingsError
from wanlab.labels import labels
from wanlab.metrics import psnr
from wanlab.names import step_names
from wanlab.parting import at_levels, moments, size_of
from wanlab.planning import request_of
from wanlab.plans import planned
from wanlab.run import Run
from wanlab.settings import ModelSettings, declared
from wanlab.show.page import Page
from wanlab.show.plots import STAGES, Errors, Memory, Times, draw_errors, draw_memory_over_time, draw_times
from wanlab.steps import relative

_PLANNED = {"load": ("load",), "encode": ("encode text", "encode image"), "denoise": ("denoise",), "decode": ("decode",)}


def plot_time(*runs: Run) -> Page:
    """Seconds of each stage of runs as bars, and of each step as points: hollow if it was reused, the first computed one
    marked.

    A reused step is drawn with the seconds of the run that computed it, if it is still in the store.
    """
    times = [_times(run, label) for run, label in zip(_some(runs), labels(runs), strict=True)]
    rows: list[Row] = [(name, [_number(one.stages.get(name)) for one in times]) for name in STAGES]
    rows += [("steps reused", [f"{sum(one.reused)} of {len(one.reused)}" for one in times])]
    known = [[seconds for seconds, old in zip(one.steps, one.reused, strict=True) if not old and seconds] for one in times]
    rows += [("seconds a computed step, median", [_number(float(np.median(one)) if one else None) for one in known])]
    told = "; ".join(f"{one.label}: {sum(one.stages.values()):.3g} s" for one in times)
    text = f"Seconds by stage and step. {told}."
    return _page(draw_times(times), "Time", text, table_html(rows, [one.label for one in times], folded="Seconds"))


def plot_memory(*runs: Run) -> Page:
    """Memory over time by stage: what each look saw, the peak of each stage, and what the plan expects for it.

    On a GPU that is what torch allocated there; on a CPU the memory of the process, in which Python and libraries are too, so
    what is planned is drawn on top of what the process had at the start. SettingsError if none of the runs noted its memory.
    """
    found = [_memory(run, label) for run, label in zip(_some(runs), labels(runs), strict=True) if run.facts.get("memory")]
    found = [one for one in found if one.seconds]
    if not found:
        raise SettingsError("None of these runs has noted its memory over time: they are of an earlier version. Run one again.")
    stages = list(dict.fromkeys(stage for one in found for stage in one.peaks))
    rows: list[Row] = [(f"{stage}, peak", [_number(one.peaks.get(stage)) for one in found]) for stage in stages]
    rows += [(f"{stage}, planned", [_number(one.planned.get(stage)) for one in found]) for stage in stages]
    rows += [("at the start", [_number(one.start_gib or None) for one in found])]
    rows += [("the device has", [_number(one.device_gib) for one in found])]
    told = "; ".join(f"{one.label}: at most {max(one.peaks.values(), default=math.nan):.3g} GiB" for one in found)
    notes = [f"{len(runs) - len(found)} of the runs noted no memory and are left out."] if len(found) < len(runs) else []
    if any(one.start_gib for one in found):
        notes.append("What is planned stands on top of what the process had at the start.")
    table = table_html(rows, [one.label for one in found], folded="GiB")
    return _page(draw_memory_over_time(found), "Memory over time", f"Memory over time by stage. {told}.", table, notes)


def plot_error(*runs: Run, reference: Run) -> Page:
    """How far runs are from a reference: latents at each noise level, and each frame of the clips.

    The error of latents is their difference as a part of the reference's size (Frobenius norms), at the noise levels of the
    run; where the reference has other levels, it is taken on a straight line between its steps. Frames are compared by PSNR in
    dB, infinite for identical ones. Raises SettingsError for runs of another size.
    """
    for run in _some(runs):
        if size_of(run) != size_of(reference):
            raise SettingsError(
                f"Run {run.id} has latents {size_of(run)}, the reference {size_of(reference)}; compare one size."
            )
    found = [_errors(run, label, reference) for run, label in zip(runs, labels(runs), strict=True)]
    rows: list[Row] = [
        ("latents at the end", [_number(one.latents[-1] if one.latents else None) for one in found]),
        ("PSNR of the clip, mean of frames, dB", [_number(float(np.mean(one.psnr))) for one in found]),
        ("PSNR of the worst frame, dB", [_number(min(one.psnr)) for one in found]),
    ]
    told = "; ".join(f"{one.label}: {_number(one.latents[-1] if one.latents else None) or 'unknown'}" for one in found)
    text = f"Difference from run {reference.id}, latents at the end. {told}."
    return _page(
        draw_errors(found), "Error against a reference", text, table_html(rows, [one.label for one in found], folded="Numbers")
    )


def _some(runs: Sequence[Run]) -> Sequence[Run]:
    if not runs:
        raise SettingsError("There is nothing to plot; give at least one run.")
    return runs


def _times(run: Run, label: str) -> Times:
    seconds = run.facts["seconds"]
    steps: list[float | None] = list(seconds.get("steps", []))
    names, store = step_names(run.facts["model"]["id"], run.timeline), run._bench.store
    reused = [one is None for one in steps]
    for index, name in enumerate(names[: len(steps)]):
        if reused[index] and name in store and (stored := store.get(name)):
            steps[index] = stored.seconds
    stages = {name: seconds[name] for name in STAGES if name in seconds}
    return Times(label, stages, steps, reused, float((run.facts.get("compile") or {}).get("seconds", 0.0)))


def _memory(run: Run, label: str) -> Memory:
    noted = run.facts["memory"]
    on_cpu = "peak_rss_gib" in run.facts
    return Memory(
        label=label,
        seconds=noted["seconds"],
        gib=noted["gib"],
        stage=noted["stage"],
        peaks=noted["peaks"],
        planned=_planned(run),
        start_gib=noted["gib"][0] if on_cpu and noted["gib"] else 0.0,
        device_gib=noted["device_gib"],
    )


def _planned(run: Run) -> dict[str, float]:
    """GiB that are planned for each stage of a run like this with nothing reused, on the device and as it was placed."""
    bench = run._bench
    noted = run.facts["model"]
    placed = {name: noted[name] for name, one in declared(ModelSettings).items() if one.affects == "cost" and name in noted}
    whole = planned(bench.facts, run.timeline, {}, lambda _: False, set())
    stages = estimate(request_of(bench.checkpoint, bench.settings.but(placed), whole)).stages
    found = {name: [stages[part] for part in parts if part in stages] for name, parts in _PLANNED.items()}
    return {name: max(gib) for name, gib in found.items() if gib}


def _errors(run: Run, label: str, reference: Run) -> Errors:
    sigmas: list[float] = []
    latents = []
    for moment in moments(run):
        sigmas.append(moment.sigma)
        latents.append(moment.latents)
    pairs = zip(latents, at_levels(moments(reference), sigmas), strict=True)
    errors = [None if other is None else relative(one, other.latents) for one, other in pairs]
    frames = zip(run.clip.frames, reference.clip.frames, strict=True)
    return Errors(label, sigmas, errors, [psnr(one[None], other[None]) for one, other in frames])


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else "identical" if math.isinf(value) else f"{value:.4g}"


def _page(figure: Any, title: str, text: str, table: str, notes: Sequence[str] = ()) -> Page:
    from wanlab.show.drawing import page_of

    return page_of(figure, title=title, text=text, notes=notes, tables=table)
