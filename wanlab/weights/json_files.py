"""Configurations in JSON beside weights. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError


def read_json(file: Path) -> dict[str, Any]:
    """The names and values of a file; raises ModelError if it cannot be read or holds something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        reason = "it holds no names with values"
    except (OSError, ValueError, RecursionError) as error:
        found, reason = None, str(error)
    if not isinstance(found, dict):
        raise ModelError(f"{file} cannot be read: {reason}. Fetch it again.")
    return found
