"""The table of all runs of a lab: what it shows is decided in the browser or here, and means the same in both."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wanlab.columns import Rows, chosen_columns, described
from wanlab.comparing import compare
from wanlab.errors import FileError, SettingsError, WanlabError
from wanlab.filters import nearest, parse
from wanlab.log import RunLog
from wanlab.run import Run
from wanlab.show.page import Page, Paged
from wanlab.show.player import MOST_CLIPS
from wanlab.show.runtable import RunTableContent, preview, run_table_page
from wanlab.table import frame

if TYPE_CHECKING:
    import pandas

    from wanlab.show.runtable_live import LiveRunTable

# Previews in a page, newest first: a clip of 17 frames of 64x64 takes about 6 KB.
_MOST_PREVIEWS, _MOST_PREVIEW_BYTES = 200, 2**20
_KEPT_RUNS = 2 * MOST_CLIPS


class RunTable(Paged):
    """All runs as a table: the last line of a cell shows it, live where the extra lab is installed.

    `columns`, `where` (a filter, see `wanlab.filters`) and `sort` (columns, "-seconds" for the largest first) are how it
    begins, and follow what is chosen in the browser, as does `selected`, the ids of the runs chosen there. Raises SettingsError
    for a column that no run has and for a filter that is not understood.
    """

    def __init__(
        self,
        log: RunLog,
        opened: Callable[[str], Run],
        columns: Sequence[str] | None = None,
        where: str = "",
        sort: Sequence[str] = (),
    ) -> None:
        rows = log.rows()
        self.log, self.where = log, where
        self.columns = list(chosen_columns(rows) if columns is None else columns)
        self.sort = [sort] if isinstance(sort, str) else list(sort)
        self.selected: list[str] = []
        self._open, self._opened, self._previews = opened, dict[str, Run](), dict[str, bytes]()
        self._opening = threading.Lock()
        _check(self.columns, self.where, self.sort, rows)

    def frame(self) -> pandas.DataFrame:
        """The runs that the filter lets through, with the chosen columns, sorted; read anew."""
        rows = self._rows()
        _check(self.columns, self.where, self.sort, rows)
        wanted = parse(self.where, _names(rows))
        kept: Rows = {id: row for id, row in rows.items() if wanted({**row, "id": id})}
        for name in reversed(self.sort):
            kept = _sorted(kept, name.removeprefix("-"), falling=name.startswith("-"))
        return frame(kept).reindex(columns=self.columns)

    def runs(self) -> list[Run]:
        """The runs that are selected in the browser, to go on with: `wl.compare(*table.runs())`."""
        return [self._run(id) for id in self.selected]

    def page(self, *, twin: str = "") -> Page:
        """The table as a page of its own, with previews of the newest runs."""
        rows, previews, room = self._rows(), dict[str, bytes](), _MOST_PREVIEW_BYTES
        for id in list(rows)[: -_MOST_PREVIEWS - 1 : -1]:
            sheet = self._preview(id)
            room -= len(sheet or b"")
            if sheet and room >= 0:
                previews[id] = sheet
        return run_table_page(self._content(rows, previews), list(previews.values())[::-1], twin=twin)

    @cached_property
    def widget(self) -> LiveRunTable:
        """The table as a widget, one and the same however often it is shown; ImportError without the extra lab."""
        from wanlab.show.runtable_live import LiveRunTable

        return LiveRunTable(self._content(self._rows()).told(), self._answer, lambda key: self.page(twin=key))

    def __repr__(self) -> str:
        chosen = f", {self.where!r}" if self.where else ""
        return f"RunTable({len(self.log.ids())} runs{chosen})"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget if importlib.util.find_spec("anywidget") else self.page())

    def _repr_html_(self) -> str:
        return self.page().html

    def _rows(self) -> Rows:
        return self.log.rows()

    def _content(self, rows: Rows, previews: Mapping[str, bytes] | None = None) -> RunTableContent:
        columns = [asdict(column) for column in described(rows)]
        return RunTableContent(columns, rows, self.columns, self.where, self.sort, previews or {}, self._trash())

    def _trash(self) -> dict[str, Any]:
        trash = self.log.trash
        return {"ids": trash.ids(), "bytes": trash.bytes}

    def _preview(self, id: str) -> bytes | None:
        if id not in self._previews:
            try:
                made = preview((self.log.folder / id / "preview.png").read_bytes())
            except OSError:  # a run that did not finish has none, or none yet
                made = None
            if made is None:
                return None
            self._previews[id] = made
        return self._previews[id]

    def _run(self, id: str) -> Run:
        """The run, with the clip it may have decoded before; those not used for longest are forgotten."""
        with self._opening:  # a clip is decoded for the browser in a thread of its own
            run = self._opened.pop(id, None) or self._open(id)
            if run.status != "running":  # its facts stay as they are
                self._opened[id] = run
            while len(self._opened) > _KEPT_RUNS:
                del self._opened[next(iter(self._opened))]
            return run

    def _answer(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the browser asked, and its answer."""
        return getattr(self, _ANSWERS[message["ask"]])(message) if message.get("ask") in _ANSWERS else None

    def _answer_view(self, message: Mapping[str, Any]) -> None:
        rows = self._rows()
        columns, where, sort = _texts(message.get("columns")), str(message.get("where", "")), _texts(message.get("sort"))
        _check(columns, where, sort, rows)
        self.columns, self.where, self.sort = columns, where, sort
        self.selected = [id for id in _texts(message.get("selected")) if id in rows]

    def _answer_refresh(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"content": self._content(self._rows()).told()}

    def _answer_preview(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        id = self._known(message["id"])
        content = RunTableContent([], {}, [], previews={id: self._preview(id) or b""})
        return {"preview": id, "sheet": content.told()["previews"][id]}

    def _answer_annotate(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        id = str(message["id"])
        reason = ""
        try:
            self.log.annotate(id, **message["notes"])
        except WanlabError as error:
            reason = str(error)
        return {"noted": id, "reason": reason}

    def _answer_delete(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._moved(self.log.delete, message, "deleted")

    def _answer_restore(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._moved(self.log.restore, message, "restored")

    def _answer_empty(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"freed": self.log.trash.empty(), "trash": self._trash()}

    def _answer_compare(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        ids = [self._known(id) for id in _texts(message["ids"])]
        if not 1 <= len(ids) <= MOST_CLIPS:
            raise SettingsError(f"{len(ids)} runs are selected; 2 to {MOST_CLIPS} can be compared.")
        runs = [self._run(id) for id in ids]
        return {"opened": (compare(*runs) if len(runs) > 1 else runs[0].page()).html}

    def _moved(self, move: Callable[[str], None], message: Mapping[str, Any], word: str) -> Mapping[str, Any]:
        """Delete or restore runs; what cannot be moved is told with its reason, and stops nothing."""
        moved, reasons = [], []
        for id in _texts(message["ids"]):
            try:
                move(id)
                moved.append(id)
            except WanlabError as error:
                reasons.append(str(error))
        return {word: moved, "reason": " ".join(reasons), "content": self._content(self._rows()).told()}

    def _known(self, id: object) -> str:
        if id not in self.log.ids():
            raise FileError(f"Run {id} is not in the log any more; refresh the table.")
        return str(id)


_ANSWERS = {
    name: f"_answer_{name}" for name in ("view", "refresh", "preview", "annotate", "delete", "restore", "empty", "compare")
}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _names(rows: Rows) -> list[str]:
    return [column.name for column in described(rows)]


def _check(columns: Sequence[str], where: str, sort: Sequence[str], rows: Rows) -> None:
    """SettingsError for what these rows cannot be shown with."""
    known = _names(rows)
    for name in (*columns, *(name.removeprefix("-") for name in sort)):
        if name not in known and name != "id":
            near = nearest(name, known)
            raise SettingsError(
                f"columns or sort has {name!r}, which no run has; "
                + (f"did you mean {near}?" if near else "lab.log.columns names all.")
            )
    parse(where, known)


def _sorted(rows: Rows, name: str, *, falling: bool) -> Rows:
    """The rows in the order of one column: numbers, then text, what is unknown last in either direction."""

    def rank(item: tuple[str, Mapping[str, Any]]) -> tuple[int, Any]:
        value = item[0] if name == "id" else item[1].get(name)
        if isinstance(value, int | float):
            return 0, value
        return 1, str(value)

    unknown = {id: row for id, row in rows.items() if name != "id" and row.get(name) is None}
    known = [item for item in rows.items() if item[0] not in unknown]
    return dict(sorted(known, key=rank, reverse=falling)) | unknown
