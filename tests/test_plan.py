"""The plan: known before the run, in milliseconds and without weights, counted right, drawn and tabled."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wanlab as wl
from wanlab.bench import Bench
from wanlab.errors import SettingsError
from wanlab.plans import Plan, make_plan
from wanlab.settings import Settings
from wanlab.skips import Facts
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
REAL = {"frames": 161, "width": 832, "height": 480, "steps": 30, "context.frames": 81, "context.overlap": 16}


@pytest.fixture
def lab(tmp_path: Path) -> wl.Lab:
    return wl.Lab(tmp_path / "lab")


UNKNOWN = Facts(id="m")


def of(settings: Settings | Timeline, facts: Facts = UNKNOWN) -> Plan:
    timeline = settings if isinstance(settings, Timeline) else Timeline(settings)
    return make_plan(facts, [(timeline, {})], lambda name: False)


def test_a_plan_reads_no_weights_and_is_quick(lab: wl.Lab) -> None:
    variants: list[dict[str, Any]] = [
        {"feta.weight": 4},
        {"frames": 65, "context.schedule": "uniform_standard"},
        {"cache.speed_up": 1.8},
        {"cache.kind": "magcache"},
        {"cfg_zero": True, "loop": True},
        {"freeinit": True},
    ]
    lab.plan("a red circle", *variants)
    began = time.perf_counter()
    plan = lab.plan("a red circle", *variants)
    seconds = time.perf_counter() - began
    assert not {"transformer", "text_encoder", "vae"} & set(lab._bench.model.__dict__)
    assert len(plan.runs) == 7
    assert seconds < 2  # about 30 ms; a bound that only a plan that loads something breaks


def test_planning_needs_no_torch() -> None:
    code = """
import sys
from wanlab.plans import make_plan
from wanlab.settings import Settings
from wanlab.skips import Facts
from wanlab.timeline import Timeline
timeline = Timeline(Settings().but({"frames": 33, "context": True, "feta": True}))
plan = make_plan(Facts(id="m"), [(timeline, {})], lambda name: False)
print(plan.model_calls, plan.window_passes, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["120", "60", "False"]


@pytest.mark.parametrize(("schedule", "passes"), [("static_standard", 90), ("uniform_standard", 101), ("uniform_looped", 90)])
def test_window_passes_are_those_of_the_reference(schedule: str, passes: int) -> None:
    plan = of(Settings().but(REAL | {"context.schedule": schedule}))
    assert plan.window_passes == passes
    assert plan.model_calls == 2 * passes
    assert of(Settings().but(REAL | {"context.schedule": schedule, "cfg": 1.0})).model_calls == passes


def test_work_is_the_arithmetic_against_the_plain_run() -> None:
    config = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40}
    facts = Facts(id="m", config=config)
    plain = Settings().but(REAL).but({"context": False})
    assert of(plain, facts).runs[0].work == 1
    assert of(plain.but({"cache.kind": "taylorseer"}), facts).runs[0].work < 1
    tokens, window = 41 * 1560, 21 * 1560  # 3 windows of 21 frames for 41
    a_token, a_pair = 6 * 5120**2 + 2 * 5120 * 13824 + 2 * 5120 * 512, 2 * 5120
    text = 2 * 512 * 5120**2

    def cost(count: int) -> float:
        return count * a_token + count * count * a_pair + text

    work = of(Settings().but(REAL), facts).runs[0].work
    assert work == pytest.approx(3 * cost(window) / cost(tokens))
    assert 0.79 < work < 1.54  # the quadratic part alone, the linear part alone
    assert of(plain.but({"batched_cfg": True}), facts).runs[0].work == 1


def test_a_step_that_is_reused_is_neither_call_nor_pass_nor_work(bench: Bench, small: Make) -> None:
    settings = small(frames=17, **{"context.frames": 9, "context.overlap": 4})
    from wanlab.denoise import denoise

    for step in denoise(bench.model, Timeline(settings), bench.store):
        if step.index == 2:
            break
    plan = make_plan(bench.facts, [(Timeline(settings), {})], bench.store.__contains__)
    whole = of(settings, bench.facts)
    assert (plan.steps_reused, plan.model_calls) == (3, whole.model_calls // 2)
    assert plan.window_passes == whole.window_passes // 2
    assert plan.runs[0].work == pytest.approx(whole.runs[0].work / 2)
    assert plan.steps()["passes"].tolist()[:3] == [0, 0, 0]


def test_what_is_decided_on_the_way_is_said_to_be_unknown(bench: Bench, small: Make) -> None:
    plan = of(small(**{"cache.kind": "easycache"}))
    assert plan.fewest_calls < plan.model_calls == 12
    assert plan.steps()["skipped"].isna().any()
    assert f"{plan.fewest_calls} to 12 model calls" in repr(plan)
    assert plan.table().loc[0, "fewest_calls"] == plan.fewest_calls


def test_a_fork_is_planned_beside_its_run(bench: Bench, small: Make) -> None:
    lab = wl.Lab(bench.folder)
    lab._bench = bench
    run = lab.run(small())
    plan = run.plan(4, cfg=1.0)
    assert [sum(one.reused) for one in plan.runs] == [6, 4]
    fork = run.fork(4, cfg=1.0)
    assert fork.model_calls == plan.model_calls == 2
    assert "from step 4: cfg 1.0" in "".join(text.get_text() for text in plan.show().axes[0].texts)
    with pytest.raises(SettingsError, match="steps cannot change in the middle of a run"):
        run.plan(4, steps=3)


def test_the_drawing_shows_what_acts_and_the_table_what_differs(lab: wl.Lab) -> None:
    plan = lab.plan(
        "x",
        {"feta.weight": 4, "feta.end_percent": 0.5},
        {"frames": 65, "context.schedule": "uniform_standard"},
        {"cache.speed_up": 1.8},
        {"shift": 8.0},
    )
    levels, lines, windows = plan.show().axes
    assert len(levels.lines) == 2  # the runs with another shift have another curve
    labels = [label.get_text() for label in lines.get_yticklabels()]
    assert [name for name in labels if name in ("feta", "cache answers")] == ["feta", "cache answers"]
    assert "shift 8" in labels
    assert windows.images[0].get_array().shape[0] == 17
    table = plan.table()
    assert table["frames"].tolist()[2] == 65
    assert table["window_passes"].tolist()[:2] == [20, 20]
    page = plan._repr_html_()
    assert page.startswith("<svg")
    assert "window_passes" in page


def test_a_prompt_in_the_plan_cannot_become_markup(lab: wl.Lab) -> None:
    page = lab.plan("x", {"prompt": "<script>alert(1)</script>"})._repr_html_()
    assert "<script" not in page


def test_a_plan_of_what_cannot_run_is_refused(lab: wl.Lab) -> None:
    for changes, sentence in (
        ({"cache.speed_up": 10.0}, r"cache\.speed_up is 10; with these settings at most"),
        ({"slg.blocks": "8"}, r"slg\.blocks is '8'; this model has the blocks 0 to 7"),
        ({"riflex.index": 7}, r"riflex\.index is 7; this model has the temporal frequencies 1 to 6"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            lab.plan("x", changes)
        with pytest.raises(SettingsError, match=sentence):
            lab.run("x", changes)
    assert lab.log.empty


def test_a_plan_tells_lists_and_inputs_in_short(lab: wl.Lab) -> None:
    frames = np.zeros((17, 64, 64, 3), np.uint8)
    plan = lab.plan("x", {"cfg": [3.0] * 10 + [1.0] * 10}, {"samples": frames, "denoise_strength": 0.5})
    assert [dict(run.changes) for run in plan.runs[1:]] == [
        {"cfg": "3 x10, 1 x10"},
        {"samples": "given", "denoise_strength": 0.5},
    ]
    assert "cfg 3 x10, 1 x10" in [label.get_text() for label in plan.show().axes[1].get_yticklabels()]
