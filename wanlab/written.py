"""Settings as text: as the line of Python that makes the run, as JSON, and back from JSON and from clips. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wanlab.clip import read_settings
from wanlab.declare import Declared, declarations, switches, unknown
from wanlab.errors import SettingsError
from wanlab.model_settings import LoraSettings
from wanlab.settings import ModelSettings, Settings
from wanlab.values import read

_WIDTH = 100  # a call that is longer has a line for each argument

# What a clip says of its run beside settings.
_FACTS = {
    "versions": "with which versions it was made",
    "run": "the run's id",
    "id": "which model it was, by its content",
}
_OLDER = {"device": "load_device"}


@dataclass(frozen=True)
class Taken:
    """Settings that were read: changes of the run's and of the model's by dotted name, and what was not taken over.

    `not_taken` holds (name, value, reason) each.
    """

    changes: Mapping[str, Any]
    model_changes: Mapping[str, Any]
    not_taken: tuple[tuple[str, Any, str], ...] = ()


def as_python(
    changes: Mapping[str, Any], model_changes: Mapping[str, Any] | None = None, folder: str | os.PathLike[str] | None = None
) -> str:
    """The Python that makes a run with these changes, and before it the lab, in `folder`, whose model has those.

    >>> print(as_python({"prompt": "a red circle", "steps": 20, "clip.frame_rate": 8}))
    run = lab.run('a red circle', steps=20, changes={'clip.frame_rate': 8})
    """
    plain = {name: value for name, value in changes.items() if "." not in name}
    dotted = {name: value for name, value in changes.items() if "." in name}
    words = [repr(plain.pop("prompt"))] if "prompt" in plain else []
    words += [f"{name}={_literal(value)}" for name, value in plain.items()]
    words += [f"changes={_literal(dotted)}"] if dotted else []
    run = f"run = {_call('lab.run', words)}"
    if not model_changes:
        return run
    nested: dict[str, Any] = {}
    for name, value in model_changes.items():
        group, _, member = name.rpartition(".")
        if not group:
            nested.setdefault(name, value)
        else:
            held = nested.get(group)
            nested[group] = {**(held if isinstance(held, dict) else {}), member: value}
    place = [] if folder is None else [repr(os.fspath(folder))]
    lab = _call("wl.Lab", place + [f"{name}={_literal(value)}" for name, value in nested.items()])
    return f"lab = {lab}\n{run}"


def as_json(settings: Settings, model: ModelSettings | None = None) -> str:
    """All settings by dotted name as JSON, those of the model under "model"; `from_json` reads it."""
    values = settings.flat()
    if model is not None:
        values["model"] = model.flat()
    return json.dumps(values, ensure_ascii=False, indent=1, default=_plain)


def from_json(text: str) -> Taken:
    """The settings in a JSON text: what `as_json` writes, what a clip carries, or any mapping of settings by dotted name.

    What cannot be taken over is told and left out. Raises SettingsError for text that is no JSON mapping.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = f"The settings are no JSON: {error}."
    else:
        if isinstance(values, dict):
            return taken(values)
        problem = f"The settings are JSON, but {type(values).__name__} instead of a mapping of settings by name."
    raise SettingsError(problem)


def from_clip(path: str | os.PathLike[str]) -> Taken:
    """The settings in a clip, or in its side-car; FileError if there are none."""
    return taken(read_settings(path))


def taken(values: Mapping[str, Any]) -> Taken:
    """Which of these values are settings, of the run or the model, and which are not, and why."""
    found: dict[str, Any] = {}
    of_model: dict[str, Any] = {}
    left: list[tuple[str, Any, str]] = []
    model = values.get("model")
    for name, value in _dotted({key: part for key, part in values.items() if key != "model" or isinstance(part, str)}):
        _take(name, value, found, of_model, left)
    for name, value in _dotted(model if isinstance(model, Mapping) else {}):
        _take("model" if name == "name" else name, value, {}, of_model, left)
    for owner, place in ((Settings, found), (ModelSettings, of_model)):
        place |= _off(owner, place)
    return Taken(found, of_model, tuple(left))


def _off(model: type[Declared], found: Mapping[str, Any]) -> dict[str, bool]:
    """The groups of which nothing is said where everything else is: they were off."""
    groups = switches(model)
    if any(name not in found for name in declarations(model) if name.partition(".")[0] not in groups):
        return {}
    return {group: False for group in groups if not any(name == group or name.startswith(f"{group}.") for name in found)}


def _take(name: str, value: Any, found: dict[str, Any], of_model: dict[str, Any], left: list[tuple[str, Any, str]]) -> None:
    """Put a value where it belongs."""
    name = _OLDER.get(name, name)
    if name in _FACTS:
        return
    if name == "forks":
        if value:
            left.append((name, value, "the run was forked on the way; these settings are those of its last step"))
        return
    for model, place in ((Settings, found), (ModelSettings, of_model)):
        if name in declarations(model) or name in switches(model):
            try:
                place[name] = read(name, value)
            except SettingsError as error:
                left.append((name, value, str(error)))
            return
    left.append((name, value, unknown(name, Settings)))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names with dots, and values, of a mapping that may hold groups as mappings."""
    groups = switches(Settings).keys() | switches(ModelSettings).keys() | {"clip"}
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and name in groups:
            found += _dotted(value, f"{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Declared):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} is no setting's value")


def _call(function: str, words: list[str]) -> str:
    line = f"{function}({', '.join(words)})"
    if len(line) <= _WIDTH:
        return line
    return f"{function}(\n" + "".join(f"    {word},\n" for word in words) + ")"


def _literal(value: Any) -> str:
    """A value as Python that gives it back."""
    if isinstance(value, LoraSettings):
        value = {name: one for name, one in value.model_dump().items() if one != LoraSettings.model_fields[name].default}
        if set(value) == {"file"}:
            return repr(value["file"])
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_literal(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)
