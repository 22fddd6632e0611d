"""What came of a sweep, as tables of pandas: a row a cell, means over an axis, one number over two settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wanlab.annotations import notes_of
from wanlab.declare import switches
from wanlab.errors import SettingsError
from wanlab.settings import ModelSettings, Settings
from wanlab.sweeps.axes import shown
from wanlab.sweeps.cells import Cell

if TYPE_CHECKING:
    import pandas

    from wanlab.sweeps.board import Board

METRICS = "metrics."
_FACTS = ("steps_done", "steps_reused", "model_calls", "peak_rss_gib", "peak_vram_gib")


def frame(board: Board) -> pandas.DataFrame:
    """A row a cell, indexed by its number."""
    import pandas

    names = varied(board)
    rows = [_row(board, cell, names) for cell in board.cells]
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "problem"))
    return pandas.DataFrame(rows, columns=[*columns, "problem"]).rename_axis("cell")


def means(board: Board, over: str) -> pandas.DataFrame:
    """A row for each combination of the other axes, of the cells that are done."""
    names = varied(board)
    if over not in names:
        raise SettingsError(f"over is {over!r}; this sweep varies {', '.join(names)}.")
    table = frame(board)
    done = table[table["status"] == "done"]
    others = [name for name in names if name != over]
    numbers = [name for name in done.select_dtypes("number") if name not in names]
    grouped = done.groupby(others, sort=False, dropna=False) if others else done.groupby(lambda _: "all", sort=False)
    found = grouped[numbers].mean()
    spread = grouped[numbers].std()
    parts = {label: column for name in numbers for label, column in ((name, found[name]), (f"{name}.std", spread[name]))}
    return type(table)({"n": grouped.size(), **parts})


def pivot(board: Board, rows: str, columns: str, values: str) -> pandas.DataFrame:
    """The mean of a column of `frame` over two settings, in the order of the axes."""
    table, names = frame(board), varied(board)
    for told, name in (("rows", rows), ("columns", columns)):
        if name not in names:
            raise SettingsError(f"{told} is {name!r}; this sweep varies {', '.join(names)}.")
    if rows == columns:
        raise SettingsError(f"rows and columns are both {rows!r}; take two of {', '.join(names)}.")
    found = values if values in table else f"{METRICS}{values}"
    if found not in table:
        near = difflib.get_close_matches(values, [str(name) for name in table], 3, 0.4)
        raise SettingsError(
            f"values is {values!r}, which is no column of frame(); did you mean {' or '.join(near) or 'seconds'}?"
        )
    done = table[table["status"] == "done"]
    made = done.pivot_table(index=rows, columns=columns, values=found, aggfunc="mean", sort=False)
    order = {name: list(dict.fromkeys(table[name])) for name in (rows, columns)}
    return made.reindex(
        index=[value for value in order[rows] if value in made.index],
        columns=[value for value in order[columns] if value in made.columns],
    )


def varied(board: Board) -> list[str]:
    """The settings that a sweep varies, as columns."""
    return [name for axis in board.axes for name in axis.names]


def _row(board: Board, cell: Cell, names: Sequence[str]) -> dict[str, Any]:
    """The columns of a cell."""
    state, problem, facts = board.state(cell)
    row: dict[str, Any] = {name: _value(cell, name) for name in names}
    row |= {"status": state, "run": None, "seconds": None}
    if facts is not None:
        seconds = facts.get("seconds")
        row |= {"run": facts["id"], "seconds": seconds.get("total") if isinstance(seconds, Mapping) else None}
        row |= {name: facts[name] for name in _FACTS if name in facts}
    return {**row, **(_metrics(board, str(facts["id"])) if facts is not None else {}), "problem": problem}


def _metrics(board: Board, run: str) -> dict[str, float]:
    """What this sweep measured of a run; else what the log has of it, except what was measured against another reference."""
    own = board.kept.metrics(run)
    if own:
        return {f"{METRICS}{name}": value for name, value in own.items()}
    against = ("psnr", "ssim", "latent_error")
    noted = notes_of(board.all.benches.own.log.folder / run)
    return {name: value for name, value in noted.items() if name.startswith(METRICS) and not name.endswith(against)}


def _value(cell: Cell, name: str) -> Any:
    """The value of a setting in a cell; of a technique whether it is on, of its settings None where it is off."""
    settings = {Settings: cell.timeline.settings, ModelSettings: cell.model}
    for kind, one in settings.items():
        if name in switches(kind):
            return getattr(one, name) is not None
    value = cell.values.get(name)
    return shown(value) if isinstance(value, list | tuple | Mapping) else value
