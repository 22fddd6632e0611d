"""Where an input's value comes from: links followed through nodes that only hand on, and values of constant nodes. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wanlab.comfy.graph import BYPASSED, NEVER, Graph, Link, Node
from wanlab.comfy.kinds import Refused, as_number
from wanlab.comfy.other_tables import CONSTANTS, THROUGH
from wanlab.comfy.tables import KINDS

_MOST_VALUES = 10_000  # of a list that a node makes
_MOST_HOPS = 64  # from a value to the node that has it, through nodes that compute with others' values


class Wires:
    """The links of a graph, followed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._ends: dict[Link | None, tuple[Node, int] | None] = {}  # of links that were followed before
        self._holders = {
            (node.scope, str(node.values.get("name"))): node
            for node in graph.nodes.values()
            if node.type == "SetNode" and node.mode != NEVER
        }

    def source(self, node: Node, name: str) -> tuple[Node, int] | None:
        """The node and output that an input hangs on, past all that only hand on; None if it hangs on nothing that runs."""
        link = node.links.get(name)
        seen: set[Link] = set()
        end: tuple[Node, int] | None = None
        while link is not None and link not in seen and link not in self._ends:
            seen.add(link)
            found = self.graph.nodes.get(link.node)
            onwards = None if found is None or found.mode == NEVER else self._onwards(found, link.slot)
            if found is not None and onwards is found:
                end = found, link.slot
            link = onwards if isinstance(onwards, Link) else None
        if link in self._ends:
            end = self._ends[link]
        self._ends |= dict.fromkeys(seen, end)
        return end

    def _onwards(self, node: Node, slot: int) -> Link | Node | None:
        """The link that a node hands on, or the node itself if it does something."""
        if node.mode == BYPASSED:
            return self._bypassed(node, slot)
        if node.type == "GetNode":
            holder = self._holder(node)
            return next(iter(holder.links.values()), None) if holder else None
        if node.type in THROUGH:
            socket = THROUGH[node.type]
            return node.links.get(socket) if socket else next(iter(node.links.values()), None)
        kind = KINDS.get(node.type)
        if kind and kind.hands_on and slot == 0:
            return node.links.get(kind.hands_on)
        return node

    def _holder(self, node: Node) -> Node | None:
        """The SetNode of a GetNode's name, in its own group of nodes or in one around it."""
        scope, name = node.scope, str(node.values.get("name"))
        while True:
            found = self._holders.get((scope, name))
            if found or not scope:
                return found
            scope = scope.rstrip(":").rpartition(":")[0]
            scope += ":" if scope else ""

    def _bypassed(self, node: Node, slot: int) -> Link | None:
        """What a bypassed node hands through: its first linked input of the type that the output has."""
        kind = node.outputs[slot] if 0 <= slot < len(node.outputs) else ""
        alike = [link for name, link in node.links.items() if node.kinds.get(name) == kind]
        return alike[0] if alike else None

    def value(self, node: Node, name: str, hops: int = 0) -> Any:
        """What an input holds: its own value, or that of the node that it hangs on. Refused if only a run would tell.

        None if the file does not say and the node's kind is not known.
        """
        if name not in node.links:
            kind = KINDS.get(node.type)
            box = kind.box(name) if kind else None
            return node.values.get(name, box.default if box else None)
        source = self.source(node, name)
        if source is None:
            return node.values.get(name)
        if hops > _MOST_HOPS:
            raise Refused("It hangs on a circle of nodes.")
        return self._computed(*source, hops + 1)

    def _computed(self, node: Node, slot: int, hops: int) -> Any:
        """What a node that holds or computes a value gives."""
        if node.type in CONSTANTS:
            box = CONSTANTS[node.type]
            if box not in node.values and box not in node.links and len(node.values) == 1:
                return next(iter(node.values.values()))
            return self.value(node, box, hops)
        if node.type == "CreateCFGScheduleFloatList":
            return _cfg_list({name: self.value(node, name, hops) for name in KINDS[node.type].defaults})
        if node.type == "StringToFloatList":
            return _numbers(self.value(node, "string", hops))
        if node.type == "ImageResizeKJv2" and slot in (1, 2):
            return self._resized(node, "width" if slot == 1 else "height", hops)
        if node.type == "GetImageSizeAndCount" and slot in (1, 2):
            image = self.source(node, "image")
            if image and image[0].type == "ImageResizeKJv2":
                return self._computed(image[0], slot, hops + 1)
        raise Refused(f"It comes from {node.label}, and only a run of ComfyUI would tell what that gives.")

    def _resized(self, node: Node, side: str, hops: int) -> int:
        """The width or height that KJNodes' resizing gives, where it does not depend on the picture."""
        size, multiple = self.value(node, side, hops), self.value(node, "divisible_by", hops)
        whole = isinstance(size, int) and not isinstance(size, bool) and size > 0
        if not whole or node.values.get("keep_proportion") not in ("crop", "stretch"):
            raise Refused(f"It is the {side} of a picture after {node.label}, which depends on the picture.")
        return size - size % multiple if isinstance(multiple, int) and multiple > 1 else size


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, str):
        raise Refused("It is no list of numbers.")
    try:
        return [float(part) for part in re.split(r"[,\s]+", value.strip().strip("[]")) if part][:_MOST_VALUES]
    except ValueError:
        raise Refused("It is no list of numbers.") from None


def _cfg_list(boxes: Mapping[str, Any]) -> list[float]:
    """A cfg for each step as the node makes it: 1 outside of its part, from start to end within, rounded to 0.01."""
    numbers = {name: as_number(value) for name, value in boxes.items() if name != "interpolation"}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers.values()):
        raise Refused("It is no list of numbers.")
    steps, curve = numbers["steps"], str(boxes["interpolation"])
    if not isinstance(steps, int) or not 1 <= steps <= _MOST_VALUES:
        raise Refused("It is a list for a number of steps that there cannot be.")
    try:
        first, last = (min(max(int(steps * numbers[end]), 0), steps - 1) for end in ("start_percent", "end_percent"))
    except (OverflowError, ValueError):
        raise Refused("It is no list of numbers.") from None
    found = [1.0] * steps
    for k in range(first, last + 1):
        t = (k - first) / (last - first) if last > first else 0.0
        t = {"ease_in": t * t, "ease_out": t * (2 - t)}.get(curve, t)
        found[k] = round(numbers["cfg_scale_start"] + t * (numbers["cfg_scale_end"] - numbers["cfg_scale_start"]), 2)
    if numbers["start_percent"] > 0:
        found[0] = 1.0
    return found
