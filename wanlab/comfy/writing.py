"""Settings written as a workflow of WanVideoWrapper's nodes, and told what has no place there. No torch.

What is left out is not a list that somebody keeps: the workflow is read again, and every setting that does not come back
as it was is told, with a reason where one is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wanlab.comfy.building import Builder
from wanlab.comfy.layout import Piece, as_editor, as_server
from wanlab.comfy.result import Entries, Entry, FromComfy
from wanlab.comfy.taking import from_comfy
from wanlab.declare import switches
from wanlab.files import write_whole
from wanlab.settings import ModelSettings, Settings

# Why settings have no place, where it is more than that no node has a box for them.
_REASONS = {
    "schedule": "WanVideoWrapper's solvers have noise levels of their own.",
    "start_sigma": "It is written as the step at which it begins.",
    "start_step": "It is the step at which start_sigma begins.",
    "end_step": "It is behind the last step, which is the same as 0.",
    "lora_strength": "Give each LoRA its strength.",
    "cache.threshold": "A value must be given; the node has its own default.",
    "cache.max_skip": "A value must be given; the node has its own default.",
    "cache.start_percent": "The node counts whole steps; it is written as the first step that acts.",
    "cache.end_percent": "The node counts whole steps; it is written as the last step that acts.",
    "context.fuse": "WanVideoWrapper has linear and pyramid; linear is written.",
    "context.schedule": "WanVideoWrapper has no such schedule; static_standard is written.",
    "context.anchor": "WanVideoWrapper repeats the condition of an image in every window and has no other way.",
    "quantization": "WanVideoWrapper has no such kind; disabled is written.",
    "attention_mode": "WanVideoWrapper has no such way; sdpa is written.",
    "model": "Choose the file of it in the loader.",
}
_NO_PLACE = "No node of WanVideoWrapper has a place for it."
# Settings of the machine on which wanlab runs, of which a workflow says nothing.
_MACHINE = ("load_device", "offload_device", "device_gib", "margin_gib", "placement", "tokenizer")


class Workflow(dict[str, Any]):
    """A workflow as ComfyUI reads it. `left_out` lists the settings that have no place in it, and why."""

    def __init__(self, content: Mapping[str, Any], left_out: Entries) -> None:
        super().__init__(content)
        self.left_out = left_out

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON; the path is returned. Raises FileError if it cannot be written."""
        path = Path(path)
        write_whole(path, json.dumps(self, ensure_ascii=False, indent=1).encode("utf-8", "replace"))
        return path


def to_comfy(
    settings: Settings,
    model: ModelSettings | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    api: bool = False,
    forks: Sequence[tuple[int, Sequence[tuple[str, Any]]]] = (),
) -> Workflow:
    """The workflow of a run with these settings, of ComfyUI-WanVideoWrapper and VideoHelperSuite; written to `path` if given.

    In the form that ComfyUI's editor opens, with a note of what has no place; with `api` in that which its server runs.
    `forks`, changes from a step on, have none.
    """
    model = model or ModelSettings()
    builder = Builder(settings, model)
    pieces = builder.pieces()
    write = as_server if api else as_editor
    back = from_comfy(write(pieces))
    late = (Entry("run", f"from step {at}", dict(changes), "A workflow has no changes in the middle.") for at, changes in forks)
    left_out = Entries([*_differences(settings, model, back), *builder.remarks, *late])
    if left_out and not api:
        pieces.append(Piece("Note", 6, {"text": _note(left_out)}, title="What wanlab left out"))
    workflow = Workflow(write(pieces), left_out)
    if path is not None:
        workflow.save(path)
    return workflow


def _note(left_out: Entries) -> str:
    return "\n".join(f"- {entry.input} = {entry.value}: {entry.reason}" for entry in left_out)


def _differences(settings: Settings, model: ModelSettings, back: FromComfy) -> Iterator[Entry]:
    """Every setting that did not come back as it was; of a group that did not come back at all, one entry."""
    for group in (name for name in switches(Settings) if getattr(settings, name) and not getattr(back.settings, name)):
        yield Entry("run", group, "on", _NO_PLACE)
    before, after = settings.flat(), back.settings.flat()
    for name, value in before.items():
        if name in after and not _alike(name, value, after[name]):
            yield Entry("run", name, value, _REASONS.get(name, _NO_PLACE))
    if model.compile and not back.model.compile:
        yield Entry("model", "compile", "on", _NO_PLACE)
    before, after = model.flat(), back.model.flat()
    for name, value in before.items():
        if name not in _MACHINE and name in after and not _alike(name, value, after[name]):
            shown = ", ".join(map(str, value)) if name == "loras" else value
            yield Entry("model", name, shown, _REASONS.get(name, _NO_PLACE))


def _alike(name: str, before: Any, after: Any) -> bool:
    if name == "model" and isinstance(before, str) and isinstance(after, str):
        return _plain(before) == _plain(after)
    if name == "sigmas" and before is not None and after is not None:
        return tuple(before[:-1] if before[-1] == 0 else before) == tuple(after)
    return bool(before == after)


def _plain(model: str) -> str:
    return model.replace("\\", "/").lower().removeprefix("wan-ai/").removesuffix("-diffusers")
