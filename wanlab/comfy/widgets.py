"""The names of a node's values, which the editor writes as a bare list in the order of the node's boxes. No torch.

What the list means is known from the node's kind (`tables.py`), or, of files from newer editors, from the node's own `inputs`,
which name every box. A seed's list has one value more, what becomes of it after a run ("fixed", "randomize"). Some
nodes write a mapping with names (VideoHelperSuite).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wanlab.comfy.tables import KINDS

CONTROLS = ("fixed", "increment", "decrement", "randomize")


def named(type: str, boxes: Sequence[str], values: Any) -> dict[str, Any]:
    """The values of a node by the names of its boxes; `boxes` are those that the file itself names, maybe not all."""
    if isinstance(values, Mapping):
        return {str(name): value for name, value in values.items()}
    if not isinstance(values, list):
        return {}
    kind = KINDS.get(type)
    orders = [list(order) for order in kind.orders] if kind else []
    if boxes and (not orders or set(orders[0]) <= set(boxes)):
        orders.insert(0, list(boxes))
    if not orders:
        return {}
    known = dict(kind.defaults) if kind else {}
    fitting = [found for order in orders if _fits(found := _assigned(order, values), known)]
    return fitting[0] if fitting else _assigned(orders[0], values)


def _assigned(order: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rest = list(values)
    for name in order:
        if not rest:
            break
        found[name] = rest.pop(0)
        number = isinstance(found[name], int) and not isinstance(found[name], bool)
        if number and rest and isinstance(rest[0], str) and rest[0] in CONTROLS and _next(order, name) not in _WORDS:
            rest.pop(0)
    return found


_WORDS = ("control_after_generate",)  # files that name this box too


def _next(order: Sequence[str], name: str) -> str:
    place = order.index(name) + 1
    return order[place] if place < len(order) else ""


def _fits(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether each value is of the type that its box holds."""
    return all(_alike(value, defaults[name]) for name, value in found.items() if name in defaults)


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    return isinstance(value, type(default)) or default is None
