"""What a column of the log means: its group, its unit, and what a difference in it says about two runs. No torch.

All of it is derived: settings and settings of the model from their declarations, other facts from their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from wanlab.declare import Setting, switches
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.table import columns_of

Rows = Mapping[str, Mapping[str, Any]]

NOTES = ("star", "tags", "note")
# A value for each step of each run: more than all other columns together, and of no use in a table.
_PER_STEP = "seconds.steps"
_RESULTS = ("forks", "engine", "model.id", "samples")  # facts beside the settings that change what is computed
_FORKS = ("forked_from", "forked_at", "extends", "overlap", "changes")
_UNITS = {"seconds": "s", "peak_rss_gib": "GiB", "peak_vram_gib": "GiB", "metrics.psnr": "dB"}
_FIRST, _MEASURED, _NOTED = "run", "seconds and memory", "notes"


@dataclass(frozen=True)
class Column:
    """A column: where it belongs, its unit, and its `part` in what was asked, computed or noted.

    `part` is "result", "cost" or "clip" for settings, "loaded" or "placed" for settings of the model that change the
    result or only seconds and memory, "measured", "noted", or "made" for how and where the run came about.
    """

    name: str
    group: str
    part: str
    unit: str = ""
    help: str = ""


def described(rows: Rows) -> list[Column]:
    """The columns of these rows, in the log's order; those that a person writes are always there."""
    return [_column(name) for name in columns_of(rows, *NOTES) if name != _PER_STEP]


def chosen_columns(rows: Rows) -> list[str]:
    """The columns that a table begins with: how the runs went, and which of their settings differ."""
    usual = ["steps", "cfg", "seed"]
    varied = [name for name in declared() if name not in ("prompt", *usual) and _varied(rows, name)]
    known = columns_of(rows, *NOTES)
    memory = "peak_vram_gib" if "peak_vram_gib" in known else "peak_rss_gib"
    wanted = ["status", "prompt", *usual, *varied[:4], "seconds", memory, "steps_reused", "tags", "note"]
    return [name for name in wanted if name in known]


def _varied(rows: Rows, name: str) -> bool:
    """Whether a setting differs; a technique that is as declared where it is on is told by its first setting of its own."""
    values = [row.get(name) for row in rows.values()]
    known = [value for value in values if value is not None]
    group = name.partition(".")[0]
    if group in switches(Settings) and len(set(map(str, known))) == 1 and known[0] == declared()[name].default:
        return len(known) < len(values) and name == next(
            one for one in declared() if one.startswith(f"{group}.") and "_percent" not in one
        )
    return any(value != values[0] for value in values)


@cache
def _column(name: str) -> Column:
    settings, group = declared(), name.rpartition(".")[0]
    if name in settings:
        return _setting(settings[name], group or "settings", settings[name].affects)
    first, _, rest = name.partition(".")
    if first == "model":
        loading = declared(ModelSettings)
        part = "placed" if rest in loading and loading[rest].affects == "cost" else "loaded"
        setting = loading.get({"name": "model"}.get(rest, rest))
        return Column(name, "model", part, setting.unit if setting else "", setting.help if setting else "")
    if name in NOTES:
        return Column(name, _NOTED, "noted")
    if first in ("seconds", "peak_rss_gib", "peak_vram_gib", "compile", "metrics"):
        unit = _UNITS.get(name, _UNITS.get(first, ""))
        return Column(name, "metrics" if first == "metrics" else _MEASURED, "measured", unit)
    if name in _RESULTS or first == "model":
        return Column(name, _FIRST, "result")
    if first in ("versions", "device", "threads"):
        return Column(name, "versions and device", "made")
    return Column(name, _FIRST, "made" if first in _FORKS or name in ("created", "clip") else "measured")


def _setting(setting: Setting, group: str, part: str) -> Column:
    return Column(setting.name, group, part, setting.unit, setting.help)
