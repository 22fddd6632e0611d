"""What the log is told of a run before it starts, and the run's timeline from that again."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from wanlab.bench import Bench
from wanlab.names import ENGINE
from wanlab.settings import Settings
from wanlab.timeline import Timeline

_PACKAGES = ("wanlab", "torch", "diffusers", "transformers", "safetensors", "numpy")


def facts_of(bench: Bench, timeline: Timeline, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before the run starts."""
    return {
        "settings": timeline.settings.flat(),
        "forks": [[at, dict(changes)] for at, changes in timeline.forks],
        "model": _model(bench),
        "device": _device(bench.settings.load_device),
        "threads": torch.get_num_threads(),
        "engine": ENGINE,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "steps_done": 0,
        "steps_reused": 0,
        "model_calls": 0,
        "seconds": {"total": 0.0},
        **origin,
    }


def _model(bench: Bench) -> dict[str, Any]:
    """Who the model is, and how it was loaded and placed."""
    settings = bench.model.settings.flat()
    settings["loras"] = [one.model_dump() for one in bench.settings.loras]
    return {"name": settings.pop("model"), **settings, "id": bench.model_id}


def timeline_of(facts: Mapping[str, Any]) -> Timeline:
    """The timeline that `run.json` describes; raises SettingsError for settings that this version does not know."""
    forks = tuple((int(at), tuple(changes.items())) for at, changes in facts.get("forks", []))
    return Timeline(Settings().but(facts["settings"]), forks)


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(name: str) -> str:
    return torch.cuda.get_device_name(name) if torch.device(name).type == "cuda" else name
