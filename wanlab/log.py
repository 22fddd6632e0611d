"""The log of all runs: a folder a run with a `run.json` in it, read as a pandas table.

    my_lab/runs/20261122-171503-k3f9xq/run.json    the facts of one run, readable without wanlab
                                       clip.mp4    whatever else the run leaves there

Nothing is shared between writers, so nothing is locked and nothing can tear: a run claims its folder by making it, and
`run.json` appears whole or not at all. Thirty kernels can write to one folder, also on a network drive. (Measured with
12 writers: a shared CSV file kept 12 of 120 rows.) Only the process that started a run ever writes its `run.json`.

A run whose process died reads as "crashed", a `run.json` that cannot be read as "unreadable" with the reason in `error`;
neither hides another row. A folder without `run.json` is no run: its writer died before `start` returned, so nothing of
it was promised. Names that do not print are passed over, so that no name can break a display.

So that a long log reads fast, readers keep the rows of finished runs in `.index`, each with the time and size of its
`run.json`. The index is no truth: lost, damaged or outdated it only costs the time to read the runs again. What stays is
one question to the file system for each run (`benchmarks/log_reading.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from wanlab import table
from wanlab.annotations import annotate, measured, notes_of
from wanlab.errors import FileError
from wanlab.files import write_whole
from wanlab.process import this_process
from wanlab.run_json import Stamp, facts_in, parse, plain, reason_of, stamp_of
from wanlab.trash import Trash

if TYPE_CHECKING:
    import pandas

RUNS = "runs"  # the folder of a lab that its log reads
FORMAT = 1
Ending = Literal["done", "stopped", "failed"]

_INDEX = ".index"
_INDEX_VERSION = 2  # raise it when rows are made differently from the same run.json
_INDEX_AFTER = 20  # the index is written again when it is wrong about more runs than this
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: ascending in ASCII, nothing that reads like another


class RunLog:
    """The runs in a folder, which need not exist yet: `start` one, then read all with `frame()`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is made or read yet."""
        self.folder = Path(folder)

    def start(self, facts: Mapping[str, Any]) -> RunFolder:
        """Make a folder for a new run and note its facts; raises FileError if the log cannot be written.

        Facts are nested mappings of numbers, text, None and lists of these. A number that is not finite is noted as null.
        """
        noted = plain(facts, "facts")
        path, created = self._claim()
        own = {"format": FORMAT, "id": path.name, "status": "running", "created": created, "process": this_process()}
        try:
            run = RunFolder(path, own)
            run._write(noted)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    def ids(self) -> list[str]:
        """The ids of all runs, oldest first."""
        return list(self._stamps())

    def read(self, id: str) -> dict[str, Any]:
        """The facts of a run as in its `run.json`, with the status "crashed" if its process died.

        Raises FileError if there is no such run or its `run.json` cannot be read.
        """
        file = self.folder / id / "run.json"
        try:
            facts = facts_in(file, stamp_of(file), this_process())
            table.row(facts)  # what is unreadable there is so here
            return facts
        except (FileNotFoundError, NotADirectoryError):
            problem = f"There is no run {id} in {self.folder}; ids() names its runs."
        except (OSError, ValueError, RecursionError) as error:
            problem = (
                f"{file} cannot be read: {reason_of(error)}. Remove the run's folder or put back a copy; other runs are well."
            )
        raise FileError(problem)

    def frame(self) -> pandas.DataFrame:
        """A row a run, indexed by id, oldest first.

        The columns are status, created (UTC), the settings under their own names (`cfg`, `clip.frame_rate`), then the other
        facts, with dots where they are nested (`seconds` is the total, `seconds.denoise` a part of it). Lists stay lists.
        A number or text that is unknown is NaN. Settings that this version does not know come last.
        """
        return table.frame(self.rows())

    def annotate(self, id: str, **notes: Any) -> None:
        """Note what a person thinks of a run: `star=True`, `tags=["good"]`, `note="..."`; None removes one.

        They are columns of `frame()`. Raises SettingsError for other notes, FileError if there is no such run.
        """
        annotate(self._folder_of(id), notes)

    def measure(self, id: str, metrics: Mapping[str, float | None]) -> None:
        """Note numbers that were measured on a run, which become columns: `{"flicker": 0.01}` is `metrics.flicker`."""
        measured(self._folder_of(id), metrics)

    def delete(self, id: str) -> None:
        """Move a run to the trash, from which `restore` brings it back; its steps stay in the store.

        Raises FileError if there is no such run, or if it is still running.
        """
        file = self._folder_of(id) / "run.json"
        running = False
        with contextlib.suppress(ValueError, RecursionError, OSError):  # what cannot be read may be deleted
            running = facts_in(file, stamp_of(file), this_process())["status"] == "running"
        if running:
            raise FileError(f"Run {id} is still running; stop it before it is deleted.")
        self.trash.put(id)

    def restore(self, id: str) -> None:
        """Bring a deleted run back; raises FileError if it is not in the trash."""
        self._folder_of(id)
        self.trash.restore(id)

    @property
    def trash(self) -> Trash:
        """The deleted runs: `ids()`, `bytes`, and `empty()`, which removes them for good."""
        return Trash(self.folder)

    def _folder_of(self, id: str) -> Path:
        if id != Path(id).name or not id or id[0] == ".":
            raise FileError(f"{id!r} is not the id of a run; ids() names those in {self.folder}.")
        return self.folder / id

    def _claim(self) -> tuple[Path, str]:
        """A folder that is no other run's, and the time of its making. Making it settles every race."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for attempt in itertools.count():
                moment = datetime.now(UTC) + timedelta(microseconds=attempt)  # a clock that stands still runs out of ids
                path = self.folder / _id(moment)
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return path, moment.isoformat(timespec="microseconds")
        except OSError as error:
            reason = reason_of(error)
        raise FileError(f"{self.folder} cannot keep runs: {reason}. Choose another folder.")

    def _stamps(self) -> dict[str, Stamp]:
        """The ids of all runs, oldest first, with their stamps."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return {}
        except OSError as error:
            reason = reason_of(error)
        else:
            stamps = {}
            for name in names:
                if name[0] != "." and name.isprintable():
                    with contextlib.suppress(OSError):  # no folder, or none of a run
                        stamps[name] = stamp_of(f"{self.folder}/{name}/run.json")
            return stamps
        raise FileError(f"{self.folder} cannot be read: {reason}. Choose the folder of a log.")

    def rows(self) -> dict[str, dict[str, Any]]:
        """The columns and values of all runs by id; brings the index up to date when it pays."""
        here, index, rows, ended = this_process(), self._read_index(), {}, {}
        wrong = 0
        for id, stamp in self._stamps().items():
            known_stamp, row = index.get(id, (None, {}))
            if known_stamp != stamp:
                try:
                    row = table.row(facts_in(f"{self.folder}/{id}/run.json", stamp, here)) | notes_of(f"{self.folder}/{id}")
                except FileNotFoundError:  # removed meanwhile
                    continue
                except (OSError, ValueError, RecursionError) as error:
                    row = {"status": "unreadable", "error": reason_of(error)}
                wrong += row["status"] in get_args(Ending)
            rows[id] = row
            if row["status"] in get_args(Ending):
                ended[id] = (stamp, row)
        if wrong + len(index.keys() - ended.keys()) > _INDEX_AFTER:
            self._write_index(ended)
        return rows

    def _read_index(self) -> dict[str, tuple[Stamp, dict[str, Any]]]:
        """Stamp and row of finished runs by id; nothing if the index is missing or not exactly as it was written."""
        try:
            seal, _, body = (self.folder / _INDEX).read_bytes().partition(b"\n")
            if seal != _seal(body):
                return {}
            names, runs = json.loads(body)
        except (OSError, ValueError):
            return {}
        return {id: ((time_ns, size), dict(zip(names[kind], row, strict=True))) for id, time_ns, size, kind, row in runs}

    def _write_index(self, ended: Mapping[str, tuple[Stamp, dict[str, Any]]]) -> None:
        kinds: dict[tuple[str, ...], int] = {}  # few: the names of a row's columns are written once
        runs = [
            (id, *stamp, kinds.setdefault(tuple(row), len(kinds)), list(row.values())) for id, (stamp, row) in ended.items()
        ]
        body = json.dumps([list(kinds), runs], ensure_ascii=False, separators=(",", ":")).encode()
        with contextlib.suppress(FileError):  # a folder that can only be read is read without
            write_whole(self.folder / _INDEX, _seal(body) + b"\n" + body, durable=False)


class RunFolder:
    """The folder of a run that this process has started. `facts` are what its `run.json` says."""

    def __init__(self, path: Path, own: dict[str, Any]) -> None:
        """`own` are the facts that the log itself states."""
        self.path = path
        self.id = path.name
        self.facts: dict[str, Any] = {}
        self._own = own
        self._file = os.fspath(path / "run.json")

    def beat(self) -> None:
        """Note that the run lives, in the time of its `run.json`: a few microseconds, to be called every step.

        A beat that cannot be written is left out; if the folder is lost, `finish` says so.
        """
        with contextlib.suppress(OSError):
            os.utime(self._file)

    def finish(self, status: Ending, **facts: Any) -> None:
        """Note how the run ended and more facts, which replace those of the same name; raises FileError if it cannot."""
        if status not in get_args(Ending):
            raise ValueError(f"status is {status!r}; a run ends as {', '.join(get_args(Ending))}.")
        self._own["status"] = status
        self._write(self.facts | plain(facts, "facts"))

    def _write(self, facts: dict[str, Any]) -> None:
        facts = {**self._own, **facts, **self._own}
        lines = (json.dumps({name: fact}, ensure_ascii=False, allow_nan=False)[1:-1] for name, fact in facts.items())
        # half a surrogate pair, as in the name of a file that is not UTF-8, becomes "?"
        content = ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "replace")
        problem = ""
        try:
            table.row(parse(content))
        except (ValueError, RecursionError) as error:
            problem = f"The facts of run {self.id} cannot be kept: {reason_of(error)}."
        if problem:
            raise FileError(problem)
        write_whole(self.path / "run.json", content)
        self.facts = facts


def _seal(body: bytes) -> bytes:
    """First line of an index: who wrote it, and what it must hold."""
    return f"wanlab {_INDEX_VERSION} {hashlib.blake2b(body).hexdigest()}".encode()


def _id(moment: datetime) -> str:
    """Day, time, and six digits: the microsecond in four, so that ids sort by time, and chance in two."""
    digits = [moment.microsecond >> shift & 31 for shift in (15, 10, 5, 0)] + [secrets.randbelow(32) for _ in range(2)]
    return f"{moment:%Y%m%d-%H%M%S}-" + "".join(_DIGITS[digit] for digit in digits)
