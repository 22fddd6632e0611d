"""A run has its row, its folder and its steps, however it ends."""

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import wanlab as wl
from wanlab.bench import Bench
from wanlab.errors import FileError, ModelError, SettingsError
from wanlab.model.model import Model
from wanlab.run import Run, perform
from wanlab.settings import Settings
from wanlab.timeline import Timeline

Make = Callable[..., Settings]


def test_a_run_is_a_row_a_folder_and_a_clip(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small(), {"clip.frame_rate": 8})
    row = lab.log.loc[run.id]
    assert (row["status"], row["steps"], row["cfg"], row["clip.frame_rate"]) == ("done", 6, 3.0, 8.0)
    assert row["steps_reused"] == 0
    assert row["seconds"] == pytest.approx(
        sum(row[f"seconds.{stage}"] for stage in ("load", "encode", "denoise", "decode", "save"))
    )
    assert len(row["seconds.steps"]) == 6
    assert 0.05 < row["peak_rss_gib"] < 64
    assert row["versions.torch"] == torch.__version__.split("+")[0] or row["versions.torch"] == torch.__version__
    assert row["device"] == "cpu"
    assert pd.isna(row["error"])
    assert run.clip.frames.shape == (5, 32, 32, 3)
    assert sorted(file.name for file in run.folder.iterdir() if not file.name.startswith(".")) >= [
        "clip_00001.mp4",
        "clip_00001.mp4.json",
        "preview.png",
        "run.json",
    ]
    assert wl.read_settings(run.folder / "clip_00001.mp4")["seed"] == 3


def test_latents_velocities_and_steps_agree(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small(solver="euler"))
    assert len(run.steps) == len(run.velocities) == 6
    for step in run.steps:
        assert torch.equal(run.latents(step.index), step.latents)
        assert torch.equal(run.velocity(step.index), step.velocity)
    assert run.latents(0).dtype == torch.float32
    assert torch.equal(run.latents(6), run.steps[-1].after)
    torch.testing.assert_close(run.latents(6), run.steps[-1].clean)
    assert [step.index for step in run.steps[1:3]] == [1, 2]
    with pytest.raises(SettingsError, match="k is 7"):
        run.latents(7)
    with pytest.raises(IndexError):
        run.steps[6]


def test_the_same_settings_again_cost_no_pass_of_the_model(lab: wl.Lab, small: Make, calls: list[float]) -> None:
    first = lab.run(small())
    calls.clear()
    again = lab.run(small())
    assert not calls
    assert (again.steps_reused, again.id != first.id) == (6, True)
    assert np.array_equal(again.clip.frames, first.clip.frames)
    assert again.facts["seconds"]["steps"] == [None] * 6  # what was found was not measured


def test_clip_settings_change_the_clip_but_no_velocity(lab: wl.Lab, small: Make, calls: list[float]) -> None:
    lab.run(small())
    calls.clear()
    run = lab.run(small(), {"clip.format": "gif", "clip.pingpong": True, "clip.frame_rate": 10, "clip.filename_prefix": "a/b"})
    assert not calls
    assert run.facts["clip"] == "a/b_00001.gif"
    assert (run.folder / "a" / "b_00001.gif").exists()


def test_save_output_off_writes_no_clip(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small(), {"clip.save_output": False})
    assert run.facts["clip"] is None
    assert not list(run.folder.glob("clip*"))


def test_a_fork_tells_where_it_came_from(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    fork = run.fork(4, cfg=2.0)
    row = lab.log.loc[fork.id]
    assert (row["forked_from"], row["forked_at"], row["steps_reused"]) == (run.id, 4, 4)
    assert torch.equal(run.latents(4), fork.latents(4))
    assert not torch.equal(run.latents(6), fork.latents(6))
    deeper = fork.fork(5, prompt="a blue square grows on a white background")
    assert deeper.steps_reused == 5
    with pytest.raises(SettingsError, match="shift cannot change in the middle"):
        run.fork(2, shift=8.0)
    assert len(lab.log) == 3


def test_a_run_opens_again_from_the_log(lab: wl.Lab, make_bench: Callable[[], Bench], small: Make, calls: list[float]) -> None:
    fork = lab.run(small()).fork(3, cfg=1.0)
    calls.clear()
    other = wl.Lab(lab.folder)
    other._bench = make_bench()
    opened = other.open(fork.id)
    assert opened.timeline == fork.timeline
    assert np.array_equal(opened.clip.frames, fork.clip.frames)
    assert not calls


class Boom(Exception):
    pass


def break_at(monkeypatch: pytest.MonkeyPatch, model: Model, call: int, error: BaseException) -> None:
    velocity, seen = model.velocity, []

    def breaking(*args: Any) -> Any:
        seen.append(1)
        if len(seen) == call:
            raise error
        return velocity(*args)

    monkeypatch.setattr(model, "velocity", breaking)


@pytest.mark.parametrize("step", range(6))
def test_stop_at_any_step_loses_nothing(
    lab: wl.Lab, small: Make, model: Model, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    settings = small(cfg=1.0)
    whole = perform(Bench_of(lab, "other"), Timeline(settings))
    break_at(monkeypatch, model, step + 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match=f"Stopped after {step} of 6 steps, which are kept"):
        lab.run(settings)
    monkeypatch.undo()
    row = lab.log.iloc[-1]
    assert (row["status"], row["steps_done"]) == ("stopped", step)
    stopped = lab.open(str(row.name))
    assert len(stopped.steps) == step
    if step:
        assert stopped.clip.frames.shape == (5, 32, 32, 3)
        assert "text/html" in stopped._repr_mimebundle_()
    run = lab.run(settings)
    assert run.steps_reused == step
    assert torch.equal(run.latents(6), whole.latents(6))


def Bench_of(lab: wl.Lab, name: str) -> Bench:
    """A bench in a folder of its own, with the same loaded model."""
    bench = Bench(lab.folder.parent / name, lab._bench.settings)
    bench.__dict__["model"] = lab._bench.model
    return bench


def test_a_failed_run_has_its_row_and_its_steps(
    lab: wl.Lab, small: Make, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, model, 3, Boom("the card fell out"))
    with pytest.raises(Boom, match="the card fell out"):
        lab.run(small(cfg=1.0))
    row = lab.log.iloc[-1]
    assert (row["status"], row["steps_done"], row["error"]) == ("failed", 2, "test_run.Boom: the card fell out")
    monkeypatch.undo()
    assert lab.run(small(cfg=1.0)).steps_reused == 2


def test_a_failed_decode_keeps_all_steps(
    lab: wl.Lab, small: Make, model: Model, monkeypatch: pytest.MonkeyPatch, calls: list[float]
) -> None:
    def out_of_memory(latents: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("no memory for the decoder")

    monkeypatch.setattr(model, "decode", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        lab.run(small(cfg=1.0))
    monkeypatch.delattr(model, "decode")
    calls.clear()
    assert lab.run(small(cfg=1.0)).steps_reused == 6
    assert not calls


def test_an_error_keeps_no_tensor_alive(lab: wl.Lab, small: Make, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def failing(latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        big = torch.zeros(1000)
        alive.extend((weakref.ref(big), weakref.ref(latents)))
        raise torch.OutOfMemoryError("too big")

    monkeypatch.setattr(model, "velocity", failing)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        lab.run(small())
    gc.collect()
    assert caught.value.__traceback__ is not None
    assert [ref() for ref in alive] == [None, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 80},
        {"width": 100},
        {"steps": "20"},
        {"nonsense": 1},
        {"cfg": float("inf")},
        {"prompt": 3},
        {"clip.filename_prefix": "../up"},
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(lab: wl.Lab, wrong: dict[str, Any], calls: list[float]) -> None:
    with pytest.raises(SettingsError):
        lab.run("a red circle moves right on a blue background", wrong)
    assert not calls
    assert not lab.folder.exists()


@pytest.mark.parametrize("setting", ["prompt", "negative_prompt"])
def test_a_text_longer_than_the_encoder_reads_is_refused_before_anything_is_written(
    lab: wl.Lab, small: Make, calls: list[float], setting: str
) -> None:
    long = {setting: " ".join(["red"] * 600)}
    with pytest.raises(SettingsError, match=f"^{setting} has 601 tokens; the text encoder reads 512"):
        lab.run(small(cfg=5, **long))
    assert not calls
    assert not lab.folder.exists()
    run = lab.run(small(cfg=5))
    with pytest.raises(SettingsError, match=f"^{setting} has 601 tokens"):
        run.fork(1, **long)
    assert len(lab.log) == 1


def test_a_text_of_exactly_as_many_tokens_as_the_encoder_reads_is_read(model: Model) -> None:
    assert model.encode(" ".join(["red"] * 511)).shape[1] == 512
    with pytest.raises(SettingsError, match="513"):
        model.check(" ".join(["red"] * 512))


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(lab: wl.Lab, small: Make, calls: list[float]) -> None:
    lab.folder.write_text("a file where the folder should be")
    with pytest.raises(FileError):
        lab.run(small())
    assert not calls


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no/such/folder", "there is no such folder"),
        ("nonsense", "there is no such folder"),
        (".", "no model_index.json"),
    ],
)
def test_a_wrong_model_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        wl.Lab(tmp_path, model=name)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "control"
    shutil.copytree(wl.tiny_path(), folder)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps({**config, "in_channels": 52}))
    with pytest.raises(ModelError, match="52 input channels"):
        wl.Lab(tmp_path, model=str(folder))
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelError, match="vae missing"):
        wl.Lab(tmp_path, model=str(folder))


def test_a_folder_with_the_same_weights_is_the_same_model(lab: wl.Lab, tmp_path: Path, small: Make) -> None:
    import shutil

    shutil.copytree(wl.tiny_path(), tmp_path / "copy")
    run = lab.run(small())
    other = wl.Lab(lab.folder, model=str(tmp_path / "copy"))
    assert other.run(small()).steps_reused == 6
    half = wl.Lab(lab.folder, model=str(tmp_path / "copy"), base_precision="bf16")
    assert half.plan(run.settings).table()["steps_reused"].tolist() == [0]
    made = half.run(small(steps=2))
    assert made.velocity(0).dtype == torch.bfloat16
    assert made.latents(2).dtype == torch.float32


def test_the_plan_knows_the_calls_and_what_is_reused(lab: wl.Lab, small: Make, calls: list[float]) -> None:
    lab.run(small())
    variants = [{"cfg": 1.0}, {"shift": 8.0}, {}]
    plan = lab.plan(small(), *variants)
    assert plan.table()["steps_reused"].tolist() == [6, 0, 1, 6]
    assert not calls[12:]
    calls.clear()
    for variant in variants:
        lab.run(small().but(variant))
    assert len(calls) == plan.model_calls == 16
    assert plan.steps(2)["passes"].tolist() == [0, 2, 2, 2, 2, 2]
    plan.show()


def test_compare_shows_the_settings_that_differ(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    page = wl.compare(run, lab.run(small(), cfg=2.0), mode="wipe")
    assert "cfg 3.0" in page.text
    assert "cfg 2.0" in page.text
    assert "seed" not in page.html.split("<table")[1].split("</table")[0]


def test_a_run_and_its_steps_show_themselves(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small(prompt="<script>alert(1)</script>"))
    for shown in (run, run.steps):
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/html", "image/png", "text/plain"}
        assert "<script>alert" not in bundle["text/html"]
    assert run.steps.decode(2).shape == (5, 32, 32, 3)


def test_trim_takes_steps_but_neither_rows_nor_clips(lab: wl.Lab, small: Make, calls: list[float]) -> None:
    run = lab.run(small())
    before = run.clip.frames
    assert lab.trim(0) > 0
    calls.clear()
    opened: Run = lab.open(run.id)
    assert (run.folder / run.facts["clip"]).exists()
    assert len(lab.log) == 1
    assert np.array_equal(opened.clip.frames, before)  # computed again
    assert len(calls) == 12


def test_every_setting_is_in_the_signature_of_run() -> None:
    import inspect

    parameters = inspect.signature(wl.Lab.run).parameters
    assert {"prompt", "changes", "fresh", "width", "height", "frames", "steps", "cfg", "shift", "solver", "seed"} <= set(
        parameters
    )
