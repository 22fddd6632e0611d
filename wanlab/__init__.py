"""wanlab: an interactive laboratory for the Wan2.1 video model.

>>> import wanlab as wl
>>> lab = wl.Lab("my_lab")                                                         # doctest: +SKIP
>>> run = lab.run("a red circle moves right on a blue background", seed=7)        # doctest: +SKIP

Names are loaded when they are used, so that `import wanlab` is quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanlab import show
    from wanlab.clip import Clip, read_settings
    from wanlab.comfy import from_comfy, to_comfy
    from wanlab.comparing import compare, join
    from wanlab.errors import BusyError, FileError, ModelError, SettingsError, WanlabError
    from wanlab.lab import Lab
    from wanlab.log import RunLog
    from wanlab.measuring import measure
    from wanlab.parting import compare_steps
    from wanlab.planning import dry_run, plan
    from wanlab.plans import Plan
    from wanlab.plots import plot_error, plot_memory, plot_time
    from wanlab.run import Run
    from wanlab.settings import ClipSettings, ModelSettings, Settings
    from wanlab.sweeps.sweep import Sweep
    from wanlab.tiny import tiny_path
    from wanlab.weights.inspection import inspect_checkpoint

_HOMES = {
    "BusyError": "errors",
    "Clip": "clip",
    "ClipSettings": "settings",
    "FileError": "errors",
    "Lab": "lab",
    "ModelError": "errors",
    "ModelSettings": "settings",
    "Plan": "plans",
    "Run": "run",
    "RunLog": "log",
    "Settings": "settings",
    "SettingsError": "errors",
    "Sweep": "sweeps.sweep",
    "WanlabError": "errors",
    "compare": "comparing",
    "compare_steps": "parting",
    "dry_run": "planning",
    "from_comfy": "comfy",
    "inspect_checkpoint": "weights.inspection",
    "join": "comparing",
    "measure": "measuring",
    "plan": "planning",
    "plot_error": "plots",
    "plot_memory": "plots",
    "plot_time": "plots",
    "read_settings": "clip",
    "tiny_path": "tiny",
    "to_comfy": "comfy",
}

__all__ = [
    "BusyError",
    "Clip",
    "ClipSettings",
    "FileError",
    "Lab",
    "ModelError",
    "ModelSettings",
    "Plan",
    "Run",
    "RunLog",
    "Settings",
    "SettingsError",
    "Sweep",
    "WanlabError",
    "compare",
    "compare_steps",
    "dry_run",
    "from_comfy",
    "inspect_checkpoint",
    "join",
    "measure",
    "plan",
    "plot_error",
    "plot_memory",
    "plot_time",
    "read_settings",
    "show",
    "tiny_path",
    "to_comfy",
]


def __getattr__(name: str) -> Any:
    if name == "show":
        return importlib.import_module("wanlab.show")
    if name not in _HOMES:
        raise AttributeError(f"module 'wanlab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"wanlab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
