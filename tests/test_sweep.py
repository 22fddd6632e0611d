"""Sweeps: what they ask for, what their plans promise, that they go on after anything, and what they say afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_crash import fork_child, join
from test_techniques import DECIDED_ON_THE_WAY, ROWS
from wanlab.__main__ import main
from wanlab.bench import Bench
from wanlab.errors import FileError, SettingsError
from wanlab.model.model import Model
from wanlab.run import perform
from wanlab.settings import Settings
from wanlab.sweeps.axes import MOST_CELLS, changes_at, places, read_axes
from wanlab.sweeps.cells import Cell
from wanlab.sweeps.file import read_sweep_file
from wanlab.sweeps.sweep import Sweep, begin_sweep, list_sweeps, open_sweep
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
Benches = Callable[[], Bench]
RED = "a red circle moves right on a blue background"


@pytest.fixture
def sweep(bench: Bench, small: Make) -> Callable[..., Sweep]:
    """Sweeps of runs that take a fraction of a second."""

    def make(axes: Any, seeds: Any = None, prompts: Any = None, how: Any = "product", **changes: Any) -> Sweep:
        reference = changes.pop("reference", None)
        return begin_sweep(bench, small(**{"steps": 2, **changes}), read_axes(axes, seeds, prompts, how), reference)

    return make


def asked(axes: Any, **how: Any) -> list[dict[str, Any]]:
    found = read_axes(axes, **how)
    return [changes_at(found, place) for place in places(found)]


def counted(sweep: Sweep) -> list[int]:
    return [int(calls) for calls in sweep.frame()["model_calls"]]


# --- what is asked for -------------------------------------------------------------------------------------------------


def test_a_product_has_every_value_with_every_other_the_last_axis_fastest() -> None:
    cells = asked({"cfg": [3, 5], "feta.weight": np.array([1, 2])}, seeds=range(2))
    assert cells[:3] == [
        {"cfg": 3, "feta.weight": 1, "seed": 0},
        {"cfg": 3, "feta.weight": 1, "seed": 1},
        {"cfg": 3, "feta.weight": 2, "seed": 0},
    ]
    assert len(cells) == 8


def test_zip_takes_values_side_by_side_and_seeds_multiply_all_the_same() -> None:
    cells = asked({"cfg": [3, 5], "shift": [5, 8]}, seeds=[7, 8], how="zip")
    assert [(one["cfg"], one["shift"], one["seed"]) for one in cells] == [(3, 5, 7), (3, 5, 8), (5, 8, 7), (5, 8, 8)]


@pytest.mark.parametrize("key", [("cfg", "shift"), "cfg, shift"])
def test_settings_that_go_together_are_one_axis(key: Any) -> None:
    assert asked({key: [(3, 5), {"shift": 8, "cfg": 5}]}) == [{"cfg": 3, "shift": 5}, {"cfg": 5, "shift": 8}]


def test_a_list_gives_the_cells_one_by_one() -> None:
    [axis] = read_axes([{}, {"cfg": 5, "feta": True}, {}])
    assert axis.points == ({}, {"cfg": 5, "feta": True})
    assert axis.labels == ("base", "cfg 5, feta on")


def test_labels_are_short_and_all_different() -> None:
    long = "a red circle " * 20
    [axis] = read_axes({}, prompts=[long + "1", long + "2"])
    assert len(set(axis.labels)) == 2
    assert max(map(len, axis.labels)) < 90


WRONG = {
    "an unknown name": ({"feta.wieght": [1]}, {}, "did you mean feta.weight"),
    "a group": ({"clip": [1]}, {}, "its settings are clip.frame_rate"),
    "a value that is no list": ({"solver": "euler"}, {}, "an axis is a list of values"),
    "no values": ({"cfg": []}, {}, "cfg has no values"),
    "no axes": ({}, {}, "needs an axis"),
    "no mapping": (3, {}, "must be a mapping"),
    "twice": ({"seed": [1]}, {"seeds": [2]}, "seed is varied twice"),
    "unequal zip": ({"cfg": [1, 2], "shift": [3]}, {"how": "zip"}, "cfg 2, shift 1"),
    "no such how": ({"cfg": [1]}, {"how": "grid"}, "how is 'grid'"),
    "seeds that are a number": ({}, {"seeds": 4}, "seeds is 4"),
    "half a pair": ({"cfg, shift": [(1,)]}, {}, "2 values, one for each"),
    "too many": ({"cfg": range(101), "shift": range(101)}, {}, f"at most {MOST_CELLS}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_sweep_is_refused_in_a_sentence(case: str) -> None:
    axes, how, words = WRONG[case]
    with pytest.raises(SettingsError) as error:
        read_axes(axes, **how)
    assert words in str(error.value)


def test_all_wrong_names_are_told_at_once() -> None:
    with pytest.raises(
        SettingsError, match=r"(?s)cgf is not a setting.*shfit is not a setting.*steps has no values|steps has no"
    ):
        read_axes({"cgf": [1], "shfit": [2], "steps": []})


def test_all_wrong_values_are_told_at_once_with_their_cells(sweep: Callable[..., Sweep]) -> None:
    with pytest.raises(SettingsError) as error:
        sweep({"cfg": [3, 99], "frames": [5, 80], "solver": ["euler", "rk4"]})
    told = str(error.value).split("\n")
    assert any("cfg is 99" in line and "cfg 99" in line and "more" in line for line in told)
    assert any("frames is 80" in line for line in told)
    assert any("solver is 'rk4'" in line for line in told)


def test_a_prompt_that_is_too_long_is_told_before_anything_runs(sweep: Callable[..., Sweep], bench: Bench) -> None:
    with pytest.raises(SettingsError, match="tokens"):
        sweep({}, prompts=[RED, "circle " * 600])
    assert not bench.log.ids()


def test_cells_that_ask_for_the_same_are_one_and_that_is_said(sweep: Callable[..., Sweep]) -> None:
    made = sweep({"feta": [False, True], "feta.weight": [2, 4]})
    assert len(made) == 3
    assert "1 of the cells" in made.notes[0]
    assert [len(cell.places) for cell in made.cells] == [2, 1, 1]
    assert made.frame()["feta.weight"].tolist()[1:] == [2, 4]


def test_a_forked_run_keeps_its_forks_except_what_is_varied(bench: Bench, small: Make) -> None:
    run = perform(bench, Timeline(small(steps=4)).fork(2, {"cfg": 1.0, "negative_prompt": "a star"}))
    made = begin_sweep(bench, run, read_axes({"cfg": [2.0, 3.0]}))
    assert [cell.timeline.at(3).cfg for cell in made.cells] == [2, 3]
    assert [cell.timeline.at(3).negative_prompt for cell in made.cells] == ["a star"] * 2
    with pytest.raises(SettingsError, match="forked at step 2"):
        begin_sweep(bench, run, read_axes({"steps": [2, 4]}))


# --- plans that come true -------------------------------------------------------------------------------------------------


def test_the_planned_calls_are_those_that_are_made_for_every_technique(bench: Bench, small: Make) -> None:
    base = small(steps=6, frames=17, cfg=2.0, negative_prompt="")
    made = begin_sweep(bench, base, read_axes([{}, *ROWS.values()]))
    plan = made.plan()
    assert plan.model_loads == ("_loaded" not in bench.model.__dict__)
    made.run()
    rows = {cell.key: calls for cell, calls in zip(made.cells, counted(made), strict=True)}
    unknown = {label for label in rows if any(ROWS[row]["cache.kind"] in label for row in DECIDED_ON_THE_WAY)}
    assert not unknown
    for one in plan.planned:
        assert one.fewest_calls <= rows[one.cell.key] <= one.model_calls
        if one.fewest_calls == one.model_calls:
            assert rows[one.cell.key] == one.model_calls
    assert sum(one.fewest_calls != one.model_calls for one in plan.planned) == len(DECIDED_ON_THE_WAY)
    assert set(made.frame()["status"]) == {"done"}


def test_cells_that_differ_late_share_their_steps_and_the_plan_knows(sweep: Callable[..., Sweep]) -> None:
    made = sweep({"feta.weight": [2, 4, 8], "feta.start_percent": [0.5]}, steps=4, cfg=1.0)
    plan = made.plan()
    assert (plan.calls_alone, plan.model_calls, plan.calls_saved) == (12, 8, 4)
    assert made.run().frame()["model_calls"].sum() == 8
    again = made.plan()
    assert (len(again.planned), len(again.done), again.model_calls) == (0, 3, 0)
    assert made.plan(fresh=True).model_calls == 12


def test_what_only_costs_computes_no_step_twice_and_changes_no_pixel(bench: Bench, small: Make) -> None:
    made = begin_sweep(bench, small(steps=2), read_axes({"blocks_to_swap": [0, 2, 4]}))
    plan = made.plan()
    assert plan.model_calls == 4
    made.run()
    assert counted(made) == [4, 0, 0]
    clips = [made.open(k).clip.frames for k in range(3)]
    assert all((clip == clips[0]).all() for clip in clips)
    facts = [made.open(k).facts["model"]["blocks_to_swap"] for k in range(3)]
    assert facts == [0, 2, 4]
    assert len(made.plan().done) == 3


def test_references_come_first_so_that_each_clip_is_decoded_once(
    sweep: Callable[..., Sweep], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep({"shift": [2, 3, 8]}, seeds=[0, 1], shift=3.0)
    decode, decoded = model.decode, list[Any]()
    monkeypatch.setattr(model, "decode", lambda latents: decoded.append(latents) or decode(latents))
    frame = made.run().frame()
    assert len(decoded) == len(made) == 6
    assert frame["metrics.psnr"].notna().all()
    seeds = [one.cell.timeline.settings for one in made.plan(fresh=True).planned]
    assert [next(one.shift for one in seeds if one.seed == seed) for seed in (0, 1)] == [3, 3]


def test_each_model_is_loaded_once_and_none_stays_beside_that_of_the_lab(
    bench: Bench, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin_sweep(bench, small(steps=2), read_axes({"cfg": [1.0, 2.0], "quantization": ["disabled", "int8"]}))
    plan = made.plan()
    loads: list[str] = []
    load = Model.load

    def counting(model: Model) -> None:
        loads.extend([model.settings.quantization] * ("_loaded" not in model.__dict__))
        load(model)

    monkeypatch.setattr(Model, "load", counting)
    made.run()
    assert len(loads) == plan.model_loads
    assert loads.count("int8") == 1
    groups = [one.cell.model.quantization for one in plan.cells]
    assert groups == ["disabled", "disabled", "int8", "int8"]
    other = made._board.all.benches.of(made.cells[1].model)
    assert "_loaded" not in other.model.__dict__


def test_what_does_not_fit_is_told_beforehand_and_not_tried(bench: Bench, small: Make) -> None:
    made = begin_sweep(bench, small(steps=2), read_axes({"device_gib": [0.01, 50.0]}))
    plan = made.plan()
    assert [one.cell.values["device_gib"] for one in plan.unfit] == [0.01]
    assert "fits in 0.01 GB: no" in plan.unfit[0].verdict
    assert plan.model_calls == 4
    frame = made.run().frame()
    assert frame["status"].tolist() == ["unfit", "done"]
    assert "fits in 0.01 GB: no" in frame["problem"][0]
    with pytest.raises(SettingsError, match="no run yet"):
        made.open(0)


def test_a_plan_shows_itself_with_hostile_labels_escaped(sweep: Callable[..., Sweep]) -> None:
    plan = sweep({"cfg": [1.0, 2.0]}, prompts=["<script>alert(1)</script> costs $5 and $6", RED]).plan()
    page = plan.page()
    assert "<script>alert" not in page.html
    assert "&lt;script&gt;" in page.html
    assert repr(plan).startswith("SweepPlan(4 runs, ")
    assert plan.table()["model_calls"].sum() == plan.model_calls == 12
    assert plan._repr_mimebundle_()["text/plain"] == repr(plan)


# --- running, stopping, going on ------------------------------------------------------------------------------------------


def test_the_same_settings_are_never_run_twice(sweep: Callable[..., Sweep], bench: Bench, small: Make) -> None:
    alone = perform(bench, Timeline(small(steps=2, cfg=2.0, seed=1)))
    made = sweep({"cfg": [2.0, 3.0]}, seeds=[0, 1]).run()
    assert len(bench.log.ids()) == 4
    assert made.open(1).id == alone.id
    sweep({"cfg": [3, 2]}, seeds=[1, 0]).run()
    assert len(bench.log.ids()) == 4
    made.run(fresh=True)
    assert len(bench.log.ids()) == 8


def test_a_stopped_sweep_keeps_what_is_done_and_goes_on(
    sweep: Callable[..., Sweep], model: Model, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep({"cfg": [1.0]}, seeds=range(3))
    velocity, passes = model.velocity, []

    def interrupted(*args: Any, **told: Any) -> Any:
        passes.append(1)
        if len(passes) == 4:
            raise KeyboardInterrupt
        return velocity(*args, **told)

    monkeypatch.setattr(model, "velocity", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 runs done.*goes on"):
        made.run()
    assert made.frame()["status"].tolist() == ["done", "stopped", "waiting"]
    assert made.plan().model_calls == 3
    made.run()
    assert made.frame()["status"].tolist() == ["done"] * 3
    assert len(passes) == 4 + 3
    assert "3 done" in repr(made)


def test_a_run_that_fails_is_a_row_and_the_others_go_on(
    sweep: Callable[..., Sweep], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep({"frames": [1, 5, 9]})
    decode = model.decode

    def failing(latents: Any) -> Any:
        if latents.shape[2] == 2:
            raise RuntimeError("the disk ate it")
        return decode(latents)

    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", failing)
        frame = made.run().frame()
    assert frame["status"].tolist() == ["done", "failed", "done"]
    assert "the disk ate it" in frame["problem"][1]
    assert made.run().frame()["status"].tolist() == ["done"] * 3


def test_after_running_out_of_memory_what_needs_more_is_not_tried(
    sweep: Callable[..., Sweep], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep({"frames": [1, 9, 17]})

    def hungry(latents: Any) -> Any:
        if latents.shape[2] > 1:
            raise MemoryError
        return decode(latents)

    decode = model.decode
    monkeypatch.setattr(model, "decode", hungry)
    frame = made.run().frame()
    assert frame["status"].tolist() == ["done", "failed", "unfit"]
    assert "frames 9 ran out of memory" in frame["problem"][2]


def test_a_killed_kernel_loses_nothing_that_was_done(make_bench: Benches, small: Make, tmp_path: Path) -> None:
    axes = read_axes({"cfg": [1.0]}, seeds=range(4))
    bench = make_bench()
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def work() -> None:
        killed = begin_sweep(make_bench(), small(steps=2), axes)
        velocity, passes = killed._board.all.benches.own.model.velocity, []

        def waiting(*args: Any, **told: Any) -> Any:
            passes.append(1)
            if len(passes) == 6:
                gate.write_text("now")  # someone reads it, and then kills us
                signal.pause()
            return velocity(*args, **told)

        killed._board.all.benches.own.model.velocity = waiting  # type: ignore[method-assign]
        killed.run()

    pid = fork_child(work)
    assert gate.read_text() == "now"
    os.kill(pid, signal.SIGKILL)
    join(pid)
    [id] = list_sweeps(bench.folder).index
    found = open_sweep(make_bench(), id)
    assert found.frame()["status"].tolist() == ["done", "done", "stopped", "waiting"]
    assert found.plan().model_calls == 3
    assert set(found.run().frame()["status"]) == {"done"}
    assert counted(found) == [2, 2, 1, 2]


def test_two_kernels_with_the_same_sweep_do_it_together(make_bench: Benches, small: Make) -> None:
    axes = read_axes({"cfg": [1.0, 2.0]}, seeds=range(3))
    pids = [fork_child(lambda: begin_sweep(make_bench(), small(steps=2), axes).run()) for _ in range(2)]
    assert [join(pid) for pid in pids] == [0, 0]
    found = begin_sweep(make_bench(), small(steps=2), axes)
    found.run()
    assert set(found.frame()["status"]) == {"done"}
    assert found.frame()["metrics.flicker"].notna().all()
    assert len(list_sweeps(make_bench().folder)) == 1


# --- what it says afterwards ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    bench = Bench(tmp_path_factory.mktemp("finished") / "lab", model.settings)
    bench.__dict__["model"] = model
    base = Settings(width=32, height=32, frames=5, steps=2, seed=3, cfg=3.0)
    return begin_sweep(bench, base, read_axes({"shift": [3.0, 5.0], "cfg": [1.0, 3.0]}, seeds=[3, 4])).run()


def test_the_frame_has_the_varied_settings_first_and_the_logs_own_numbers(finished: Sweep) -> None:
    frame = finished.frame()
    assert list(frame)[:5] == ["shift", "cfg", "seed", "status", "run"]
    log = finished._board.all.benches.own.log.frame()
    assert (frame["metrics.flicker"].to_numpy() == log.loc[frame["run"], "metrics.flicker"].to_numpy()).all()
    assert frame["problem"].tolist() == [""] * 8


def test_clips_are_measured_against_the_base_of_their_own_seed(finished: Sweep) -> None:
    frame = finished.frame()
    base = frame[(frame["shift"] == 3) & (frame["cfg"] == 3)]
    assert base["metrics.latent_error"].tolist() == [0, 0]
    assert base["metrics.psnr"].tolist() == [np.inf, np.inf]
    assert (frame.drop(base.index)["metrics.latent_error"] > 0.001).all()
    first, other = finished.open(0), finished.open(2)
    own = np.linalg.norm(first.final - other.final) / np.linalg.norm(other.final)
    assert frame["metrics.latent_error"][0] == pytest.approx(own, rel=1e-5)


def test_means_and_spreads_are_those_of_pandas(finished: Sweep) -> None:
    frame, means = finished.frame(), finished.means()
    assert means.index.names == ["shift", "cfg"]
    assert means["n"].tolist() == [2] * 4
    pair = frame["metrics.flicker"][:2]
    assert means["metrics.flicker"].iloc[0] == pytest.approx(pair.mean())
    assert means["metrics.flicker.std"].iloc[0] == pytest.approx(pair.std(ddof=1))
    assert len(finished.means("cfg")) == 4
    with pytest.raises(SettingsError, match="varies shift, cfg, seed"):
        finished.means("steps")


def test_a_pivot_has_one_number_over_two_settings(finished: Sweep) -> None:
    table = finished.pivot("cfg", "shift", "flicker")
    assert table.index.tolist() == [1, 3]
    assert table.columns.tolist() == [3, 5]
    frame = finished.frame()
    assert table.loc[1.0, 5.0] == pytest.approx(frame[(frame["cfg"] == 1) & (frame["shift"] == 5)]["metrics.flicker"].mean())
    for rows, columns, values in (("cfg", "cfg", "flicker"), ("steps", "cfg", "flicker"), ("cfg", "shift", "flickr")):
        with pytest.raises(SettingsError):
            finished.pivot(rows, columns, values)


def test_a_sweep_is_opened_again_as_it_was(finished: Sweep) -> None:
    bench = Bench(finished._board.all.benches.own.folder, finished._board.all.benches.own.settings)
    again = open_sweep(bench, finished.id)
    assert again.id == finished.id
    assert [cell.key for cell in again.cells] == [cell.key for cell in finished.cells]
    assert again.frame().equals(finished.frame())
    aims = [one._board.reference_of(one.cells[0]) for one in (again, finished)]
    assert [aim.key for aim in aims if isinstance(aim, Cell)] == [finished.cells[2].key] * 2
    listed = list_sweeps(bench.folder)
    assert listed.loc[finished.id, "axes"] == "shift (2) x cfg (2) x seed (2)"
    assert listed.loc[finished.id, "cells"] == 8


def test_damaged_sweeps_are_told_and_not_listed(bench: Bench, sweep: Callable[..., Sweep]) -> None:
    made = sweep({"cfg": [1.0]}).run()
    file = made._board.kept.folder / "sweep.json"
    whole = file.read_text()
    for damaged in ("{", "[]", "{}", '{"format": 9}', whole.replace('"cells"', '"sells"'), whole.replace('"cfg"', '"cgf"')):
        file.write_text(damaged)
        with pytest.raises((FileError, SettingsError)):
            open_sweep(bench, made.id)
    for strange in ("", "../../runs", "0" * 12):
        with pytest.raises(FileError, match="no such sweep"):
            open_sweep(bench, strange)
    file.write_text("{")
    assert list_sweeps(bench.folder).empty
    assert made.run().frame()["status"].tolist() == ["done"]  # the file is written anew
    assert len(list_sweeps(bench.folder)) == 1


def test_pictures_and_metrics_that_are_lost_are_made_again(bench: Bench, sweep: Callable[..., Sweep]) -> None:
    made = sweep({"cfg": [1.0]}).run()
    before, frames = made.frame(), made._board.frames(made.cells[0])
    assert frames is not None
    assert (frames == made.open(0).clip.frames).all()
    for file in made._board.kept.folder.iterdir():
        file.unlink()
    again = sweep({"cfg": [1.0]})
    assert again.frame()["status"].tolist() == ["done"]
    assert (again._board.frames(again.cells[0]) == frames).all()
    assert again.run().frame()["metrics.flicker"].equals(before["metrics.flicker"])


def test_a_grid_shows_every_cell_and_fills_up_while_the_sweep_runs(sweep: Callable[..., Sweep]) -> None:
    made = sweep({"feta": [False, True], "feta.weight": [2.0, 4.0]}, steps=2)
    live = made.grid(rows="feta", columns="feta.weight", live=True)
    states = (
        [cell.state for cell in live._cells.values()] if hasattr(live, "_cells") else [c.state for c in live.cells.values()]
    )
    assert states == ["waiting"] * 4  # the cell that is there twice, too
    made.run()
    cells = (live._cells if hasattr(live, "_cells") else live.cells).values()
    assert [cell.state for cell in cells] == ["done"] * 4
    assert [cell.frames.shape for cell in cells] == [(5, 32, 32, 3)] * 4
    assert all("flicker" in cell.numbers for cell in cells)
    with pytest.raises(SettingsError, match="this sweep has the axes feta, "):
        made.grid(rows="cfg")


def test_a_reference_can_be_a_run_or_changes(bench: Bench, sweep: Callable[..., Sweep], small: Make) -> None:
    run = perform(bench, Timeline(small(steps=2, cfg=5.0)))
    against_run = sweep({"cfg": [1.0, 5.0]}, reference=run).run().frame()
    assert against_run["metrics.latent_error"][1] == 0
    changed = sweep({"cfg": [1.0, 5.0]}, reference={"cfg": 1.0}).run().frame()
    assert changed["metrics.latent_error"][0] == 0
    assert changed["metrics.latent_error"][1] > 0
    with pytest.raises(SettingsError, match="reference is 3"):
        sweep({"cfg": [1.0]}, reference=3)


# --- from a file ----------------------------------------------------------------------------------------------------------

FILE = """
how = "product"
seeds = [1, 2]

[model]
load_device = "cpu"

[base]
width = 32
height = 32
frames = 5
steps = 2
clip.save_output = false

[axes]
"cfg" = [1.0, 2.0]
"""


def test_a_sweep_in_a_file_is_planned_run_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, lab = tmp_path / "sweep.toml", str(tmp_path / "lab")
    file.write_text(FILE)
    assert main(["sweep", str(file), "--lab", lab, "--plan"]) == 0
    assert "SweepPlan(4 runs" in capsys.readouterr().out
    assert not (tmp_path / "lab" / "runs").exists()
    assert main(["sweep", str(file), "--lab", lab, "--csv", "--html", str(tmp_path / "grid.html")]) == 0
    out, told = capsys.readouterr()
    rows = out.strip().split("\n")
    assert rows[0].startswith('"cell","cfg","seed","status"')
    assert len(rows) == 5
    assert all('"done"' in row for row in rows[1:])
    assert "The grid is in" in told
    assert (tmp_path / "grid.html").exists()
    assert main(["sweep", str(file), "--lab", lab]) == 0
    assert "4 already done" in capsys.readouterr().out


def test_the_example_of_a_file_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parent.parent / "docs" / "sweep.toml"
    assert main(["sweep", str(example), "--lab", str(tmp_path / "lab"), "--plan"]) == 0
    assert "SweepPlan(24 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = [1]", "did you mean seeds?"),
        ("axes = 3", "axes is 3"),
        ("[axes]\ncgf = [1]", "did you mean cfg?"),
        ("[axes]\ncfg = [1]\n[base]\nsteps = 0", "steps is 0"),
        ("[axes]\ncfg = [1]\n[model]\nprecision = 2", "not a setting"),
        ("[axes\n", "no TOML"),
        ("", "needs an axis"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    assert main(["sweep", str(file), "--lab", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_dotted_names_in_a_file_may_be_tables_and_cells_may_be_listed(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("[base]\nfeta.weight = 2\n[[axes]]\ncfg = 3\n[[axes]]\nfeta.weight = 4\n[reference]\ncfg = 1\n")
    found = read_sweep_file(file)
    assert found.base == {"feta.weight": 2}
    assert found.axes[0].points == ({"cfg": 3}, {"feta.weight": 4})
    assert found.reference == {"cfg": 1}
    with pytest.raises(FileError, match="cannot be read"):
        read_sweep_file(tmp_path / "none.toml")
