"""How nodes that add LoRAs become entries of `loras`. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wanlab.comfy.kinds import At, Many, Refused

BESIDE = "beside"  # the role of LoRAs that are computed beside the weights, not merged into them
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def wrapper_lora(value: Any, at: At) -> Any:
    """WanVideoWrapper's LoRA: merged unless it says otherwise."""
    merge = at.value("merge_loras") is not False and at.role != BESIDE
    return _entries([(value, at.value("strength"))], merge, _blocks(at.behind("blocks")), at)


def wrapper_loras(value: Any, at: At) -> Any:
    """WanVideoWrapper's five LoRAs in one node; this is called for the first."""
    merge = at.value("merge_loras") is not False and at.role != BESIDE
    pairs = [(at.value(f"lora_{k}"), at.value(f"strength_{k}")) for k in range(5)]
    return _entries(pairs, merge, _blocks(at.behind("blocks")), at)


def native_lora(value: Any, at: At) -> Any:
    """ComfyUI's own, which changes the weights."""
    return _entries([(value, at.value("strength_model"))], True, "all", at)


def power_loras(value: Any, at: At) -> Any:
    """One row of a node of rgthree: {"on": true, "lora": file, "strength": 1}."""
    if not isinstance(value, Mapping) or "lora" not in value:
        return Many()
    if value.get("on") is False:
        return Many()
    if isinstance(value.get("strengthTwo"), int | float):
        at.note("The strength for the text encoder is not taken: LoRAs change the transformer only.")
    return _entries([(value.get("lora"), value.get("strength", 1.0))], True, "all", at)


def _entries(pairs: list[tuple[Any, Any]], merge: bool, blocks: str, at: At) -> Many:
    entries = []
    for file, strength in pairs:
        if file in ("none", "None", "", None):
            continue
        if not isinstance(file, str):
            raise Refused("It names no file.")
        if strength == 0:
            at.note(f"{file} has strength 0, which is to leave it out.")
            continue
        if isinstance(strength, list):
            strength, merge = tuple(strength), False
        entries.append({"file": file, "strength": strength, "merge": merge, "blocks": blocks})
    return Many(loras=entries) if entries else Many()


def _blocks(chosen: Mapping[str, Any]) -> str:
    """The chosen blocks as 0-9,12; all if nothing is chosen."""
    marks = {int(found[1]): bool(value) for name, value in chosen.items() if (found := _BLOCK.fullmatch(name))}
    numbers = sorted(number for number, on in marks.items() if on)
    if not numbers or len(numbers) == len(marks):
        return "all"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def block_boxes(chosen: str, count: int = 40) -> dict[str, bool]:
    """The boxes of the node that chooses blocks, for "all" or "0-9,12"."""
    numbers: set[int] = set()
    for part in [] if chosen == "all" else chosen.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return {f"blocks.{k}.": chosen == "all" or k in numbers for k in range(count)}
