"""A sweep in a file: `sweep.toml` says on which model, around which settings, what varies. No torch.

    how = "product"                  # or "zip"
    seeds = [0, 1, 2]
    prompts = ["a red circle moves right on a blue background"]

    [model]
    model = "tiny"

    [base]
    steps = 10

    [axes]
    feta.weight = [0, 2, 4]
    cfg = [3, 5]

`[[axes]]` blocks give the cells one by one, and `reference` is a table of changes against which clips are measured.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanlab.errors import FileError, SettingsError
from wanlab.settings import ModelSettings, Settings
from wanlab.sweeps.axes import Axis, How, read_axes, unknown_axis

_MOST_BYTES = 2**20
_TABLES: dict[str, Any] = {
    "base": dict,
    "axes": (dict, list),
    "model": dict,
    "seeds": list,
    "prompts": list,
    "how": str,
    "reference": dict,
}
_RULES: dict[Any, str] = {dict: "a table", list: "a list", str: "text", (dict, list): "a table, or a list of tables"}


@dataclass(frozen=True)
class SweepFile:
    """What a file asks for, read and checked as far as that goes without the model."""

    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] | None = None


def read_sweep_file(path: str | Path) -> SweepFile:
    """Read a sweep.toml. Raises FileError if it cannot be read, SettingsError with all that is wrong in it."""
    path = Path(path).expanduser()
    content = _parsed(path)
    problems = [_unknown(name) for name in content if name not in _TABLES]
    for name, kinds in _TABLES.items():
        if name in content and not isinstance(content[name], kinds):
            problems.append(f"{name} is {content[name]!r:.60}; it must be {_RULES[kinds]}.")
    if problems:
        raise SettingsError("\n".join(f"{path.name}: {problem}" for problem in problems))
    how: How = content.get("how", "product")
    given = content.get("axes", {})
    axes = flat(given) if isinstance(given, Mapping) else [flat(one) if isinstance(one, Mapping) else one for one in given]
    base, model = flat(content.get("base", {})), flat(content.get("model", {}))
    found = read_axes(axes, content.get("seeds"), content.get("prompts"), how)
    Settings().but(base)  # what is wrong is said before torch is imported
    ModelSettings().but(model)
    reference = content.get("reference")
    if reference is not None:
        reference = flat(reference)
        wrong = [unknown_axis(name) for name in reference if name.split(".")[0] not in _known_groups()]
        if wrong:
            raise SettingsError("\n".join(wrong))
    return SweepFile(base, found, model, reference)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table of tables by dotted names: `feta.weight = 2` and `"feta.weight" = 2` are the same."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            reason = f"it is larger than {_MOST_BYTES} bytes"
        else:
            return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        reason = error.strerror or str(error)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = f"it is no TOML: {error}"
    raise FileError(f"{path} cannot be read: {reason}.")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _TABLES, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(_TABLES)}."
    return f"{name} is not known in a sweep; {hint} Settings belong under [base], those of the model under [model]."


def _known_groups() -> set[str]:
    return {*Settings.model_fields, *ModelSettings.model_fields}
