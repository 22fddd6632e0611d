"""Every setting is declared once, checked at the border, and refused in one clear sentence."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanlab.errors import SettingsError
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.timeline import Timeline


def test_every_setting_says_what_it_affects_when_it_may_change_and_what_it_does() -> None:
    for setting in declared().values():
        assert setting.affects in ("result", "cost", "clip")
        assert setting.scope in ("run", "step")
        assert setting.help.endswith(".")
        assert (setting.default is None) == setting.optional


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 80}, "frames is 80; it must be 4n + 1, for example 77 or 81."),
        ({"frames": 0}, "frames is 0; it must be from 1 to 4097 frames."),
        ({"width": 100}, "width is 100; it must be a multiple of 16 from 16 to 4096, for example 96."),
        ({"height": 8}, "height is 8; it must be a multiple of 16 from 16 to 4096, for example 16."),
        ({"height": 4112}, "height is 4112; it must be from 16 to 4096 pixels."),
        ({"steps": "20"}, "steps is '20'; it must be a whole number."),
        ({"steps": 20.5}, "steps is 20.5; it must be a whole number."),
        ({"steps": True}, "steps is True; it must be a whole number."),
        ({"steps": 0}, "steps is 0; it must be from 1 to 1000."),
        ({"cfg": 31}, "cfg is 31; it must be from 0 to 30."),
        ({"cfg": math.nan}, "cfg is nan; it must be a finite number."),
        ({"shift": 0}, "shift is 0; it must be from 0.01 to 1000."),
        ({"seed": -1}, "seed is -1; it must be from 0 to 18446744073709551615."),
        ({"seed": 2**64}, "seed is 18446744073709551616; it must be from 0 to 18446744073709551615."),
        ({"solver": "ddim"}, "solver is 'ddim'; it must be one of unipc, euler, dpm++, dpm++_sde."),
        ({"prompt": None}, "prompt is None; it must be text."),
        ({"prompt": "a\0b"}, "prompt is 'a\\x00b'; it must be text that can be written as UTF-8, without NUL characters."),
        ({"stepz": 3}, "stepz is not a setting; did you mean steps or end_step or start_step?"),
        ({"clip.frame_rate": 0}, "clip.frame_rate is 0; it must be from 1 to 120 frames/s."),
        ({"clip.rate": 8}, "clip.rate is not a setting; did you mean clip.format or clip.frame_rate or clip.save_output?"),
        ({"frame_rate": 8}, "frame_rate is not a setting; did you mean clip.frame_rate?"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_value_rule_and_way_out(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().but(changes)
    assert str(caught.value) == sentence


def test_a_group_is_no_setting() -> None:
    with pytest.raises(SettingsError, match=r"^clip is not a setting; its settings are clip\.frame_rate, clip\.loop_count"):
        Settings().but({"clip": 3})


def test_settings_of_the_model_are_refused_in_the_same_way() -> None:
    with pytest.raises(SettingsError, match=r"^base_precision is 'fp8'; it must be one of fp32, bf16, fp16, fp16_fast\.$"):
        ModelSettings(base_precision="fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["foo", "cuda:x", "", "cpu "])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="it must be cpu, cuda, cuda:0"):
        ModelSettings(load_device=device)


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(steps=0, cfg=99.0, clip={"frame_rate": 0})
    assert len(str(caught.value).splitlines()) == 3


@given(
    st.dictionaries(
        st.sampled_from(sorted(declared())), st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans())
    )
)
def test_any_value_is_taken_as_it_is_or_refused_in_sentences(changes: dict[str, object]) -> None:
    try:
        settings = Settings().but(changes)
    except SettingsError as error:
        ends = {line[-1] for line in str(error).splitlines()}
    else:
        ends = set()
    if ends:
        assert ends <= {".", "?"}
        return
    for name, value in changes.items():
        assert settings.flat()[name] == value  # nothing is rounded or clamped


def test_numbers_of_numpy_are_taken() -> None:
    settings = Settings().but({"seed": np.int64(3), "cfg": np.float32(2.5)})
    assert (settings.seed, settings.cfg) == (3, 2.5)
    assert json.dumps(settings.flat())


def test_flat_settings_and_back_are_equal() -> None:
    settings = Settings(prompt="x", clip={"pingpong": True})
    assert Settings().but(settings.flat()) == settings


def test_a_fork_holds_from_its_step_on() -> None:
    line = Timeline(Settings()).fork(5, {"cfg": 4.0}).fork(8, {"prompt": "x"})
    assert [line.at(k).cfg for k in (4, 5, 19)] == [3.0, 4.0, 4.0]
    assert [line.at(k).prompt == "x" for k in (7, 8)] == [False, True]


def test_a_later_fork_at_an_earlier_step_has_the_last_word() -> None:
    line = Timeline(Settings()).fork(8, {"cfg": 4.0}).fork(5, {"cfg": 2.0})
    assert [line.at(k).cfg for k in (4, 5, 8, 19)] == [3.0, 2.0, 2.0, 2.0]


def test_a_fork_at_step_0_is_another_run_and_may_change_anything() -> None:
    line = Timeline(Settings()).fork(0, {"shift": 8.0, "steps": 10})
    assert line == Timeline(Settings(shift=8.0, steps=10))


@pytest.mark.parametrize("name", [s.name for s in declared().values() if s.scope == "run" and s.affects == "result"])
def test_what_holds_for_a_whole_run_cannot_change_in_the_middle(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} cannot change in the middle of a run"):
        Timeline(Settings()).fork(3, {name: declared()[name].default})


@pytest.mark.parametrize("at", [-1, 20, 2.0, True, "3"])
def test_a_fork_outside_the_run_is_refused(at: object) -> None:
    with pytest.raises(SettingsError, match="forks at a step from 0 to 19"):
        Timeline(Settings()).fork(at, {"cfg": 3.0})  # type: ignore[arg-type]
