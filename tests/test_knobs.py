"""Knobs: every declared setting has its flag and its place in the docs, and flags mean what Settings mean."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from wanlab.errors import SettingsError
from wanlab.knobs import add_flags, add_model_flags, changes_from, settings_markdown, settings_text
from wanlab.settings import ModelSettings, Setting, Settings, declared

DOCS = Path(__file__).parents[1] / "docs" / "settings.md"


@functools.cache
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(made)
    add_model_flags(made)
    return made


def changes(*words: str) -> dict[str, Any]:
    return changes_from(parser().parse_args(words))


def together(text: str) -> str:
    """The text without its spaces and line breaks."""
    return "".join(text.split())


def legal(setting: Setting) -> st.SearchStrategy[Any]:
    """Values of one setting; rules between settings are not known here."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is float:
        return st.floats(setting.low, setting.high)
    if setting.kind is int:
        low, step = int(setting.low or 0), int(setting.step or 1)
        return st.integers(0, (int(setting.high or 0) - low) // step).map(lambda k: low + step * k)
    if setting.name == "clip.filename_prefix":
        return st.from_regex("[a-z]{4,8}(/[a-z]{4,8})?", fullmatch=True)
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def test_docs_are_up_to_date() -> None:
    renew = "docs/settings.md is out of date; renew it: python -m wanlab settings --markdown > docs/settings.md"
    assert DOCS.read_text("utf-8") == settings_markdown(), renew


@pytest.mark.parametrize("name", [*declared(), *declared(ModelSettings)])
def test_each_setting_is_in_help_and_docs(name: str) -> None:
    setting = (declared() | declared(ModelSettings))[name]
    helped = together(parser().format_help())
    assert together(f"--{name}") in helped
    assert together(setting.help) in helped
    row = next(line for line in settings_markdown().splitlines() if line.startswith(f"| `{name}` |"))
    comfy = f"`{setting.comfy}`" if setting.comfy else ""
    assert f"| {setting.scope} | {setting.affects} | {comfy} |" in row
    assert f"**`{name}`**: {setting.help}" in settings_markdown()


@pytest.mark.parametrize("name", list(declared()))
def test_each_setting_is_in_the_terminals_list(name: str) -> None:
    assert f"\n  --{name}  " in settings_text()
    assert together(declared()[name].help) in together(settings_text())


@fuzzing(deadline=None)
@given(given=st.fixed_dictionaries({}, optional={name: legal(one) for name, one in declared().items()}), hyphens=st.booleans())
def test_flags_give_back_the_changes_they_were_made_from(given: dict[str, Any], hyphens: bool) -> None:
    try:
        settings = Settings().but(given)
    except SettingsError:  # a rule between settings
        assume(False)
    found = changes(*(flag(name.replace("_", "-") if hyphens else name, value) for name, value in given.items()))
    assert found == given
    assert Settings().but(found) == settings


def test_flags_that_are_not_given_leave_no_trace() -> None:
    assert changes() == {}
    assert changes_from(parser().parse_args([]), ModelSettings) == {}


def test_settings_and_those_of_the_model_are_told_apart() -> None:
    both = parser().parse_args(["--model", "somewhere", "--base-precision", "bf16", "--cfg", "3"])
    assert changes_from(both) == {"cfg": 3.0}
    assert changes_from(both, ModelSettings) == {"model": "somewhere", "base_precision": "bf16"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps=0"], "steps is 0; it must be from 1 to 1000."),
        (["--steps=many"], "steps is 'many'; it must be a whole number."),
        (["--steps=2.5"], "steps is '2.5'; it must be a whole number."),
        (["--steps=" + "9" * 5000], "it must be a whole number."),
        (["--cfg=1e999"], "it must be a finite number."),
        (["--cfg=nan"], "it must be a finite number."),
        (["--solver=heun"], "solver is 'heun'; it must be one of unipc, euler, dpm++, dpm++_sde."),
        (["--frames=80"], "frames is 80; it must be 4n + 1, for example 77 or 81."),
        (["--clip.frame-rate=1000"], "clip.frame_rate is 1000.0; it must be from 1 to 120 frames/s."),
    ],
)
def test_values_that_do_not_fit_are_refused_in_the_sentences_of_settings(words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings().but(changes(*words))
    assert sentence in str(refused.value)
