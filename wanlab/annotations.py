"""What is noted about a run after it was made: a person's star, tags and note, and metrics that were measured later.

They lie beside `run.json`, which only the process that made the run writes, in two files: `notes.json` and `metrics.json`.
Each appears whole or not at all, and then `run.json` gets a new time, so that whoever knew the run reads it again. Of two
who write the same file in the same moment the later one wins; a star is never lost to a metric.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wanlab.errors import FileError, SettingsError
from wanlab.files import write_whole

NOTES, METRICS = "notes.json", "metrics.json"
MOST_BYTES = 2**16
_LONGEST = {"tag": 60, "note": 4000}  # letters
_MOST_TAGS = 50


def notes_of(folder: str | Path) -> dict[str, Any]:
    """The columns that a run's files of notes and metrics add; nothing of a file that is missing or damaged."""
    notes = _read(f"{folder}/{NOTES}")
    columns = {name: notes[name] for name, right in _RIGHT.items() if name in notes and right(notes[name])}
    return columns | {f"metrics.{name}": value for name, value in _read(f"{folder}/{METRICS}").items() if _is_metric(value)}


def annotate(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change `star`, `tags` or `note` of the run in this folder; what is None is removed. Raises SettingsError, FileError."""
    for name, value in changes.items():
        if name not in _RIGHT:
            raise SettingsError(f"{name} is not a note; notes are {', '.join(_RIGHT)}.")
        if value is not None and not _RIGHT[name](value):
            raise SettingsError(f"{name} is {value!r:.80}; it must be {_RULES[name]}.")
    _change(folder, NOTES, {name: list(value) if name == "tags" and value else value for name, value in changes.items()})


def measured(folder: Path, metrics: Mapping[str, float | None]) -> None:
    """Note metrics of the run in this folder, numbers by name; None removes one, and a number that is not finite."""
    finite = {name: None if value is None or not math.isfinite(value) else float(value) for name, value in metrics.items()}
    _change(folder, METRICS, finite)


def _change(folder: Path, name: str, changes: Mapping[str, Any]) -> None:
    file = folder / name
    if not (folder / "run.json").exists():
        raise FileError(f"There is no run {folder.name} in {folder.parent}; ids() names its runs.")
    kept = {key: value for key, value in {**_read(file), **changes}.items() if value is not None and value != []}
    write_whole(file, (json.dumps(kept, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode("utf-8", "replace"))
    reason = ""
    try:
        os.utime(folder / "run.json")  # readers that know the run look again
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise FileError(f"{folder / 'run.json'} cannot be given a new time: {reason}. The notes are kept, and shown later.")


def _read(file: str | Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        found = json.loads(content.decode()) if len(content) <= MOST_BYTES else {}
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be shown or written
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _is_metric(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


_RIGHT = {
    "star": lambda value: isinstance(value, bool),
    "tags": lambda value: (
        isinstance(value, (list, tuple)) and len(value) <= _MOST_TAGS and all(_is_text(tag, _LONGEST["tag"]) for tag in value)
    ),
    "note": lambda value: _is_text(value, _LONGEST["note"]),
}
_RULES = {
    "star": "True or False",
    "tags": f"a list of at most {_MOST_TAGS} texts of at most {_LONGEST['tag']} letters",
    "note": f"text of at most {_LONGEST['note']} letters",
}
