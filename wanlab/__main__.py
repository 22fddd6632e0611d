"""The command line: `wanlab run`, `sweep`, `plan`, `models`, `inspect`, `comfy`, `log`, `trim`, `settings`.

Heavy things load when they are needed.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanlab.errors import FileError, SettingsError, WanlabError
from wanlab.knobs import changes_from, settings_markdown, settings_text
from wanlab.parsers import parsers
from wanlab.settings import ModelSettings, Settings, check_name, declared
from wanlab.sweeps.command import run_sweep
from wanlab.terminal import plain, plain_lines, print_csv, print_table, rows_of

if TYPE_CHECKING:
    import pandas

    from wanlab.plans import Plan
    from wanlab.run import Run

_PEAKS = {"peak_vram_gib": "on the GPU", "peak_rss_gib": "of the process"}


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
        print(*map(plain, str(error).split("\n")), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(str(stop) or "Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # of `wanlab log | head`; without this, Python complains once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(words: Sequence[str] | None) -> int:
    parser, commands = parsers()
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
        _COMMANDS[given.command](given)
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
        print_table(columns, rows_of(frame, columns))

    def csv_of(frame: pandas.DataFrame) -> None:
        columns = [str(name) for name in frame]
        print_csv(columns, rows_of(frame, columns))

    run_sweep(given, table, csv_of, lambda line: print(plain(line), file=sys.stderr if given.csv else sys.stdout))


def _plan(given: argparse.Namespace) -> None:
    from wanlab.planning import plan

    _tell(plan(changes_from(given), **changes_from(given, ModelSettings)))


def _tell(plan: Plan) -> None:
    """Print a plan: its table, the memory of its stages, and whether it fits."""
    table = plan.table()
    columns = [str(name) for name in table]
    print_table(columns, rows_of(table, columns))
    print(", ".join(f"{stage} {gib:.2f} GiB" for stage, gib in plan.stages.items()))
    print(plain(f"{plan.verdict}."))


def _models(given: argparse.Namespace) -> None:
    from wanlab.weights.registry import all_known

    columns = ["name", "parameters", "download", "licence", "presets", "wanlab"]
    rows: list[tuple[Any, ...]] = []
    for one in all_known():
        billions = f"{one.transformers} x " * (one.transformers > 1) + f"{one.transformer_parameters / 1e9:.1f} B"
        size = f"{one.nbytes / 2**30:.0f} GiB"
        rows.append((one.name, billions, size, one.licence, ", ".join(one.presets), one.why_not or "runs"))
    print_table(columns, rows)


def _inspect(given: argparse.Namespace) -> None:
    from wanlab.weights.inspection import inspect_checkpoint

    print(plain_lines(repr(inspect_checkpoint(given.path))))


def _comfy(given: argparse.Namespace) -> None:
    from wanlab.comfy import from_comfy

    if given.markdown:
        from wanlab.comfy.guide import comfy_markdown

        print(comfy_markdown(), end="")
        return
    if given.path is None:
        raise SettingsError("There is no file; say which workflow to read: wanlab comfy workflow.json.")
    found = from_comfy(given.path, sampler=given.sampler)
    print(plain_lines(found.code() if given.python else found.command()))
    for title, entries in (("Not taken:", found.not_taken), ("Taken, with a difference:", found.notes)):
        if entries:
            print(plain_lines("\n".join([title, *(f"  {entry}" for entry in entries)])), file=sys.stderr)


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
            print(plain(str(path)))
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
        print(f"There are no runs in {plain(str(given.lab))} yet.", file=sys.stderr)
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
        print_csv(columns, rows_of(frame, columns))
    elif not frame.empty:
        print_table(columns, rows_of(frame, columns))


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


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "sweep": _sweep,
    "plan": _plan,
    "models": _models,
    "inspect": _inspect,
    "comfy": _comfy,
    "log": _log,
    "trim": _trim,
    "settings": _settings,
}


if __name__ == "__main__":
    sys.exit(main())
