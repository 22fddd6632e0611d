"""The laws of all techniques: off equals absent, no trace is left, a run resumes and forks bit-equal, plans come true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wanlab.bench import Bench
from wanlab.declare import switches
from wanlab.denoise import Step, denoise
from wanlab.errors import SettingsError
from wanlab.lab import compare
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.plan import make_plan
from wanlab.run import perform
from wanlab.settings import Settings
from wanlab.techniques import TECHNIQUES
from wanlab.timeline import Timeline

Make = Callable[..., Settings]

# A technique is a row here: its name, settings in which it is felt, and a range of steps that is not all of them.
ROWS = {"feta": {"feta.weight": 8.0}}
PART = {"feta": {"feta.start_percent": 0.3, "feta.end_percent": 0.6}}
every = pytest.mark.parametrize("name", list(ROWS))


def velocities(steps: list[Step]) -> list[torch.Tensor]:
    return [step.velocity for step in steps]


def equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def run(model: Model, bench: Bench, settings: Settings | Timeline, **how: Any) -> list[Step]:
    timeline = settings if isinstance(settings, Timeline) else Timeline(settings)
    return list(denoise(model, timeline, bench.store, **how))


def test_every_technique_has_settings_and_a_row() -> None:
    assert set(TECHNIQUES) == set(switches(Settings)) == set(ROWS) == set(PART)


@every
def test_off_is_absent_and_leaves_no_trace(model: Model, bench: Bench, small: Make, name: str) -> None:
    plain = run(model, bench, small(), fresh=True)
    processors = dict(model.transformer.attn_processors)
    hooks = len(model.transformer._forward_pre_hooks)
    with_it = run(model, bench, small(**ROWS[name]), fresh=True)
    again = run(model, bench, small(**{name: False}), fresh=True)
    assert equal(velocities(plain), velocities(again))
    assert not equal(velocities(plain), velocities(with_it))
    assert model.transformer.attn_processors == processors
    assert len(model.transformer._forward_pre_hooks) == hooks
    assert step_names("m", Timeline(small())) == step_names("m", Timeline(small(**ROWS[name]).but({name: False})))


@every
def test_an_interrupt_leaves_no_trace(model: Model, bench: Bench, small: Make, name: str) -> None:
    plain = run(model, bench, small(), fresh=True)
    block = model.transformer.blocks[3]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = block.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(model, bench, small(**ROWS[name]), fresh=True)
    finally:
        hook.remove()
    assert equal(velocities(run(model, bench, small(), fresh=True)), velocities(plain))


@every
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_it_resumes_bit_equal(model: Model, bench: Bench, small: Make, name: str, cut: int) -> None:
    settings = small(**ROWS[name], **PART[name])
    whole = run(model, bench, settings, fresh=True)
    for lost in step_names(model.id, Timeline(settings))[cut:]:
        bench.store.discard(lost)
    resumed = run(model, bench, settings)
    assert [step.reused for step in resumed] == [index < cut for index in range(settings.steps)]
    assert equal(velocities(resumed), velocities(whole))
    assert [step.notes for step in run(model, bench, settings)] == [step.notes for step in whole]


@every
def test_steps_on_which_it_does_not_act_are_those_of_the_plain_run(model: Model, bench: Bench, small: Make, name: str) -> None:
    plain = Timeline(small())
    part = Timeline(small(**ROWS[name], **PART[name]))
    run(model, bench, plain)
    steps = run(model, bench, part)
    acts = [name in part.at(k).acting(k) for k in range(6)]
    assert acts == [False, False, True, True, False, False]
    assert [step.reused for step in steps] == [True, True, False, False, False, False]
    assert [bool(step.notes) for step in steps] == acts
    longer = small(**ROWS[name], **{**PART[name], f"{name}.end_percent": 1.0})
    assert [step.reused for step in run(model, bench, longer)] == [True, True, True, True, False, False]


@every
def test_it_can_be_turned_on_and_off_in_a_fork(model: Model, bench: Bench, small: Make, name: str) -> None:
    plain = run(model, bench, small())
    turned_on = run(model, bench, Timeline(small()).fork(3, ROWS[name]))
    assert [step.reused for step in turned_on] == [True] * 3 + [False] * 3
    assert not torch.equal(turned_on[3].velocity, plain[3].velocity)
    turned_off = run(model, bench, Timeline(small(**ROWS[name])).fork(0, {name: False}))
    assert equal(velocities(turned_off), velocities(plain))


@every
@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_the_planned_calls_are_the_counted_ones(
    model: Model, bench: Bench, small: Make, name: str, cfg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0
    velocity = Model.velocity

    def counting(*args: Any) -> torch.Tensor:
        nonlocal counted
        counted += 1
        return velocity(*args)

    monkeypatch.setattr(Model, "velocity", counting)
    for settings in (small(cfg=cfg, **ROWS[name], **PART[name]), small(cfg=cfg), small(cfg=cfg, **ROWS[name])):
        plan = make_plan(model.id, [(Timeline(settings), {})], bench.store.__contains__)
        before = counted
        steps = run(model, bench, settings)
        assert plan.model_calls == counted - before
        assert plan.runs[0].reused == tuple(step.reused for step in steps)
        assert (name in plan.steps()) == (getattr(settings, name) is not None)


@every
def test_a_comparison_says_which_runs_have_it(bench: Bench, small: Make, name: str) -> None:
    setting, value = next(iter(ROWS[name].items()))
    runs = [perform(bench, Timeline(settings)) for settings in (small(), small(**ROWS[name]), small(**{setting: 1.0}))]
    page = compare(*runs)
    for label in (f"{name} off", f"{name} on, {setting} {value}", f"{name} on, {setting} 1.0"):
        assert label in page.html
    assert f"{name}.start_percent" not in page.text


@every
def test_the_log_and_the_clip_hold_its_settings_and_the_run_opens_again(bench: Bench, small: Make, name: str) -> None:
    made = perform(bench, Timeline(small(**ROWS[name])))
    row = bench.log.frame().loc[made.id]
    assert {key: row[key] for key in ROWS[name]} == ROWS[name]
    assert made.clip.metadata[next(iter(ROWS[name]))] == ROWS[name][next(iter(ROWS[name]))]
    assert name in made.steps.table()
    assert f"{name} " in made.steps.page().html


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
    ],
)
def test_wrong_settings_of_a_technique_are_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings().but(changes)
    assert sentence in str(refused.value)
