"""Runs beside each other: played on one clock with the settings that differ, or joined one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from wanlab import show
from wanlab.clip import Clip
from wanlab.declare import switches
from wanlab.errors import SettingsError
from wanlab.model_settings import LoraSettings
from wanlab.run import Run
from wanlab.settings import ModelSettings, Settings, declared


def compare(*runs: Run, mode: show.Mode = "side") -> show.Page:
    """Play two or more runs on one clock: side by side, as a wipe or as a difference, with the settings that differ.

    `mode` is "side", "wipe" or "difference"; the page can switch between them.
    """
    if not runs:
        raise SettingsError("compare() needs at least one run.")
    rows = [_facts_shown(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    groups = tuple(f"{name}." for name in switches(Settings))  # of runs without the technique it is enough that it is off
    usual = {name: str(setting.default) for name, setting in declared().items()}

    def differs(name: str) -> bool:
        """Whether the runs have different values, or only some have the technique and it is not as declared."""
        values = {row.get(name, "") for row in rows if name in row or not name.startswith(groups)}
        some = len([row for row in rows if name in row]) < len(rows)
        return len(values) > 1 or (some and name.startswith(groups) and values != {usual[name]})

    different = [name for name in names if differs(name)]
    told = [name for name in different if name not in ("seconds", "steps reused", "run")]
    labels = [_label(row, told) or f"run {number}" for number, row in enumerate(rows, 1)]
    tiles = [show.Tile(run.clip.frames, label) for run, label in zip(runs, labels, strict=True)]
    table = [(name, [row.get(name, "") for row in rows]) for name in different]
    title = runs[0].settings.prompt if "prompt" not in different else ""
    return show.player(tiles, frame_rate=runs[0].clip.frame_rate, title=title, mode=mode, table=table)


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


def _facts_shown(run: Run) -> dict[str, str]:
    forks = {f"{name} from step {at}": str(value) for at, changes in run.timeline.forks for name, value in changes}
    facts = {"seconds": f"{run.seconds:.2f}", "steps reused": str(run.steps_reused), "run": run.id}
    techniques = {name: "off" if getattr(run.settings, name) is None else "on" for name in switches(Settings)}
    settings = {name: str(value) for name, value in run.settings.flat().items()}
    return _model_shown(run.facts["model"]) | techniques | settings | forks | facts


def _model_shown(model: Mapping[str, Any]) -> dict[str, str]:
    """How a run's model was loaded, as a row of texts; what runs of an earlier version do not say is as declared."""
    usual = {name: setting.default for name, setting in declared(ModelSettings).items()}
    told = {**usual, **model, "model": model["name"]}
    loras = ", ".join(str(LoraSettings(**one)) if isinstance(one, Mapping) else str(one) for one in told["loras"])
    return {name: str(told[name]) for name in usual if name != "loras"} | {"loras": loras}


def _label(row: Mapping[str, str], names: Sequence[str]) -> str:
    """A short name for a run: its values of the settings that differ."""
    parts = [f"{name} {row[name]}" for name in names[:3] if row.get(name)]
    return ", ".join(part if len(part) <= 40 else f"{part[:39]}\u2026" for part in parts)
