"""Killed kernels, and many of them at once: nothing that was finished is lost, and nothing is half-written."""

import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from tqdm import tqdm

from wanlab.bench import Bench
from wanlab.files import write_whole
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.run import perform
from wanlab.settings import Settings
from wanlab.timeline import Timeline

Make = Callable[..., Settings]


def fork_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process, which has the loaded model already; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        tqdm.set_lock(threading.RLock())  # its own lock is shared with us, and would stay taken if the child is killed
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def join(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stored(bench: Bench, model: Model, line: Timeline) -> int:
    return sum(name in bench.store for name in step_names(model.id, line))


def partial_files(folder: Path) -> list[Path]:
    """Files under their final names that cannot be read."""
    bad = []
    for file in folder.rglob("*.safetensors"):
        try:
            load(file.read_bytes())
        except Exception:
            bad.append(file)
    return bad


def test_after_20_kills_a_rerun_makes_the_same_clip_with_only_the_missing_calls(
    model: Model, make_bench: Callable[[], Bench], tmp_path: Path, small: Make, calls: list[float]
) -> None:
    bench, rng = make_bench(), random.Random(1)
    began = time.perf_counter()
    whole = perform(make_bench(), Timeline(small(cfg=1.0, steps=12, seed=99)))
    usual = time.perf_counter() - began
    partly = 0
    for kill in range(20):
        line = Timeline(small(cfg=1.0, steps=12, seed=kill))
        pid = fork_child(lambda line=line: perform(bench, line))
        time.sleep(rng.uniform(0.05, 1.1) * usual)
        os.kill(pid, signal.SIGKILL)
        join(pid)
        assert not partial_files(bench.store.folder)
        found = stored(bench, model, line)
        partly += 0 < found < 12
        calls.clear()
        run = perform(bench, line)
        assert len(calls) == 12 - found == 12 - run.steps_reused
        alone = Bench(tmp_path / f"alone{kill}", bench.settings)
        alone.__dict__["model"] = model
        assert torch.equal(run.latents(12), perform(alone, line).latents(12))
    assert partly >= 3  # the kills did hit runs in the middle
    log = bench.log.frame()
    assert set(log["status"]) <= {"done", "crashed"}
    assert (log["status"] == "done").sum() >= 21
    assert whole.status == "done"


def test_two_kernels_that_run_the_same_settings_at_once_get_the_same_clip(
    model: Model, make_bench: Callable[[], Bench], small: Make
) -> None:
    lines = [Timeline(small(cfg=1.0, seed=k)) for k in range(4)]
    pids = [fork_child(lambda: [perform(make_bench(), line) for line in lines]) for _ in range(2)]
    assert [join(pid) for pid in pids] == [0, 0]
    bench = make_bench()
    log = bench.log.frame()
    assert len(log) == 8
    assert set(log["status"]) == {"done"}
    assert not partial_files(bench.store.folder)
    assert len(list(bench.store.folder.glob("*/*.safetensors"))) == 24
    for line in lines:
        run = perform(bench, line)
        assert run.steps_reused == 6


def test_many_processes_that_write_the_same_file_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([k]) * 100_000 for k in range(8)]
    pids = [
        fork_child(lambda content=content: [write_whole(tmp_path / "one", content) for _ in range(20)]) for content in contents
    ]
    assert [join(pid) for pid in pids] == [0] * 8
    assert (tmp_path / "one").read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_a_written_file_is_synced_before_its_name_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace

    def noting_sync(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def noting_replace(old: Path, new: Path) -> None:
        order.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "replace", noting_replace)
    write_whole(tmp_path / "one", b"1")
    assert order == ["file", "name", "folder"]
    order.clear()
    write_whole(tmp_path / "two", b"2", durable=False)
    assert order == ["name"]
