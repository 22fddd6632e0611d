"""The benchmark of real sizes, on a transformer of tiny widths, so that it works on the day when there is a GPU."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import disk_14b
import real_rows
import real_size
from random_reader import RandomReader
from real_rows import Measured, RandomModel, Row, Subject, measure, passes

from wanlab.model.checkpoint import Checkpoint
from wanlab.settings import Settings
from wanlab.weights.registry import known

SMALL = {"num_attention_heads": 2, "attention_head_dim": 24, "ffn_dim": 64, "num_layers": 4, "text_dim": 32, "freq_dim": 32}
CONFIG = {**known("Wan2.1-T2V-14B").transformer, **SMALL}
CLIP = Settings(width=32, height=32, frames=5, steps=3, cfg=5.0)
SUBJECT = Subject(CONFIG, CLIP, "cpu", 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def model_of(row: Row, folder: Path) -> RandomModel:
    return RandomModel(SUBJECT.loader(row), Checkpoint("random", {}, {"transformer": CONFIG}), folder)


def output(model: RandomModel) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = model.transformer.register_forward_hook(lambda *given: seen.append(given[-1][0]))
    passes(SUBJECT, model.transformer, model)()
    hook.remove()
    assert len(seen) == 2
    return seen[0]


def test_random_reader_has_the_parameters_of_the_class() -> None:
    from accelerate import init_empty_weights
    from diffusers import WanTransformer3DModel

    with init_empty_weights():
        real = WanTransformer3DModel.from_config(dict(CONFIG))
    reader = RandomReader(CONFIG, torch.device("cpu"))
    shapes = {name: tuple(one.shape) for name, one in real.named_parameters()}
    assert {name: reader.shape(name) for name in reader.names()} == shapes
    for name, shape in shapes.items():
        read = reader.read(name)
        assert tuple(read.shape) == shape
        assert read.untyped_storage().nbytes() == read.nbytes  # nothing more is held
        assert torch.equal(read, reader.read(name))


def test_every_way_that_keeps_weights_as_they_are_computes_the_same(tmp_path: Path) -> None:
    rows = {row.name: row for row in real_size.rows_for(4, cuda=False)}
    resident = output(model_of(rows["resident"], tmp_path))
    assert bool(resident.isfinite().all())
    for name in ("swap 2", "swap 4", "swap 4, prefetch 2", "swap 4, in order", "swap 4, disk"):
        model = model_of(rows[name], tmp_path)
        assert torch.equal(output(model), resident), name
        assert model.blocks_swapped == rows[name].loader["blocks_to_swap"]
        model.unload()
    for name in ("group offload", "group offload, 4 blocks"):
        model = model_of(rows[name], tmp_path)
        model.transformer.enable_group_offload(torch.device("cpu"), **rows[name].group or {})
        assert torch.equal(output(model), resident), name


def test_every_row_is_measured_beside_its_plan() -> None:
    rows = real_size.chosen(real_size.rows_for(4, cuda=False), "diffusers,resident,swap 2,group offload,int8,*disk")
    told: list[Measured] = []
    found = real_size.run(SUBJECT, rows, 600, told.append)
    assert [one.row for one in found] == [row.name for row in rows]
    assert found == told
    for row, one in zip(rows, found, strict=True):
        assert not one.note, (one.row, one.note)
        assert one.seconds is not None
        assert one.seconds > 0
        assert one.peak_gib is not None
        assert (one.planned_gib is None) == (row.group is not None) == (one.planned_seconds is None)
        assert (one.overhead is None) == (one.row != "resident")
    assert len(real_size.aims(found, 2)) == 2 + 3


def test_rows_of_a_gpu_are_settings_that_wanlab_takes() -> None:
    from wanlab.settings import ModelSettings

    rows = real_size.rows_for(40, cuda=True)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        ModelSettings().but({"load_device": "cuda", "base_precision": "bf16", **row.loader})


def test_a_row_that_does_not_work_here_is_a_sentence_and_the_next_is_measured() -> None:
    rows = [Row("attention sageattn", {"attention_mode": "sageattn"}), Row("swap 9", {"blocks_to_swap": 9}), Row("swap 2")]
    found = real_size.run(SUBJECT, rows, 600, lambda one: None)
    assert found[0].note.startswith("SettingsError: attention_mode is 'sageattn', which does not work here")
    assert found[1].note.startswith("SettingsError: blocks_to_swap is 9")
    assert found[2].seconds is not None


def test_out_of_memory_is_told_with_the_plan_and_its_memory_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Any]] = []

    def hungry(subject: Subject, transformer: Any, model: RandomModel) -> real_rows.Step:
        seen.append(weakref.ref(transformer))

        def step() -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        return step

    monkeypatch.setattr(real_rows, "passes", hungry)
    found = measure(SUBJECT, Row("diffusers", by="diffusers"), tmp_path)
    assert found.note.startswith("out of memory; the plan: fits in ")
    assert found.seconds is None
    assert found.planned_gib is not None
    gc.collect()
    assert seen[0]() is None


def test_what_cannot_fit_is_not_tried_on_a_cpu(tmp_path: Path) -> None:
    found = measure(SUBJECT, Row("resident", {"device_gib": 0.5, "margin_gib": 1.0}), tmp_path)
    assert found.note.startswith("not tried: fits in 0.5 GB: no")


def test_no_row_is_begun_behind_the_budget() -> None:
    found = real_size.run(SUBJECT, [Row("resident"), Row("swap 2")], 0, lambda one: None)
    assert [one.note for one in found] == ["not begun: the budget was spent"] * 2


def test_aims_compare_at_equal_memory() -> None:
    found = [
        Measured("resident", 10.0, peak_gib=30.0, overhead=0.004),
        Measured("swap 20", 10.2, peak_gib=18.0),
        Measured("swap 40", 10.5, peak_gib=5.02),
        Measured("swap 40, disk", 9.0, peak_gib=5.0),  # would wait elsewhere
        Measured("fp8_e4m3fn_scaled", 8.0, peak_gib=4.0),  # and this is no bf16
        Measured("group offload", 12.0, peak_gib=5.0),
        Measured("group offload, 4 blocks", 20.0, peak_gib=20.0),
        Measured("sage", note="out of memory"),
    ]
    assert real_size.aims(found, 20)[2:] == [
        "| swap 20 against resident, seconds | +2.0% | at most +3 % |",
        "| swap 40 against group offload, 5.02 and 5.00 GiB, seconds | -12.5% | below 0 |",
        "| swap 20 against group offload, 4 blocks, 18.00 and 20.00 GiB, seconds | -49.0% | below 0 |",
        "| the loop against the bare passes | +0.40% | below +1 % |",
    ]
    assert real_size.aims([], 20) == []


def test_a_line_tells_how_far_the_plan_is() -> None:
    assert real_size.line(Measured("resident", 2.0, 1.9, 30.0, 31.5, 4.0)) == (
        "| resident | 2.000 | 1.900 (-5%) | 30.00 | 31.50 (+5%) | 4.0 |  |"
    )
    assert real_size.line(Measured("x", planned_gib=99.0, note="out of memory")) == "| x |  |  |  | 99.00 |  | out of memory |"


def test_rows_are_chosen_by_patterns() -> None:
    rows = real_size.rows_for(40, cuda=True)
    assert [row.name for row in real_size.chosen(rows, "swap 20, group off*am")] == [
        "swap 20",
        "group offload, record_stream",
    ]
    assert {row.name for row in real_size.chosen(rows, "resident,gguf*")} == {"resident", "gguf_q8_0", "gguf_q4_0"}
    assert real_size.chosen(rows, "") == rows


@pytest.mark.parametrize(("cfg", "branches", "count"), [("two", 1, 2), ("batched", 2, 1), ("off", 1, 1)])
def test_bare_passes_are_those_of_a_step(cfg: str, branches: int, count: int, tmp_path: Path) -> None:
    subject = Subject(CONFIG, CLIP.but(real_size.GUIDANCE[cfg]), "cpu", 1)
    seen: list[int] = []
    model = model_of(Row("resident"), tmp_path)
    model.transformer.register_forward_pre_hook(
        lambda _, given, named: seen.append(len(given[0] if given else named["hidden_states"])), with_kwargs=True
    )
    passes(subject, model.transformer, model)()
    assert seen == [branches] * count
    bare, seen[:] = list(seen), []
    from wanlab.denoise import denoise
    from wanlab.store import StepStore
    from wanlab.timeline import Timeline

    next(denoise(model, Timeline(subject.settings), StepStore(tmp_path / "steps"), fresh=True))
    assert seen == bare


def test_options_make_the_small_and_the_real_subject() -> None:
    none = {"frames": None, "width": None, "height": None, "blocks": None, "steps": None, "device": None, "cfg": "two"}
    small = real_size.subject_of(Namespace(model="14B", small=True, **none))
    assert (small.config["num_layers"], small.device, small.settings.frames, small.settings.steps) == (4, "cpu", 9, 4)
    real = real_size.subject_of(Namespace(model="14B", small=False, **none | {"device": "cuda"}))
    assert (real.config["num_layers"], real.settings.width, real.settings.height, real.settings.frames) == (40, 832, 480, 81)


def test_the_script_prints_a_table_and_writes_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Small:
        transformer = CONFIG

    monkeypatch.setattr(real_size, "known", lambda name: Small)
    monkeypatch.setattr(sys, "argv", f"real_size.py --small --rows resident --json {tmp_path / 'rows.json'}".split())
    real_size.main()
    printed = capsys.readouterr().out
    assert printed.startswith("Wan 14B, 4 blocks, 9 frames of 128 x 128 pixels, a step is two passes, one for each branch.\n")
    assert printed.count("\n| resident | ") == 1
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["row"] == "resident"


def test_a_checkpoint_on_the_disk_makes_the_velocity_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = Settings(width=32, height=32, frames=5, steps=1, cfg=1.0)
    disk_14b.run(tmp_path, CONFIG, clip, few=2)
    printed = capsys.readouterr().out
    assert "| the velocity is finite; both are equal | yes; yes |" in printed
    assert printed.endswith("2 blocks of it, from the disk and in memory: the same bits\n")


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="GiB free, and"):
        disk_14b.written(tmp_path, CONFIG, 10**18)
    assert not list(tmp_path.iterdir())
