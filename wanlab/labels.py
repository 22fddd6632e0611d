"""What runs are called beside each other: their settings as texts, and the ones of these that tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wanlab.declare import switches
from wanlab.differing import differing, forked_name, label
from wanlab.model_settings import LoraSettings
from wanlab.run import Run
from wanlab.settings import ModelSettings, Settings, declared


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name for each run: its values of the settings in which they differ, its id where these do not tell it apart."""
    rows = settings_rows(runs)
    names = differing(rows)
    found = [label(row, names) for row in rows]
    counts = Counter(found)
    return [run.id if not one or counts[one] > 1 else one for one, run in zip(found, runs, strict=True)]


def settings_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run its settings, and those of its model, as texts by name; where one was forked, what is in force in all."""
    forked = dict.fromkeys((name, at) for run in runs for at, changes in run.timeline.forks for name, _ in changes)
    return [_of_model(run.facts["model"]) | _of_settings(run.settings) | _of_forks(run, forked) for run in runs]


def _of_forks(run: Run, forked: Iterable[tuple[str, int]]) -> dict[str, str]:
    """What is in force where a run was forked."""
    steps = len(run.timeline)
    return {forked_name(name, at): _of_settings(run.timeline.at(at)).get(name, "") for name, at in forked if at < steps}


def _of_settings(settings: Settings) -> dict[str, str]:
    techniques = {name: "off" if getattr(settings, name) is None else "on" for name in switches(Settings)}
    return techniques | {name: str(value) for name, value in settings.flat().items()}


def _of_model(model: Mapping[str, Any]) -> dict[str, str]:
    """How a run's model was loaded, as a row of texts; what runs of an earlier version do not say is as declared."""
    known = declared(ModelSettings)
    groups = {name: any(one.startswith(f"{name}.") for one in model) for name in switches(ModelSettings)}
    there = [name for name in known if groups.get(name.partition(".")[0], True)]  # not those of a group that is off
    told = {**{name: known[name].default for name in there}, **model, "model": model["name"]}
    loras = ", ".join(str(LoraSettings(**one)) if isinstance(one, Mapping) else str(one) for one in told["loras"])
    switched = {name: "on" if on else "off" for name, on in groups.items()}
    return switched | {name: str(told[name]) for name in there} | {"loras": loras}
