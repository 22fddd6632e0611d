"""Controls: what a form needs to ask for every setting, and how its answers become settings again. No torch.

Everything is derived from the declarations: a control's kind from the kind of setting, its slider from the usual range, its
place from `sections.py`. Between Python and the browser there is JSON only; what JSON or JavaScript cannot hold exactly, a
seed of 64 bits, travels as text.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from wanlab.declare import Asked, Declared, Setting, alone, declarations, group_of, number, switches
from wanlab.errors import SettingsError
from wanlab.model_settings import LoraSettings
from wanlab.presets import PRESETS, Preset
from wanlab.sections import OWNERS, SECTIONS, Owner, Part, Placed, placed
from wanlab.settings import ModelSettings
from wanlab.weights.registry import all_known
from wanlab.written import Taken, as_json, as_python, from_clip, from_json

__all__ = [
    "PRESETS",
    "Taken",
    "as_json",
    "as_python",
    "blame",
    "chosen",
    "form",
    "from_clip",
    "from_json",
    "read",
    "shown",
]

_MOST_STOPS = 250  # a slider with more is no help
_EXACT = 2**53  # up to here JavaScript knows every whole number


def form(values: Mapping[str, Any], model_values: Mapping[str, Any]) -> dict[str, Any]:
    """A form for all settings, as JSON: sections with their controls, whose defaults are these values, and the presets.

    The values are those of `settings.flat()`, of the run and of the model; a setting that is not among them has its declared
    value. A group is on if one of its settings is given, unless it is given as False by its own name (`{"feta": False,
    "feta.weight": 4}` is off, and 4 when it is turned on).
    """
    given: dict[Owner, Mapping[str, Any]] = {"run": values, "model": model_values}
    sections = [
        {
            "name": section.name,
            "title": section.title,
            "help": section.help,
            "notebook": section.parts[0].notebook,
            "controls": [_control(one, part, given[one.of]) for part in section.parts for one in placed()[part]],
        }
        for section in SECTIONS
    ]
    model = str(model_values.get("model", ModelSettings().model))
    return {"sections": sections, "presets": [_preset(one, model) for one in PRESETS]}


def read(name: str, value: Any) -> Any:
    """What a control of the form says, as Settings take it; SettingsError in the sentence of the setting itself.

    Only the setting itself is judged: what several together may not be is for Settings to say.
    """
    for model in OWNERS.values():
        setting = declarations(model).get(name)
        if setting:
            return alone(model, name, _from_json(setting, value))
        if name in switches(model):
            if isinstance(value, bool):
                return value
            raise SettingsError(f"{name} is {value!r}; it must be True or False.")
    raise SettingsError(f"{name} is not a setting.")


def chosen(values: Mapping[str, Any], base: Asked, suits: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The changes that make these settings out of `base`, from what all controls of a form say.

    Settings of groups that are off are left out, and so is what is as in `base` already. A group that is turned on begins with
    what `suits` the model, by group and setting, else as declared. Raises SettingsError for all values that cannot be read,
    a line each.
    """
    model, found, wrong = type(base), dict[str, Any](), []
    groups, here = switches(model), base.flat()
    on = {name: bool(values.get(name, getattr(base, name) is not None)) for name in groups}
    for name, setting in (declarations(model) | groups).items():
        group, _, member = name.rpartition(".")
        if name not in values or (group in groups and not on[group]):
            continue
        try:
            value = read(name, values[name])
        except SettingsError as error:
            wrong.append(str(error))
            continue
        begins = (suits or {}).get(group, {}).get(member, setting.default)
        now = (getattr(base, name) is not None) if name in groups else here.get(name, begins)
        if value != now:
            found[name] = value
    if wrong:
        raise SettingsError("\n".join(wrong))
    return found


def blame(error: Exception, names: Iterable[str]) -> dict[str, str]:
    """To which of these controls each sentence of an error belongs; "" gets what belongs to none.

    A sentence belongs to the settings with which it begins ("frames is 80; ..."), to those that it names in a way that
    no other word is written (`vae_tile`, `cache.kind`), and to those of which it says what to do ("raise frames").
    """
    names, found = set(names), dict[str, list[str]]()
    for sentence in str(error).splitlines():
        for name in _named(sentence, names) or [""]:
            found.setdefault(name, []).append(sentence)
    return {name: " ".join(sentences) for name, sentences in found.items()}


def shown(value: Any) -> Any:
    """A value as a control shows it, in JSON."""
    if isinstance(value, tuple | list):
        return [shown(one) for one in value]
    if isinstance(value, Declared):
        return {name: shown(one) for name, one in value.model_dump().items()}
    if isinstance(value, int) and abs(value) > _EXACT:
        return str(value)
    return value


def _control(one: Placed, part: Part, values: Mapping[str, Any]) -> dict[str, Any]:
    """One control of the form."""
    setting, name = one.setting, one.setting.name
    switch = name in switches(OWNERS[one.of])
    default = values.get(name, setting.default)
    if switch:
        default = bool(values.get(name, any(other.startswith(f"{name}.") for other in values)))
    control = _described(setting, default)
    if switch:
        members = [other for other in placed()[part] if other.switch == name]
        control |= {"help": _about(OWNERS[one.of], name), "simple": any(member.setting.simple for member in members)}
    return {**control, "of": one.of, "group": switch, "switch": one.switch, "part": part.title, "notebook": part.notebook}


def _described(setting: Setting, default: Any) -> dict[str, Any]:
    """What a control needs to know of a setting, wherever it stands."""
    kind = _kind(setting)
    described = {
        "name": setting.name,
        "kind": kind,
        "label": setting.name,
        "help": setting.help,
        "unit": setting.unit,
        "low": shown(setting.low),
        "high": shown(setting.high),
        "step": setting.step or (1 if setting.kind is int else None),
        "usual": _usual(setting),
        "range": _range(setting),
        "choices": list(setting.choices),
        "default": str(default) if kind == "seed" else shown(default),
        "affects": setting.affects,
        "scope": setting.scope,
        "whole": setting.kind is int,
        "optional": setting.optional,
        "simple": setting.simple,
    }
    if setting.name == "model":
        described["choices"] = ["tiny", "tiny-i2v", *(one.name for one in all_known() if one.runs)]
    if kind == "loras":
        described["fields"] = [_described(field, field.default) for field in declarations(LoraSettings).values()]
    return described


def _kind(setting: Setting) -> str:
    """Which control asks for this setting."""
    if setting.kind is tuple:
        return "loras"
    if setting.choices:
        return "choice"
    if setting.kind is bool:
        return "toggle"
    if setting.kind is str:
        return {"line": "text"}.get(setting.text, setting.text)
    if setting.name == "seed":
        return "seed"
    if setting.listed:
        return "list"
    return "slider" if _usual(setting) else "number"


def _usual(setting: Setting) -> list[float] | None:
    """The range of a slider: the usual one, or all of it if that is not too much; None for no slider."""
    if setting.usual:
        return list(setting.usual)
    if setting.kind not in (int, float) or setting.low is None or setting.high is None or (setting.optional and setting.listed):
        return None
    return [setting.low, setting.high] if (setting.high - setting.low) / (setting.step or 1) <= _MOST_STOPS else None


def _range(setting: Setting) -> str:
    """What a number may be, in a few words: "16 to 4096 pixels"."""
    if setting.low is None or setting.high is None:
        return ""
    high = "2^64 - 1" if setting.high == 2**64 - 1 else number(setting.high)
    return f"{number(setting.low)} to {high} {setting.unit}".strip()


def _about(model: type[Declared], group: str) -> str:
    """What the group says of itself, in a sentence."""
    held = group_of(model.model_fields[group])
    return " ".join((inspect.getdoc(held) or "").split()).partition(". ")[0].removesuffix(".") + "."


def _preset(preset: Preset, model: str) -> dict[str, Any]:
    """A preset for the form; `group` is the heading under which it is offered."""
    here = preset.model == model or model.rpartition("/")[2].removesuffix("-Diffusers") == preset.model
    group = "For any model" if not preset.model else "This model" if here else "Other models"
    changes = {name: shown(value) for name, value in preset.changes.items() if not (here and name == "model")}
    help = f"{preset.help} From {preset.origin}."
    return {"name": preset.name, "title": preset.title, "help": help, "group": group, "changes": changes}


def _from_json(setting: Setting, value: Any) -> Any:
    """A value of the browser as the kind of the setting, if it can be that; else as it is, for Settings to refuse."""
    if setting.optional and isinstance(value, str) and not value.strip():
        return None
    if setting.kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if setting.kind in (int, float) and not setting.listed and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return setting.kind(value.strip()) if value.isascii() and "_" not in value else value
    return value


_QUOTED = re.compile(r"(?<!\w)'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_BEGIN = re.compile(r"([\w.]+)(?:\[\d+\][\w.]*)?(?:, | and )?")
_TO_DO = re.compile(r"\b(?:give|take|leave|raise|lower|needs?|turn|than)\s+(?:it\s+)?(?:an?\s+|the\s+)?([\w.]+)(?![-\w])")
_OTHERWISE = re.compile(r"\b([\w.]+)(?==)|\b(\w+[._][\w.]*\w)\b")


def _named(sentence: str, names: set[str]) -> list[str]:
    """The names that a sentence is about."""
    plain = _QUOTED.sub("''", sentence)
    found: list[str] = []
    place = 0
    while (match := _BEGIN.match(plain, place)) and match[1].rstrip(".") in names:
        found.append(match[1].rstrip("."))
        place = match.end()
        if not match[0].endswith((", ", " and ")):
            break
    others = [word for match in (*_TO_DO.finditer(plain), *_OTHERWISE.finditer(plain)) for word in match.groups() if word]
    found += [word.rstrip(".") for word in others if word.rstrip(".") in names]
    groups = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    found += [word for word in re.findall(r"(?<![-\w.])[a-z_]+(?![-\w])", plain) if word in groups and found]
    return list(dict.fromkeys(found))
