"""The table of runs without a browser: filters, what columns mean, what is shown, and the trash."""

from __future__ import annotations

import io
import json
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wanlab.clip import contact_sheet
from wanlab.columns import chosen_columns, described
from wanlab.errors import FileError, SettingsError
from wanlab.filters import nearest, parse
from wanlab.log import RunLog
from wanlab.run import Run
from wanlab.run_table import RunTable
from wanlab.settings import declared
from wanlab.show.runtable import RunTableContent, preview, shown

# What rows of a log hold, apart from the id.
ROWS: list[dict[str, Any]] = [
    {"status": "done", "cfg": 3.0, "seed": 1, "prompt": "a red circle moves", "seconds": 1.5, "frames": 9, "tags": ["good"]},
    {
        "status": "done",
        "cfg": 5.0,
        "seed": 1,
        "prompt": "a red circle moves",
        "seconds": 2.5,
        "frames": 9,
        "star": True,
        "note": "Fast one",
    },
    {"status": "failed", "cfg": 1.0, "seed": 2, "prompt": "a green Square", "seconds": 0.5, "error": "out of memory"},
    {"status": "running", "cfg": 7.5, "seed": 3, "prompt": "wait", "seconds": 0.0, "tags": ["good", "for the talk"]},
    {
        "status": "done",
        "cfg": 3.0,
        "seed": 18446744073709551615,
        "prompt": 'say "hi" & (go)',
        "seconds": 9.0,
        "feta.weight": 4.0,
    },
    {"status": "stopped", "cfg": None, "seed": 4, "prompt": "ünicode ÄÖ", "seconds": 1e-05, "clip.pingpong": True},
]
COLUMNS = [
    "status",
    "prompt",
    "cfg",
    "seed",
    "frames",
    "feta.weight",
    "clip.pingpong",
    "seconds",
    "star",
    "tags",
    "note",
    "error",
]

# A filter, and the places of the rows that it means: for Python here and for the browser in browser/test_run_table.py.
CASES: list[tuple[str, list[int]]] = [
    ("", [0, 1, 2, 3, 4, 5]),
    ("   ", [0, 1, 2, 3, 4, 5]),
    ("cfg > 3", [1, 3]),
    ("cfg>=3", [0, 1, 3, 4]),
    ("cfg = 3", [0, 4]),
    ("cfg == 3.0", [0, 4]),
    ("cfg != 3", [1, 2, 3, 5]),
    ("cfg == none", [5]),
    ("cfg != none", [0, 1, 2, 3, 4]),
    ("not cfg > 3", [0, 2, 4, 5]),
    ("circle", [0, 1]),
    ("CIRCLE moves", [0, 1]),
    ('"red circle"', [0, 1]),
    ("memory", [2]),
    ("status == done and cfg < 4", [0, 4]),
    ("status == 'done' & cfg < 4", [0, 4]),
    ("status == done cfg < 4", [0, 4]),
    ("status == failed or status == stopped", [2, 5]),
    ("status == failed || status == stopped", [2, 5]),
    ("status in [failed, stopped]", [2, 5]),
    ('status in "done"', [0, 1, 4]),
    ("cfg in [1, 5]", [1, 2]),
    ("prompt contains square", [2]),
    ("prompt contains [square, wait]", [2, 3]),
    ("prompt contains 'say \"hi\"'", [4]),
    ("not prompt contains circle", [2, 3, 4, 5]),
    ("! (circle or square)", [3, 4, 5]),
    ("~circle ~square", [3, 4, 5]),
    ("circle or square and cfg == 1", [0, 1, 2]),
    ("(circle or square) and cfg == 1", [2]),
    ("tag:good", [0, 3]),
    ("tag:GOOD", [0, 3]),
    ('tag:"for the talk"', [3]),
    ("tags contains good", [0, 3]),
    ("tag contains talk", []),
    ("starred", [1]),
    ("not starred", [0, 2, 3, 4, 5]),
    ("star == true", [1]),
    ("clip.pingpong == true", [5]),
    ("clip.pingpong == 1", []),
    ("note == none", [0, 2, 3, 4, 5]),
    ("`feta.weight` >= 4", [4]),
    ("feta.weight != none", [4]),
    ("seed == 18446744073709551615", [4]),
    ("seed == 18446744073709551614", []),
    ("seed > 9007199254740993", [4]),
    ("seconds < 1e-4", [3, 5]),
    ("seconds > .6 and seconds < 2.", [0]),
    ("cfg > text", []),
    ("prompt > b", [3, 4, 5]),
    ("prompt contains ÄÖ", [5]),
    ("äö", [5]),
    ("id == run-2", [2]),
    ("run-", [0, 1, 2, 3, 4, 5]),
    ("__class__", []),
    ("constructor", []),
]
WRONG: list[tuple[str, str]] = [
    ("cgf > 3", "cgf is no column; did you mean cfg?"),
    ("weight > 3", "weight is no column; did you mean feta.weight?"),
    ("something > 3", "something is no column."),
    ("__proto__ == 3", "__proto__ is no column."),
    ("constructor == 3", "constructor is no column."),
    ("(cfg > 3", "a bracket is not closed."),
    ("cfg > 3)", ") has no meaning here."),
    ('prompt contains "a', 'the quote " is not closed.'),
    ("cfg >", "a comparison lacks its value."),
    ("cfg > and", "a comparison lacks its value."),
    ("cfg in [1, 2", "a list is not closed with ]."),
    ("cfg in [", "a comparison lacks its value."),
    ("or cfg > 3", "or has no meaning here."),
    ("not", "something is missing at its end."),
    ("cfg > 3 and", "something is missing at its end."),
    ("> 3", "> has no meaning here."),
    ("`cfg`", "the column cfg is compared with nothing."),
    ("tag:", "a comparison lacks its value."),
    ("(" * 200, "it is nested too deep."),
]
WRONG = [(text, f"The filter is not understood: {why}") for text, why in WRONG]


def log_of(folder: Path, rows: list[dict[str, Any]]) -> RunLog:
    """A log of runs with these values; the first left a preview of nine frames."""
    log = RunLog(folder)
    notes = ("star", "tags", "note")
    for place, values in enumerate(rows):
        known = {name: value for name, value in values.items() if name not in (*notes, "status", "seconds", "error")}
        run = log.start({"settings": known})
        if values["status"] != "running":
            run.finish(values["status"], seconds={"total": values["seconds"]}, error=values.get("error"))
        if any(name in values for name in notes):
            log.annotate(run.id, **{name: values[name] for name in notes if name in values})
        if place == 0:
            frames = np.stack([np.full((64, 64, 3), 25 * k, np.uint8) for k in range(9)])
            (run.path / "preview.png").write_bytes(contact_sheet(frames, columns=6, height=64))
    return log


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return log_of(tmp_path / "runs", ROWS)


def table_of(log: RunLog, **given: Any) -> RunTable:
    return RunTable(log, lambda id: pytest.fail(f"run {id} was opened"), **given)


@pytest.mark.parametrize(("text", "wanted"), CASES)
def test_a_filter_means_these_runs(text: str, wanted: list[int]) -> None:
    means = parse(text, COLUMNS)
    assert [place for place, row in enumerate(ROWS) if means({**row, "id": f"run-{place}"})] == wanted


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_what_is_no_filter_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(text, COLUMNS)
    assert str(refused.value) == problem


def test_the_nearest_column_is_one_that_ends_so_or_is_mistyped() -> None:
    assert nearest("frame_rate", ["cfg", "clip.frame_rate"]) == "clip.frame_rate"
    assert nearest("sttus", COLUMNS) == "status"
    assert nearest("x", COLUMNS) == ""


def test_the_frame_is_what_the_table_shows(log: RunLog) -> None:
    table = table_of(log, columns=["prompt", "cfg", "seconds"], where="status == done", sort=["-cfg", "seconds"])
    frame = table.frame()
    assert list(frame.columns) == ["prompt", "cfg", "seconds"]
    assert list(frame["seconds"]) == [2.5, 1.5, 9.0]
    assert set(frame.index) <= set(log.ids())
    assert repr(table) == "RunTable(6 runs, 'status == done')"


def test_what_is_unknown_is_last_in_either_direction(log: RunLog) -> None:
    for sort in ("cfg", "-cfg"):
        assert table_of(log, sort=[sort]).frame().index[-1] == log.ids()[-1]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"columns": ["cgf"]}, "'cgf', which no run has; did you mean cfg"),
        ({"sort": ["-secnds"]}, "'secnds', which no run has; did you mean seconds"),
        ({"where": "cfg >"}, "a comparison lacks its value"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_once(log: RunLog, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        table_of(log, **given)


def test_every_setting_is_a_column_with_its_declared_meaning(log: RunLog) -> None:
    columns = {column.name: column for column in described(log.rows())}
    for name, setting in declared().items():
        assert (columns[name].part, columns[name].unit, columns[name].help) == (setting.affects, setting.unit, setting.help)
    assert columns["seconds"].unit == "s"
    assert {columns[name].part for name in ("star", "tags", "note")} == {"noted"}


def test_a_table_begins_with_the_settings_that_differ(log: RunLog) -> None:
    chosen = chosen_columns(log.rows())
    assert {"cfg", "seed"} <= set(chosen)
    assert "shift" not in chosen
    assert chosen_columns({})


def test_columns_are_packed_without_loss() -> None:
    rows = {"a": {"x": 1, "y": "u", "z": [1, 2]}, "b": {"x": 2**60, "y": "u"}, "c": {"x": None, "y": "u", "z": True}}
    told = RunTableContent([{"name": name} for name in "xyz"], rows, ["x"]).told()
    x, y, z = told["columns"]
    assert (x["kind"], x["values"]) == ("number", [1, str(2**60), None])
    assert (y["kind"], y["same"]) == ("text", "u")
    assert z["kind"] == "mixed"
    json.dumps(told, allow_nan=False)


def test_values_are_shown_short_and_unknown_ones_as_a_dash() -> None:
    assert [shown(value) for value in (None, 0.123456, 3, True, "a", [1.5, "b"])] == [
        "\u2013",
        "0.1235",
        "3",
        "true",
        "a",
        "1.5, b",
    ]


def test_previews_are_small_and_what_is_no_picture_has_none() -> None:
    out = io.BytesIO()
    Image.new("RGB", (384, 128), "red").save(out, "PNG")
    small = preview(out.getvalue())
    assert small
    assert Image.open(io.BytesIO(small)).size == (384, 128)
    assert preview(b"no picture") is None
    assert preview(out.getvalue()[:60]) is None


def test_the_page_of_an_empty_log_says_so(tmp_path: Path) -> None:
    page = table_of(RunLog(tmp_path / "none")).page()
    assert page.text == "Table of 0 runs."


def test_a_deleted_run_is_gone_from_the_log_and_comes_back_whole(log: RunLog) -> None:
    first, *others = log.ids()
    before = log.frame()
    log.delete(first)
    assert log.ids() == others
    assert log.trash.ids() == [first]
    assert log.trash.bytes > 0
    with pytest.raises(FileError, match="There is no run"):
        log.read(first)
    log.restore(first)
    assert log.trash.ids() == []
    assert log.frame().equals(before)
    assert (log.folder / first / "preview.png").exists()


def test_a_running_run_is_not_deleted(log: RunLog) -> None:
    running = log.ids()[3]
    with pytest.raises(FileError, match="is still running; stop it"):
        log.delete(running)
    assert running in log.ids()


@pytest.mark.parametrize("id", ["", ".trash", "..", "a/b", "nothing-there"])
def test_only_runs_are_deleted_or_restored(log: RunLog, id: str) -> None:
    before = log.ids()
    for act in (log.delete, log.restore):
        with pytest.raises(FileError):
            act(id)
    assert log.ids() == before


def test_an_unreadable_run_can_be_deleted(log: RunLog) -> None:
    first = log.ids()[0]
    (log.folder / first / "run.json").write_text("{")
    log.delete(first)
    assert first not in log.ids()


def test_the_trash_is_emptied_for_good(log: RunLog) -> None:
    first, second, *others = log.ids()
    log.delete(first)
    log.delete(second)
    freed = log.trash.bytes
    assert log.trash.empty() == freed
    assert log.trash.ids() == []
    assert log.ids() == others
    with pytest.raises(FileError, match="it is not in"):
        log.restore(first)


def test_a_run_that_is_in_the_log_again_is_not_overwritten(log: RunLog) -> None:
    first = log.ids()[0]
    log.delete(first)
    (log.folder / first).mkdir()
    with pytest.raises(FileError, match="is there already"):
        log.restore(first)
    assert log.trash.ids() == [first]


def test_other_questions_are_answered_while_clips_are_decoded(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    decoded = threading.Event()

    def opened(id: str) -> Run:
        decoded.wait(60)
        raise FileError("its steps are gone")

    widget, said = RunTable(log, opened).widget, queue.SimpleQueue[dict[str, Any]]()
    monkeypatch.setattr(widget, "tell", said.put)
    widget._heard(None, {"ask": "compare", "ids": log.ids()[:2]}, [])
    widget._heard(None, {"ask": "refresh"}, [])
    before = [said.get(timeout=60) for _ in range(3)]
    assert [one.get("answered") for one in before] == [None, "refresh", None]
    decoded.set()
    assert said.get(timeout=60) == {"answered": "compare"}, "the browser waits for no answer, whatever came of it"
    assert said.get(timeout=60) == {"problem": "its steps are gone"}
