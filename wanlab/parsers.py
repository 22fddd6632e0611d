"""The words and flags of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from wanlab.knobs import LAB_FOLDER, add_flags, add_model_flags
from wanlab.sweeps.command import add_sweep


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The whole line's parser, and those of the commands by their names."""
    parser = argparse.ArgumentParser(prog="wanlab", description="A laboratory for the Wan2.1 video model.", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    lab = argparse.ArgumentParser(add_help=False)
    lab.add_argument(
        "--lab", metavar="FOLDER", type=Path, default=Path(LAB_FOLDER), help="the lab's folder (default %(default)s)"
    )

    run = commands.add_parser(
        "run",
        parents=[lab],
        help="make a clip",
        usage='wanlab run ["PROMPT"] [--out FILE] [--plan] [--fresh] [--lab FOLDER] [settings]',
        description="Make a clip. Steps that the lab has computed before are reused, also those of a run that was interrupted.",
        allow_abbrev=False,
    )
    run.add_argument("words", metavar="PROMPT", nargs="?", help="what the clip shows: the same as --prompt")
    run.add_argument("--out", metavar="FILE", type=Path, help="write the clip there; the ending says the format")
    run.add_argument("--plan", action="store_true", help="say what the run would do and cost, and stop")
    run.add_argument("--fresh", action="store_true", help="compute all steps, also those that the lab has")
    add_model_flags(run)
    add_flags(run)

    add_sweep(commands, [lab])

    plan = commands.add_parser(
        "plan",
        help="say what a run would do and take on any model, without its files",
        usage="wanlab plan [--model NAME] [--device_gib N] [settings]",
        description="Say what a run would do, and the memory and seconds it would take, on a model that need not be here: "
        "wanlab plan --model Wan2.1-T2V-14B --device_gib 24 --force_offload",
        allow_abbrev=False,
    )
    add_model_flags(plan)
    add_flags(plan)

    commands.add_parser("models", help="list the published models", description="List the published models of Wan.")

    inspect = commands.add_parser(
        "inspect",
        help="say what a file of weights is",
        description="Say what a .safetensors or .gguf file, or a folder of them, is, and whether wanlab can use it.",
    )
    inspect.add_argument("path", metavar="PATH", type=Path)

    comfy = commands.add_parser(
        "comfy",
        help="read a workflow of ComfyUI",
        description="Read a workflow of ComfyUI, of the nodes of WanVideoWrapper or of ComfyUI's own: a JSON file, or a png, "
        "webp, mp4 or webm that carries one. Print the line that makes the same run here, and what could not be taken over.",
    )
    comfy.add_argument("path", metavar="FILE", type=Path, nargs="?")
    comfy.add_argument("--sampler", metavar="NODE", help="of several samplers this one: its number or title")
    comfy.add_argument("--python", action="store_true", help="print lines of Python instead")
    comfy.add_argument("--markdown", action="store_true", help="print which node becomes which setting, as docs/comfyui.md")

    log = commands.add_parser(
        "log", parents=[lab], help="list the runs of a lab", description="List the runs, the newest last."
    )
    log.add_argument("--columns", metavar="A,B,C", help="these columns; --all shows which there are")
    log.add_argument("--all", action="store_true", help="all columns")
    log.add_argument("--csv", action="store_true", help="comma-separated, for spreadsheets: long texts are not cut off")

    trim = commands.add_parser("trim", parents=[lab], help="delete the oldest stored steps of a lab; runs and clips stay")
    trim.add_argument("--gib", metavar="N", type=float, required=True, help="GiB of steps to keep; 0 deletes all")

    settings = commands.add_parser("settings", help="list all settings", description="List all settings.")
    settings.add_argument("--markdown", action="store_true", help="as docs/settings.md")
    return parser, dict(commands.choices)
