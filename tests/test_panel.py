"""The control panel without a browser: its buttons are pressed from Python, and what it would tell a browser is read."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import wanlab as wl
from wanlab.errors import BusyError
from wanlab.lab import Lab
from wanlab.panel.panel import Panel
from wanlab.run import performing
from wanlab.timeline import Timeline

PATIENCE = 60  # seconds
QUICK = {"steps": 3, "frames": 5}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return wl.Lab(tmp_path)


@pytest.fixture
def panel(lab: Lab) -> Iterator[Panel]:
    before = set(threading.enumerate())  # those of other tests too
    panel = lab.panel()
    panel.settings = QUICK
    yield panel
    panel.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wanlab") and thread not in before]


def change(panel: Panel, **changes: Any) -> None:
    """As the browser says it."""
    panel._face.receive(
        {"do": "change", "by": "here", "n": 1, "changes": {k.replace("__", "."): v for k, v in changes.items()}}
    )


def told(panel: Panel, name: str) -> Any:
    """What a view is told that opens now."""
    return panel._face.state[name]


class Heard:
    """All that the browser is told from here on, and what to do, once, when it is next told of something."""

    def __init__(self, panel: Panel) -> None:
        self.parts: list[tuple[str, Any]] = []
        self.when: dict[str, Callable[[Any], Any]] = {}
        self._say = panel._face.say
        panel._face.say = self  # type: ignore[method-assign, assignment]

    def __call__(self, *, by: object = None, mine: Sequence[str] = (), **parts: Any) -> None:
        self._say(by=by, mine=mine, **parts)
        self.parts += parts.items()
        for name, part in parts.items():
            self.when.pop(name, lambda _: None)(part)

    def of(self, name: str) -> list[Any]:
        return [part for one, part in self.parts if one == name]


def test_the_run_button_makes_the_run_that_lab_run_makes(lab: Lab, panel: Panel, tmp_path: Path) -> None:
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    run = panel.last
    assert run is not None
    assert run.status == "done"
    assert list(lab.log.index) == [run.id]
    elsewhere = wl.Lab(tmp_path / "elsewhere").run(panel.settings)
    assert (run.clip.frames == elsewhere.clip.frames).all()
    assert all((ours == theirs).all() for ours, theirs in zip(run.velocities, elsewhere.velocities, strict=True))
    assert told(panel, "clip")["run"] == run.id
    assert told(panel, "queue")["ended"][0]["status"] == "done"
    assert panel.run_button.disabled is False
    assert panel.stop_button.disabled is True


def test_stop_between_two_steps_keeps_them_and_the_next_run_goes_on(panel: Panel) -> None:
    panel.settings = {"steps": 12}
    heard = Heard(panel)

    def stop_at(running: Any) -> None:
        if running and running["done"] == 4:
            panel.stop_button.click()
        else:
            heard.when["running"] = stop_at

    heard.when["running"] = stop_at
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    assert panel.last is not None
    assert (panel.last.status, len(panel.last.steps)) == ("stopped", 4)
    assert panel.last.facts["status"] == "stopped"
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    assert (panel.last.status, panel.last.steps_reused) == ("done", 4)


def test_every_step_is_told_with_its_place_and_a_preview_at_the_end(panel: Panel) -> None:
    heard = Heard(panel)
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    steps = [running for running in heard.of("running") if running and running["stage"] == "denoise" and running["done"]]
    assert [running["done"] for running in steps] == [1, 2, 3]
    assert all(running["of"] == 3 and 0 < running["sigma"] <= 1 for running in steps)
    assert steps[-1]["preview"]["sizes"]
    assert steps[-1]["left"] >= 0
    assert heard.of("running")[-1] is None


def test_three_runs_wait_in_their_order_which_can_be_changed(panel: Panel) -> None:
    began = threading.Event()
    go_on = threading.Event()
    heard = Heard(panel)

    def hold(running: Any) -> None:
        began.set()
        assert go_on.wait(PATIENCE)

    heard.when["running"] = hold
    for seed in (1, 2, 3, 4):
        panel.settings = {"seed": seed}
        panel.run_button.click()
    assert began.wait(PATIENCE)
    waiting = [job.number for job in panel.queue.waiting]
    assert [job.settings.seed for job in panel.queue.waiting] == [2, 3, 4]
    panel._face.receive({"do": "move", "number": waiting[2], "places": -1})
    assert [job.settings.seed for job in panel.queue.waiting] == [2, 4, 3]
    panel._face.receive({"do": "remove", "number": waiting[0]})
    assert [job.settings.seed for job in panel.queue.waiting] == [4, 3]
    go_on.set()
    assert panel.wait(PATIENCE)
    assert [run.settings.seed for run in panel.runs] == [1, 4, 3]


def test_stop_all_empties_the_queue(panel: Panel) -> None:
    heard = Heard(panel)
    heard.when["running"] = lambda _: panel._face.receive({"do": "stop_all"})
    for seed in (1, 2, 3):
        panel.settings = {"seed": seed}
        panel.queue.add(panel.settings, panel.model)
    assert panel.wait(PATIENCE)
    assert not panel.queue.waiting
    assert all(run.status == "stopped" for run in panel.runs)


def test_an_error_stands_at_its_control_and_what_is_right_beside_it_takes_effect(panel: Panel) -> None:
    change(panel, frames=80, seed=9)
    assert set(panel.problems) == {"frames"}
    assert "4n + 1" in panel.problems["frames"]
    assert (panel.settings.frames, panel.settings.seed) == (5, 9)
    assert told(panel, "values")["frames"] == 80
    panel.run_button.click()
    assert not len(panel.queue)
    assert set(panel.problems) == {"frames"}
    change(panel, frames=9)
    assert not panel.problems
    assert panel.settings.frames == 9


def test_what_this_model_cannot_do_is_told_too(panel: Panel) -> None:
    panel.settings = {"lora_strength": 0.5}
    panel.run_button.click()
    assert "lora_strength" in panel.problems
    assert not panel.runs
    assert panel._plans.wait(PATIENCE)
    assert "lora_strength" in told(panel, "problems")


def test_a_model_that_is_not_there_is_told_at_its_control(panel: Panel) -> None:
    change(panel, model="nonsense")
    assert panel._plans.wait(PATIENCE)
    assert set(panel.problems) == {"model"}
    change(panel, model="tiny")
    assert panel._plans.wait(PATIENCE)
    assert not panel.problems


def test_settings_make_the_round_trip_through_the_form(lab: Lab, panel: Panel) -> None:
    settings = lab.settings.but({"cfg": (3.0,) * 20, "context.frames": 9, "feta": True, "seed": 2**63, "clip.frame_rate": 8.0})
    panel.settings = settings
    assert panel.settings == settings
    change(panel, **{name.replace(".", "__"): value for name, value in told(panel, "values").items()})
    assert not panel.problems
    assert panel.settings == settings
    assert panel.model == lab._bench.settings


def test_a_group_that_is_off_keeps_what_was_typed_until_it_is_on_again(panel: Panel) -> None:
    change(panel, feta=True, feta__weight=4.5)
    change(panel, feta=False)
    assert panel.settings.feta is None
    change(panel, feta=True)
    assert panel.settings.feta is not None
    assert panel.settings.feta.weight == 4.5


def test_settings_come_from_a_run_a_mapping_and_a_clip(lab: Lab, panel: Panel) -> None:
    run = lab.run("a green star spins on a black background", steps=2, frames=5, changes={"clip.frame_rate": 8})
    panel.settings = run
    assert panel.settings == run.settings
    panel.settings = {"steps": 7}
    assert panel.settings == run.settings.but({"steps": 7})
    clip = next(run.folder.glob("*.mp4"))
    panel.settings = clip
    assert panel.settings == run.settings
    with pytest.raises(wl.SettingsError, match="steps"):
        panel.settings = {"steps": 0}
    with pytest.raises(wl.FileError):
        panel.settings = clip.with_name("missing.mp4")


def test_the_code_makes_the_same_settings(lab: Lab, panel: Panel) -> None:
    panel.settings = {"prompt": "a 'quoted' star", "feta.weight": 3.0, "loop": True, "clip.pingpong": True}
    made: list[Any] = []

    class Asked:
        def run(self, *args: Any, **kwargs: Any) -> None:
            made.append(lab._asked(args[0] if args else None, kwargs.pop("changes", None), kwargs))

    exec(panel.code, {"lab": Asked()})
    assert made == [panel.settings]


def test_the_code_for_another_model_opens_the_same_folder(
    lab: Lab, panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.model = {"base_precision": "bf16"}
    opened: dict[str, Lab] = {"lab": lab}
    exec(panel.code.partition("\nrun = ")[0], {"wl": wl}, opened)
    assert (opened["lab"].folder, opened["lab"]._bench.settings) == (lab.folder, panel.model)
    monkeypatch.chdir(tmp_path.parent)
    assert f"wl.Lab({tmp_path.name!r}, base_precision='bf16')" in panel.code


def test_without_its_extra_the_panel_says_how_to_get_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wanlab.panel.panel", "wanlab.panel.face", "wanlab.show.live"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(wl.WanlabError, match=r'pip install "wanlab\[lab\]"'):
        lab.panel()


def test_the_plan_is_that_of_the_lab_and_knows_what_is_stored(lab: Lab, panel: Panel) -> None:
    assert repr(panel.plan) == repr(lab.plan(panel.settings))
    assert panel._plans.wait(PATIENCE)
    assert told(panel, "plan")["reused"] == [False] * 3
    assert told(panel, "cost")["fits"] is True
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    assert panel._plans.wait(PATIENCE)
    assert told(panel, "plan")["reused"] == [True] * 3


def test_a_newer_question_takes_the_place_of_those_that_wait(panel: Panel) -> None:
    heard = Heard(panel)
    for steps in range(4, 24):
        change(panel, steps=steps)
    assert panel._plans.wait(PATIENCE)
    plans = heard.of("plan")
    assert len(plans[-1]["reused"]) == 23
    assert [plan["number"] for plan in plans] == sorted(plan["number"] for plan in plans)


def test_while_a_run_is_made_another_thread_may_look_but_not_compute(lab: Lab, panel: Panel) -> None:
    earlier = lab.run(panel.settings)
    began, go_on = threading.Event(), threading.Event()
    heard = Heard(panel)

    def hold(_: Any) -> None:
        began.set()
        assert go_on.wait(PATIENCE)

    def at_first_step(running: Any) -> None:
        heard.when["running"] = hold if running and running["done"] else at_first_step

    heard.when["running"] = at_first_step
    panel.settings = {"seed": 5, "steps": 4}
    panel.run_button.click()
    assert began.wait(PATIENCE)
    with pytest.raises(BusyError, match="panel"):
        lab.run(panel.settings)
    assert (earlier.steps[1].latents == earlier.latents(1)).all()
    assert len(lab.log) == 2
    go_on.set()
    assert panel.wait(PATIENCE)
    assert lab.run(panel.settings).steps_reused == 4


def test_a_run_of_the_panel_waits_for_a_cell_that_has_the_model(lab: Lab, panel: Panel) -> None:
    events = performing(lab._bench, Timeline(panel.settings))
    next(events)
    heard = Heard(panel)
    waits = threading.Event()
    heard.when["running"] = lambda _: waits.set()
    panel.run_button.click()
    assert waits.wait(PATIENCE)
    assert heard.of("running")[0]["stage"] == "wait"
    assert [now.stage for now in events][-1] == "save"
    assert panel.wait(PATIENCE)
    assert panel.last is not None
    assert panel.last.status == "done"


def test_another_model_is_loaded_for_a_run_and_the_lab_keeps_its_own(lab: Lab, panel: Panel) -> None:
    panel.model = {"base_precision": "bf16"}
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    assert panel.last is not None
    assert panel.last.facts["model"]["base_precision"] == "bf16"
    assert lab.run(panel.settings).facts["model"]["base_precision"] == "fp32"
    assert lab.open(panel.last.id).clip.frames.shape == panel.last.clip.frames.shape


def test_a_view_that_opens_is_told_everything(panel: Panel) -> None:
    said: list[Any] = []
    panel._face.tell = said.append  # type: ignore[method-assign]
    panel._face.receive({"do": "hello", "by": "new"})
    [message] = said
    assert message["to"] == "new"
    assert {"values", "problems", "code", "queue" if panel.runs else "running"} <= set(message["state"])


def test_the_page_of_the_panel_holds_what_differs_and_the_last_clip(panel: Panel, tmp_path: Path) -> None:
    panel.settings = {"prompt": "<script>alert(1)</script> $x^2"}
    panel.run_button.click()
    assert panel.wait(PATIENCE)
    html = panel.to_html(tmp_path / "panel.html").read_text()
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert" not in html
    assert html.count("<img") == 2  # the clip and the plan
    assert "lab.run(" in html
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert repr(panel).startswith("Panel(run = lab.run(")


def test_undo_brings_back_what_a_preset_changed(panel: Panel) -> None:
    before = panel.settings
    change(panel, steps=9, seed=3)
    panel._face.receive({"do": "undo"})
    assert panel.settings == before


def test_compare_needs_two_clips(panel: Panel) -> None:
    panel._face.receive({"do": "compare"})
    assert "another run" in panel.problems[""]
    for seed in (1, 2):
        panel.settings = {"seed": seed}
        panel.run_button.click()
    assert panel.wait(PATIENCE)
    panel._face.receive({"do": "compare"})
    assert len(told(panel, "compared")["clips"]) == 2


def test_on_a_cpu_seconds_are_measured_once_the_settings_have_come_to_rest(panel: Panel) -> None:
    heard = Heard(panel)
    panel.settings = {"steps": 4}
    assert panel._plans.wait(PATIENCE)
    assert told(panel, "cost")["calibrated"]
    panel.settings = {"steps": 5}
    assert panel._plans.wait(PATIENCE)
    costs = [cost["calibrated"] for cost in heard.of("cost")]
    assert costs == sorted(costs)  # and not forgotten by the next size
    assert not panel.problems


def test_while_a_cell_computes_nothing_is_measured(lab: Lab, panel: Panel) -> None:
    with contextlib.closing(performing(lab._bench, Timeline(panel.settings))) as events:
        next(events)
        panel.settings = {"steps": 4}
        assert panel._plans.wait(PATIENCE)
        assert not told(panel, "cost")["calibrated"]
    panel.settings = {"steps": 5}
    assert panel._plans.wait(PATIENCE)
    assert told(panel, "cost")["calibrated"]
