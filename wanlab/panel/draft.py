"""What the form says: settings that are valid, and beside them what was typed and is not, with the reason. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wanlab.controls import blame, chosen, read, shown
from wanlab.declare import declarations, switches
from wanlab.errors import SettingsError, WanlabError
from wanlab.planning import divided
from wanlab.settings import ModelSettings, Settings

Keep = Callable[[Mapping[str, Any], Settings], dict[str, Any]]
Suits = Mapping[str, Mapping[str, Any]]


class Draft:
    """Settings of a run and of its model while they are edited.

    `settings` and `model` are always valid. What is refused stays in `values`, as it was typed, until it is typed anew or goes
    together with the rest: so nothing is lost, and what is right takes effect beside what is wrong. `keep` is `Bench.kept`,
    `suits` are settings of groups that suit the model, for when one is turned on.
    """

    def __init__(self, settings: Settings, model: ModelSettings, keep: Keep, suits: Suits) -> None:
        self._keep, self._suits = keep, suits
        self.settings, self.model = settings, model
        self.values: dict[str, Any] = {}  # of every control, in JSON
        self.problems: dict[str, str] = {}
        self.replace(settings, model)

    def replace(self, settings: Settings, model: ModelSettings | None = None) -> None:
        """Take these settings, and forget what was refused."""
        self.settings, self.model = settings, model or self.model
        self.problems = {}
        self.values = {**self.values, **form_values(self.settings, self._suits), **form_values(self.model)}

    def change(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Take what the browser says by dotted name; what cannot be taken is refused, with a sentence in `problems`.

        Returns the values that are now others than the browser thinks.
        """
        self.problems, readable = {}, {}
        before = {**self.values, **changes}
        for name, value in before.items():
            try:
                read(name, value)
                readable[name] = value
            except SettingsError as error:
                self._blame(error, {name})
        run, model = divided(readable)
        self._take(chosen(run, self.settings, self._suits), self._take_settings)
        self._take(chosen(model, self.model), self._take_model)
        now = {**form_values(self.settings, self._suits), **form_values(self.model)}
        refused = {name for name in before if name in self.problems or name not in readable}
        self.values = {**now, **{name: before[name] for name in before if name in refused or self._waits(name, before)}}
        return {name: value for name, value in self.values.items() if name in before and not _same(name, value, before[name])}

    def _waits(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether this is of a group that is off: its values are kept for when it is turned on."""
        group = name.rpartition(".")[0]
        return group in _SWITCHES and not values.get(group)

    def _take_settings(self, changes: Mapping[str, Any]) -> None:
        self.settings = self.settings.but(self._keep(changes, self.settings))

    def _take_model(self, changes: Mapping[str, Any]) -> None:
        self.model = self.model.but(changes)

    def _take(self, changes: Mapping[str, Any], take: Callable[[Mapping[str, Any]], None]) -> None:
        """Take as many of the changes as go together with each other and with what is there."""
        left = dict(changes)
        while left:
            try:
                take(left)
            except WanlabError as error:
                wrong = self._blame(error, set(left))
            else:
                return
            left = {name: value for name, value in left.items() if name not in wrong}

    def _blame(self, error: WanlabError, names: set[str]) -> set[str]:
        """Note to which controls the error belongs; return those of `names` that are to be left out because of it."""
        blamed = blame(error, self.values)
        for name, sentence in blamed.items():
            self.problems[name] = " ".join(filter(None, [self.problems.get(name), sentence]))
        return names & set(blamed) or names


def form_values(settings: Settings | ModelSettings, suits: Suits | None = None) -> dict[str, Any]:
    """What all controls of these settings show, in JSON; those of a group that is off show with what it would begin."""
    model = type(settings)
    found: dict[str, Any] = {}
    for group in switches(model):
        found[group] = getattr(settings, group) is not None
        found |= {f"{group}.{name}": shown(value) for name, value in (suits or {}).get(group, {}).items()}
    return found | {name: shown(value) for name, value in settings.flat().items()}


def differing(now: Settings | ModelSettings, usual: Settings | ModelSettings) -> dict[str, Any]:
    """What is not as usual; of a group only whether it was turned on or off, and its settings that are not as declared."""
    found: dict[str, Any] = {}
    values, before, known = now.flat(), usual.flat(), declarations(type(now))
    for name in switches(type(now)):
        if (getattr(now, name) is None) != (getattr(usual, name) is None):
            found[name] = getattr(now, name) is not None
    changed = {name: value for name, value in values.items() if value != before.get(name, known[name].default)}
    return {name: on for name, on in found.items() if not (on and any(one.startswith(f"{name}.") for one in changed))} | changed


def _same(name: str, value: Any, other: Any) -> bool:
    """Whether two values of the form mean the same, such as 5 and 5.0."""
    if value == other:
        return True
    try:
        return bool(read(name, value) == read(name, other))
    except SettingsError:
        return False


_SWITCHES = {**switches(Settings), **switches(ModelSettings)}
