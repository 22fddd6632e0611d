"""A timeline: the settings of a run, and the changes that forks made on the way. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wanlab.errors import SettingsError
from wanlab.settings import Settings, check_name


@dataclass(frozen=True)
class Timeline:
    """The settings of a run, and the changes that forks made on the way: from step `at` on, `changes` are in force."""

    settings: Settings
    forks: tuple[tuple[int, tuple[tuple[str, Any], ...]], ...] = ()

    def __len__(self) -> int:
        """How many steps the run makes."""
        return len(self.settings.grid)

    def at(self, step: int) -> Settings:
        """The settings that are in force at this step; of a list with a value for each step, the one of this step."""
        return self._in_force[step]

    @cached_property
    def _in_force(self) -> tuple[Settings, ...]:
        settings, found = self.settings, []
        for step in range(len(self)):
            for start, changes in self.forks:
                if start == step:
                    settings = settings.but(dict(changes))
            found.append(settings.at(step))
        return tuple(found)

    def fork(self, at: int, changes: Mapping[str, Any]) -> Timeline:
        """The same run, but with `changes` from step `at` on; raises SettingsError for what cannot change there."""
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < len(self):
            raise SettingsError(f"at is {at}; a run of {len(self)} steps forks at a step from 0 to {len(self) - 1}.")
        for name in changes:
            setting = check_name(name)
            if setting.affects == "result" and setting.scope == "run" and at > 0:
                raise SettingsError(
                    f"{name} cannot change in the middle of a run: it holds for all steps. Start a new run with it: "
                    f"lab.run(..., {name}=...)."
                )
        early = {name: value for name, value in changes.items() if at == 0 or check_name(name).affects == "clip"}
        late = {name: value for name, value in changes.items() if name not in early}
        base = self.settings.but(early)
        kept = [
            (start, tuple((name, value) for name, value in old if start < at or name not in changes))
            for start, old in self.forks
        ]
        if late:
            base.but(late)
            kept = sorted([*kept, (at, tuple(late.items()))], key=lambda fork: fork[0])
        return Timeline(base, tuple(fork for fork in kept if fork[1]))
