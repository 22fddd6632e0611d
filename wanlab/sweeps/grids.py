"""The grid of a sweep: its cells as clips in a table, as a page, or alive while the sweep runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wanlab.errors import SettingsError
from wanlab.progress import kernel
from wanlab.sweeps.axes import label_at
from wanlab.sweeps.cells import Cell

if TYPE_CHECKING:
    from wanlab.sweeps.board import Board

Names = str | Sequence[str] | None

_ENDED = ("done", "failed", "unfit")


def grid(board: Board, rows: Names, columns: Names, live: bool | None) -> Any:
    """A LiveGrid that fills up while the sweep runs, or a page of what there is; SettingsError for unknown axes."""
    names = [axis.name for axis in board.axes]
    asked_rows, asked_columns = _axes("rows", rows, names), _axes("columns", columns, names)
    if live is None:
        ended = all(board.state(cell)[0] in _ENDED for cell in board.cells)
        live = not ended and kernel() is not None and importlib.util.find_spec("anywidget") is not None
    shown = [one for cell in board.cells for one in _shown(board, cell)]
    axes = {axis.name: axis.labels for axis in board.axes}
    settings = board.cells[0].timeline.settings
    same = len({cell.timeline.settings.prompt for cell in board.cells}) == 1
    asked: dict[str, Any] = {
        "frame_rate": settings.clip.frame_rate,
        "title": settings.prompt if same else "",
        "rows": asked_rows,
        "columns": asked_columns,
        "notes": board.notes,
    }
    if not live:
        from wanlab.show.grid import grid_page

        return grid_page(shown, axes, **asked)
    from wanlab.show.live_grid import LiveGrid

    found = LiveGrid(shown, axes, **asked)
    board.grids.append(found)
    return found


def _axes(told: str, given: Names, names: Sequence[str]) -> list[str] | None:
    """The axes of the rows or columns; None leaves the choice to the grid."""
    if given is None:
        return None
    asked = [given] if isinstance(given, str) else list(given)
    for name in asked:
        if name not in names:
            raise SettingsError(f"{told} is {name!r}; this sweep has the axes {', '.join(names)}.")
    return asked


def tell(board: Board, cells: Sequence[Cell], state: str = "") -> None:
    """Show in the open grids how these cells stand; `state` instead of what the log says."""
    if not board.grids:
        return
    shown = [one for cell in cells for one in _shown(board, cell, state)]
    for one in board.grids:
        one.update(*shown)


def _shown(board: Board, cell: Cell, told: str = "") -> list[Any]:
    """A cell as the grid shows it, once for each of its places."""
    from wanlab.show.grid import Cell as Shown

    state, problem, facts = board.state(cell)
    state = told or state
    frames = board.frames(cell) if state == "done" else None
    metrics = {} if facts is None or state != "done" else board.kept.metrics(str(facts["id"]))
    return [
        Shown(
            cell.key if number == 0 else f"{cell.key}-{number + 1}",
            label_at(board.axes, place),
            frames=frames,
            state=state,
            caption="" if number == 0 else f"the same as {cell.label}",
            problem=problem,
            numbers=metrics,
            facts=_facts(facts) if state == "done" else {},
        )
        for number, place in enumerate(cell.places)
    ]


def _facts(facts: Mapping[str, Any] | None) -> dict[str, str]:
    """What a person wants to know of a run beside its metrics."""
    if facts is None:
        return {}
    seconds = facts.get("seconds")
    total = seconds.get("total") if isinstance(seconds, Mapping) else None
    found = {"run": str(facts["id"]), "seconds": f"{total:.2f} s" if isinstance(total, int | float) else ""}
    if facts.get("steps_reused"):
        found["steps reused"] = f"{facts['steps_reused']} of {facts.get('steps_done')}"
    return {name: value for name, value in found.items() if value}
