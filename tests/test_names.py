"""Names of steps agree exactly as long as runs agree."""

from __future__ import annotations

from typing import Any

import pytest

from wanlab.declare import Setting
from wanlab.names import in_force, step_names
from wanlab.settings import Settings, declared
from wanlab.timeline import Timeline


def names(**changes: object) -> list[str]:
    return step_names("model", Timeline(Settings(steps=8).but(changes)))


def test_runs_that_start_at_the_same_sigma_share_step_0() -> None:
    first = names()[0]
    assert {names(shift=s)[0] for s in (1.0, 5.0, 12.0)} == {first}
    assert {names(steps=n)[0] for n in (4, 20)} == {first}
    assert {names(solver=s)[0] for s in ("dpm++", "dpm++_sde")} == {first}
    assert names(solver="euler")[0] != first  # it tells the model 1000, the others 999


@pytest.mark.parametrize(
    "name",
    [s.name for s in declared().values() if s.affects == "result" and not s.name.endswith("_percent") and s.name != "end_step"],
)
def test_every_setting_that_changes_the_result_changes_names(name: str) -> None:
    base, other = OTHERS.get(name, ({}, None))
    if other is None:
        setting = declared()[name]
        other = next((choice for choice in setting.choices if choice != setting.default), None)
    if other is None:
        other = "x" if setting.kind is str else not setting.default if setting.kind is bool else _moved(setting)
    if "." in name:
        base = {name.split(".")[0]: True} | base  # a technique is on in both
    assert not set(names(**base)[1:]) & set(names(**base | {name: other})[1:])


# Settings with which another one is felt, and another value of it, where the first that comes to mind will not do.
LONG = {"frames": 33}
MOVING = LONG | {"context.schedule": "uniform_standard"}
CAT = {"image": "cat.png"}
OTHERS: dict[str, tuple[dict[str, Any], Any]] = {
    "steps": ({}, 9),
    "cfg": ({}, 4.5),
    "shift": ({}, 3.5),
    "solver": ({}, "euler"),
    "batched_cfg": ({}, True),
    "sigmas": ({"steps": 3}, (0.9, 0.5, 0.1)),
    "schedule": ({}, "ideal"),
    "start_step": ({}, 2),
    "start_sigma": ({}, 0.8),
    "denoise_strength": ({"samples": "cat"}, 0.5),
    "add_noise": ({"samples": "cat"}, False),
    "noise_aug_strength": (CAT, 0.1),
    "start_latent_strength": (CAT, 0.9),
    "end_latent_strength": (CAT, 0.9),
    "clip_embed_strength": (CAT, 0.9),
    "context.schedule": (LONG, "uniform_standard"),
    "context.frames": (LONG, 21),
    "context.stride": (MOVING, 8),
    "context.overlap": (LONG, 4),
    "context.fuse": (LONG, "pyramid"),
    "context.freenoise": (LONG, True),
    "context.closed_loop": (MOVING, False),
    "context.anchor": (LONG, "causal"),
    "cache.threshold": ({}, 0.2),
    "cache.speed_up": ({}, 1.5),
    "cache.max_skip": ({}, 2),
    "slg.blocks": ({}, "3"),
    "apg.norm_threshold": ({}, 5.0),
    "cfg_zero.zero_steps": ({}, 3),
}


def _moved(setting: Setting) -> Any:
    """A value that is a step of a slider away, within the bounds."""
    up = setting.default + (setting.step or 1)
    return up if setting.high is None or up <= setting.high else setting.default - (setting.step or 1)


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


def test_a_run_that_ends_early_shares_its_steps_with_the_whole_one() -> None:
    assert names(end_step=5) == names()[:5]


def test_a_list_of_values_shares_steps_as_long_as_they_agree() -> None:
    listed = names(cfg=[3.0] * 5 + [1.0] * 3)
    assert listed[:5] == names()[:5]
    assert not set(listed[5:]) & set(names()[5:])


def test_windows_as_long_as_the_clip_have_the_names_of_none() -> None:
    assert names(**{"context.frames": 17, "context.overlap": 4}) == names()


def test_an_image_is_known_by_its_content() -> None:
    whole = "0123456789abcdef" * 2
    assert names(image=f"cat-{whole}.npz") == names(image=f"dog-{whole}.npz") != names(image=f"cat-{whole[::-1]}.npz")
