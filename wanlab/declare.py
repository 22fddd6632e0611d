"""What a declared setting is: its bounds, unit, `affects` and `scope`, and the sentence that refuses a wrong value.

Each field says what it `affects`:

- "result": the velocities, so it is part of a step's name;
- "cost": only seconds and memory; the velocities stay the same;
- "clip": only how the finished clip is written.

and its `scope`: "step" settings may change in the middle of a run (`run.fork`), "run" settings may not.

A group of settings may be off, as techniques are: it is then None and has no values. One of its settings, or its name
with True, turns it on (`{"feta.weight": 4}`, `feta=True`), its name with False turns it off.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from wanlab.errors import SettingsError

Affects = Literal["result", "cost", "clip"]
Scope = Literal["run", "step"]
Text = Literal["line", "area", "file"]


def knob(
    default: Any,
    help: str,
    *,
    affects: Affects,
    scope: Scope = "run",
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    multiple_of: int | None = None,
    unit: str = "",
    comfy: str = "",
    listed: bool = False,
    usual: tuple[float, float] | None = None,
    simple: bool = False,
    text: Text = "line",
) -> Any:
    """Declare a setting. `low` and `high` are inclusive, `step` is what a slider moves by, `comfy` the ComfyUI name.

    `listed` settings may be a list with a number for each step; `in_bounds` checks these. `usual` is the part of the range
    that a slider offers, where all of it would be too much; `simple` settings are those to begin with. Text may be a `line`,
    an `area` of lines, or name a `file`.
    """
    about: dict[str, Any] = {
        "low": low,
        "high": high,
        "step": step,
        "multiple_of": multiple_of,
        "unit": unit,
        "affects": affects,
        "scope": scope,
        "comfy": comfy,
        "listed": listed,
        "usual": usual,
        "simple": simple,
        "text": text,
    }
    ge, le = (None, None) if listed else (low, high)
    return Field(default, description=help, ge=ge, le=le, multiple_of=multiple_of, json_schema_extra=about)


def in_bounds(value: float | tuple[float, ...] | None, low: float, high: float) -> None:
    """ValueError for a number, or one of a list of numbers, that is out of these inclusive bounds."""
    values = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(low <= one <= high for one in values):
        raise ValueError(
            f"{'each of its values' if isinstance(value, tuple) else 'it'} must be from {number(low)} to {number(high)}."
        )


class Declared(BaseModel):
    """Settings with strict types that cannot be changed; numbers are finite."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Asked(Declared):
    """Settings that people make themselves: what is wrong with them is told in sentences."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**_plain(values))
        except ValidationError as error:
            problems = [problem for problem in error.errors() if "tuple[float, ...]" not in problem["loc"]] or error.errors()
            message = "\n".join(dict.fromkeys(_sentence(problem, type(self)) for problem in problems))
        else:
            return
        raise SettingsError(message)

    def but(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some settings changed, named with dots ("cfg", "clip.frame_rate"); raises SettingsError."""
        return type(self)(**changed(self, changes))

    def flat(self) -> dict[str, Any]:
        """All values by dotted name, in the order of declaration."""
        return dict(flatten(self))


def _switched(value: Any) -> Any:
    if value is True or value is False:
        return {} if value else None
    if value is None or isinstance(value, Declared | Mapping):
        return value
    raise ValueError("it must be True, False or a mapping of its settings.")


# For a group that is off until one of its settings is given: `feta: Annotated[FetaSettings | None, SWITCH] = None`.
SWITCH = BeforeValidator(_switched)


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        parts = [part for part in re.split(r"[,\s]+", value.strip().strip("[]()")) if part]
        try:
            value = [float(part) for part in parts]
        except ValueError:
            return value
        if len(value) == 1:
            return value[0]
    if isinstance(value, list | tuple) or type(value).__module__ == "numpy":
        numbers = tuple(value)
        return tuple(float(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in numbers)
    return value


# For numbers that may be one for each step: `cfg: Annotated[float | tuple[float, ...], PER_STEP]`; "7, 5, 3" is understood too.
PER_STEP = BeforeValidator(_listed)


@dataclass(frozen=True)
class Setting:
    """One declared setting: all that widgets, flags, columns and docs need to know."""

    name: str
    default: Any
    help: str
    kind: Any
    choices: tuple[Any, ...]
    low: float | None
    high: float | None
    step: float | None
    multiple_of: int | None
    unit: str
    affects: Affects
    scope: Scope
    comfy: str
    listed: bool = False  # may be a list with a value for each step
    usual: tuple[float, float] | None = None  # the part of the range that a slider offers
    simple: bool = False  # one of those to begin with
    text: Text = "line"  # how text is asked for
    optional: bool = False  # may be None: not given


@cache
def declarations(model: type[Declared], prefix: str = "") -> dict[str, Setting]:
    """Every setting by its dotted name, in the order of declaration."""
    found: dict[str, Setting] = {}
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group:
            found |= dict(declarations(group, f"{prefix}{name}."))
        else:
            found[prefix + name] = _setting(prefix + name, field)
    return found


def group_of(field: FieldInfo) -> type[Declared] | None:
    """The group of settings that this field holds, on or off; None for a single setting, or for one that is a list of such."""
    if get_origin(field.annotation) is tuple:
        return None
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Declared)), None)


def first_sentence(model: type[Declared]) -> str:
    """What a group says of itself: the first sentence of the class's description."""
    return " ".join((inspect.getdoc(model) or "").split()).partition(". ")[0].removesuffix(".") + "."


def item_of(field: FieldInfo) -> type[Declared] | None:
    """What the entries of a setting are that is a list of settings, such as loras; None for others."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is tuple else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Declared)), None)


@cache
def switches(model: type[Declared]) -> dict[str, Setting]:
    """The groups that may be off, by name, each as a setting that is True or False."""
    found = {}
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group and field.default is None:
            members = declarations(group).values()
            scope: Scope = "step" if all(member.scope == "step" for member in members) else "run"
            affects = next(iter(members)).affects
            found[name] = Setting(
                name, False, "On, as declared, or off.", bool, (), None, None, None, None, "", affects, scope, ""
            )
    return found


def _setting(name: str, field: FieldInfo) -> Setting:
    extra: Any = field.json_schema_extra
    parts = get_args(field.annotation)
    if get_origin(field.annotation) is Literal:
        return Setting(name, field.default, field.description or "", type(parts[0]), parts, **extra)
    if get_origin(field.annotation) is tuple:
        return Setting(name, field.default, field.description or "", tuple, (), **extra)
    kinds = [part for part in parts or (field.annotation,) if part is not type(None)]
    [kind] = {get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in kinds}
    optional = len(kinds) < len(parts)
    return Setting(name, field.default, field.description or "", kind, (), optional=optional, **extra)


def unknown(name: str, model: type[Declared]) -> str:
    """The sentence that refuses a name, with the nearest ones."""
    return refused(name, list(declarations(model)))


def refused(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """The sentence that refuses a name which is none of the known ones; `otherwise` is its hint where none is near."""
    group = [full for full in known if full.startswith(f"{name}.")]
    if group:
        return f"{name} is not a setting; its settings are {', '.join(group)}."
    near = [full for full in known if full.split(".")[-1] == name] or difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else otherwise or f"the settings are {', '.join(known)}."
    return f"{name} is not a setting; {hint}"


def changed(model: Declared, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these settings with some changed by dotted name, nested as the class takes them; raises SettingsError."""
    known, groups = declarations(type(model)), switches(type(model))
    values = model.model_dump()
    for name, value in sorted(changes.items(), key=lambda change: change[0].count(".")):  # switches before their settings
        if name not in known and name not in groups:
            raise SettingsError(unknown(name, type(model)))
        *path, last = name.split(".")
        place = values
        for group in path:
            if not isinstance(place[group], dict):  # a group that is off is turned on
                place[group] = {}
            place = place[group]
        if value is not True or not isinstance(place.get(last), dict):  # a group that is on stays as it is
            place[last] = value
    return values


def flatten(model: Declared, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values, in the order of declaration, without those of groups that are off."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Declared):
            yield from flatten(value, f"{prefix}{name}.")
        elif name not in switches(type(model)):
            yield prefix + name, value


def _plain(value: Any) -> Any:
    """Numbers of numpy become Python's, also inside mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


KINDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", tuple: "a list"}


def _sentence(problem: Any, model: type[Declared]) -> str:
    """One of pydantic's errors as: setting, value, rule, way out."""
    path = [part for part in problem["loc"] if part not in ("float", "tuple[float, ...]")]
    within = ""
    item = item_of(model.model_fields[path[0]]) if path and path[0] in model.model_fields else None
    if item and len(path) > 1:  # an entry of a list of settings
        within, model, path = f"{path[0]}[{path[1]}]", item, path[2:]
    name = ".".join(part for part in path if isinstance(part, str))
    kind, context = problem["type"], problem.get("ctx", {})
    if not name and kind == "value_error":  # settings that cannot go together
        return f"{within}: {context['error']}" if within else str(context["error"])
    if kind == "extra_forbidden":
        return f"{within}: {unknown(name, model)}" if within else unknown(name, model)
    value = problem["input"]
    shown = repr(value) if isinstance(value, str) else str(value)
    setting = declarations(model).get(name)
    rule = str(problem["msg"])
    if kind == "value_error":
        rule = str(context["error"])
    elif setting and setting.choices:
        rule = f"it must be one of {', '.join(map(str, setting.choices))}."
    elif kind in ("greater_than_equal", "less_than_equal") and setting:
        unit = f" {setting.unit}" if setting.unit else ""
        rule = f"it must be from {setting.low:g} to {number(setting.high)}{unit}."
    elif kind == "multiple_of" and setting:
        multiple = context["multiple_of"]
        nearest = min(max(setting.low or 0, round(value / multiple) * multiple), setting.high or value)
        rule = f"it must be a multiple of {multiple} from {setting.low:g} to {number(setting.high)}, for example {nearest:g}."
    elif kind == "finite_number":
        rule = "it must be a finite number."
    elif setting:
        rule = f"it must be {KINDS.get(setting.kind, setting.kind.__name__)}{' or a list of numbers' * setting.listed}."
    full = f"{within}.{name}".strip(".")
    return f"{full} is {shown}; {rule}"


def number(value: float | None) -> str:
    """A bound as people write it: without a fraction that is zero."""
    return str(int(value)) if value is not None and value == int(value) else str(value)
