"""Plans of models that are not here: bytes, seconds, whether it fits, and the smallest change, from names alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wanlab as wl
from wanlab.declare import Declared
from wanlab.errors import ModelError, SettingsError
from wanlab.lab import Lab
from wanlab.settings import Settings
from wanlab.weights.registry import all_known

CLIP = Settings(width=832, height=480, frames=81, steps=50, cfg=5.0)
FULL = {"model": "Wan2.1-T2V-14B", "device_gib": 24}


def test_the_issue_of_24_gb_is_answered_with_the_smallest_change_that_really_does_it() -> None:
    plan = wl.plan(CLIP, force_offload=True, **FULL)
    assert plan.fits is False
    assert plan.smallest_change == {"blocks_to_swap": 14}
    assert wl.plan(CLIP, force_offload=True, **FULL, **plan.smallest_change).fits
    assert not wl.plan(CLIP, force_offload=True, **FULL, blocks_to_swap=13).fits
    assert "quantization fp8_e4m3fn_scaled" in plan.verdict


def test_stages_peak_and_seconds_of_several_runs() -> None:
    changes: list[dict[str, Any]] = [{"blocks_to_swap": 20}, {"frames": 33}, {"cfg": 1.0}]
    plan = wl.plan(CLIP, *changes, force_offload=True, **FULL)
    base, swapped, short, unguided = (run.estimate for run in plan.runs)
    assert base
    assert swapped
    assert short
    assert unguided
    assert plan.peak_vram_gib == base.peak_gib == max(plan.stages.values())
    assert list(plan.stages) == ["encode text", "load", "denoise", "decode"]
    assert swapped.peak_gib < base.peak_gib
    assert short.peak_gib < base.peak_gib
    assert unguided.seconds["denoise"] == pytest.approx(base.seconds["denoise"] / 2)
    assert plan.seconds == pytest.approx(sum(run.total_seconds for run in (base, swapped, short, unguided)))
    assert plan.table()["fits"].tolist() == [False, True, False, False]
    assert [sum(run.reused) for run in plan.runs] == [0, 0, 0, 0]  # of runs with other places each is what it takes by itself


def test_without_settings_the_official_ones_are_planned() -> None:
    plan = wl.plan(model="wan2.1-i2v-14b-480p", device_gib=80)
    settings = plan.runs[0].timeline.settings
    assert (settings.width, settings.height, settings.frames, settings.steps, settings.shift) == (832, 480, 81, 40, 3.0)
    assert wl.plan({"steps": 4, "cfg": 1.0}, model="Wan2.1-T2V-1.3B").model_calls == 4
    assert wl.plan("a cat", model="Wan2.1-T2V-1.3B").runs[0].timeline.settings.prompt == "a cat"
    assert wl.plan(model="Wan2.1-T2V-1.3B").fits is None  # nothing is said of the GPU


@pytest.mark.parametrize("name", [one.name for one in all_known() if one.runs])
def test_every_published_model_can_be_planned(name: str) -> None:
    plan = wl.plan(model=name, device_gib=141)
    assert plan.fits is not None
    assert plan.peak_vram_gib > 5


def test_the_picture_of_a_plan_tells_what_fits() -> None:
    shown = wl.plan(CLIP, {"blocks_to_swap": 20}, force_offload=True, **FULL)._repr_html_()
    assert shown.count("<svg") == 2
    assert "the smallest change that does: blocks_to_swap 14" in shown
    assert wl.plan(Settings(), device_gib=100.0)._repr_html_().count("<svg") == 1  # nothing to see beside so much room


def test_a_lab_plans_its_model_placed_otherwise(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", load_device="cpu")
    plan = lab.plan("a red circle", {"blocks_to_swap": 8, "offload_device": "disk"}, {"quantization": "int8"}, steps=4)
    peaks = [run.estimate.stages["denoise"] for run in plan.runs if run.estimate]
    assert peaks[1] < peaks[0]
    assert peaks[2] < peaks[0]
    assert plan.table()["steps_reused"].tolist() == [0, 0, 0]
    with pytest.raises(SettingsError, match="blocks_to_swap is 9"):
        lab.plan("a red circle", {"blocks_to_swap": 9})


def test_calibration_is_kept_in_the_lab_and_tells_seconds_of_other_sizes_too(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", load_device="cpu")
    small = {"width": 32, "height": 32, "frames": 5, "steps": 4}
    before = lab.plan("a red circle", **small).runs[0].estimate
    measured = lab.calibrate("a red circle", **small)
    again = Lab(tmp_path / "lab", load_device="cpu")
    after, other = (run.estimate for run in again.plan("a red circle", {"frames": 9}, **small).runs)
    assert before
    assert after
    assert other
    assert "calibrated" in after.notes[0]
    assert "calibrated" in other.notes[0]
    assert "calibrated" not in before.notes[0]
    assert after.seconds["denoise"] == pytest.approx(8 * (8 * measured.block + measured.rest), rel=0.01)
    assert other.seconds["denoise"] > after.seconds["denoise"]


def test_a_dry_run_of_the_real_classes_agrees_with_the_formulas() -> None:
    table = wl.dry_run({"frames": 33}, model="Wan2.1-T2V-1.3B", quantization="int8")
    for kind in ("work", "weights"):
        assert table[f"{kind}_gib"].tolist() == pytest.approx(table[f"{kind}_by_formula"].tolist(), rel=0.02)
    tokens = 9 * 30 * 52
    linear = 30 * 2 * tokens * (6 * 1536**2 + 2 * 1536 * 8960)
    assert table.loc["denoise", "teraflops"] == pytest.approx((linear + 30 * 4 * tokens**2 * 1536) / 1e12, rel=0.03)
    assert wl.dry_run().loc["decode", "work_gib"] < 0.1  # the tiny model's


@pytest.mark.parametrize(
    ("how", "error", "sentence"),
    [
        ({"model": "Wan2.1-T2V-15B"}, ModelError, "did you mean|one of"),
        ({"model": "Wan2.1-T2V-14B", "blocks_to_swap": 41}, SettingsError, "this model has 40 blocks"),
        ({"model": "Wan2.1-T2V-14B", "blocks_to_swop": 4}, SettingsError, "did you mean blocks_to_swap"),
    ],
)
def test_what_is_wrong_is_said(how: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        wl.plan(CLIP, **how)


def test_declarations_of_run_and_model_do_not_share_names() -> None:
    """A change is told to be of the run or of the model by its name alone."""
    from wanlab.settings import ModelSettings

    def names(model: type[Declared]) -> set[str]:
        return set(model.model_fields)

    assert not names(Settings) & names(ModelSettings)
