"""The laws of all techniques and of every pair of them.

Off equals absent, no trace is left, a run resumes and forks bit-equal, and plans come true: the planned number of model
calls is the counted one. What cannot go together is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from wanlab.bench import Bench
from wanlab.comparing import compare
from wanlab.declare import switches
from wanlab.denoise import Step, denoise
from wanlab.errors import SettingsError
from wanlab.groups import PartSettings
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.plans import Plan, make_plan
from wanlab.run import perform
from wanlab.settings import Settings
from wanlab.techniques import TECHNIQUES
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
STEPS = 6

# A technique is a row here: settings in which it is felt in a run of `plain` settings.
ROWS: dict[str, dict[str, Any]] = {
    "feta": {"feta.weight": 8.0},
    "context": {"context.frames": 9, "context.overlap": 4, "context.freenoise": True},
    "moving context": {"context.frames": 9, "context.overlap": 4, "context.schedule": "uniform_looped"},
    "teacache": {"cache.kind": "teacache", "cache.threshold": 1.0},
    "magcache": {"cache.kind": "magcache", "cache.threshold": 2.0},
    "easycache": {"cache.kind": "easycache", "cache.threshold": 1.0},
    "firstblock": {"cache.kind": "firstblock", "cache.threshold": 0.9},
    "taylorseer": {"cache.kind": "taylorseer"},
    "slg": {"slg.blocks": "3"},
    "nag": {"nag": True, "negative_prompt": "a red star"},
    "cfg_zero": {"cfg_zero.zero_steps": 1},
    "apg": {"apg.momentum": -0.5},
    "riflex": {"riflex.index": 2},
    "loop": {"loop.shift": 1},
    "freeinit": {"freeinit.rounds": 2},
}
DECIDED_ON_THE_WAY = {"easycache", "firstblock"}


def group_of(row: str) -> str:
    return next(iter(ROWS[row])).partition(".")[0]


PARTS = [row for row in ROWS if isinstance(getattr(Settings().but(ROWS[row]), group_of(row)), PartSettings)]
every = pytest.mark.parametrize("row", list(ROWS))


@pytest.fixture
def plain(small: Make) -> Make:
    """Settings of five latent frames, on which every technique is felt."""

    def make(**changes: Any) -> Settings:
        return small(frames=17, **changes)

    return make


def velocities(steps: list[Step]) -> list[torch.Tensor]:
    return [step.velocity for step in steps]


def equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def run(model: Model, bench: Bench, settings: Settings | Timeline, **how: Any) -> list[Step]:
    timeline = settings if isinstance(settings, Timeline) else Timeline(settings)
    return list(denoise(model, timeline, bench.store, **how))


def planned(model: Model, bench: Bench, settings: Settings | Timeline) -> Plan:
    timeline = settings if isinstance(settings, Timeline) else Timeline(settings)
    return make_plan(model.facts, [(timeline, {})], bench.store.__contains__)


def inside(model: Model) -> list[Any]:
    """All of the transformer that techniques change: processors, hooks, functions of modules, the rotary embedding."""
    transformer = model.transformer
    modules = list(transformer.modules())
    return [
        *transformer.attn_processors.values(),
        *(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules),
        *("forward" in module.__dict__ for module in modules),
        *map(id, transformer.buffers()),
        *(float(buffer.double().sum()) for buffer in transformer.buffers()),
    ]


def test_every_technique_has_settings_and_a_row() -> None:
    assert {*TECHNIQUES, "freeinit"} == set(switches(Settings)) == {group_of(row) for row in ROWS}


@every
def test_off_is_absent_and_leaves_no_trace(model: Model, bench: Bench, plain: Make, row: str) -> None:
    without = run(model, bench, plain(), fresh=True)
    before = inside(model)
    with_it = run(model, bench, plain(**ROWS[row]), fresh=True)
    assert inside(model) == before
    again = run(model, bench, plain(**{group_of(row): False}), fresh=True)
    assert equal(velocities(without), velocities(again))
    assert not equal(velocities(without), velocities(with_it))
    off = plain(**ROWS[row]).but({group_of(row): False, "negative_prompt": ""})
    assert step_names("m", Timeline(plain())) == step_names("m", Timeline(off))


@every
@pytest.mark.parametrize("after", [0, 3])
def test_an_interrupt_leaves_no_trace(model: Model, bench: Bench, plain: Make, row: str, after: int) -> None:
    without = run(model, bench, plain(), fresh=True)
    before, seen = inside(model), 0

    def interrupt(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen > after:
            raise KeyboardInterrupt

    hook = model.transformer.blocks[5].ffn.net[0].register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(model, bench, plain(**ROWS[row]), fresh=True)
    finally:
        hook.remove()
    assert inside(model) == before
    assert equal(velocities(run(model, bench, plain(), fresh=True)), velocities(without))


@every
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_it_resumes_bit_equal(model: Model, bench: Bench, plain: Make, row: str, cut: int) -> None:
    settings = plain(**ROWS[row])
    whole = run(model, bench, settings, fresh=True)
    for lost in step_names(model.id, Timeline(settings))[cut:]:
        bench.store.discard(lost)
    plan = planned(model, bench, settings)
    resumed = run(model, bench, settings)
    assert plan.runs[0].reused == tuple(step.reused for step in resumed)
    assert not any(step.reused for step in resumed[cut:])
    assert equal(velocities(resumed), velocities(whole))
    assert [step.notes for step in run(model, bench, settings)] == [step.notes for step in whole]


@every
def test_a_hole_in_the_middle_is_filled_bit_equal(model: Model, bench: Bench, plain: Make, row: str) -> None:
    settings = plain(**ROWS[row])
    whole = run(model, bench, settings)
    bench.store.discard(step_names(model.id, Timeline(settings))[3])
    again = run(model, bench, settings)
    assert again[4].reused
    assert again[5].reused
    assert equal(velocities(again), velocities(whole))


@every
def test_a_damaged_step_is_computed_again_with_what_has_to_be_remembered(
    model: Model, bench: Bench, plain: Make, row: str
) -> None:
    settings = plain(**ROWS[row])
    whole = run(model, bench, settings)
    (file,) = bench.store.folder.glob(f"*/{step_names(model.id, Timeline(settings))[4]}.safetensors")
    content = bytearray(file.read_bytes())
    content[-50] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        again = run(model, bench, settings)
    assert [step.index for step in again] == list(range(STEPS))
    assert equal(velocities(again), velocities(whole))


@pytest.mark.parametrize("row", PARTS)
def test_steps_on_which_it_does_not_act_are_those_of_the_plain_run(model: Model, bench: Bench, plain: Make, row: str) -> None:
    group, base = group_of(row), {name: value for name, value in ROWS[row].items() if name == "negative_prompt"}
    without = Timeline(plain(**base))
    # cut to a part in which every technique has something to do
    part = Timeline(plain(**ROWS[row], **{f"{group}.start_percent": 0.3, f"{group}.end_percent": 0.6}))
    run(model, bench, without)
    steps = run(model, bench, part)
    acts = [group in part.at(k).acting(k) for k in range(STEPS)]
    assert acts == [False, False, True, True, False, False]
    assert [step.reused for step in steps[:2]] == [True, True]
    longer = Timeline(plain(**ROWS[row], **{f"{group}.start_percent": 0.3, f"{group}.end_percent": 1.0}))
    names, others = step_names("m", part), step_names("m", longer)
    if not {"taylorseer", "magcache"} & {row}:  # their rule depends on the part
        assert names[:4] == others[:4]
    assert not set(names[4:]) & set(others[4:])


@every
def test_it_forks_in_the_middle_bit_equal(model: Model, bench: Bench, tmp_path: Path, plain: Make, row: str) -> None:
    base = Timeline(plain(**ROWS[row]))
    run(model, bench, base)
    fork = base.fork(3, {"cfg": 2.0, "prompt": "a green star spins on a black background"})
    plan = planned(model, bench, fork)
    shared = run(model, bench, fork)
    assert plan.runs[0].reused == tuple(step.reused for step in shared)
    alone = list(denoise(model, fork, type(bench.store)(tmp_path / "alone" / "steps")))
    assert equal(velocities(shared), velocities(alone))
    assert not any(step.reused for step in shared[3:])


@pytest.mark.parametrize("row", [row for row in ROWS if switches(Settings)[group_of(row)].scope == "step"])
def test_it_can_be_turned_on_and_off_in_a_fork(model: Model, bench: Bench, plain: Make, row: str) -> None:
    without = run(model, bench, plain())
    turned_on = run(model, bench, Timeline(plain()).fork(3, ROWS[row]))
    assert [step.reused for step in turned_on] == [True] * 3 + [False] * 3
    assert not torch.equal(turned_on[3].velocity, without[3].velocity)
    turned_off = run(model, bench, Timeline(plain(**ROWS[row])).fork(0, {group_of(row): False, "negative_prompt": ""}))
    assert equal(velocities(turned_off), velocities(without))


def check_calls(model: Model, bench: Bench, settings: Settings, exact: bool) -> None:
    """The planned calls are the counted ones, of a fresh run, of one with half of its steps stored, and of one with all."""
    names = step_names(model.id, Timeline(settings))
    for lost in (names, names[STEPS // 2 :], []):
        for name in lost:
            bench.store.discard(name)
        plan = planned(model, bench, settings)
        steps = run(model, bench, settings)
        counted = sum(step.calls for step in steps)
        assert plan.runs[0].reused == tuple(step.reused for step in steps)
        assert plan.fewest_calls <= counted <= plan.model_calls
        if exact:
            assert plan.fewest_calls == counted == plan.model_calls


@every
@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_the_planned_calls_are_the_counted_ones(model: Model, bench: Bench, plain: Make, row: str, cfg: float) -> None:
    run(model, bench, plain(cfg=cfg))
    check_calls(model, bench, plain(cfg=cfg, **ROWS[row]), row not in DECIDED_ON_THE_WAY)


def test_a_pass_of_both_branches_is_one_call(model: Model, bench: Bench, plain: Make) -> None:
    check_calls(model, bench, plain(batched_cfg=True), exact=True)
    assert planned(model, bench, plain(batched_cfg=True, seed=99)).model_calls == STEPS
    apart, together = run(model, bench, plain()), run(model, bench, plain(batched_cfg=True))
    for one, other in zip(velocities(apart), velocities(together), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def made_or_refused(make: Make, **changes: Any) -> Settings | str:
    """The settings, or the sentence that refuses them."""
    try:
        return make(**changes)
    except SettingsError as refused:
        return str(refused)


@pytest.mark.parametrize(("one", "other"), list(combinations(ROWS, 2)))
def test_pairs_compose_or_are_refused(model: Model, bench: Bench, tmp_path: Path, plain: Make, one: str, other: str) -> None:
    if group_of(one) == group_of(other):
        return  # one group of settings holds one of them
    before = inside(model)
    settings = made_or_refused(plain, **ROWS[one], **ROWS[other])
    if isinstance(settings, str):
        assert "." in settings
        assert "\n" not in settings
        assert {one, other} & {"cfg_zero", "loop"}
        return
    whole = run(model, bench, settings, fresh=True)
    assert inside(model) == before
    if one != "moving context":  # where nothing comes back that a cache could answer
        assert not equal(velocities(whole), velocities(run(model, bench, plain(**ROWS[one]), fresh=True)))
    check_calls(model, bench, settings, not {one, other} & DECIDED_ON_THE_WAY)
    assert equal(velocities(run(model, bench, settings)), velocities(whole))  # what check_calls resumed
    fork = Timeline(settings).fork(3, {"cfg": 2.0})
    alone = list(denoise(model, fork, type(bench.store)(tmp_path / "alone" / "steps")))
    assert equal(velocities(run(model, bench, fork)), velocities(alone))
    for name, left in ((one, other), (other, one)):
        off = settings.but({group_of(name): False})
        if name != "nag":  # its row brings a negative prompt, which stays
            assert step_names("m", Timeline(off)) == step_names("m", Timeline(plain(**ROWS[left])))


@every
def test_a_comparison_says_which_runs_have_it(bench: Bench, plain: Make, row: str) -> None:
    runs = [perform(bench, Timeline(settings)) for settings in (plain(), plain(**ROWS[row]))]
    page = compare(*runs)
    for label in (f"{group_of(row)} off", f"{group_of(row)} on"):
        assert label in page.html
    assert f"{group_of(row)}.start_percent" not in page.text


@every
def test_the_log_and_the_clip_hold_its_settings_and_the_run_opens_again(bench: Bench, plain: Make, row: str) -> None:
    made = perform(bench, Timeline(plain(**ROWS[row])))
    logged = bench.log.frame().loc[made.id]
    assert {key: logged[key] for key in ROWS[row] if key != group_of(row)} == {
        key: value for key, value in ROWS[row].items() if key != group_of(row)
    }
    assert logged["model_calls"] == made.model_calls > 0
    first = next(iter(type(getattr(made.settings, group_of(row))).model_fields))
    assert f"{group_of(row)}.{first}" in made.clip.metadata
    noted = {"feta": "feta", "cache": "cache"}.get(group_of(row))
    if noted:
        assert noted in made.steps.table()
        assert f"{noted} " in made.steps.page().html


def test_groups_are_turned_on_by_their_settings_and_switches() -> None:
    off = Settings()
    assert off.feta is None
    assert not [name for name in off.flat() if name.startswith("feta")]
    on = off.but({"feta": True})
    assert on.flat()["feta.weight"] == 2.0
    assert off.but({"feta.weight": 4.0}).but({"feta": True}).flat()["feta.weight"] == 4.0
    assert off.but({"feta.weight": 4.0, "feta": True}) == off.but({"feta": True, "feta.weight": 4.0})
    assert on.but({"feta": False}) == off
    assert Settings().but(on.flat()) == on


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"feta": "yes"}, "feta is 'yes'; it must be True, False or a mapping of its settings."),
        ({"feta.weight": -1.0}, "feta.weight is -1.0; it must be from 0 to 100."),
        ({"feta.strength": 1.0}, "feta.strength is not a setting"),
        ({"feta.start_percent": 0.8, "feta.end_percent": 0.2}, "feta.end_percent is 0.2; it must not be less than"),
        ({"context.frames": 18}, "context.frames is 18; it must be 4n + 1, for example 17 or 21."),
        ({"context.frames": 17, "context.overlap": 20}, "context.overlap is 20; it must be less than context.frames"),
        ({"context.overlap": 6}, "context.overlap is 6; it must be a multiple of 4"),
        ({"cache.speed_up": 2.0, "cache.threshold": 0.1}, "give one of the two"),
        ({"cache.kind": "easycache", "cache.speed_up": 2.0}, "easycache decides on the way"),
        ({"slg.blocks": "three"}, 'it must be block numbers with commas between them, for example "9, 10".'),
        ({"cfg_zero": True, "apg": True}, "cfg_zero and apg are two formulas for the same guidance; turn one of them off."),
        ({"batched_cfg": True, "slg": True}, "turn one of them off."),
        ({"loop": True, "image": "cat.png"}, "loop rolls the clip in time"),
        ({"context.anchor": "start"}, "it repeats the condition of an image"),
        ({"context.fuse": "relative", "context.schedule": "batched"}, "it is for context.schedule static_standard"),
        ({"cfg": [3.0, 2.0]}, "a list has a value for each of the 20 steps, and this one has 2."),
        ({"denoise_strength": 0.5}, "it needs samples, a clip to start from."),
        ({"end_step": 21}, "it must be at most steps, which is 20."),
        ({"start_step": 5, "start_sigma": 0.5}, "each say where the run begins; give one of them."),
    ],
)
def test_wrong_settings_of_a_technique_are_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings().but(changes)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
