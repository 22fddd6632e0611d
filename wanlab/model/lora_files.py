"""LoRA files by the name that a setting has: where they are, and what they say about the settings that suit them. No torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError, SettingsError
from wanlab.settings import Settings, declared
from wanlab.tiny import lora_path
from wanlab.weights.headers import read_header


def lora_file(name: str) -> Path:
    """The file of a LoRA: one that ships with wanlab, by its name, or a path. Raises ModelError if there is none."""
    shipped = lora_path(name)
    if shipped:
        return Path(shipped)
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"loras has {name!r}; there is no such file. Give a .safetensors file, tiny-four-steps or tiny-style.")
    return path


@cache
def lora_defaults(name: str) -> Mapping[str, Any]:
    """The settings of a run that suit a LoRA, as its file says: {} if it says nothing that can be understood."""
    told = read_header(lora_file(name)).metadata.get("wanlab", "")
    with contextlib.suppress(ValueError):
        found = json.loads(told or "{}")
        known = {name: value for name, value in dict(found).items() if name in declared()}
        with contextlib.suppress(SettingsError):
            Settings().but(known)
            return known
    return {}
