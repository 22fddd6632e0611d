"""What a sweep varies: axes with their values, and the points that they span. No torch.

{"feta.weight": [0, 2, 4], "cfg": [3, 5]}              every value with every other: 6 cells
{("cfg", "shift"): [(3, 5), (5, 8)]}                   settings that go together: 2 cells
[{"cfg": 3}, {"cfg": 5, "feta.weight": 2}]             cells one by one
how="zip"                                              the first value of every axis, the second of every axis ...
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from wanlab.declare import refused, switches
from wanlab.document import shortened
from wanlab.errors import SettingsError
from wanlab.settings import ModelSettings, Settings, declared

How = Literal["product", "zip"]
Point = Mapping[str, Any]

MOST_CELLS = 10_000
_LONGEST = 80  # letters of a label


@dataclass(frozen=True)
class Axis:
    """One or more settings that vary together: `points` are their values, and `labels` tell these apart.

    In a list of cells (`listed`) every point may name other settings.
    """

    names: tuple[str, ...]
    points: tuple[Point, ...]
    listed: bool = False

    @property
    def name(self) -> str:
        """The settings, as the head of a row or column."""
        return "cell" if self.listed else ", ".join(self.names)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A short text for each point, all different."""
        found: list[str] = []
        for point in self.points:
            if self.listed:
                label = ", ".join(f"{name} {shown(value)}" for name, value in point.items()) or "base"
            else:
                label = ", ".join(shown(point[name]) for name in self.names)
            same = found.count(label)
            found.append(label if not same else f"{label} ({same + 1})")
        return tuple(found)


def read_axes(
    axes: Mapping[Any, Iterable[Any]] | Sequence[Mapping[str, Any]],
    seeds: Iterable[int] | None = None,
    prompts: Iterable[str] | None = None,
    how: How = "product",
) -> tuple[Axis, ...]:
    """The axes of a sweep; `seeds` and `prompts` multiply it, whatever `how` says. SettingsError tells all that is wrong."""
    problems: list[str] = []
    if how not in get_args(How):
        problems.append(f"how is {how!r}; it must be one of {', '.join(get_args(How))}.")
    own = _named(axes, problems) if isinstance(axes, Mapping) else _listed(axes, problems)
    given = {"prompt": ("prompts", prompts), "seed": ("seeds", seeds)}
    more = [
        Axis((name,), tuple(_distinct([{name: value} for value in _values(told, values, problems)])))
        for name, (told, values) in given.items()
        if values is not None
    ]
    names = [name for axis in (*own, *more) for name in axis.names]
    problems += [f"{name} is varied twice; leave one of the two out." for name in dict.fromkeys(names) if names.count(name) > 1]
    problems += [unknown_axis(name) for name in dict.fromkeys(names) if name not in _known()]
    found = [*(_zipped(own, problems) if how == "zip" else own), *more]
    if not found and not problems:
        problems.append("A sweep needs an axis: a setting and its values, as {'cfg': [1, 3, 5]}, or seeds or prompts.")
    count = math.prod(len(axis.points) for axis in found)
    if count > MOST_CELLS and not problems:
        sizes = " x ".join(str(len(axis.points)) for axis in found)
        problems.append(f"The sweep has {sizes} = {count} cells; at most {MOST_CELLS} are run, so leave values out.")
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(found)


def places(axes: Sequence[Axis]) -> Iterator[tuple[int, ...]]:
    """The cells as one index for each axis, the last axis the fastest."""
    return itertools.product(*(range(len(axis.points)) for axis in axes))


def changes_at(axes: Sequence[Axis], place: Sequence[int]) -> dict[str, Any]:
    """What a cell changes. Of a technique that it turns off no settings are left, which would turn it on."""
    merged = {name: value for axis, k in zip(axes, place, strict=True) for name, value in axis.points[k].items()}
    off = {name for name, value in merged.items() if value is False and name in _switches()}
    return {name: value for name, value in merged.items() if name.split(".")[0] not in off or name in off}


def label_at(axes: Sequence[Axis], place: Sequence[int]) -> dict[str, str]:
    """The labels of a cell by the names of the axes."""
    return {axis.name: axis.labels[k] for axis, k in zip(axes, place, strict=True)}


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {shown(part)}" for name, part in value.items())
    return shortened(str(value), _LONGEST)


def unknown_axis(name: str) -> str:
    """The sentence that refuses a name which is no setting of a run or a model."""
    return refused(name, list(_known()), "docs/settings.md lists the settings of runs and of the model.")


def _listed(axes: Any, problems: list[str]) -> list[Axis]:
    """The one axis of a sweep whose cells are given one by one."""
    cells = [] if isinstance(axes, str) or not isinstance(axes, Iterable) else list(axes)
    if not cells or not all(isinstance(cell, Mapping) for cell in cells):
        problems.append(
            "axes must be a mapping of settings to lists of values, as {'cfg': [3, 5]}, or a list of changes, as "
            "[{'cfg': 3}, {'cfg': 5, 'shift': 8}]."
        )
        return []
    points = _distinct([{str(name): _plain(value) for name, value in cell.items()} for cell in cells])
    return [Axis(tuple(dict.fromkeys(name for point in points for name in point)), tuple(points), listed=True)]


def _named(axes: Mapping[Any, Any], problems: list[str]) -> list[Axis]:
    """An axis for each key; a key of several names has values for all of them."""
    found = []
    for key, values in axes.items():
        names = tuple(part.strip() for part in key.split(",")) if isinstance(key, str) else tuple(map(str, key))
        given = _values(", ".join(names), values, problems)
        points = [point for value in given if (point := _point(names, value, problems)) is not None]
        found.append(Axis(names, tuple(_distinct(points))))
    return found


def _values(name: str, values: Any, problems: list[str]) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        problems.append(f"{name} is {values!r}; an axis is a list of values, as [{values!r}].")
        return []
    found = [_plain(value) for value in values]
    if not found:
        problems.append(f"{name} has no values; give at least one, or leave the axis out.")
    return found


def _point(names: tuple[str, ...], value: Any, problems: list[str]) -> Point | None:
    if len(names) == 1:
        return {names[0]: value}
    if isinstance(value, Mapping) and set(value) == set(names):
        return {name: value[name] for name in names}
    if isinstance(value, list | tuple) and len(value) == len(names):
        return dict(zip(names, value, strict=True))
    problems.append(f"{', '.join(names)} is {value!r}; each of its values must be {len(names)} values, one for each setting.")
    return None


def _zipped(axes: Sequence[Axis], problems: list[str]) -> list[Axis]:
    sizes = {axis.name: len(axis.points) for axis in axes}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        problems.append(f"how is 'zip', which needs axes of one length; these have {told}.")
        return []
    if not axes:
        return []
    points = [
        {name: value for part in parts for name, value in part.items()} for parts in zip(*(a.points for a in axes), strict=True)
    ]
    names = tuple(name for axis in axes for name in axis.names)
    return [Axis(names, tuple(points), listed=any(axis.listed for axis in axes))]


def _distinct(points: list[dict[str, Any]] | list[Point]) -> list[Point]:
    """The points without repetitions; arrays are compared as they print."""
    seen: dict[str, Point] = {}
    for point in points:
        seen.setdefault(repr(point), point)
    return list(seen.values())


def _plain(value: Any) -> Any:
    """Numbers of numpy become Python's; arrays stay."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


def _switches() -> set[str]:
    return {*switches(Settings), *switches(ModelSettings)}


def _known() -> dict[str, Any]:
    return {**declared(), **declared(ModelSettings), **dict.fromkeys(_switches())}
