"""Which cells of a sweep the log has: by what was asked for, whoever ran it, in whichever kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wanlab.errors import WanlabError
from wanlab.log import RunLog
from wanlab.run_facts import timeline_of
from wanlab.sweeps.cells import Cell, key_of

Facts = Mapping[str, Any]
_ENDED = ("done", "stopped", "failed", "crashed")


class Made:
    """The runs in a log that are cells of a sweep. `look` reads what is new there."""

    def __init__(self, log: RunLog, cells: Sequence[Cell], varied: Sequence[str]) -> None:
        self._log, self._varied = log, varied
        # Most runs of a long log are something else, which these tell without reading all of their settings.
        self._wanted = {(cell.timeline.settings.prompt, cell.timeline.settings.seed) for cell in cells}
        self._keys = {cell.key for cell in cells}
        self._seen: set[str] = set()  # that ended
        self._runs: dict[str, dict[str, Facts]] = {}

    def look(self) -> None:
        """Read the runs that are new, or were running at the last look."""
        for id in self._log.ids():
            if id in self._seen:
                continue
            try:
                facts = self._log.read(id)
            except WanlabError:  # a damaged row is no cell's
                continue
            if facts["status"] in _ENDED:
                self._seen.add(id)
            key = self._key(facts)
            if key in self._keys:
                self._runs.setdefault(key, {})[id] = facts

    def best(self, key: str) -> Facts | None:
        """The run that stands for a cell: of the finished ones that which computed most, else a running one, else the last."""
        runs = list(self._runs.get(key, {}).values())
        done = [facts for facts in runs if facts["status"] == "done"]
        if done:
            return min(reversed(done), key=lambda facts: int(facts.get("steps_reused", 0)))
        running = [facts for facts in runs if facts["status"] == "running"]
        return [None, *(running or runs)][-1]

    def _key(self, facts: Facts) -> str | None:
        """The cell that a run is, whatever version wrote it; None for what cannot be one."""
        settings, model = facts.get("settings"), facts.get("model")
        if not isinstance(settings, Mapping) or not isinstance(model, Mapping):
            return None
        if (settings.get("prompt"), settings.get("seed")) not in self._wanted:
            return None
        try:
            return key_of(timeline_of(facts), str(model.get("id")), {**model, "model": model.get("name")}, self._varied)
        except (WanlabError, TypeError, ValueError, AttributeError):
            return None
