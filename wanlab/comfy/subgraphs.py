"""Groups of nodes that newer editors fold into one ("subgraphs"), unfolded into a flat list of nodes. No torch.

A folded group is a node whose type is the id of a definition, `definitions.subgraphs` of the file. The definition has nodes
and links of its own, and two places that stand for the outside: -10 for what comes in, -20 for what goes out. Values of
its nodes may be set from outside (`proxyWidgets`). Nodes of a group are numbered as the server does it: `130:104` is node 104
of the group that is node 130.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_BOXES = 200  # of a folded node
MOST_NODES = 10_000  # of a workflow, with all groups unfolded; people's have some hundred
_MOST_DEPTH = 16  # of groups in groups
_INSIDE, _OUTSIDE = "-10", "-20"

Source = tuple[str, int]  # a node's number, and which of its outputs
Target = tuple[str, int]  # a node's number, and which of its inputs


@dataclass
class Flat:
    """The nodes as the file has them, with `id` and `scope` as text; what each input hangs on; values set from outside."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[Target, Source] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)


def unfold(document: Mapping[str, Any]) -> Flat:
    """All nodes and links of a workflow of the editor, groups unfolded; ValueError if these are too many or too deep."""
    definitions = {}
    folded = document.get("definitions")
    for one in _mappings(folded.get("subgraphs") if isinstance(folded, dict) else None):
        definitions[str(one.get("id"))] = one
    flat = Flat()
    outputs: dict[Source, Source] = {}  # what an output of a folded node stands for
    _unfold(document, "", {}, definitions, flat, outputs, 0)
    for target, source in list(flat.sources.items()):
        seen = set()
        while source in outputs and source not in seen:
            seen.add(source)
            source = outputs[source]
        flat.sources[target] = source
    return flat


def _unfold(
    level: Mapping[str, Any],
    scope: str,
    outside: Mapping[int, Source],
    definitions: Mapping[str, Mapping[str, Any]],
    flat: Flat,
    outputs: dict[Source, Source],
    depth: int,
) -> None:
    """One level: its nodes and links, then the groups on it. `outside` is what hangs on the inputs of this group."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"its groups of nodes are folded into each other more than {_MOST_DEPTH} deep.")
    links = dict(_links(level, scope, outside))
    nodes = list(_mappings(level.get("nodes")))
    if len(flat.nodes) + len(nodes) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES} nodes.")
    for target, source in links.items():
        if target[0] == scope + _OUTSIDE:
            outputs[scope.rstrip(":"), target[1]] = source
        else:
            flat.sources[target] = source
    for raw in nodes:
        id = f"{scope}{raw.get('id')}"
        definition = definitions.get(str(raw.get("type")))
        if definition is None or raw.get("mode") in (2, 4):
            flat.nodes.append({**raw, "id": id, "scope": scope})
            continue
        inside = _inputs(raw, id, definition, links)
        _set_from_outside(raw, id, definition, flat)
        _unfold(definition, f"{id}:", inside, definitions, flat, outputs, depth + 1)


def _links(level: Mapping[str, Any], scope: str, outside: Mapping[int, Source]) -> Iterator[tuple[Target, Source]]:
    """Each linked input with what it hangs on, once: of what hangs on the group's own inputs, that which is outside."""
    for link in level.get("links") or () if isinstance(level.get("links"), list) else ():
        if isinstance(link, list) and len(link) >= 5:
            origin, slot, target, place = link[1:5]
        elif isinstance(link, dict):
            origin, slot = link.get("origin_id"), link.get("origin_slot")
            target, place = link.get("target_id"), link.get("target_slot")
        else:
            continue
        if not isinstance(slot, int) or not isinstance(place, int):
            continue
        if str(origin) == _INSIDE and scope:
            if slot in outside:
                yield (f"{scope}{target}", place), outside[slot]
        else:
            yield (f"{scope}{target}", place), (f"{scope}{origin}", slot)


def _inputs(
    raw: Mapping[str, Any], id: str, definition: Mapping[str, Any], links: Mapping[Target, Source]
) -> dict[int, Source]:
    """What hangs on each input of a group: the folded node lists them by name, maybe fewer and in another order."""
    places = {str(one.get("name")): k for k, one in enumerate(_mappings(definition.get("inputs")))}
    found = {}
    for k, socket in enumerate(_mappings(raw.get("inputs"))):
        place = places.get(str(socket.get("name")))
        if place is not None and (id, k) in links:
            found[place] = links[id, k]
    return found


def _set_from_outside(raw: Mapping[str, Any], id: str, definition: Mapping[str, Any], flat: Flat) -> None:
    """Values that the folded node holds for nodes within: in the order of `proxyWidgets`, else of its inputs with boxes."""
    values = raw.get("widgets_values")
    if not isinstance(values, list) or not values:
        return
    properties = raw.get("properties")
    proxies = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if not isinstance(proxies, list):
        proxies = [["-1", one.get("name")] for one in _mappings(raw.get("inputs")) if isinstance(one.get("widget"), dict)]
    for proxy, value in zip(proxies[:_MOST_BOXES], values, strict=False):
        if not isinstance(proxy, list) or len(proxy) < 2 or not isinstance(proxy[1], str):
            continue
        inner, name = str(proxy[0]), proxy[1]
        targets = [(inner, name)] if inner != "-1" else list(_behind(definition, name))
        for node, box in targets:
            flat.overrides.setdefault(f"{id}:{node}", {})[box] = value


def _behind(definition: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """The nodes and boxes within that hang on this input of the group."""
    places = [k for k, one in enumerate(_mappings(definition.get("inputs"))) if one.get("name") == name]
    nodes = {str(one.get("id")): one for one in _mappings(definition.get("nodes"))}
    for link in _mappings(definition.get("links")):
        node = nodes.get(str(link.get("target_id")))
        if str(link.get("origin_id")) != _INSIDE or link.get("origin_slot") not in places or node is None:
            continue
        sockets = list(_mappings(node.get("inputs")))
        slot = link.get("target_slot")
        if isinstance(slot, int) and 0 <= slot < len(sockets):
            widget = sockets[slot].get("widget")
            box = widget.get("name") if isinstance(widget, dict) else None
            if isinstance(box, str):
                yield str(node.get("id")), box


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list; what is something else keeps its place, as an empty one."""
    for one in value if isinstance(value, list) else ():
        yield one if isinstance(one, dict) else {}
