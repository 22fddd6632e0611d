"""Wan 1.3B and 14B at their true size, without their weights: seconds and memory do not depend on the values.

    python benchmarks/real_size.py --model 14B                              on a GPU: 81 frames of 832 x 480
    python benchmarks/real_size.py --model 14B --rows "resident,swap*"      only rows of these names
    python benchmarks/real_size.py --model 1.3B --small                     on a CPU: few blocks, few frames

A row is a way to load the transformer: number format, quantization, swapped blocks, attention, compile. For each: seconds of a
step in wanlab's own loop (`denoise`, with its store), the peak of memory, and both beside the plan. In the same run the same by
diffusers alone: all resident, and with its group offloading. Weights are made on the device, so nothing is read from the disk
or written to it but what a row keeps there. Only the transformer is there: no text encoder, no VAE.

A step is two passes of the transformer, one for each branch of guidance (`--cfg batched`: one pass for both, `--cfg off`: one
branch). Seconds are the median of `--steps` steps after one that warms up, on a GPU when it has finished. Peaks are from
after the warm-up on: on a GPU torch's allocated bytes, on a CPU the resident memory beyond what was there before loading. On a
CPU seconds are those of the processor, so that other work on the machine hardly counts.

The overhead is that of the loop against the bare passes of the same transformer, in turn: the median of the pairs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from measuring import machine
from real_rows import Measured, Row, Subject, measure

from wanlab.settings import Settings
from wanlab.weights.registry import known

GUIDANCE = {"two": {}, "batched": {"batched_cfg": True}, "off": {"cfg": 1.0}}
SMALL = {"frames": 9, "width": 128, "height": 128}


def rows_for(blocks: int, cuda: bool) -> list[Row]:
    """All rows, the important ones first."""
    half, e4m3 = blocks // 2, "fp8_e4m3fn_scaled"
    stream = {"num_blocks_per_group": 1, "use_stream": True} if cuda else {"num_blocks_per_group": 1}
    return [
        Row("diffusers", by="diffusers"),
        Row("resident", paired=True),
        Row(f"swap {half}", {"blocks_to_swap": half}),
        Row(f"swap {blocks}", {"blocks_to_swap": blocks}),
        Row("group offload", {}, "diffusers", stream),
        *([Row("group offload, record_stream", {}, "diffusers", {**stream, "record_stream": True})] if cuda else []),
        Row(e4m3, {"quantization": e4m3}),
        Row(f"{e4m3}, swap {half}", {"quantization": e4m3, "blocks_to_swap": half}),
        Row("compile", {"compile": True}),
        Row(f"compile, swap {half}", {"compile": True, "blocks_to_swap": half}),
        *(Row(f"attention {mode}", {"attention_mode": mode}) for mode in _attention(cuda)),
        *(Row(kind, {"quantization": kind}) for kind in ("int8", "gguf_q8_0", "gguf_q4_0")),
        Row(f"swap {blocks}, prefetch 2", {"blocks_to_swap": blocks, "prefetch_blocks": 2}),
        Row(f"swap {blocks}, in order", {"blocks_to_swap": blocks, "use_non_blocking": False}),
        Row("group offload, 4 blocks", {}, "diffusers", {"num_blocks_per_group": 4}),
        *(Row(precision, {"base_precision": precision}) for precision in (("fp16", "fp16_fast") if cuda else ("fp32",))),
        Row("compile, whole", {"compile": {"whole": True}}),
        Row(f"swap {blocks}, disk", {"blocks_to_swap": blocks, "offload_device": "disk"}),
    ]


def _attention(cuda: bool) -> Sequence[str]:
    return ("sdpa_cudnn", "sdpa_flash", "flash_attn_2", "flash_attn_3", "sageattn") if cuda else ("sdpa_flash", "sdpa_math")


def chosen(rows: Sequence[Row], patterns: str) -> list[Row]:
    """The rows whose names fit one of the patterns, which are separated by commas."""
    asked = [one.strip() for one in patterns.split(",") if one.strip()]
    return [row for row in rows if not asked or any(fnmatch(row.name, one) for one in asked)]


def run(subject: Subject, rows: Sequence[Row], budget: float, told: Callable[[Measured], None]) -> list[Measured]:
    """Measure rows until the budget is spent: none is begun that would end behind it, if it took as long as the longest one."""
    began, longest, found = time.monotonic(), 0.0, list[Measured]()
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows:
            start = time.monotonic()
            if start - began + longest > budget:
                found.append(Measured(row.name, note="not begun: the budget was spent"))
            else:
                found.append(measure(subject, row, Path(scratch)))
            longest = max(longest, time.monotonic() - start)
            told(found[-1])
    return found


HEAD = """| row | seconds a step | planned | peak GiB | planned | warm-up, seconds | |
|---|---|---|---|---|---|---|"""


def line(found: Measured) -> str:
    """A line of the table."""
    cells = [
        found.row,
        _number(found.seconds, 3),
        _beside(found.planned_seconds, found.seconds, 3),
        _number(found.peak_gib, 2),
        _beside(found.planned_gib, found.peak_gib, 2),
        _number(found.warm_up, 1),
        found.note,
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _beside(planned: float | None, measured: float | None, digits: int) -> str:
    """A planned number and how far it is from the measured one."""
    if planned is None or not measured:
        return _number(planned, digits)
    return f"{planned:.{digits}f} ({planned / measured - 1:+.0%})"


def aims(found: Sequence[Measured], half: int) -> list[str]:
    """What the rows say about the aims on a GPU, as far as they were measured."""
    by_name = {one.row: one for one in found if one.seconds is not None}
    lines = []
    resident, swapped = by_name.get("resident"), by_name.get(f"swap {half}")
    if resident and swapped:
        lines.append(
            f"| swap {half} against resident, seconds | {swapped.seconds / resident.seconds - 1:+.1%} | at most +3 % |"
        )
    ours = [one for one in by_name.values() if _plain(one)]
    for name, other in by_name.items():
        if name.startswith("group offload") and ours:
            least = min(one.peak_gib for one in ours)
            best = min((one for one in ours if one.peak_gib <= max(least, 1.01 * other.peak_gib)), key=lambda one: one.seconds)
            what = f"{best.row} against {name}, {best.peak_gib:.2f} and {other.peak_gib:.2f} GiB, seconds"
            lines.append(f"| {what} | {best.seconds / other.seconds - 1:+.1%} | below 0 |")
    if resident and resident.overhead is not None:
        lines.append(f"| the loop against the bare passes | {resident.overhead:+.2%} | below +1 % |")
    return ["| what | measured | aim on a GPU |", "|---|---|---|", *lines] if lines else []


def _plain(found: Measured) -> bool:
    """Whether this is wanlab with what group offloading has: bf16, and weights that wait in memory."""
    return found.row == "resident" or (found.row.startswith("swap") and "disk" not in found.row)


def title(subject: Subject, model: str, guidance: str) -> str:
    """What was measured, and on what."""
    clip, blocks = subject.settings, subject.config["num_layers"]
    size = f"{clip.frames} frames of {clip.width} x {clip.height} pixels, a step is {_told(guidance)}"
    return f"Wan {model}, {blocks} blocks, {size}.\n{machine(torch.device(subject.device))}."


def _told(guidance: str) -> str:
    passes = {"two": "two passes, one for each branch", "batched": "one pass for both branches", "off": "one pass"}
    return passes[guidance]


def subject_of(options: argparse.Namespace) -> Subject:
    """What the options ask for."""
    config = dict(known(f"Wan2.1-T2V-{options.model}").transformer)
    device = options.device or ("cuda" if torch.cuda.is_available() and not options.small else "cpu")
    size: dict[str, Any] = dict(SMALL) if options.small else {"frames": 81, "width": 832, "height": 480}
    size |= {name: getattr(options, name) for name in size if getattr(options, name)}
    if options.small or options.blocks:
        config["num_layers"] = options.blocks or 4
    steps = options.steps or (3 if options.small else 2)
    clip = Settings().but({**size, "steps": steps + 1, "cfg": 5.0, **GUIDANCE[options.cfg]})
    return Subject(config, clip, device, steps)


def main() -> None:
    """Print the table, a line when it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("1.3B", "14B"), default="14B")
    parser.add_argument("--small", action="store_true", help="on a CPU: 4 blocks, 9 frames of 128 x 128")
    parser.add_argument("--device", help="cuda, cuda:1, cpu; not given: a GPU if there is one")
    parser.add_argument("--blocks", type=int, help="fewer blocks than the model has")
    for name in SMALL:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--cfg", choices=tuple(GUIDANCE), default="two", help="what a step is")
    parser.add_argument("--steps", type=int, help="steps that are measured: 2, with --small 3")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which no row is begun")
    parser.add_argument("--rows", default="", help="names or patterns, separated by commas")
    parser.add_argument("--json", type=Path, help="a file for the numbers, written after every row")
    options = parser.parse_args()
    if options.small or not torch.cuda.is_available():
        torch.set_num_threads(1)
    subject = subject_of(options)
    blocks, cuda = subject.config["num_layers"], subject.device.startswith("cuda")
    print(f"{title(subject, options.model, options.cfg)}\n\n{HEAD}", flush=True)
    told: list[Measured] = []

    def tell(found: Measured) -> None:
        told.append(found)
        print(line(found), flush=True)
        if options.json:
            content = {"title": title(subject, options.model, options.cfg), "rows": [asdict(one) for one in told]}
            options.json.write_text(json.dumps(content, indent=1))

    found = run(subject, chosen(rows_for(blocks, cuda), options.rows), options.budget, tell)
    print("\n" + "\n".join(aims(found, blocks // 2)))


if __name__ == "__main__":
    main()
