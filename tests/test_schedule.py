"""Noise levels equal the reference: those of each solver, the named schedules, and lists of levels."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanlab.schedule import SCHEDULES, grid, percent_to_sigma, shifted, sigmas, timesteps
from wanlab.settings import declared

REFERENCE = json.loads((Path(__file__).parent / "reference" / "sigmas.json").read_text())
SOLVERS = declared()["solver"].choices
WHOLE = {"wan_unipc": "wan_official_unipc", "wan_dpmpp": "wan_official_dpmpp", "diffusers_unipc": "diffusers_unipc_flow"}
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


def of_reference(row: dict, schedule: str) -> list[float] | None:
    if schedule == "ideal":
        return row["formula_shift_of_linspace_1_0"]
    if schedule in WHOLE:
        return row.get(WHOLE[schedule], {}).get("sigmas")
    return row.get("comfy_ModelSamplingSD3", {}).get(schedule)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "distilled"])
def test_schedules_equal_the_reference(schedule: str) -> None:
    """But for the step counts to which ComfyUI's ddim_uniform adds a step."""
    compared = 0
    for row in REFERENCE["schedules"]:
        theirs = of_reference(row, schedule)
        if theirs is None:  # the reference has no kl_optimal of one step, and this file not all rows
            continue
        if len(theirs) != row["steps"] + 1:
            assert (schedule, row["steps"]) in {("ddim_uniform", 6), ("ddim_uniform", 30)}
            with pytest.raises(ValueError, match=f"has {len(theirs) - 1} levels for {row['steps']} steps"):
                sigmas(row["steps"], row["shift"], schedule)
            continue
        np.testing.assert_allclose(sigmas(row["steps"], row["shift"], schedule), theirs, atol=1e-6)
        compared += 1
    assert compared > 15


@pytest.mark.parametrize("schedule", WHOLE)
def test_whole_timesteps_equal_the_reference(schedule: str) -> None:
    for row in REFERENCE["schedules"]:
        if WHOLE[schedule] in row:
            told = timesteps(sigmas(row["steps"], row["shift"], schedule)[:-1], whole=True)
            assert told.dtype == np.int64
            assert told.tolist() == row[WHOLE[schedule]]["timesteps"]


@pytest.mark.parametrize("row", REFERENCE["percent_to_sigma_comfy"], ids=lambda row: f"{row['percent']}-{row['shift']:g}")
def test_percent_to_sigma_equals_comfyui(row: dict) -> None:
    assert percent_to_sigma(row["percent"], row["shift"]) == pytest.approx(row["sigma"], abs=1e-6)


def test_percents_outside_are_before_the_start_and_after_the_end() -> None:
    assert (percent_to_sigma(-1, 5), percent_to_sigma(2, 5)) == (1, 0)


def test_distilled_is_the_shift_of_its_four_timesteps() -> None:
    assert timesteps(sigmas(4, 1, "distilled")[:-1], whole=True).tolist() == [1000, 750, 500, 250]
    np.testing.assert_allclose(sigmas(4, 5, "distilled"), [1, 0.9375, 0.8333333, 0.625, 0], atol=1e-7)
    with pytest.raises(ValueError, match=r"4 levels for 5 steps.*steps must be 4"):
        sigmas(5, 5, "distilled")


@given(st.sampled_from(SCHEDULES), st.integers(1, 138), st.floats(0.01, 1000))
def test_named_levels_fall_strictly_to_zero_one_for_each_step(schedule: str, steps: int, shift: float) -> None:
    counts = {"distilled": steps == 4, "ddim_uniform": 1000 % steps == 0 or 999 % steps == 0}
    if not counts.get(schedule, True):
        with pytest.raises(ValueError, match=f"levels for {steps} steps"):
            sigmas(steps, shift, schedule)
        return
    levels = sigmas(steps, shift, schedule)
    assert len(levels) == steps + 1
    assert levels[0] <= 1 + 1e-12
    assert levels[-1] == 0
    assert (np.diff(levels) < 0).all()


def test_beta_says_when_the_table_has_too_few_rows_for_it() -> None:
    with pytest.raises(ValueError, match="beta has 138 levels for 139 steps; use fewer steps"):
        sigmas(139, 5, "beta")


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="no schedule 'karras'; there are ideal"):
        sigmas(4, 5, "karras")


@given(st.integers(1, 60), st.floats(0.5, 16))
def test_the_schedule_of_a_solver_is_one_by_name(steps: int, shift: float) -> None:
    for solver in SOLVERS:
        own, named = grid(solver, steps, shift), grid(solver, steps, shift, "ideal" if solver == "euler" else "diffusers_unipc")
        assert own.sigmas.tolist() == named.sigmas.tolist()
        assert own.timesteps.tolist() == named.timesteps.tolist()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_solver_takes_every_schedule(solver: str, schedule: str) -> None:
    exact, run = sigmas(4, 5, schedule), grid(solver, 4, 5, schedule)
    np.testing.assert_allclose(run.sigmas, exact, atol=1.1e-6)
    assert run.sigmas.dtype == np.float32
    if solver == "euler":
        assert run.timesteps.tolist() == (run.sigmas[:-1] * 1000).tolist()
    else:
        assert run.sigmas[0] < 1
        assert run.timesteps.tolist() == [min(int(1000 * level), 999) for level in exact[:-1]]


@pytest.mark.parametrize(
    "given_levels", [(1.0, 0.9, 0.5), (1.0, 0.9, 0.5, 0.0), [1, 0.9, 0.5], np.array([1, 0.9, 0.5, 0])], ids=str
)
def test_explicit_levels_are_taken_as_they_are_with_or_without_the_zero(given_levels: object) -> None:
    euler, unipc = (grid(solver, 3, 7, sigmas=given_levels) for solver in ("euler", "unipc"))
    assert euler.sigmas.tolist() == np.array([1, 0.9, 0.5, 0], np.float32).tolist()
    assert unipc.timesteps.tolist() == [999, 900, 500]
    assert unipc.sigmas[0] == np.float32(1 - 1e-6)
    assert list(given_levels) == list(given_levels)[:3] + [0] * (len(given_levels) - 3)  # the caller's own are not changed


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((1, 0.5), "sigmas has 2 levels .* and steps is 3"),
        ((1, 0.5, 0), "sigmas has 2 levels .* and steps is 3"),
        ((), "sigmas has 0 levels"),
        ((1, 0.5, 0.5), r"must fall at every step, and in float32 step 1 goes from 0\.5 to 0\.5"),
        ((0.5, 0.7, 0.2), r"step 0 goes from 0\.5 to 0\.7"),
        ((1, 0.9999999, 0.5), "second one below 1 - 1e-6"),
        ((1.2, 0.5, 0.1), "above 0 and at most 1"),
        ((1, 0.5, -0.1), "above 0 and at most 1"),
        ((1, float("nan"), 0.1), "above 0 and at most 1"),
    ],
)
def test_explicit_levels_that_cannot_be_are_refused(levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid("unipc", 3, 5, sigmas=levels)


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
