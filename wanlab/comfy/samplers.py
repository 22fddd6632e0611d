"""Which sampler of a workflow is read, and which two of them are halves of one run. No torch."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from wanlab.comfy.graph import BYPASSED, NEVER, Graph, Node
from wanlab.comfy.kinds import Refused, as_number
from wanlab.comfy.tables import KINDS
from wanlab.comfy.wires import Wires
from wanlab.errors import SettingsError

_MOST_LISTED = 12
_STARTS, _ENDS = ("start_at_step", "start_step"), ("end_at_step", "end_step")
_EARLIER = ("samples", "latent_image")
_ALIKE = ("steps", "scheduler", "sampler_name", "shift")


@dataclass(frozen=True)
class Chain:
    """The sampler that is read; with `low` and `split`, the one that goes on from its latents at that step."""

    high: Node
    low: Node | None = None
    split: int = 0

    @property
    def nodes(self) -> tuple[Node, ...]:
        """One or two, in the order in which they run."""
        return (self.high,) if self.low is None else (self.high, self.low)

    @property
    def last(self) -> Node:
        """The one that ends the run."""
        return self.low or self.high


def all_samplers(graph: Graph) -> list[Node]:
    """The samplers that run, in the file's order."""
    known = (node for node in graph.nodes.values() if node.type in KINDS and KINDS[node.type].samples)
    return [node for node in known if node.mode not in (NEVER, BYPASSED)]


def choose(wires: Wires, samplers: Sequence[Node], saved: Set[str], wanted: str | None) -> Chain:
    """The chain to read: the sampler that is wanted, by number or title, or the one whose clip is written; else the first.

    `saved` are the samplers whose clips are written. SettingsError if there is none that is wanted.
    """
    if wanted is not None:
        found = [one for one in samplers if wanted in (one.id, one.title, one.type, one.label)]
        if not found:
            raise SettingsError(f"sampler is {wanted!r}; the samplers are {listed(samplers)}.")
        return Chain(found[0])
    earlier = {before.id for one in samplers if (before := _before(wires, one))}
    ends = [one for one in samplers if one.id not in earlier] or list(samplers)
    last = min(ends, key=lambda one: one.id not in saved)  # the first of them, as the file has them
    first = _before(wires, last)
    split = _split(wires, first, last) if first else 0
    return Chain(first, last, split) if first and split else Chain(last)


def listed(samplers: Sequence[Node]) -> str:
    """Their labels in a sentence, not all of very many."""
    labels = [one.label for one in samplers[:_MOST_LISTED]]
    more = len(samplers) - len(labels)
    return ", ".join(labels) + (f" and {more} more" if more > 0 else "")


def _before(wires: Wires, node: Node) -> Node | None:
    """The sampler whose latents this one goes on from."""
    for name in _EARLIER:
        source = wires.source(node, name)
        if source and source[0].type in KINDS and KINDS[source[0].type].samples:
            return source[0]
    return None


def _split(wires: Wires, first: Node, last: Node) -> int:
    """The step at which the second sampler goes on with the run of the first; 0 if the two are not one run."""
    if _before(wires, first) is not None or first.type != last.type:
        return 0
    end, start = number(wires, first, _ENDS), number(wires, last, _STARTS)
    steps = number(wires, first, ("steps",)) or number(wires, first, ("steps",), behind="scheduler")
    if end is None or end != start or steps is None or not 0 < end < steps or number(wires, first, _STARTS) not in (0, None):
        return 0
    if any(_held(wires, first, name) != _held(wires, last, name) for name in _ALIKE):
        return 0
    adds = _held(wires, last, "add_noise") or _held(wires, last, "add_noise_to_samples")
    return end if adds in ("disable", False, None) else 0


def number(wires: Wires, node: Node, names: Sequence[str], behind: str = "") -> int | None:
    """A whole number in one of these boxes, of the node or of the one on its socket `behind`; None if there is none."""
    if behind:
        source = wires.source(node, behind)
        return number(wires, source[0], names) if source else None
    for name in names:
        value = as_number(_held(wires, node, name))
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return number(wires, node, names, "scheduler") if "scheduler" in node.links else None


def _held(wires: Wires, node: Node, name: str) -> Any:
    try:
        value = wires.value(node, name)
    except Refused:
        return None
    return value if isinstance(value, str | int | float | bool) else None
