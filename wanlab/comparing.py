"""Runs beside each other: played on one clock with the settings that differ, or joined one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np

from wanlab import show
from wanlab.clip import Clip
from wanlab.differing import SettingsRow, changes_frames, differing, label, told
from wanlab.errors import SettingsError
from wanlab.labels import settings_rows
from wanlab.run import Run
from wanlab.settings import declared
from wanlab.show.frame_curves import difference


def compare(*runs: Run | Clip, mode: show.Mode = "side", labels: Sequence[str] | None = None) -> show.Page:
    """Play up to nine runs on one clock, with the settings that differ and one sentence about them.

    `mode` is how the page begins: "side" by side, or two of them as a "wipe", as a "blink" or as an amplified "difference".
    A clip may stand for a run; what its metadata says of settings is compared. `labels` name the runs; else the settings that
    differ do. SettingsError for anything else, more than nine of them, or a mode that needs two.
    """
    _check(runs, mode, labels)
    told_by_runs = iter(settings_rows([one for one in runs if isinstance(one, Run)]))
    sides = [_of_clip(one) if isinstance(one, Clip) else _of_run(one, next(told_by_runs)) for one in runs]
    rows = [side.settings for side in sides]
    said = [side.settings for side in sides if side.kind == "clip" and side.settings]  # a clip does not say all that a run does
    names = [name for name in differing(rows) if all(name in row for row in said)]
    named = [label(side.settings, names) or f"{side.kind} {number}" for number, side in enumerate(sides, 1)]
    facts = [name for name in ("status", "seconds", "steps reused", "run") if any(side.facts.get(name) for side in sides)]
    tiles = [
        show.Tile(side.clip.frames, called, {name: side.facts.get(name, "") for name in facts}, side.clip.frame_rate)
        for side, called in zip(sides, labels or named, strict=True)
    ]
    prompts = {row["prompt"] for row in rows if "prompt" in row}
    return show.player(
        tiles,
        frame_rate=sides[0].clip.frame_rate,
        title=prompts.pop() if len(prompts) == 1 else "",
        mode=mode,
        table=[(name, [row.get(name, "") for row in rows]) for name in names],
        summary=_summary(sides, names),
    )


def join(*runs: Run) -> Clip:
    """The clip of a run and of those that extend it one after the other (`lab.extend`), without the frames they share."""
    if not runs:
        raise SettingsError("join() needs at least one run.")
    parts = [runs[0].clip.frames]
    for before, after in pairwise(runs):
        if after.facts.get("extends") != before.id:
            raise SettingsError(f"Run {after.id} does not extend run {before.id}; make it with lab.extend.")
        parts.append(after.clip.frames[int(after.facts["overlap"]) :])
    whole = np.concatenate(parts)
    return Clip(whole, runs[0].clip.settings, {**runs[0].clip.metadata, "joined": [run.id for run in runs]})


@dataclass(frozen=True)
class _Side:
    """One clip of a comparison: its settings by name, what else is known, which model made it and on what."""

    kind: str
    clip: Clip
    settings: SettingsRow
    facts: Mapping[str, str]
    model: Any  # its id; None if that is not known
    machine: Mapping[str, str]  # what rounding depends on

    @property
    def finished(self) -> bool:
        """Whether this is what its settings lead to; what is left of a stopped run is not."""
        return bool(self.settings) and not self.facts.get("status")


def _check(runs: Sequence[Any], mode: object, labels: Sequence[str] | None) -> None:
    most = show.MOST_CLIPS
    for number, one in enumerate(runs, 1):
        if not isinstance(one, Run | Clip):
            hint = " Put a star before a list: compare(*runs)." if isinstance(one, list | tuple) else ""
            raise SettingsError(f"compare() takes runs and clips; number {number} is a {type(one).__name__}.{hint}")
    if not 1 <= len(runs) <= most:
        raise SettingsError(f"compare() got {len(runs)} runs; it shows 1 to {most} at a time. Choose some of them.")
    if mode not in get_args(show.Mode):
        raise SettingsError(f"mode is {mode!r}; it must be one of {', '.join(get_args(show.Mode))}.")
    if mode != "side" and len(runs) < 2:
        raise SettingsError(f"mode is {mode!r}, which needs two runs; there is one. Use mode='side'.")
    if labels is not None and (
        isinstance(labels, str) or len(labels) != len(runs) or not all(isinstance(x, str) for x in labels)
    ):
        raise SettingsError(f"labels is {labels!r}; it must be a list with one text per run: {len(runs)}.")


def _of_clip(clip: Clip) -> _Side:
    said = {name: str(clip.metadata[name]) for name in declared() if name in clip.metadata}
    return _Side("clip", clip, said, {"run": str(clip.metadata.get("run", ""))}, None, {})


def _of_run(run: Run, settings: SettingsRow) -> _Side:
    facts = {"seconds": f"{run.seconds:.2f}", "run": run.id}
    if run.steps_reused:
        facts["steps reused"] = f"{run.steps_reused} of {len(run.timeline)}"
    if run.status != "done":
        facts["status"] = f"{run.status} after {run.facts['steps_done']} of {len(run.timeline)} steps"
    machine = {"device": str(run.facts.get("device")), "threads": str(run.facts.get("threads"))}
    return _Side("run", run.clip, settings, facts, run.facts["model"].get("id"), machine)


def _summary(sides: Sequence[_Side], names: Sequence[str]) -> str:
    """What differs in the settings, what that should do to the frames, and what it did."""
    if len(sides) < 2:
        return ""
    known = all(side.settings for side in sides)
    sentence = told([side.settings for side in sides], names) if known else ""
    models = {side.model for side in sides}
    same = all(side.finished for side in sides) and len(models) == 1 and None not in models
    they = "these two" if len(sides) == 2 else f"all {len(sides)}"
    apart = _apart([side.clip for side in sides])
    if same and not any(changes_frames(name) for name in names):
        sentence = f"{sentence[:-1]}, so {they} should be identical."
        apart += "" if "identical" in apart else _other_rounding(sides)
    stopped = [f"Run {side.facts['run']} was {side.facts['status']}." for side in sides if side.facts.get("status")]
    return " ".join(filter(None, [sentence, apart, *stopped]))


def _other_rounding(sides: Sequence[_Side]) -> str:
    """A reason for what should be identical and is not; nothing if none is known."""
    names = [name for name in sides[0].machine if len({side.machine[name] for side in sides}) > 1]
    kinds = [f"{name} ({', '.join(dict.fromkeys(side.machine[name] for side in sides))})" for name in names]
    return f" They ran with other {' and '.join(kinds)}, which round in another order." if kinds else ""


def _apart(clips: Sequence[Clip]) -> str:
    """How far the clips are from the first one."""
    first = clips[0].frames
    others = [number for number, clip in enumerate(clips, 1) if not np.array_equal(clip.frames, first)]
    if not others:
        return "Their frames are identical."
    if len(clips) > 2:
        same = [number for number in range(2, len(clips) + 1) if number not in others]
        if not same:
            return "None is identical to clip 1."
        return f"Identical to clip 1: {', '.join(map(str, same))}; not: {', '.join(map(str, others))}."
    curve = difference(clips[1].frames, first)
    most = int(curve.argmax())
    return (
        f"Their frames differ by {_number(curve.mean())} of 255 on average, most in frame {most + 1} ({_number(curve[most])})."
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"
