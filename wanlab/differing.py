"""In what runs differ: which settings, whether these can change a frame at all, and the sentence that says so. No torch.

A row is a run's settings by dotted name, each as text. What a fork changed is a name of its own, `cfg from step 12`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from wanlab.declare import switches
from wanlab.document import shortened
from wanlab.settings import ModelSettings, Settings, declared

SettingsRow = Mapping[str, str]

_FROM = " from step "
_LONGEST = 40  # characters of a value within a sentence


def forked_name(name: str, at: int) -> str:
    """The name of a setting that a fork changed at this step.

    >>> forked_name("cfg", 12)
    'cfg from step 12'
    """
    return f"{name}{_FROM}{at}"


def worded(name: str, value: str) -> str:
    """A setting with its value, for a label.

    >>> worded("cfg from step 12", "3.5")
    'cfg 3.5 from step 12'
    """
    setting, _, step = name.partition(_FROM)
    return f"{setting} {value}" + (f"{_FROM}{step}" if step else "")


def label(row: SettingsRow, names: Sequence[str]) -> str:
    """A short name by the values of the first three of these settings that the row has.

    >>> label({"cfg": "5", "shift": "3"}, ["cfg", "seed"])
    'cfg 5'
    """
    parts = [worded(name, row[name]) for name in names[:3] if row.get(name)]
    return ", ".join(shortened(part, 40) for part in parts)


def differing(rows: Sequence[SettingsRow]) -> list[str]:
    """The names whose values differ between these rows, in the rows' order; a row without any name is not known and not asked.

    Of a technique that only some runs have, it is enough to say that it is on or off: its settings count if they are not as
    declared.
    """
    rows = [row for row in rows if row]
    groups = tuple(f"{name}." for name in (*switches(Settings), *switches(ModelSettings)))
    usual = {name: str(setting.default) for name, setting in (declared() | declared(ModelSettings)).items()}

    def differs(name: str) -> bool:
        values = {row.get(name, "") for row in rows if name in row or not name.startswith(groups)}
        some = len([row for row in rows if name in row]) < len(rows)
        return len(values) > 1 or (some and name.startswith(groups) and values != {usual.get(name)})

    return [name for name in dict.fromkeys(name for row in rows for name in row) if differs(name)]


def changes_frames(name: str) -> bool:
    """Whether a setting can change a frame: all can but those of cost, and those of how the finished frames are written."""
    return name.split(_FROM)[0] not in _without_effect()


def told(rows: Sequence[SettingsRow], names: Sequence[str]) -> str:
    """One sentence about the names in which these rows differ, with their values if there is one name.

    >>> told([{"cfg": "5.5"}, {"cfg": "3.5"}], ["cfg"])
    'Only cfg differs (5.5 \u2192 3.5).'
    """
    if not names:
        return "No setting differs."
    if len(names) > 1:
        some = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else list(names)
        return f"{', '.join(some[:-1])} and {some[-1]} differ."
    (name,) = names
    values = list(dict.fromkeys(row.get(name, "") or "none" for row in rows if row))
    arrow = " \u2192 " if len(values) == len(rows) == 2 else ", "
    short = all(len(value) <= _LONGEST for value in values)
    setting, _, step = name.partition(_FROM)
    from_step = f" from step {step} on" if step else ""
    return f"Only {setting} differs{from_step}{f' ({arrow.join(values)})' if short else ''}."


@cache
def _without_effect() -> frozenset[str]:
    written = {
        name for name, setting in declared().items() if setting.affects == "clip"
    }  # the VAE's, too, but as ModelSettings
    known = declared() | declared(ModelSettings) | switches(Settings) | switches(ModelSettings)
    return frozenset(written | {name for name, setting in known.items() if setting.affects == "cost"})
