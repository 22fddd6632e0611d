"""`wanlab sweep sweep.toml`: a sweep without a notebook."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanlab.sweeps.file import read_sweep_file

if TYPE_CHECKING:
    import pandas

Print = Callable[["pandas.DataFrame"], None]


def add_sweep(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The parser of the command; who runs it sets what it does."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep",
        parents=list(parents),
        help="make many clips that differ in a few settings",
        usage="wanlab sweep FILE [--plan] [--fresh] [--csv] [--html FILE] [--lab FOLDER]",
        description="Make the clips that a sweep.toml asks for. Interrupted, the same command goes on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="what to vary: a .toml with [base], [axes], [model], seeds, prompts"
    )
    parser.add_argument("--plan", action="store_true", help="say what the sweep would do and cost, and stop")
    parser.add_argument("--fresh", action="store_true", help="compute everything again, also what is stored")
    parser.add_argument("--csv", action="store_true", help="the results comma-separated, for spreadsheets")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the grid of clips there, as one file")
    return parser


def run_sweep(given: argparse.Namespace, table: Print, csv: Print, say: Callable[[str], None]) -> None:
    """Plan, run and report; `table` and `csv` print a frame, `say` a line that is no result."""
    asked = read_sweep_file(given.file)

    from wanlab.lab import Lab
    from wanlab.sweeps.sweep import begin_sweep

    lab = Lab(given.lab, **asked.model)
    sweep = begin_sweep(lab._bench, asked.base, asked.axes, asked.reference)
    plan = sweep.plan(fresh=given.fresh)
    for line in (repr(plan), *plan.notes):
        say(line)
    if given.plan:
        (csv if given.csv else table)(plan.table().reset_index())
        return
    sweep.run(fresh=given.fresh)
    if given.html is not None:
        say(f"The grid is in {sweep.to_html(given.html)}.")
    (csv if given.csv else table)(sweep.frame().reset_index())
