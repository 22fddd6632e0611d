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
    from wanlab.comparing import compare, join
    from wanlab.errors import BusyError, FileError, ModelError, SettingsError, WanlabError
    from wanlab.lab import Lab
    from wanlab.log import RunLog
    from wanlab.planning import dry_run, plan
    from wanlab.plans import Plan
    from wanlab.run import Run
    from wanlab.settings import ClipSettings, ModelSettings, Settings
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
    "WanlabError": "errors",
    "compare": "comparing",
    "dry_run": "planning",
    "inspect_checkpoint": "weights.inspection",
    "join": "comparing",
    "plan": "planning",
    "read_settings": "clip",
    "tiny_path": "tiny",
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
    "WanlabError",
    "compare",
    "dry_run",
    "inspect_checkpoint",
    "join",
    "plan",
    "read_settings",
    "show",
    "tiny_path",
]


def __getattr__(name: str) -> Any:
    if name == "show":
        return importlib.import_module("wanlab.show")
    if name not in _HOMES:
        raise AttributeError(f"module 'wanlab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"wanlab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
