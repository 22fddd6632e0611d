"""Noise levels equal the reference, and names of steps agree exactly as long as runs agree."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanlab.names import in_force, step_names
from wanlab.schedule import grid, shifted
from wanlab.settings import Settings, declared
from wanlab.timeline import Timeline

REFERENCE = json.loads((Path(__file__).parent / "reference" / "sigmas.json").read_text())
SOLVERS = declared()["solver"].choices
shifts = st.floats(0.05, 50)


@pytest.mark.parametrize("row", REFERENCE["schedules"], ids=lambda row: f"{row['steps']}-{row['shift']:g}")
def test_grids_equal_the_reference(row: dict) -> None:
    euler = grid("euler", row["steps"], row["shift"])
    np.testing.assert_allclose(euler.sigmas, row["formula_shift_of_linspace_1_0"], atol=1e-6)
    unipc = grid("unipc", row["steps"], row["shift"])
    np.testing.assert_allclose(unipc.sigmas, row["diffusers_unipc_flow"]["sigmas"], atol=2e-6)
    assert unipc.timesteps.tolist() == row["diffusers_unipc_flow"]["timesteps"]


@pytest.mark.parametrize("points", REFERENCE["shift_points"], ids=lambda row: f"{row['shift']:g}")
def test_the_shift_equals_the_reference(points: dict) -> None:
    np.testing.assert_allclose(shifted(np.array(points["sigma_in"]), points["shift"]), points["sigma_out"], atol=1e-6)


@given(shifts, shifts)
def test_shift_after_shift_is_the_product_and_one_over_it_undoes_it(a: float, b: float) -> None:
    even = np.linspace(0, 1, 33)
    np.testing.assert_allclose(shifted(shifted(even, a), b), shifted(even, a * b), atol=1e-12)
    np.testing.assert_allclose(shifted(shifted(even, a), 1 / a), even, atol=1e-12)


@given(st.sampled_from(SOLVERS), st.integers(1, 60), st.floats(0.5, 16))
def test_sigmas_fall_strictly_to_zero(solver: str, steps: int, shift: float) -> None:
    levels = grid(solver, steps, shift)
    assert len(levels) == steps == len(levels.sigmas) - 1
    assert (np.diff(levels.sigmas) < 0).all()
    assert levels.sigmas[-1] == 0


def names(**changes: object) -> list[str]:
    return step_names("model", Timeline(Settings(steps=8).but(changes)))


def test_runs_that_start_at_the_same_sigma_share_step_0() -> None:
    first = names()[0]
    assert {names(shift=s)[0] for s in (1.0, 5.0, 12.0)} == {first}
    assert {names(steps=n)[0] for n in (4, 20)} == {first}
    assert {names(solver=s)[0] for s in ("dpm++", "dpm++_sde")} == {first}
    assert names(solver="euler")[0] != first  # it tells the model 1000, the others 999


@pytest.mark.parametrize(
    "name", [s.name for s in declared().values() if s.affects == "result" and not s.name.endswith("_percent")]
)
def test_every_setting_that_changes_the_result_changes_names(name: str) -> None:
    other = {"prompt": "x", "negative_prompt": "x", "solver": "euler", "steps": 9, "cfg": 4.5, "shift": 3.5}.get(name)
    if other is None:
        other = declared()[name].default + (16 if name in ("width", "height") else 4)
    base = {name.split(".")[0]: True} if "." in name else {}  # a technique is on in both
    assert not set(names(**base)[1:]) & set(names(**base, **{name: other})[1:])


@pytest.mark.parametrize("name", [s.name for s in declared().values() if s.affects != "result"])
def test_no_other_setting_changes_names(name: str) -> None:
    setting = declared()[name]
    other = next((c for c in setting.choices if c != setting.default), None)
    if other is None:
        other = "other" if setting.kind is str else (not setting.default if setting.kind is bool else setting.default + 1)
    assert names() == names(**{name: other})


def test_names_agree_before_a_fork_and_differ_from_it_on() -> None:
    base = Timeline(Settings(steps=8))
    before, after = step_names("model", base), step_names("model", base.fork(3, {"cfg": 2.0}))
    assert before[:3] == after[:3]
    assert not set(before[3:]) & set(after[3:])


def test_the_negative_prompt_is_no_part_of_a_name_at_cfg_1() -> None:
    assert in_force(Settings(cfg=1.0, negative_prompt="x"), 0) == in_force(Settings(cfg=1.0), 0)
    assert in_force(Settings(cfg=2.0, negative_prompt="x"), 0) != in_force(Settings(cfg=2.0), 0)


def test_all_names_of_a_run_are_different() -> None:
    assert len(set(names(steps=60))) == 60
