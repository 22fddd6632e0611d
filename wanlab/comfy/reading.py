"""A workflow read: a walk from the sampler to all that hangs on it, and to the node that writes its clip. No torch.

What each node's boxes become stands in the tables; here is the order in which nodes are read (what hangs on a node before
the node, but a sampler's own boxes first), and the bookkeeping: a setting has one value, the first that is found, and
whatever else the workflow says is kept with the reason why it is not taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from wanlab.comfy.found import Found, Lora, Reading, Site
from wanlab.comfy.graph import BYPASSED, NEVER, Graph, Node
from wanlab.comfy.kinds import LEADING, Box, Instead, Kind, Many, Refused, Socket
from wanlab.comfy.other_tables import CONSTANTS, NOTES, STRANGERS, THROUGH
from wanlab.comfy.samplers import Chain
from wanlab.comfy.tables import KINDS
from wanlab.comfy.wires import Wires

# What editors write among a node's values that asks for nothing.
_EDITOR = ("", "upload", "image_upload", "control_after_generate", "audioUI", "choose file to upload", "choose video to upload")
# Inputs of unknown nodes that such a node mostly changes and hands on.
_HANDED_ON = (
    "model",
    "embeds",
    "image_embeds",
    "text_embeds",
    "conditioning",
    "image",
    "images",
    "pixels",
    "video",
    "samples",
    "latent",
    "positive",
    "negative",
)
# Boxes of the second of two samplers of one run that say only where it goes on.
_GOES_ON = (
    "start_at_step",
    "end_at_step",
    "start_step",
    "end_step",
    "add_noise",
    "add_noise_to_samples",
    "noise_seed",
    "seed",
    "cfg",
    "denoise_strength",
    "return_with_leftover_noise",
    "scheduler",
    "sampler_name",
    "steps",
    "shift",
)
# Boxes of the first of them that say only where it stops.
_STOPS = ("end_at_step", "end_step", "return_with_leftover_noise")
_WEIGHTS = (".safetensors", ".gguf")


def read(graph: Graph, wires: Wires, chain: Chain) -> Reading:
    """Walk through all that the chain of samplers hangs on, and to where its clip is written."""
    reading = Reading(graph, wires, chain)
    for k, sampler in enumerate(chain.nodes):
        reading.expert = "both" if len(chain.nodes) == 1 else ("high", "low")[k]
        _walk(reading, sampler, "")
    reading.expert = "both"
    saver, path = saving(consumers(graph, wires), chain.last)
    for node in path:
        _walk(reading, node, "out", path_only=True)
    if saver:
        _walk(reading, saver, "out")
    _unvisited(reading)
    return reading


def saving(consumers: Mapping[str, list[Node]], sampler: Node) -> tuple[Node | None, list[Node]]:
    """The node nearest behind a sampler that writes clips, and the nodes between."""
    queue: deque[tuple[Node, list[Node]]] = deque([(sampler, [])])
    reached = {sampler.id}
    while queue:
        node, path = queue.popleft()
        for follower in consumers.get(node.id, []):
            kind = KINDS.get(follower.type)
            if follower.id in reached or (kind and kind.samples):
                continue
            reached.add(follower.id)
            if kind and kind.saves:
                return follower, path
            queue.append((follower, [*path, follower]))
    return None, []


def consumers(graph: Graph, wires: Wires) -> dict[str, list[Node]]:
    """Which nodes hang on each node, past all that only hand on."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes.values():
        if node.mode in (NEVER, BYPASSED) or node.type in THROUGH or node.type == "GetNode":
            continue
        for name in node.links:
            source = wires.source(node, name)
            if source:
                found.setdefault(source[0].id, []).append(node)
    return found


def _walk(reading: Reading, start: Node, role: str, *, path_only: bool = False) -> None:
    """Read a node and, before its boxes, what hangs on it."""
    stack: list[tuple[Node, str, bool]] = [(start, role, False)]
    while stack:
        node, role, ready = stack.pop()
        if ready:
            _read_boxes(reading, node, role)
            continue
        key = (node.id, role, reading.expert)
        if key in reading.seen:
            continue
        reading.seen.add(key)
        reading.visited.add(node.id)
        kind = KINDS.get(node.type)
        if kind is None or kind.lost:
            _strange(reading, node, kind, role)
            if not path_only:
                stack += [(found, role, False) for found in _handed_on(reading, node)]
            continue
        early: list[tuple[Node, str, bool]] = []
        late: list[tuple[Node, str, bool]] = []
        for socket in kind.sockets:
            follow = _follow(reading, node, socket, role)
            if follow:
                (late if kind.leads and socket.name not in LEADING else early).append((*follow, False))
        # The stack is emptied from its end: first the early ones, then the node's boxes, then the late ones.
        stack += [*reversed(late), (node, role, True), *reversed(early)]
        _unknown_inputs(reading, node, kind)


def _follow(reading: Reading, node: Node, socket: Socket, role: str) -> tuple[Node, str] | None:
    """The node on a socket and its role there, if it is to be read."""
    source = reading.wires.source(node, socket.name)
    if source is None or socket.role == "same":
        return None
    found = source[0]
    kind = KINDS.get(found.type)
    if socket.why:
        reading.lose(node, socket.name, found.label, socket.why)
        return None
    if kind and kind.samples and socket.name in ("samples", "latent_image", "frames made"):
        if found.id not in {one.id for one in reading.chain.nodes}:
            reading.lose(
                node, socket.name, found.label, "Another sampler's latents; run that one first and give its run as samples."
            )
            reading.visited.add(found.id)
        return None
    if socket.role == "zeros" or (role == "out" and socket.role in ("samples", "frames made")):
        return None
    return found, socket.role or role


def _read_boxes(reading: Reading, node: Node, role: str) -> None:
    kind = KINDS[node.type]
    for box in kind.boxes:
        if kind.samples and _half(reading, node, box.name):
            continue
        try:
            value = reading.wires.value(node, box.name) if box.name else ""
        except Refused as refused:
            if box.becomes or box.why:
                reading.lose(node, box.name, None, str(refused))
            continue
        if value is not None:
            _read_box(reading, Site(reading, node, role, box.name, value if box.name else None), box, value)


def _read_box(reading: Reading, site: Site, box: Box, value: Any) -> None:
    node, written = site.node, site.written
    if box.read is None:
        if not box.becomes and box.why and not box.goes_without_saying(value) and box.name:
            reading.lose(node, box.name, value, box.why)
        return
    try:
        found = box.read(value, site)
    except Refused as refused:
        reading.lose(node, box.name, written, str(refused))
        return
    for setting, one in (found if isinstance(found, Many) else {box.becomes: found}).items():
        if setting == "loras":
            reading.loras += [Lora({**entry, "expert": reading.expert}, node, box.name) for entry in one]
        elif setting == "transformers":
            reading.transformers.append((reading.expert, Found(one, node, box.name, written)))
        elif setting == "vace":
            reading.vace = reading.vace or Found(one, node, box.name, written)
        else:
            if isinstance(found, Instead):
                reading.changes.pop(setting, None)
            reading.change(setting, one, node, box.name, written)


def _half(reading: Reading, node: Node, box: str) -> bool:
    """Whether a box of one of two samplers says only where the one stops and the other goes on."""
    if reading.expert == "low" and box == "cfg":
        _second_cfg(reading, node)
    return (reading.expert == "low" and box in _GOES_ON) or (reading.expert == "high" and box in _STOPS)


def _second_cfg(reading: Reading, node: Node) -> None:
    """The cfg of the second half of a run: with another one than the first, a value for each step."""
    found = reading.changes.get("cfg")
    try:
        second = reading.wires.value(node, "cfg")
    except Refused as refused:
        reading.lose(node, "cfg", None, str(refused))
        return
    steps = reading.changes["steps"].value if "steps" in reading.changes else None
    if second is None or found is None or second == found.value or not isinstance(steps, int) or not 0 < steps <= 1000:
        return
    halves = []
    for value, count in ((found.value, reading.chain.split), (second, steps - reading.chain.split)):
        values = list(value) if isinstance(value, list | tuple) else [value]
        halves += (values + values[-1:] * count)[:count]
    found.value = tuple(float(one) if isinstance(one, int) else one for one in halves)


def _strange(reading: Reading, node: Node, kind: Kind | None, role: str) -> None:
    """A node of which nothing, or nothing but the file of a transformer, is taken."""
    if node.type in NOTES or node.type in CONSTANTS:
        return
    files = [(name, value) for name, value in node.values.items() if isinstance(value, str) and value.endswith(_WEIGHTS)]
    if role == "model" and kind is None and len(files) == 1:
        [(name, file)] = files
        reading.transformers.append((reading.expert, Found(file, node, name, file)))
        reading.note(node, name, file, "wanlab does not know this node; its file is taken for the transformer.")
        return
    reading.lose(node, "", None, kind.lost if kind else STRANGERS.get(node.type, "wanlab does not know this node."))


def _handed_on(reading: Reading, node: Node) -> Iterator[Node]:
    """What an unknown node mostly hands on, changed: inputs of the type of one of its outputs, else of telling names."""
    for name in node.links:
        alike = node.kinds.get(name) in node.outputs if node.outputs and name in node.kinds else name in _HANDED_ON
        if alike and node.kinds.get(name) not in ("INT", "FLOAT", "BOOLEAN", "MASK"):
            source = reading.wires.source(node, name)
            kind = KINDS.get(source[0].type) if source else None
            if source and not (kind and kind.samples):
                yield source[0]


def _unknown_inputs(reading: Reading, node: Node, kind: Kind) -> None:
    """Inputs that this version of the node has and wanlab's table of it does not."""
    known = {box.name for box in kind.boxes} | {socket.name for socket in kind.sockets}
    known |= {name for order in kind.older for name in order}
    if kind.samples and reading.expert == "low":
        return
    for name in [*node.values, *node.links]:
        strange = name not in known and name not in _EDITOR and not name.startswith(("vhs", "lora_", "$$"))
        strange = strange and "preview" not in name
        if strange and node.type not in (*THROUGH, *CONSTANTS):
            reading.lose(node, name, node.values.get(name), "wanlab does not know this input of the node.")


def _unvisited(reading: Reading) -> None:
    """All that the samplers hang on and that was not read: it only serves what is not taken."""
    queue = deque(reading.graph.nodes[id] for id in reading.visited if id in reading.graph.nodes)
    reached = {node.id for node in queue}
    while queue:
        node = queue.popleft()
        for name in node.links:
            source = reading.wires.source(node, name)
            if source is None or source[0].id in reached:
                continue
            found = source[0]
            reached.add(found.id)
            queue.append(found)
            kind = KINDS.get(found.type)
            if found.type in CONSTANTS or found.type in NOTES or (kind and not kind.boxes and not kind.sockets):
                continue
            if found.type not in ("CreateCFGScheduleFloatList", "StringToFloatList", "WanVideoLoraBlockEdit"):
                reading.lose(found, "", None, f"It serves {node.label} ({name}) only, which is not taken.")
