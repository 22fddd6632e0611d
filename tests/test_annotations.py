"""Stars, tags, notes and metrics beside a run: columns of the log, never at the cost of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wanlab.errors import FileError, SettingsError
from wanlab.log import RunLog


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    log = RunLog(tmp_path / "runs")
    for number in range(30):  # more than it takes to write an index
        log.start({"settings": {"seed": number}}).finish("done", seconds={"total": 1.0})
    return log


def test_notes_and_metrics_are_columns_also_of_runs_in_the_index(log: RunLog) -> None:
    assert "star" not in log.frame()
    assert (log.folder / ".index").exists()
    first, second, *_ = log.ids()
    log.annotate(first, star=True, tags=["good", "for the talk"], note="the circle is round")
    log.measure(first, {"flicker": 0.25})
    log.measure(second, {"flicker": 0.5, "psnr": float("inf")})
    frame = log.frame()
    assert frame.loc[first, ["star", "note", "metrics.flicker"]].tolist() == [True, "the circle is round", 0.25]
    assert frame.loc[first, "tags"] == ["good", "for the talk"]
    assert frame.loc[second, "metrics.flicker"] == 0.5
    assert "metrics.psnr" not in frame
    assert frame["star"].notna().sum() == 1


def test_what_is_not_named_stays_and_none_removes(log: RunLog) -> None:
    [id, *_] = log.ids()
    log.annotate(id, star=True, note="first")
    log.annotate(id, note="second", tags=["a"])
    log.annotate(id, star=None)
    frame = log.frame()
    assert "star" not in frame
    assert frame.loc[id, "note"] == "second"
    log.annotate(id, tags=[])
    assert "tags" not in log.frame()


@pytest.mark.parametrize(
    ("notes", "rule"),
    [
        ({"star": "yes"}, "star is 'yes'; it must be True or False"),
        ({"tags": "good"}, "tags is 'good'; it must be a list"),
        ({"tags": ["x" * 61]}, "must be a list of at most 50 texts"),
        ({"note": 5}, "note is 5; it must be text"),
        ({"rating": 5}, "rating is not a note; notes are star, tags, note"),
    ],
)
def test_other_notes_are_refused_and_nothing_is_written(log: RunLog, notes: dict[str, Any], rule: str) -> None:
    [id, *_] = log.ids()
    with pytest.raises(SettingsError, match=rule):
        log.annotate(id, **notes)
    assert not (log.folder / id / "notes.json").exists()


@pytest.mark.parametrize("id", ["missing", "../runs", "", ".index", "a/b"])
def test_a_run_that_is_not_there_gets_no_notes(log: RunLog, id: str) -> None:
    with pytest.raises(FileError, match=r"ids\(\) names"):
        log.annotate(id, star=True)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b'{"star": "<b>", "tags": [1], "note": null}', b'"\\ud800"', b"[" * 9999]
)
def test_damaged_notes_hide_no_run(log: RunLog, content: bytes) -> None:
    [id, *_] = log.ids()
    for name in ("notes.json", "metrics.json"):
        (log.folder / id / name).write_bytes(content)
    (log.folder / id / "run.json").touch()
    frame = log.frame()
    assert len(frame) == 30
    assert not {"star", "tags", "note"} & set(frame)
