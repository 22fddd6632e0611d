"""A workflow as a graph: nodes with named inputs, whichever of ComfyUI's two formats it came in. No torch.

ComfyUI writes a workflow in two forms. The one of its editor (`"nodes"`, `"links"`) lists a node's values without their
names, in the order of its boxes on the screen; `widgets.py` gives them their names back. The one that its server runs
(`{"3": {"class_type": ..., "inputs": {...}}}`) has names, and neither titles nor what only the editor knows: reroutes,
muted nodes, groups of nodes. Both become a `Graph` here; `subgraphs.py` has unfolded the groups before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wanlab.comfy.subgraphs import MOST_NODES, unfold
from wanlab.comfy.widgets import named

_LARGEST = 2**1000  # that is still a float
_MOST_DEPTH = 8  # of a value; people's are lists of numbers and rows of a table
NEVER, BYPASSED = 2, 4  # modes of a node in the editor: it is not run; it hands its inputs through


class Unreadable(ValueError):
    """What makes a document no workflow, as the end of a sentence."""


@dataclass(frozen=True)
class Link:
    """Where an input gets its value: an output of another node."""

    node: str
    slot: int


@dataclass(eq=False)
class Node:
    """One node: what its boxes hold by name (`values`), and which of its inputs hang on other nodes (`links`)."""

    id: str
    type: str
    title: str = ""
    mode: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)  # what type of thing an input takes, where the file says it
    outputs: tuple[str, ...] = ()  # the types of its outputs, where the file says them
    scope: str = ""  # the group of nodes that it was in
    hints: Mapping[str, Any] = field(default_factory=dict)  # what wanlab itself wrote beside the values

    @property
    def label(self) -> str:
        """How people find it: type, number and, if it has one of its own, title."""
        own = self.title and self.title != self.type
        return f"{self.type} #{self.id}" + (f" ({self.title})" if own else "")


@dataclass
class Graph:
    """All nodes by their number."""

    nodes: dict[str, Node]


def parse(document: Any) -> Graph:
    """The graph of a JSON document in either format; Unreadable if it is none."""
    if isinstance(document, dict) and isinstance(document.get("nodes"), list):
        return _of_editor(document)
    if isinstance(document, dict) and any(_runs(value) for value in document.values()):
        return _of_server(document)
    raise Unreadable("it is JSON, but no workflow of ComfyUI: it has neither nodes nor a class_type.")


def _runs(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_type"), str)


def _of_server(document: Mapping[str, Any]) -> Graph:
    if len(document) > MOST_NODES:
        raise Unreadable(f"it has {len(document)} nodes; the most are {MOST_NODES}.")
    nodes = {}
    for id, one in document.items():
        if not _runs(one):
            continue
        meta = _dict(one.get("_meta"))
        node = Node(str(id), one["class_type"], _text(meta.get("title")), hints=_dict(meta.get("wanlab")))
        for name, value in _named(one.get("inputs")):
            link = _as_link(value, document)
            if link:
                node.links[name] = link
            else:
                node.values[name] = _clean(value["__value__"] if isinstance(value, dict) and "__value__" in value else value)
        nodes[node.id] = node
    return Graph(nodes)


def _as_link(value: Any, document: Mapping[str, Any]) -> Link | None:
    """Two things in a list, a node that there is and a number, are a link."""
    if not isinstance(value, list) or len(value) != 2 or isinstance(value[1], bool) or not isinstance(value[1], int):
        return None
    return Link(str(value[0]), value[1]) if isinstance(value[0], str | int) and str(value[0]) in document else None


def _of_editor(document: Mapping[str, Any]) -> Graph:
    try:
        flat = unfold(document)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    nodes: dict[str, Node] = {}
    for raw in flat.nodes:
        properties = _dict(raw.get("properties"))
        mode = raw.get("mode")
        node = Node(
            id=raw["id"],
            type=_text(raw.get("type")),
            title=_text(raw.get("title")),
            mode=mode if isinstance(mode, int) else 0,
            outputs=tuple(_text(output.get("type")) for output in _dicts(raw.get("outputs"))),
            scope=raw["scope"],
            hints=_dict(properties.get("wanlab")),
        )
        boxes = []
        for slot, socket in enumerate(_dicts(raw.get("inputs"))):
            name = _text(socket.get("name"))
            node.kinds[name] = _text(socket.get("type"))
            widget = _dict(socket.get("widget"))
            if widget:
                boxes.append(_text(widget.get("name")) or name)
            link = flat.sources.get((node.id, slot))
            if link:
                node.links[_text(widget.get("name")) or name] = Link(*link)
        values = {**named(node.type, boxes, raw.get("widgets_values")), **flat.overrides.get(node.id, {})}
        node.values = {name: _clean(value) for name, value in values.items()}
        nodes[node.id] = node
    _add_broadcasts(nodes, _dict(document.get("extra")))
    return Graph(nodes)


def _add_broadcasts(nodes: Mapping[str, Node], extra: Mapping[str, Any]) -> None:
    """Links that "Anything Everywhere" draws without a line, as the editor writes them beside the graph."""
    for link in _dicts(extra.get("ue_links")):
        target, source = nodes.get(str(link.get("downstream"))), str(link.get("upstream"))
        slot, output = link.get("downstream_slot"), link.get("upstream_slot")
        if target is None or source not in nodes or not isinstance(slot, int) or not isinstance(output, int):
            continue
        names = list(target.kinds)
        if 0 <= slot < len(names):
            target.links.setdefault(names[slot], Link(source, output))


def _clean(value: Any) -> Any:
    """A value, or a list of values, without what the editor's own adding of steps leaves behind: 8.000000000000002 is 8."""
    if isinstance(value, list | dict):
        if _depth(value) > _MOST_DEPTH:
            return "(lists within lists)"
        return [_number(one) for one in value] if isinstance(value, list) else value
    return _number(value)


def _depth(value: Any) -> int:
    """How deep lists and mappings hold each other; counted to one more than the most, so that no file makes it long."""
    depth, level = 0, [value]
    while level and depth <= _MOST_DEPTH:
        depth += 1
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
    return depth


def _number(value: Any) -> Any:
    """The same of one; whole numbers that nothing can hold become infinite, which every setting refuses."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return math.inf if value > 0 else -math.inf
    return value


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    for name, one in _dict(value).items():
        yield str(name), one


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """The mappings in a list; what is something else keeps its place, as an empty one."""
    for one in value if isinstance(value, list) else []:
        yield _dict(one)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
