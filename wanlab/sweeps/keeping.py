"""A sweep on the disk: what was asked for, so that it can be opened again, and what was measured and seen of its runs.

    <lab>/sweeps/3f9ab2c41d07/sweep.json       axes and cells, with the runs that made them when it was last written
                              <run id>.json    metrics of a run, and against which reference
                              <run id>.png     its frames, made small, one below the other; .jpg where that is large

Each file appears whole or not at all, and none is needed by a run: what is lost is made again from the log and the store. The
folder is named by what is asked for, so the same line of code, in whichever kernel, is the same sweep.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wanlab.declare import Asked, switches
from wanlab.errors import FileError, SettingsError
from wanlab.files import write_whole
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.sweeps.axes import Axis
from wanlab.sweeps.cells import CLIP, Cell
from wanlab.timeline import Timeline

SWEEPS = "sweeps"
FORMAT = 1
_ID = re.compile(r"[0-9a-f]{12}")
_MOST_BYTES = 2**26
_WIDEST, _TALLEST = 256, 60_000  # pixels of a small frame, and of all of them in one picture
_EXACT = 2**20  # pixels that are kept exactly
_RESULT = {name for name, setting in declared(ModelSettings).items() if setting.affects == "result"}


class Kept:
    """The folder of a sweep, which need not exist yet."""

    def __init__(self, lab: Path, id: str) -> None:
        self.folder = lab / SWEEPS / id
        self.id = id

    def write(
        self, axes: Sequence[Axis], cells: Sequence[Cell], references: Mapping[str, str], runs: Mapping[str, str]
    ) -> None:
        """Write down what is asked for, and which run made which cell. Raises FileError."""
        first, model = cells[0].timeline.settings, cells[0].model
        named = {name for axis in axes for name in axis.names}
        entries = [
            {
                "key": cell.key,
                "changes": _changes(first, cell.timeline.settings),
                "forks": [[at, dict(changes)] for at, changes in cell.timeline.forks],
                "model": _changes(model, cell.model, named),
                "labels": dict(cell.labels),
                "places": cell.places,
                "reference": references.get(cell.key),
                "run": runs.get(cell.key),
            }
            for cell in cells
        ]
        content = {
            "format": FORMAT,
            "id": self.id,
            "created": self._created(),
            "settings": first.flat(),
            "model": {name: value for name, value in _plain(model).items() if _counts(name, named)},
            "axes": [
                {"names": axis.names, "points": [_json(point) for point in axis.points], "listed": axis.listed} for axis in axes
            ],
            "cells": entries,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "sweep.json", (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "replace"))

    def read(self) -> dict[str, Any]:
        """What was written; raises FileError if there is no such sweep, or it cannot be read."""
        file = self.folder / "sweep.json"
        reason = "there is no such sweep"
        if _ID.fullmatch(self.id) and file.is_file():
            try:
                content = _load(file)
                if content.get("format") == FORMAT:
                    return content
                reason = f"its format is {content.get('format')!r:.20}, and this version reads {FORMAT}"
            except (OSError, ValueError, RecursionError) as error:
                reason = str(error)
        raise FileError(f"{file} cannot be read: {reason}. lab.sweeps() lists the sweeps of this lab.")

    def note(self, run: str, metrics: Mapping[str, float | None], reference: str | None, frames: np.ndarray) -> None:
        """Keep what was measured of a run and its frames, made small. Raises FileError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = {name: value if value is None or math.isfinite(value) else "inf" for name, value in metrics.items()}
        content = json.dumps({"metrics": numbers, "reference": reference})
        write_whole(self.folder / f"{run}.json", content.encode(), durable=False)
        if self._picture(run) is None:
            small = _small(frames)
            exact = small.shape[0] * small.shape[1] * small.shape[2] <= _EXACT
            strip, coded = Image.fromarray(small.reshape(-1, *small.shape[2:])), io.BytesIO()
            strip.save(coded, "PNG", compress_level=1) if exact else strip.save(coded, "JPEG", quality=90, subsampling=0)
            name = f"{run}.{len(small)}.{'png' if exact else 'jpg'}"
            write_whole(self.folder / name, coded.getvalue(), durable=False)

    def metrics(self, run: str) -> dict[str, float]:
        """What was measured of a run, by name; nothing if that is lost."""
        found = self._noted(run).get("metrics")
        numbers = {name: math.inf if value == "inf" else value for name, value in dict(found or {}).items()}
        return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}

    def reference(self, run: str) -> str | None:
        """The run against which it was measured; None without one."""
        found = self._noted(run).get("reference")
        return found if isinstance(found, str) else None

    def frames(self, run: str) -> np.ndarray | None:
        """The small frames of a run (t, h, w, 3); None if they are lost."""
        file = self._picture(run)
        if file is None:
            return None
        with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError):
            count = int(file.name.split(".")[-2])
            strip = np.asarray(Image.open(file).convert("RGB"))
            return strip.reshape(count, -1, *strip.shape[1:])
        return None

    def _noted(self, run: str) -> dict[str, Any]:
        """What is in the file of a run; nothing if it is lost or damaged."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return _load(self.folder / f"{run}.json")
        return {}

    def _picture(self, run: str) -> Path | None:
        return next(iter(sorted(self.folder.glob(f"{run}.*.png")) + sorted(self.folder.glob(f"{run}.*.jpg"))), None)

    def _created(self) -> str:
        """When it was written first."""
        with contextlib.suppress(FileError):
            return str(self.read()["created"])
        return datetime.now(UTC).isoformat(timespec="seconds")


def sweep_ids(lab: Path) -> list[str]:
    """The ids of all sweeps of a lab, in no order."""
    folder = lab / SWEEPS
    return [file.parent.name for file in folder.glob("*/sweep.json") if _ID.fullmatch(file.parent.name)]


def cells_from(content: Mapping[str, Any], here: ModelSettings) -> list[tuple[Timeline, ModelSettings, dict[str, Any]]]:
    """Settings, model and entry of each cell that was written down. What only costs is placed as `here`, unless it is varied.

    Raises SettingsError for what this version does not know, KeyError, TypeError or ValueError for what is damaged.
    """
    first, model = Settings().but(content["settings"]), here.but(content["model"])
    found = []
    for entry in content["cells"]:
        forks = tuple((int(at), tuple(changes.items())) for at, changes in entry["forks"])
        found.append((Timeline(first.but(entry["changes"]), forks), model.but(entry["model"]), entry))
    return found


def axes_from(content: Mapping[str, Any]) -> tuple[Axis, ...]:
    """The axes that were written down."""
    return tuple(Axis(tuple(map(str, one["names"])), tuple(one["points"]), bool(one["listed"])) for one in content["axes"])


def _changes(first: Asked, other: Asked, named: set[str] | None = None) -> dict[str, Any]:
    """What differs, such that `first.but(...)` gives the other one; with `named` only what counts for a model."""
    base, values = _plain(first), _plain(other)
    found = {name: value for name, value in values.items() if name not in base or base[name] != value}
    off = {
        group: False for group in switches(type(first)) if getattr(other, group) is None and getattr(first, group) is not None
    }
    return {name: value for name, value in (found | off).items() if named is None or _counts(name, named)}


def _counts(name: str, named: set[str]) -> bool:
    """Whether a setting of a model is kept: it changes the clip, or the sweep varies it."""
    return name in _RESULT or name in CLIP or name in named or name.split(".")[0] in {one.split(".")[0] for one in named}


def _plain(settings: Asked) -> dict[str, Any]:
    return {name: _json(value) for name, value in settings.flat().items()}


def _json(value: Any) -> Any:
    """The value in JSON's types; of what has none its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if hasattr(value, "model_dump"):
        return _json(value.model_dump())
    return str(value)


def _load(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it is no mapping")
    return found


def _small(frames: np.ndarray) -> np.ndarray:
    """The frames (t, h, w, 3) at most so wide, and so high that all fit into one picture."""
    count, high, wide, _ = frames.shape
    part = min(1.0, _WIDEST / wide, _TALLEST / (count * high))
    if part == 1.0:
        return frames
    size = (max(1, int(wide * part)), max(1, int(high * part)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])


def damaged(content: Mapping[str, Any], error: Exception) -> SettingsError:
    """What to say of a sweep.json that has lost something."""
    return SettingsError(f"The sweep {content.get('id')!r:.40} cannot be read: {error}. Make it anew with lab.sweep.")
