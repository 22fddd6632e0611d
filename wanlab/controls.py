"""Controls: what a form needs to ask for every setting, and how its answers become settings again. No torch.

Everything is derived from the declarations: a control's kind from the kind of setting, its slider from the usual range, its
place from `sections.py`. Between Python and the browser there is JSON only; what JSON or JavaScript cannot hold exactly, a
seed of 64 bits, travels as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from wanlab.declare import Asked, Setting, declarations, first_sentence, group_of, number, switches
from wanlab.errors import SettingsError
from wanlab.model_settings import LoraSettings
from wanlab.presets import PRESETS, Preset
from wanlab.sections import OWNERS, SECTIONS, Owner, Part, Placed, placed
from wanlab.settings import ModelSettings
from wanlab.values import read, shown
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

_PRESET_GROUPS = ("This model", "Any model", "Other models")
_MOST_STOPS = 250  # a slider with more is no help


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
    presets = [_preset(one, model) for one in PRESETS]
    return {"sections": sections, "presets": sorted(presets, key=lambda preset: _PRESET_GROUPS.index(preset["group"]))}


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
        owner = OWNERS[one.of]
        told = first_sentence(group_of(owner.model_fields[name]) or owner)
        control |= {"help": told, "simple": any(member.setting.simple for member in members)}
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


def _preset(preset: Preset, model: str) -> dict[str, Any]:
    """A preset for the form; `group` is the heading under which it is offered."""
    here = preset.model == model or model.rpartition("/")[2].removesuffix("-Diffusers") == preset.model
    this, any_model, others = _PRESET_GROUPS
    group = any_model if not preset.model else this if here else others
    changes = {name: shown(value) for name, value in preset.changes.items() if not (here and name == "model")}
    help = f"{preset.help} Origin: {preset.origin}."
    return {"name": preset.name, "title": preset.title, "help": help, "group": group, "changes": changes}


# How sentences name settings. What is quoted is a value, and "image-to-video" no image.
_QUOTED = re.compile(r"(?<!\w)'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_NAME = r"([A-Za-z_][\w.]*)(?![-\w])"
_FIRST = re.compile(rf"(?:The )?{_NAME}(?:\[\d+\][\w.]*)?(, | and )?")
_ASKED = re.compile(
    rf"\b(?:give|take|leave|raise|lower|needs?|turn|than|most)\s+(?:it |an? |the )*{_NAME}(?: or {_NAME})?", re.I
)
_RULED = re.compile(rf"\b{_NAME} (?:must be|has no say)")
_WRITTEN = re.compile(r"\b([\w.]+)(?==)|\b(\w+[._][\w.]*\w)\b")


def _named(sentence: str, names: set[str]) -> list[str]:
    """The names that a sentence is about."""
    plain = _QUOTED.sub("''", sentence)
    found: list[str] = []
    place = 0
    while (match := _FIRST.match(plain, place)) and match[1].rstrip(".") in names:
        found.append(match[1].rstrip("."))
        place = match.end()
        if not match[2]:
            break
    group = found[0].rpartition(".")[0] if found else ""
    for pattern in (_ASKED, _RULED, _WRITTEN):
        for word in (word.rstrip(".") for match in pattern.finditer(plain) for word in match.groups() if word):
            found += [name for name in (word, f"{group}.{word}") if name in names]
    groups = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    if found:  # names of groups are common words, so that alone they say nothing
        found += [word for word in re.findall(r"(?<![-\w.])[a-z_]+(?![-\w]|\.\w)", plain) if word in groups]
    return list(dict.fromkeys(found))
