"""Where two runs part: by the names of their steps, and by how much."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import wanlab as wl
from test_show import Reading
from wanlab.bench import Bench
from wanlab.errors import SettingsError
from wanlab.parting import Moment, aligned, at_levels, moments, parting
from wanlab.run import Run, perform
from wanlab.settings import Settings
from wanlab.show import Page
from wanlab.timeline import Timeline

STEPS = 4


def make(shared_bench: Bench, **changes: Any) -> Run:
    return perform(shared_bench, Timeline(Settings(width=32, height=32, frames=5, steps=STEPS, seed=3).but(changes)))


@pytest.fixture(scope="module")
def run(shared_bench: Bench) -> Run:
    return make(shared_bench)


def curves(page: Page) -> dict[str, list[float | None]]:
    return {curve["name"]: curve["values"] for curve in Reading(page.html).content["curves"]}


@pytest.mark.parametrize("at", range(STEPS))
def test_a_fork_parts_where_it_was_forked_and_nowhere_else(run: Run, at: int) -> None:
    fork = run.fork(at, cfg=1.0)
    found = parting(run, fork)
    assert (found.step, found.why) == (at, {"cfg": (3.0, 1.0)})
    page = wl.compare_steps(run, fork)
    apart = curves(page)
    for k in range(STEPS):
        assert (apart["velocity apart"][k] > 0) == (apart["estimate apart"][k] > 0) == (k >= at)
        assert (apart["latents apart"][k] > 0) == (k > at)  # those before the step
    assert f"They part at step {at}, where cfg is 3 in the first run and 1 in the second" in page.html
    assert Reading(page.html).content["parted"] == at


def test_errors_are_the_differences_of_the_steps(run: Run) -> None:
    other = run.fork(1, cfg=2.0)
    apart = curves(wl.compare_steps(run, other))
    for k, (a, b) in enumerate(zip(run.steps, other.steps, strict=True)):
        assert apart["latents apart"][k] == pytest.approx(float((b.latents - a.latents).norm() / a.latents.norm()))
        assert apart["velocity apart"][k] == pytest.approx(float((b.velocity - a.velocity).norm() / a.velocity.norm()))
        assert apart["estimate apart"][k] == pytest.approx(float((b.clean - a.clean).norm() / a.clean.norm()))


def test_a_run_never_parts_from_itself(run: Run) -> None:
    assert parting(run, run).step is None
    page = wl.compare_steps(run, run)
    assert "They never part: the 4 steps that both make are the same, to the last bit." in page.html
    assert all(value == 0 for name, values in curves(page).items() if name.endswith("apart") for value in values)


def test_settings_that_only_cost_never_part(shared_bench: Bench, run: Run) -> None:
    swapping = Bench(shared_bench.folder, shared_bench.settings.but({"blocks_to_swap": 2, "offload_device": "disk"}))
    other = perform(swapping, Timeline(run.settings), fresh=True)
    assert parting(run, other).step is None
    assert curves(wl.compare_steps(run, other))["velocity apart"] == [0.0] * STEPS
    assert parting(run, make(shared_bench, **{"clip.frame_rate": 8})).step is None


@pytest.mark.parametrize(
    ("change", "step", "name"),
    [
        ({"seed": 4}, 0, "seed"),
        ({"prompt": "a blue square"}, 0, "prompt"),
        ({"steps": 6}, 1, "steps"),
        ({"shift": 8.0}, 1, "shift"),
        ({"solver": "dpm++"}, 1, "solver"),
        ({"cfg": [3.0, 3.0, 1.0, 1.0]}, 2, "cfg"),
    ],
)
def test_the_reason_is_what_was_changed(shared_bench: Bench, run: Run, change: dict[str, Any], step: int, name: str) -> None:
    found = parting(run, make(shared_bench, **change))
    assert found.step == step
    assert next(iter(found.why)) == name
    assert f"{name} is " in str(found)


def test_a_shorter_run_does_not_part_from_the_longer_one(shared_bench: Bench, run: Run) -> None:
    short = make(shared_bench, end_step=2)
    assert parting(run, short).step is None
    apart = curves(wl.compare_steps(run, short))
    assert apart["velocity apart"][:2] == [0.0, 0.0]
    assert apart["latents apart"][3] is None  # a noise level that it never reaches


def test_other_grids_are_aligned_by_sigma_and_it_is_said(shared_bench: Bench, run: Run) -> None:
    other = make(shared_bench, steps=6)
    page = wl.compare_steps(run, other)
    told = Reading(page.html).content
    mine, theirs = (one["sigmas"] for one in told["runs"])
    for k, j in told["pairs"]:
        assert abs(theirs[j] - mine[k]) == min(abs(sigma - mine[k]) for sigma in theirs)
    assert "whose sigma is nearest" in page.html
    assert "whose sigma is nearest" not in wl.compare_steps(run, run).html


def test_aligned_is_the_same_step_for_the_same_levels() -> None:
    assert aligned([1, 0.7, 0.3], [1, 0.7, 0.3]) == [(0, 0), (1, 1), (2, 2)]
    assert aligned([1, 0.5], [1, 0.75, 0.52, 0.25]) == [(0, 0), (1, 2)]


def test_between_two_steps_a_run_is_on_a_straight_line() -> None:
    path = [Moment(sigma, *(torch.full((1, 1), part * sigma) for part in (1.0, 2.0, 3.0))) for sigma in (1.0, 0.5, 0.25)]
    levels = [2.0, 1.0, 0.75, 0.5, 0.3, 0.25, 0.1]
    found = list(at_levels(path, levels))
    assert [one is None for one in found] == [True, False, False, False, False, False, True]
    assert found[1] is path[0]
    for one, sigma in zip(found[1:-1], levels[1:-1], strict=True):
        assert one is not None
        assert (float(one.latents), float(one.velocity), float(one.clean)) == pytest.approx((sigma, 2 * sigma, 3 * sigma))


def test_moments_end_with_the_latents_that_the_run_leaves(run: Run) -> None:
    *_, last = moments(run)
    assert last.sigma == 0
    assert torch.equal(last.latents, run.latents(STEPS))


def test_runs_of_another_size_or_without_steps_are_refused(shared_bench: Bench, run: Run) -> None:
    with pytest.raises(SettingsError, match=r"different size, \(16, 2, 4, 4\) and \(16, 1, 4, 4\)"):
        wl.compare_steps(run, make(shared_bench, frames=1))
    empty = Run(shared_bench, "empty", run.timeline, {**run.facts, "steps_done": 0})
    with pytest.raises(SettingsError, match="no finished steps"):
        wl.compare_steps(run, empty)


def test_hostile_prompts_stay_texts(shared_bench: Bench, run: Run) -> None:
    page = wl.compare_steps(run, make(shared_bench, prompt="</script><img src=x onerror=alert(1)>"))
    assert Reading(page.html).tags.count("img") == 1
    assert Reading(page.html).tags.count("script") == 1
