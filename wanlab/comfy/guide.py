"""docs/comfyui.md, made of the tables. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from wanlab.comfy.kinds import Box, Kind
from wanlab.comfy.other_tables import CONSTANTS, STRANGERS, THROUGH
from wanlab.comfy.tables import CHAPTERS

RENEW = "python -m wanlab comfy --markdown > docs/comfyui.md"

_INTRODUCTION = f"""\
# ComfyUI workflows

Written by `{RENEW}` from the tables in `wanlab/comfy/`; do not edit it.

```python
found = wl.from_comfy("workflow.json")        # or a png, webp, mp4 or webm that ComfyUI wrote
found                                         # a table: settings, what was not taken, what means something else here
lab = wl.Lab("my_lab", **found.model_changes)
run = lab.run(found.settings)
run.to_comfy("again.json")                    # what ComfyUI's editor opens; api=True: what its server runs
```

```shell
wanlab comfy workflow.json                    # the `wanlab run` line, and what was not taken
wanlab comfy workflow.json --python
```

**Reading.** `found.settings` (a run), `found.model` (how weights are loaded) and `found.clip` (the file of the clip) hold
what was taken; `found.not_taken` lists every value of a node on the sampler's way that was not, with node, input, value
and reason, and `found.notes` those that were taken and mean something else here. Nothing is rounded: a value that wanlab
refuses is not taken, and the reason is wanlab's own sentence. Values that ask for nothing (`use_fresca` off) go without
saying.

Both forms are read, that of the editor and that of the server; in a file that carries both, the latter, which was run.
Reroutes, muted and bypassed nodes, Set and Get nodes, constants, subgraphs and "Anything Everywhere" are followed. Of
several samplers the one is read whose clip is written; `from_comfy(path, sampler=...)` reads another, by the number or
title of its node. Two samplers of which the second goes on where the first stops, as Wan2.2 has them, are one run: two
transformers, a `boundary_ratio` that lies at that step, and a list for `cfg` where the two differ. Files of transformers
whose names are those of published checkpoints become these (`Wan2_1-T2V-14B_fp8_e4m3fn.safetensors` is
`Wan-AI/Wan2.1-T2V-14B-Diffusers`); others stay file names.

**Writing.** `run.to_comfy()` and `wl.to_comfy(settings, model)` write nodes of ComfyUI-WanVideoWrapper and
VideoHelperSuite. The workflow is read again at once, and every setting that does not come back as it was is in its
`left_out`, and in a note in the editor.

**What differs though the numbers are equal.**

- The noise of a seed is the same in wanlab and in WanVideoWrapper (drawn on the CPU, in the same shape); other solvers'
  own noise (`dpm++_sde`) is not.
- WanVideoWrapper's `unipc` and `dpm++` visit Wan's own noise levels: reading says `schedule="wan_unipc"` or
  `"wan_dpmpp"`. Its `euler` has a grid that is Wan's no more; wanlab takes even levels, and writes ComfyUI's `simple` in
  its place.
- Parts of a run (`start_percent`) are parts of the steps in wanlab and WanVideoWrapper; ComfyUI's own nodes mean noise
  levels, which is the same with the schedules `simple` and `ideal`.
- Enhance-A-Video follows its authors; the wrapper's versions of early 2025 compared neighbors in the picture instead of
  frames.
- `loop_count` of a mp4 is the number of extra plays in both.
"""


def comfy_markdown() -> str:
    """The whole of `docs/comfyui.md`."""
    parts = [_INTRODUCTION]
    for title, kinds in CHAPTERS.items():
        parts += [f"## {title}", ""]
        for name, kind in kinds.items():
            if name not in CONSTANTS:
                parts += [*_section(name, kind), ""]
    parts += ["### Constants", "", ", ".join(f"`{name}`" for name in CONSTANTS), ""]
    parts += ["## Nodes that only hand something on", "", ", ".join(f"`{name}`" for name in THROUGH), ""]
    parts += ["## Nodes that have no place", "", "| node | why |", "|---|---|"]
    parts += [f"| `{name}` | {_cell(reason)} |" for name, reason in sorted(STRANGERS.items())]
    return "\n".join([*parts, ""])


def _section(name: str, kind: Kind) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    yield kind.about + (f" Not taken: {kind.lost}" if kind.lost else "")
    rows = [*_boxes(kind), *_sockets(kind)]
    if rows and not kind.lost:
        yield from ("", "| input | becomes | |", "|---|---|---|")
        yield from rows


def _boxes(kind: Kind) -> Iterator[str]:
    named = [box for box in kind.boxes if box.name]
    runs = [box.name for box in named if box.name.startswith("blocks.")]
    for box in [*kind.boxes]:
        if box.name in runs[1:]:
            continue
        shown = f"`{box.name}`" + (f" to `{runs[-1]}`" if box.name in runs else "") if box.name else "the node itself"
        yield f"| {shown} | {_becomes(box)} | {_cell(_why(box))} |"


def _becomes(box: Box) -> str:
    return f"`{box.becomes}`" if box.becomes and " " not in box.becomes else box.becomes or "not taken"


def _why(box: Box) -> str:
    if not box.becomes and box.default is not None and box.name and box.why:
        same = ", ".join(f"`{one}`" for one in dict.fromkeys(map(str, (box.default, *box.same))))
        return f"{box.why} Goes without saying: {same}."
    return box.why


def _sockets(kind: Kind) -> Iterator[str]:
    for socket in kind.sockets:
        if socket.why:
            yield f"| `{socket.name}` | not taken | {_cell(socket.why)} |"


def _cell(text: str) -> str:
    for mark in "\\*<|":
        text = text.replace(mark, f"\\{mark}")
    return text
