"""What may stand in a `run.json`: values in JSON's types when it is written, and a strict look when it is read."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from wanlab.process import lives

# At most. That of a run with 1000 steps has 30 KB and is 5 deep.
MOST_BYTES = 2**20
MOST_DEPTH = 20

Stamp = tuple[int, int]  # what changes when a run.json does: its time in nanoseconds and its size in bytes


def plain(value: Any, name: str) -> Any:
    """The value in JSON's types; TypeError with its name for what has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, f"{name}[{number}]") for number, part in enumerate(value)]
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return plain(value.item(), name)
    raise TypeError(f"{name} is a {type(value).__name__}; a log keeps numbers, text, None, and lists and mappings of these.")


def stamp_of(file: str | Path) -> Stamp:
    """The stamp of a run.json, with a size of -1 of what is no file; OSError if there is none."""
    found = os.stat(file)
    return found.st_mtime_ns, found.st_size if stat.S_ISREG(found.st_mode) else -1


def facts_in(file: str | Path, stamp: Stamp, here: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a run.json, "crashed" if they say "running" and are not true; ValueError or OSError if it is damaged."""
    facts = parse(_content(file, stamp))
    if facts["status"] == "running" and not lives(facts.get("process"), stamp[0] / 1e9, here):
        later = stamp_of(file)
        if later != stamp:  # it came to its end between the look at the file and the look at the process
            facts = parse(_content(file, later))
        if facts["status"] == "running":
            facts["status"] = "crashed"
    return facts


def _content(file: str | Path, stamp: Stamp) -> bytes:
    if stamp[1] < 0:
        raise ValueError("it is not a file")  # opening a pipe would wait for ever
    with open(file, "rb") as opened:
        return opened.read(MOST_BYTES + 1)


def parse(content: bytes) -> dict[str, Any]:
    """The facts in the content of a run.json; ValueError or RecursionError if it is not what a log can have written."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    facts = json.loads(content.decode(), parse_constant=_refuse)
    if not isinstance(facts, dict) or not isinstance(facts.get("status"), str):
        raise ValueError("it does not say the status of a run")
    if content.count(b"{") + content.count(b"[") > MOST_DEPTH and _deeper(facts, MOST_DEPTH):
        raise ValueError(f"it is nested deeper than {MOST_DEPTH}")
    if re.search(rb"\\u[dD][89a-fA-F]", content):  # half a surrogate pair cannot be shown or written
        json.dumps(facts, ensure_ascii=False).encode()
    return facts


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _deeper(value: Any, depth: int) -> bool:
    parts: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_deeper(part, depth - 1) for part in parts)


def reason_of(error: Exception) -> str:
    """What went wrong, without the path, which the sentence around it has."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
