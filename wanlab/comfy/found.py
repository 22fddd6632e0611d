"""What is known of a workflow while it is read: what was found where, and what is not taken for which reason. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wanlab.comfy.graph import Graph, Node
from wanlab.comfy.kinds import Refused
from wanlab.comfy.result import Entries, Entry
from wanlab.comfy.samplers import Chain
from wanlab.comfy.wires import Wires


@dataclass
class Found:
    """A setting's value, and where it was found."""

    value: Any
    node: Node
    input: str
    written: Any


@dataclass
class Lora:
    """An entry of `loras`, and where it was found."""

    entry: dict[str, Any]
    node: Node
    input: str


@dataclass
class Reading:
    """What is known of a workflow so far."""

    graph: Graph
    wires: Wires
    chain: Chain
    changes: dict[str, Found] = field(default_factory=dict)
    loras: list[Lora] = field(default_factory=list)
    transformers: list[tuple[str, Found]] = field(default_factory=list)
    not_taken: Entries = field(default_factory=Entries)
    notes: Entries = field(default_factory=Entries)
    vace: Found | None = None
    expert: str = "both"
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)
    told: set[tuple[str, str, str]] = field(default_factory=set)

    def lose(self, node: Node, input: str, value: Any, reason: str) -> None:
        """Keep that a value is not taken, once."""
        self._tell(self.not_taken, Entry(node.label, input, value, reason))

    def note(self, node: Node, input: str, value: Any, sentence: str) -> None:
        """Keep that a value was taken and means something else here, once."""
        self._tell(self.notes, Entry(node.label, input, value, sentence))

    def _tell(self, entries: Entries, entry: Entry) -> None:
        key = (entry.node, entry.input, entry.reason)
        if key not in self.told:
            self.told.add(key)
            entries.append(entry)

    def change(self, setting: str, value: Any, node: Node, input: str, written: Any) -> None:
        """Keep a value for a setting; one that was found elsewhere before stays."""
        before = self.changes.get(setting)
        if before and before.node.id != node.id:
            if before.value != value:
                self.lose(node, input, written, f"{setting} has one value for the run, which {before.node.label} gives.")
            return
        self.changes[setting] = Found(value, node, input, written)


@dataclass
class Site:
    """One box of one node in its role, as its reading sees it."""

    reading: Reading
    node: Node
    role: str
    input: str = ""
    written: Any = None

    def value(self, name: str) -> Any:
        """What another box of the node holds."""
        try:
            return self.reading.wires.value(self.node, name)
        except Refused:
            return None

    def linked(self, name: str) -> bool:
        """Whether a socket of the node hangs on something that runs."""
        return self.reading.wires.source(self.node, name) is not None

    def behind(self, name: str) -> Mapping[str, Any]:
        """The values of the node that a socket hangs on."""
        source = self.reading.wires.source(self.node, name)
        return source[0].values if source else {}

    def hint(self, name: str) -> Any:
        """What wanlab wrote beside the node's values."""
        return self.node.hints.get(name)

    def asked(self, name: str) -> Any:
        """What a setting is so far."""
        found = self.reading.changes.get(name)
        return found.value if found else None

    def note(self, sentence: str) -> None:
        """Say what is different here."""
        self.reading.note(self.node, self.input, self.written, sentence)
