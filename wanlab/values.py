"""One value of one setting: as a control shows it in JSON, and read back and judged by itself. No torch."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter

from wanlab.declare import Asked, Declared, Setting, declarations, group_of, switches
from wanlab.errors import SettingsError
from wanlab.settings import ModelSettings, Settings

EXACT = 2**53  # up to here JavaScript knows every whole number
_NOTHING = object()


def shown(value: Any) -> Any:
    """A value as a control shows it, in JSON; whole numbers that JavaScript does not know exactly are text."""
    if isinstance(value, tuple | list):
        return [shown(one) for one in value]
    if isinstance(value, Declared):
        return {name: shown(one) for name, one in value.model_dump().items()}
    if isinstance(value, int) and abs(value) > EXACT:
        return str(value)
    return value


def read(name: str, value: Any) -> Any:
    """What a control says, as Settings take it; SettingsError in the sentence of the setting itself.

    Only the setting itself is judged: what several together may not be is for Settings to say.
    """
    for model in (Settings, ModelSettings):
        setting = declarations(model).get(name)
        if setting:
            return _alone(model, name, _from_json(setting, value))
        if name in switches(model):
            if isinstance(value, bool):
                return value
            raise SettingsError(f"{name} is {value!r}; it must be True or False.")
    raise SettingsError(f"{name} is not a setting.")


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


def _alone(model: type[Asked], name: str, value: Any) -> Any:
    """The value as this setting takes it, judged without the others; raises SettingsError with the setting's own sentence."""
    *path, last = name.split(".")
    owner: type[Declared] = model
    for group in path:
        owner = group_of(owner.model_fields[group]) or owner
    values: dict[str, Any] = {**dict.fromkeys(owner.model_fields, _NOTHING), last: value}
    for group in reversed(path):
        values = {group: values}
    own: list[str] = []
    try:  # nothing beside it is valid, so that no rule between settings is asked
        model(**values)
    except SettingsError as error:
        own = [line for line in str(error).splitlines() if line.startswith((f"{name} is ", f"{name}["))]
    if own:
        raise SettingsError("\n".join(own))
    return _adapter(owner, last).validate_python(value)


@cache
def _adapter(owner: type[Declared], name: str) -> TypeAdapter[Any]:
    field = owner.model_fields[name]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind, config=ConfigDict(strict=True))
