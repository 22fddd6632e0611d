"""The command line: `wanlab run`, `sweep`, `plan`, `models`, `inspect`, `comfy`, `log`, `trim`, `settings`.

Heavy things load when they are needed.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import importlib.metadata
import io
import json
import math
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanlab.errors import FileError, SettingsError, WanlabError
from wanlab.knobs import LAB_FOLDER, add_flags, add_model_flags, changes_from, settings_markdown, settings_text
from wanlab.settings import ModelSettings, Settings, check_name, declared
from wanlab.sweeps.command import add_sweep, run_sweep

if TYPE_CHECKING:
    import pandas

    from wanlab.plans import Plan
    from wanlab.run import Run

_PEAKS = {"peak_vram_gib": "on the GPU", "peak_rss_gib": "of the process"}
_WIDEST = 48  # of a cell in the terminal's table


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words of the command line say; returns the exit status.

    0: done. 2: a WanlabError or a flag that is wrong, told in a sentence. 130: interrupted. Other errors are bugs, or a
    machine that fails, and are raised.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a prompt may hold letters that the terminal's encoding lacks
    try:
        status = _command(words)
        sys.stdout.flush()
        return status
    except WanlabError as error:
        print(*map(_plain, str(error).split("\n")), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(str(stop) or "Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # of `wanlab log | head`; without this, Python complains once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(words: Sequence[str] | None) -> int:
    parser, commands = _parsers()
    given, strange = parser.parse_known_args(words)
    if given.version:
        print(f"wanlab {_version()}")
    elif given.command is None:
        parser.print_help(sys.stderr)
        return 2
    elif strange and given.command in ("run", "plan"):
        raise SettingsError(_strange(strange[0]))
    elif strange:
        commands[given.command].error(f"{strange[0]} is not understood; wanlab {given.command} --help lists all flags.")
    else:
        given.do(given)
    return 0


def _strange(word: str) -> str:
    """What to say of a word that `wanlab run` does not know: which setting it may be."""
    if not word.startswith("-"):
        return f"{word!r} is one word too many; a prompt of several words needs quotes."
    try:
        check_name(word.split("=")[0].lstrip("-").replace("-", "_"))
    except SettingsError as error:
        return f"{error} wanlab run --help lists all flags."
    return f"{word} is not understood; wanlab run --help lists all flags."


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
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
    run.set_defaults(do=_run)

    add_sweep(commands, [lab]).set_defaults(do=_sweep)

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
    plan.set_defaults(do=_plan)

    models = commands.add_parser("models", help="list the published models", description="List the published models of Wan.")
    models.set_defaults(do=_models)

    inspect = commands.add_parser(
        "inspect",
        help="say what a file of weights is",
        description="Say what a .safetensors or .gguf file, or a folder of them, is, and whether wanlab can use it.",
    )
    inspect.add_argument("path", metavar="PATH", type=Path)
    inspect.set_defaults(do=_inspect)

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
    comfy.set_defaults(do=_comfy)

    log = commands.add_parser(
        "log", parents=[lab], help="list the runs of a lab", description="List the runs, the newest last."
    )
    log.add_argument("--columns", metavar="A,B,C", help="these columns; --all shows which there are")
    log.add_argument("--all", action="store_true", help="all columns")
    log.add_argument("--csv", action="store_true", help="comma-separated, for spreadsheets: long texts are not cut off")
    log.set_defaults(do=_log)

    trim = commands.add_parser("trim", parents=[lab], help="delete the oldest stored steps of a lab; runs and clips stay")
    trim.add_argument("--gib", metavar="N", type=float, required=True, help="GiB of steps to keep; 0 deletes all")
    trim.set_defaults(do=_trim)

    settings = commands.add_parser("settings", help="list all settings", description="List all settings.")
    settings.add_argument("--markdown", action="store_true", help="as docs/settings.md")
    settings.set_defaults(do=_settings)
    return parser, dict(commands.choices)


def _run(given: argparse.Namespace) -> None:
    changes = changes_from(given)
    if given.words is not None:
        if "prompt" in changes:
            raise SettingsError("The prompt is given twice; give it as the first word or as --prompt, not both.")
        changes["prompt"] = given.words
    if given.out is not None:
        changes.setdefault("clip.save_output", False)  # once is enough
    model = changes_from(given, ModelSettings)
    settings, _ = Settings().but(changes), ModelSettings().but(model)  # what is wrong is said before torch is imported
    if given.out is not None:
        _rehearse(given.out, settings)

    from wanlab.lab import Lab

    lab = Lab(given.lab, **model)
    settings = lab.settings.but(changes)
    if given.plan:
        _tell(lab.plan(settings))
        return
    run = lab.run(settings, fresh=given.fresh)
    _report(run, None if given.out is None else run.clip.save(given.out))


def _sweep(given: argparse.Namespace) -> None:
    def table(frame: pandas.DataFrame) -> None:
        columns = [str(name) for name in frame]
        _print_table(columns, _rows(frame, columns))

    def csv_of(frame: pandas.DataFrame) -> None:
        columns = [str(name) for name in frame]
        _print_csv(columns, _rows(frame, columns))

    run_sweep(given, table, csv_of, lambda line: print(_plain(line), file=sys.stderr if given.csv else sys.stdout))


def _plan(given: argparse.Namespace) -> None:
    from wanlab.planning import plan

    _tell(plan(changes_from(given), **changes_from(given, ModelSettings)))


def _tell(plan: Plan) -> None:
    """Print a plan: its table, the memory of its stages, and whether it fits."""
    table = plan.table()
    columns = [str(name) for name in table]
    _print_table(columns, _rows(table, columns))
    print(", ".join(f"{stage} {gib:.2f} GiB" for stage, gib in plan.stages.items()))
    print(_plain(f"{plan.verdict}."))


def _models(given: argparse.Namespace) -> None:
    from wanlab.weights.registry import all_known

    columns = ["name", "parameters", "download", "licence", "presets", "wanlab"]
    rows: list[tuple[Any, ...]] = []
    for one in all_known():
        billions = f"{one.transformers} x " * (one.transformers > 1) + f"{one.transformer_parameters / 1e9:.1f} B"
        size = f"{one.nbytes / 2**30:.0f} GiB"
        rows.append((one.name, billions, size, one.licence, ", ".join(one.presets), one.why_not or "runs"))
    _print_table(columns, rows)


def _inspect(given: argparse.Namespace) -> None:
    from wanlab.weights.inspection import inspect_checkpoint

    print(_plain_lines(repr(inspect_checkpoint(given.path))))


def _comfy(given: argparse.Namespace) -> None:
    from wanlab.comfy import from_comfy

    if given.markdown:
        from wanlab.comfy.guide import comfy_markdown

        print(comfy_markdown(), end="")
        return
    if given.path is None:
        raise SettingsError("There is no file; say which workflow to read: wanlab comfy workflow.json.")
    found = from_comfy(given.path, sampler=given.sampler)
    print(_plain_lines(found.code() if given.python else found.command()))
    for title, entries in (("Not taken:", found.not_taken), ("Taken, with a difference:", found.notes)):
        if entries:
            print(_plain_lines("\n".join([title, *(f"  {entry}" for entry in entries)])), file=sys.stderr)


def _rehearse(out: Path, settings: Settings) -> None:
    """Write one black frame under this name, into a folder beside it that is removed again: what fails, fails now."""
    import numpy

    from wanlab.clip import Clip
    from wanlab.files import part_folder

    frame = numpy.zeros((1, settings.height, settings.width, 3), numpy.uint8)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part_folder(out.parent) as part:
            Clip(frame, settings.clip).save(part / out.name)
        return
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    raise FileError(f"{out} cannot be written: {reason}. Choose another place for --out.")


def _report(run: Run, out: Path | None) -> None:
    for path in [out, run.facts["clip"] and run.folder / run.facts["clip"]]:
        if path:
            print(_plain(str(path)))
    if not out and not run.facts["clip"]:
        print("The clip was not written, since clip.save_output is off; give --out or --clip.save_output.")
    peaks = [f"{run.facts[name]:.2f} GiB {kind}" for name, kind in _PEAKS.items() if run.facts.get(name) is not None]
    reused = f"{run.steps_reused} of {len(run.timeline)} steps reused"
    print(f"run {run.id}: {run.seconds:.2f} s, {reused}, peak memory {', '.join(peaks) or 'unknown'}")


def _log(given: argparse.Namespace) -> None:
    from wanlab.log import RUNS, RunLog

    # a damaged run.json can bring a column of any name, so also this one
    frame = RunLog(given.lab / RUNS).frame().drop(columns="id", errors="ignore").reset_index()
    if frame.empty:
        print(f"There are no runs in {_plain(str(given.lab))} yet.", file=sys.stderr)
    known = [str(name) for name in frame]
    columns = known
    if given.columns is not None:
        columns = list(dict.fromkeys(name.strip() for name in given.columns.split(",")))
    elif not given.all:
        columns = _telling(frame)
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "wanlab log --all shows all columns."
            raise SettingsError(f"{name!r} is not a column; {hint}")
    if given.csv:
        _print_csv(columns, _rows(frame, columns))
    elif not frame.empty:
        _print_table(columns, _rows(frame, columns))


def _telling(frame: pandas.DataFrame) -> list[str]:
    """The columns that tell runs apart: the settings that differ between them, and what everybody asks for."""
    differ = [name for name in declared() if name != "prompt" and frame[name].dropna().map(str).nunique() > 1]
    known = [name for name in (*_PEAKS, "error") if name in frame and frame[name].notna().any()]
    return ["id", "status", "prompt", *differ, "seconds", *known]


def _trim(given: argparse.Namespace) -> None:
    if not 0 <= given.gib < math.inf:
        raise SettingsError(f"gib is {given.gib:g}; it must be a number from 0 on, for example 0.5.")
    if not given.lab.is_dir():
        raise FileError(f"{given.lab} is not a folder; say with --lab which lab to trim.")

    from wanlab.lab import Lab

    freed = Lab(given.lab).trim(given.gib)
    size = f"{freed:.2f} GiB" if freed >= 1 else f"{freed * 1024:.2f} MiB"
    print(f"Freed {size} of stored steps. Runs and clips stay; a step that is needed again is computed again.")


def _settings(given: argparse.Namespace) -> None:
    print(settings_markdown() if given.markdown else settings_text(), end="")


def _version() -> str:
    try:
        return importlib.metadata.version("wanlab")
    except importlib.metadata.PackageNotFoundError:
        return "(version unknown: not installed, it runs from its source)"


def _rows(frame: pandas.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    """The rows of these columns, of Python's own types."""
    return list(zip(*(frame[name].astype(object).tolist() for name in columns), strict=True))


def _print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print columns as wide as their widest cell."""
    cells = [[_cell(value, name) for name, value in zip(columns, row, strict=True)] for row in rows]
    lines = [[_cut(cell) for cell in line] for line in [[*map(_plain, columns)], *cells]]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_csv(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(map(_harmless, columns))
    for row in rows:
        writer.writerow([value if _is_number(value) else _harmless(_cell(value, "")) for value in row])


def _cell(value: Any, column: str) -> str:
    """A value as one line of text; what is unknown is empty. Seconds and GiB are rounded, settings are not."""
    if isinstance(value, (list, dict)):
        return _plain(json.dumps(value, ensure_ascii=False))
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if column.startswith(("seconds", "peak_")) else f"{value:.15g}"
    return _plain(str(value))


def _plain(text: str) -> str:
    """The text with everything that does not print, above all what would command a terminal, as an escape such as \\x1b."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _plain_lines(text: str) -> str:
    return "\n".join(map(_plain, text.split("\n")))


def _harmless(text: str) -> str:
    """The text such that no spreadsheet takes it for a formula, as one that begins with = + - @, also in full width."""
    text = _plain(text)
    return f"'{text}" if unicodedata.normalize("NFKC", text[:1]) in ("=", "+", "-", "@") else text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _width(text: str) -> int:
    """Columns that the text takes in a terminal: Chinese letters take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


if __name__ == "__main__":
    sys.exit(main())
