"""The log: nothing acknowledged is lost, nothing torn is shown, and no content of its folder breaks the table."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import wanlab.log
import wanlab.run_json
from wanlab.errors import FileError
from wanlab.files import write_whole
from wanlab.log import RunLog
from wanlab.process import SILENCE_SECONDS, this_process
from wanlab.settings import Settings, declared

fork = multiprocessing.get_context("fork")
fresh = multiprocessing.get_context("forkserver")
fresh.set_forkserver_preload(["hypothesis.strategies", "pandas.testing", "pytest", "wanlab.log"])

TEXT = pandas.Series(["a"]).dtype  # of pandas 2 or 3
FACTS: dict[str, Any] = {
    "settings": Settings().flat(),
    "model": {"name": "tiny", "base_precision": "fp32"},
    "seconds": {"total": 3.5, "denoise": 2.5, "steps": [0.25, 0.5]},
    "peak_vram_gib": None,
    "changes": [["cfg", 3.0]],
    "versions": {"torch": "2.9"},
    "device": "cpu",
}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunLog:
    """An empty log that does not wait for the disk."""
    monkeypatch.setattr(wanlab.log, "write_whole", functools.partial(write_whole, durable=False))
    return RunLog(tmp_path / "my_lab" / "runs")


def add(log: RunLog, runs: int = 1, **facts: Any) -> str:
    """Finished runs; the id of the last."""
    for _ in range(runs):
        run = log.start(FACTS)
        run.finish("done", **facts)
    return run.id


def edit(log: RunLog, id: str, **facts: Any) -> None:
    """Change what a run.json says, and keep its heartbeat."""
    file = log.folder / id / "run.json"
    beat = file.stat().st_mtime
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    os.utime(file, (beat, beat))


def status(log: RunLog, id: str) -> str:
    """What the table says, checked against what `read` says."""
    said = log.frame().status[id]
    if said != "unreadable":
        assert log.read(id)["status"] == said
    return said


# Many writers


def write_runs(folder: Path, runs: int, writer: int, barrier: Any) -> None:
    """Body of a writing process."""
    log = RunLog(folder)
    barrier.wait()
    for number in range(runs):
        run = log.start(FACTS | {"writer": writer, "number": number})
        run.beat()
        run.finish("done", filling="." * 400)


def run_together(target: Callable[..., None], many: int, *args: Any) -> None:
    """Many processes that start at one barrier; all must end well."""
    in_a_fresh_process(fork_together, target, many, args)


def in_a_fresh_process(target: Callable[..., None], *args: Any) -> None:
    """Run where forking is safe and fast: without the threads and the memory of the other tests."""
    child = fresh.Process(target=target, args=args)
    child.start()
    child.join()
    assert child.exitcode == 0


def fork_together(target: Callable[..., None], many: int, args: tuple[Any, ...]) -> None:
    """Body of the process that forks the others."""
    barrier = fork.Barrier(many)
    children = [fork.Process(target=target, args=(*args, number, barrier)) for number in range(many)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * many


@pytest.mark.parametrize(("writers", "runs"), [(8, 500), (30, 10)])
def test_processes_that_open_a_new_log_together_lose_and_tear_no_run(tmp_path: Path, writers: int, runs: int) -> None:
    log = RunLog(tmp_path / "not" / "yet" / "there")
    run_together(write_runs, writers, log.folder, runs)
    frame = log.frame()
    assert len(frame) == writers * runs
    assert set(frame.status) == {"done"}
    assert set(zip(frame.writer, frame.number, strict=True)) == {(w, n) for w in range(writers) for n in range(runs)}
    assert {len(filling) for filling in frame.filling} == {400}
    assert frame.created.is_monotonic_increasing
    assert not list(log.folder.rglob("*.part"))


def write_until_killed(folder: Path, answers: Any) -> None:
    """Body of a process that tells which runs it has started and finished."""
    log = RunLog(folder)
    while True:
        run = log.start(FACTS)
        answers.send(("started", run.id))
        run.beat()
        run.finish("done")
        answers.send(("done", run.id))


def kill_writers(folder: Path, kills: int, promises: Path) -> None:
    """Body of a process that kills others at random moments and writes down what they had promised."""
    chance = random.Random(0)
    promised = {}
    for _ in range(kills):
        answers, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=write_until_killed, args=(folder, theirs))
        child.start()
        theirs.close()
        with contextlib.suppress(EOFError):
            for last in itertools.count(-chance.randrange(6)):
                said, id = answers.recv()
                promised[id] = said
                if last == 0:
                    child.join(chance.uniform(0, 0.005))
                    child.kill()
        child.join()
    promises.write_text(json.dumps(promised))


def test_200_kills_lose_no_acknowledged_run_and_leave_none_running(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "runs")
    in_a_fresh_process(kill_writers, log.folder, 200, tmp_path / "promises.json")
    promised = json.loads((tmp_path / "promises.json").read_text())
    frame = log.frame()
    assert len(promised) > 200
    assert set(promised) <= set(frame.index)
    assert {id for id, said in promised.items() if said == "done"} <= set(frame.index[frame.status == "done"])
    assert set(frame.status) == {"done", "crashed"}
    for file in log.folder.glob("*/*"):
        assert file.is_dir() or file.name.endswith(".part") or json.loads(file.read_text())["id"] == file.parent.name


def test_no_lock_is_ever_taken(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, refuse)
    add(log, 30)
    assert len(log.frame()) == len(log.frame()) == 30


# Names


def test_ids_are_unique_and_in_order_while_the_clock_stands(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_clock(monkeypatch, lambda: datetime(2026, 11, 22, 17, 15, 3, 999_990, UTC))
    monkeypatch.setattr(wanlab.log.secrets, "randbelow", lambda _: 7)
    ids = [log.start({}).id for _ in range(40)]
    assert ids == log.ids() == list(log.frame().index)
    assert len(set(ids)) == 40
    assert ids[0].startswith("20261122-171503-")
    assert log.frame().created.is_monotonic_increasing


def test_a_clock_that_steps_back_loses_nothing(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([datetime(2026, 11, 22, 17, tzinfo=UTC) - timedelta(seconds=second) for second in range(40)])
    stop_clock(monkeypatch, lambda: next(moments))
    ids = [log.start({}).id for _ in range(40)]
    assert ids[::-1] == log.ids()


def stop_clock(monkeypatch: pytest.MonkeyPatch, now: Callable[[], datetime]) -> None:
    """The log's clock says what `now` returns."""
    clock = type("clock", (), {"now": staticmethod(lambda _: now())})
    monkeypatch.setattr(wanlab.log, "datetime", clock)


def test_a_run_is_claimed_only_by_its_own_folder(log: RunLog) -> None:
    run = log.start({"id": "mine", "status": "mine", "process": None})
    run.finish("done", clip="clip_00001.mp4")
    assert run.path == log.folder / run.id
    assert log.read(run.id) == run.facts
    assert run.facts["id"] == run.id
    assert run.facts["process"] == this_process()
    assert run.facts["format"] == 1


# Life and death


def start_and_die(folder: Path, *_: Any) -> None:
    """Body of a process that leaves a run unfinished."""
    RunLog(folder).start(FACTS)


def test_a_run_whose_process_died_is_crashed_and_one_that_works_is_running(log: RunLog) -> None:
    run_together(start_and_die, 1, log.folder)
    dead = log.ids()[0]
    file = log.folder / dead / "run.json"
    before = file.read_bytes(), file.stat().st_mtime_ns
    mine = log.start(FACTS)
    assert status(log, dead) == "crashed"
    assert status(log, mine.id) == "running"
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before, "reading wrote into the run of another process"


def test_another_process_with_the_number_of_a_dead_one_is_not_taken_for_it(log: RunLog) -> None:
    run = log.start(FACTS)
    edit(log, run.id, process=this_process() | {"started": 1.0})
    assert status(log, run.id) == "crashed"


def test_a_killed_child_that_nobody_took_away_is_dead(log: RunLog) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.read()  # it has ended, but is a zombie until wait()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    run = log.start(FACTS)
    edit(log, run.id, process=this_process() | {"pid": child.pid})
    assert status(log, run.id) == "crashed"
    child.wait()


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"boot": "other"}, {"namespace": "other"}])
def test_elsewhere_only_the_heartbeat_tells(log: RunLog, elsewhere: dict[str, str]) -> None:
    run = log.start(FACTS)
    edit(log, run.id, process=this_process() | elsewhere)
    for age, said in [(0, "running"), (SILENCE_SECONDS + 60, "crashed"), (-SILENCE_SECONDS - 60, "crashed")]:
        os.utime(log.folder / run.id / "run.json", (time.time() - age,) * 2)
        assert status(log, run.id) == said
    run.beat()
    assert status(log, run.id) == "running"


def test_a_boot_of_the_host_ends_its_runs_at_once(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    run = log.start(FACTS)
    edit(log, run.id, process=this_process() | {"boot": "the one before"})
    monkeypatch.setattr("psutil.boot_time", lambda: time.time() + 1)
    assert status(log, run.id) == "crashed"


def test_a_run_that_ends_while_it_is_read_is_not_called_crashed(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    run = log.start(FACTS)

    def end_first(*_: Any) -> bool:
        run.finish("stopped")
        return False

    monkeypatch.setattr(wanlab.run_json, "lives", end_first)
    assert log.frame().status[run.id] == "stopped"


def test_a_lost_folder_stops_no_step_and_is_named_at_the_end(log: RunLog) -> None:
    run = log.start(FACTS)
    shutil.rmtree(log.folder)
    run.beat()
    with pytest.raises(FileError, match=r"run\.json cannot be written"):
        run.finish("done")


def test_a_log_that_cannot_be_written_says_so_before_the_first_step(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    file = log.folder.parent
    file.write_text("in the way")
    with pytest.raises(FileError, match="cannot keep runs"):
        log.start(FACTS)
    with pytest.raises(FileError, match="cannot be read"):
        log.frame()
    file.unlink()
    monkeypatch.setattr(wanlab.log, "write_whole", full_disk)
    with pytest.raises(FileError, match="full"):
        log.start(FACTS)
    assert not os.listdir(log.folder), "a run that could not start left its folder"


def full_disk(path: Path, content: bytes, *, durable: bool = True) -> None:
    """A write_whole on a full disk."""
    raise FileError(f"{path}: full")


# What can be noted


def test_numbers_that_are_not_finite_are_noted_as_unknown(log: RunLog) -> None:
    run = log.start(
        {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": numpy.float32("nan")}, "e": numpy.int64(3), "f": (1, True)}
    )
    noted = json.loads((run.path / "run.json").read_text(), parse_constant=pytest.fail)
    assert [noted[name] for name in "abcef"] == [None, [None, 1.0], {"d": None}, 3, [1, True]]


def test_what_json_has_not_is_refused_by_name(log: RunLog) -> None:
    with pytest.raises(TypeError, match=r"facts\.seconds\.steps\[1\] is a set"):
        log.start({"seconds": {"steps": [1, {2}]}})
    run = log.start({})
    with pytest.raises(ValueError, match="status is 'fine'; a run ends as done, stopped, failed"):
        run.finish("fine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "facts", [{"x": "." * 2**20}, {str(n): n for n in range(600)}, {"x": functools.reduce(lambda x, _: [x], range(30), [])}]
)
def test_what_could_not_be_read_again_is_not_written(log: RunLog, facts: dict[str, Any]) -> None:
    with pytest.raises(FileError, match="cannot be kept"):
        log.start(facts)
    assert log.ids() == os.listdir(log.folder) == []


def test_any_text_can_be_noted(log: RunLog) -> None:
    id = add(log, prompt="\0\u202e<script>", error="name \udcff", **{"\udcff": "\ud83d"})
    assert log.read(id)["prompt"] == "\0\u202e<script>"
    assert log.frame().error[id] == "name ?"


def test_finish_replaces_facts_and_keeps_the_others(log: RunLog) -> None:
    id = add(log, device="cuda", seconds={"total": 1.0})
    facts = log.read(id)
    assert facts["device"] == "cuda"
    assert facts["seconds"] == {"total": 1.0}
    assert facts["settings"] == FACTS["settings"]


# The table


def test_an_empty_log_has_the_columns_of_every_log(log: RunLog) -> None:
    frame = log.frame()
    assert list(frame.columns) == ["status", "created", *declared(), "seconds", "error"]
    assert frame.empty
    assert frame.index.name == "id"
    assert not log.folder.exists(), "reading made a folder"
    assert str(frame.created.dtype) == "datetime64[us, UTC]"
    assert frame.prompt.dtype == TEXT
    assert frame.cfg.dtype == float


def test_columns_are_in_the_order_of_declaration_with_fitting_types(log: RunLog) -> None:
    id = add(log, 3)
    frame = log.frame()
    assert list(frame.columns) == [
        *("status", "created", *declared(), "seconds", "seconds.denoise", "seconds.steps", "peak_vram_gib", "changes"),
        *("model.name", "model.base_precision", "device", "error", "versions.torch"),
    ]
    kinds = {str: str(TEXT), int: "int64", float: "float64", bool: "bool"}
    given = Settings().flat()  # of techniques that are off there is no value, which is a float
    expected = {
        name: kinds[float if given.get(name) is None and setting.kind is not str else setting.kind]
        for name, setting in declared().items()
    }
    assert {name: str(frame[name].dtype) for name in declared()} == expected
    assert str(frame.created.dtype) == "datetime64[us, UTC]"
    assert abs(frame.created[id] - pandas.Timestamp.now(tz="UTC")) < timedelta(minutes=5)
    assert frame.seconds[id] == 3.5
    assert frame.peak_vram_gib.dtype == float
    assert math.isnan(frame.peak_vram_gib[id])
    assert frame["seconds.steps"][id] == [0.25, 0.5]
    assert frame.changes[id] == [["cfg", 3.0]]


def test_settings_of_older_and_newer_versions_are_kept_at_the_end(log: RunLog) -> None:
    old = log.start({"format": 0, "settings": {"sampling_shift": 3, "clip.fps": 8, "cfg": 4.0}, "seconds": 2})
    new = log.start({"settings": {"cfg": 5.0, "status": "a setting of that name"}, "audio": {"scale": 1.5}})
    frame = log.frame()
    assert list(frame.columns[-3:]) == ["sampling_shift", "clip.fps", "audio.scale"]
    assert frame.sampling_shift[old.id] == 3
    assert math.isnan(frame.sampling_shift[new.id])
    assert list(frame.cfg) == [4.0, 5.0]
    assert frame.seconds[old.id] == 2
    assert set(frame.status) == {"running"}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, 2**64 - 1], "uint64"),
        ([-1, 2**64 - 1], "object"),
        ([1, 2**70], "object"),
        ([1, None], "float64"),
        ([2**64 - 1, None], "object"),
        ([1, 2.5], "float64"),
        ([True, None], "object"),
        (["a", None], str(TEXT)),
        (["a", 1], "object"),
        ([[1, 2], [3, 4]], "object"),
    ],
)
def test_a_column_keeps_its_values_exactly(log: RunLog, values: list[Any], dtype: str) -> None:
    for value in values:
        log.start({"x": value})
    column = log.frame().x
    assert str(column.dtype) == dtype
    assert [None if value is None else kept for value, kept in zip(values, column, strict=True)] == values
    assert list(column.isna()) == [value is None for value in values]


def test_unknown_and_damaged_ids_are_named(log: RunLog) -> None:
    id = add(log)
    (log.folder / id / "run.json").write_text("{")
    with pytest.raises(FileError, match=rf"{id}/run\.json cannot be read: Expecting"):
        log.read(id)
    for strange in ("20261122-171503-k3f9xq", f"{id}/run.json", "", "\0"):
        with pytest.raises(FileError):
            log.read(strange)


def test_reading_needs_no_torch_and_writing_no_pandas() -> None:
    code = "import sys, wanlab.log; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Damage

WHOLE = json.dumps({"format": 1, "id": "x", "status": "done", "created": "2026-11-22T17:15:03.000001+00:00"} | FACTS).encode()
HOSTILE = {
    "empty": b"",
    "half": WHOLE[: len(WHOLE) // 2],
    "list": b"[]",
    "text": b'"done"',
    "no status": b"{}",
    "status is no text": b'{"status": ["done"]}',
    "NaN": b'{"status": "done", "cfg": NaN}',
    "nested": b'{"status": "done", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested mappings": b'{"status": "done", "x": ' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}",
    "huge whole number": b'{"status": "done", "x": ' + b"9" * 5000 + b"}",
    "half a pair": rb'{"status": "done", "prompt": "\ud83d"}',
    "half a pair in a name": rb'{"status": "done", "\udc00": 1}',
    "not UTF-8": b'{"status": "done", "prompt": "\xff"}',
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "a million columns": json.dumps({"status": "done"} | {str(n): n for n in range(60_000)}).encode(),
}
STRANGE = {
    "duplicate names": b'{"status": "failed", "cfg": 1, "cfg": 2, "status": "done"}',
    "infinite": b'{"status": "done", "settings": {"cfg": 1e400}}',
    "large whole number": b'{"status": "done", "settings": {"seed": ' + b"9" * 400 + b"}}",
    "NUL and bidi": rb'{"status": "done", "settings": {"prompt": "\u0000\u202e"}}',
    "whole pair": rb'{"status": "done", "settings": {"prompt": "\ud83d\ude00"}}',
    "created is no time": b'{"status": "done", "created": "yesterday"}',
    "created is a number": b'{"status": "done", "created": 1e300}',
    "created in year 1": b'{"status": "done", "created": "0001-01-01T00:00:00+14:00"}',
    "settings are a list": b'{"status": "done", "settings": [1]}',
    "settings hold the log's own": b'{"status": "done", "settings": {"status": 1, "created": 2, "seconds": {"total": {}}}}',
}


def put(log: RunLog, content: bytes, id: str = "20261122-171503-k3f9xq") -> str:
    """A run.json with this content."""
    (log.folder / id).mkdir(parents=True, exist_ok=True)
    (log.folder / id / "run.json").write_bytes(content)
    return id


def show(frame: pandas.DataFrame) -> None:
    """What notebooks do with a table."""
    assert repr(frame)
    assert frame._repr_html_()
    assert frame.to_csv()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_run_is_a_row_that_says_why(log: RunLog, name: str) -> None:
    good, bad = add(log), put(log, HOSTILE[name])
    frame = log.frame()
    assert dict(frame.status) == {bad: "unreadable", good: "done"}
    assert frame.error[bad]
    assert len(frame.columns) < 150
    show(frame)
    with pytest.raises(FileError, match=bad):
        log.read(bad)


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_run_is_a_row_like_others(log: RunLog, name: str) -> None:
    good, strange = add(log), put(log, STRANGE[name])
    frame = log.frame()
    assert dict(frame.status) == {strange: "done", good: "done"}
    assert str(frame.created.dtype) == "datetime64[us, UTC]"
    show(frame)
    log.read(strange)


def test_what_is_no_file_or_too_large_is_not_opened(log: RunLog) -> None:
    pipe, folder, large = (put(log, b"", name) for name in ("pipe", "folder", "large"))
    for id in (pipe, folder):
        (log.folder / id / "run.json").unlink()
    os.mkfifo(log.folder / pipe / "run.json")  # reading it would wait for a writer
    (log.folder / folder / "run.json").mkdir()
    os.truncate(log.folder / large / "run.json", 50 * 2**20)
    frame = log.frame()
    assert set(frame.status) == {"unreadable"}
    assert "larger than" in frame.error[large]


def test_only_folders_with_a_run_are_runs(log: RunLog) -> None:
    id = add(log)
    for name in ("20261122-171503-nowrit", ".hidden", "notes"):
        (log.folder / name).mkdir()
    (log.folder / "a file").write_text("")
    put(log, WHOLE, "line\nbreak \u202e")
    os.mkdir(os.fsencode(log.folder) + b"/\xff")
    (log.folder / ".hidden" / "run.json").write_bytes(WHOLE)
    assert log.ids() == list(log.frame().index) == [id]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["running", "done", "2026-11-22T17:15:03Z"]),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["total", "pid"]), parts, max_size=3)
    ),
)
json_facts = st.dictionaries(
    st.sampled_from(["status", "created", "settings", "process", "seconds", "error", "id", "x", ""]), json_values
).map(lambda facts: json.dumps({"status": "running"} | facts).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good run.json with a part of it replaced."""
    begin = draw(st.integers(0, len(WHOLE)))
    end = draw(st.integers(begin, min(begin + 20, len(WHOLE))) | st.just(len(WHOLE)))
    return (
        WHOLE[:begin]
        + draw(st.binary(max_size=20) | st.text(max_size=9).map(lambda text: text.encode("utf-8", "replace")))
        + WHOLE[end:]
    )


@fuzzing(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary() | damaged() | json_facts)
@example(WHOLE)
def test_no_content_of_a_run_breaks_the_table_or_hangs(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(folder)
        id = put(log, content)
        began = time.process_time()
        frame = log.frame()
        assert time.process_time() - began < 1
        assert list(frame.index) == [id]
        assert isinstance(frame.status[id], str)
        assert str(frame.created.dtype) == "datetime64[us, UTC]"
        show(frame)
        assert status(log, id) == frame.status[id]


# The index


@pytest.fixture
def indexed(log: RunLog) -> Iterator[RunLog]:
    """A log of all kinds of runs, with an index that is up to date."""
    add(log, 20)
    add(log, 20, error=None, prompt="\u202e\0é", tags=["a"], large=2**70, extra={"list": [{"a": 1}]})
    log.start(FACTS)
    put(log, HOSTILE["half"])
    put(log, STRANGE["infinite"], "20261122-171503-k3f9xr")
    assert not (log.folder / ".index").exists()
    log.frame()
    assert (log.folder / ".index").exists()
    yield log
    assert not list(log.folder.glob("*.part"))


def without_index(log: RunLog) -> pandas.DataFrame:
    """The truth."""
    shutil.rmtree(log.folder / ".index") if (log.folder / ".index").is_dir() else (log.folder / ".index").unlink(
        missing_ok=True
    )
    (log.folder / ".index").mkdir()  # so that it stays lost
    frame = log.frame()
    (log.folder / ".index").rmdir()
    return frame


def test_with_and_without_the_index_the_rows_are_equal(indexed: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    read = wanlab.run_json._content
    monkeypatch.setattr(wanlab.run_json, "_content", lambda file, stamp: opened.append(file) or read(file, stamp))
    quick = indexed.frame()
    assert len(opened) == 2, "a finished run was opened although it is in the index"
    assert_frame_equal(quick, without_index(indexed))


def test_a_scribbled_index_changes_no_row(indexed: RunLog) -> None:
    file = indexed.folder / ".index"
    whole, chance = file.read_bytes(), random.Random(0)
    truth = without_index(indexed)
    scribbled = [b"", b"\n", whole[:-1], whole + b" ", b"[]", WHOLE, whole.replace(b"wanlab 1", b"wanlab 2"), b"\xff" * 100]
    for _ in range(40):
        place = chance.randrange(len(whole))
        scribbled.append(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
    for content in scribbled:
        file.write_bytes(content)
        assert_frame_equal(indexed.frame(), truth)
        assert file.read_bytes() == whole, "the index was not made anew"


def test_an_outdated_index_changes_no_row(indexed: RunLog) -> None:
    ids = indexed.ids()
    shutil.rmtree(indexed.folder / ids[5])
    put(indexed, WHOLE, ids[6])
    edit(indexed, ids[7], status="stopped")
    put(indexed, HOSTILE["list"], ids[8])
    add(indexed, 3)
    quick = indexed.frame()
    assert_frame_equal(quick, without_index(indexed))
    assert ids[5] not in quick.index
    assert quick.status[ids[7]] == "stopped"
    assert quick.status[ids[8]] == "unreadable"


def test_a_folder_that_can_only_be_read_is_read(indexed: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = indexed.frame()
    (indexed.folder / ".index").unlink()
    monkeypatch.setattr(wanlab.log, "write_whole", full_disk)
    assert_frame_equal(indexed.frame(), truth)


def test_unfinished_runs_are_not_in_the_index(indexed: RunLog) -> None:
    index = (indexed.folder / ".index").read_text()
    frame = indexed.frame()
    unfinished = list(frame.index[frame.status.isin(["running", "unreadable"])])
    assert len(unfinished) == 2
    assert not any(id in index for id in unfinished)


def read_and_remove(folder: Path, number: int, barrier: Any) -> None:
    """Body of a process that reads a log while others write and remove its index."""
    log = RunLog(folder)
    barrier.wait()
    for _ in range(10):
        frame = log.frame()
        assert len(frame) == 43
        assert list(frame.status).count("done") == 41
        if number % 2:
            (folder / ".index").unlink(missing_ok=True)


def test_eight_readers_that_write_and_remove_the_index_all_read_well(indexed: RunLog) -> None:
    run_together(read_and_remove, 8, indexed.folder)
