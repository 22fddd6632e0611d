"""Controls: a form asks for every setting once, and what it says becomes settings, code and JSON and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

import wanlab as wl
from test_knobs import legal
from wanlab.controls import PRESETS, as_json, as_python, blame, chosen, form, from_clip, from_json, read, shown
from wanlab.declare import declarations, switches
from wanlab.errors import SettingsError
from wanlab.planning import divided
from wanlab.sections import SECTIONS, notebook_of, placed
from wanlab.settings import ModelSettings, Settings

ROOT = Path(__file__).parents[1]
BOTH: tuple[type[Settings] | type[ModelSettings], ...] = (Settings, ModelSettings)
ALL = {name: setting for model in BOTH for name, setting in {**declarations(model), **switches(model)}.items()}


def controls(**values: Any) -> dict[str, dict[str, Any]]:
    """The controls of a form by name."""
    made = form({**Settings().flat(), **values}, ModelSettings().flat())
    return {one["name"]: one for section in made["sections"] for one in section["controls"]}


def changes(model: type[Settings] | type[ModelSettings]) -> st.SearchStrategy[dict[str, Any]]:
    """Changes of some settings, each legal by itself."""
    plain = {name: legal(one) for name, one in declarations(model).items() if one.kind is not tuple}
    odd = {
        "slg.blocks": st.just("1, 2"),
        "load_device": st.sampled_from(["cpu", "cuda:1"]),
        "text_encoder_device": st.just("process"),
        "loras": st.just(({"file": "a's.safetensors", "strength": (0.5, 1.0)}, {"file": "b"})),
        "sigmas": st.just((1.0, 0.5)),
        "cfg": st.lists(st.floats(0, 30), min_size=20, max_size=20).map(tuple),
    }
    known = {name: odd.get(name, one) for name, one in plain.items()}
    known |= {name: st.booleans() for name in switches(model)}
    return st.fixed_dictionaries({}, optional=known | {name: one for name, one in odd.items() if name in declarations(model)})


def made(model: type[Any], given: Mapping[str, Any]) -> Any:
    """The settings with these changes, as many of them as go together."""
    settings = model()
    for name, value in given.items():
        try:
            settings = settings.but({name: value})
        except SettingsError:  # a rule between settings
            continue
    return settings


def answers(settings: Any) -> dict[str, Any]:
    """What all controls of a form say that shows these settings."""
    model = type(settings)
    said = {name: one.default for name, one in declarations(model).items()}
    said |= {name: getattr(settings, name) is not None for name in switches(model)}
    return json.loads(json.dumps({name: shown(value) for name, value in {**said, **settings.flat()}.items()}))


def test_a_form_asks_for_every_setting_and_every_switch_exactly_once() -> None:
    made = form(Settings().flat(), ModelSettings().flat())
    names = [one["name"] for section in made["sections"] for one in section["controls"]]
    assert Counter(names) == Counter(list(ALL))
    assert len({section["name"] for section in made["sections"]}) == len(made["sections"])


def test_a_form_is_json_that_every_browser_reads_exactly() -> None:
    made = form(Settings(seed=2**64 - 1).flat(), ModelSettings().flat())
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert {one["name"]: one for one in made["sections"][1]["controls"]}["seed"]["default"] == "18446744073709551615"
    numbers = [one[part] for one in controls().values() for part in ("low", "default") if isinstance(one[part], int)]
    assert all(abs(number) <= 2**53 for number in numbers)


@pytest.mark.parametrize("name", ALL)
def test_what_a_control_says_is_what_is_declared(name: str) -> None:
    one, setting = controls()[name], ALL[name]
    for part in ("unit", "affects", "scope", "optional"):
        assert one[part] == getattr(setting, part)
    assert one["help"] == setting.help or (name in switches(Settings) | switches(ModelSettings) and one["help"].endswith("."))
    assert tuple(one["choices"]) == setting.choices or name == "model"
    assert (one["low"], one["high"] if name != "seed" else 2**64 - 1) == (setting.low, setting.high)
    assert one["notebook"] == notebook_of(name)
    assert (ROOT / "notebooks" / one["notebook"]).exists()


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.kind in (int, float)])
def test_a_usual_range_lies_within_the_whole_one_and_holds_the_default(name: str) -> None:
    setting, one = ALL[name], controls()[name]
    if one["usual"] is None:
        assert one["kind"] in ("seed", "list")
        return
    low, high = one["usual"]
    assert setting.low is not None
    assert setting.high is not None
    assert setting.low <= low < high <= setting.high
    assert setting.default is None or low <= setting.default <= high
    if setting.default is not None:  # the slider stops there
        places = (setting.default - low) / one["step"]
        assert places == pytest.approx(round(places))


def test_kinds_of_controls_follow_from_the_kinds_of_settings() -> None:
    kinds = {name: one["kind"] for name, one in controls().items()}
    wanted = {
        "prompt": "area",
        "steps": "slider",
        "cfg": "list",
        "sigmas": "list",
        "seed": "seed",
        "solver": "choice",
        "image": "file",
        "loras": "loras",
        "feta": "toggle",
        "slg.blocks": "text",
        "clip.pingpong": "toggle",
    }
    assert {name: kinds[name] for name in wanted} == wanted


def test_a_group_is_on_in_the_form_if_one_of_its_settings_is_given() -> None:
    assert controls()["feta"]["default"] is False
    assert controls(**{"feta.weight": 4.0})["feta"]["default"] is True
    off = controls(**{"feta.weight": 4.0, "feta": False})
    assert (off["feta"]["default"], off["feta.weight"]["default"]) == (False, 4.0)
    assert off["feta.weight"]["switch"] == "feta"
    assert off["feta"]["simple"]


@pytest.mark.parametrize("name", ALL)
def test_the_defaults_of_a_form_are_read_back_as_they_are(name: str) -> None:
    assert read(name, controls()[name]["default"]) == ALL[name].default
    assert read(name, json.loads(json.dumps(shown(ALL[name].default)))) == ALL[name].default


@pytest.mark.parametrize("model", BOTH)
@fuzzing(deadline=None, max_examples=25)
@given(data=st.data())
def test_what_a_form_shows_of_any_settings_is_read_back_as_they_are(model: type[Any], data: st.DataObject) -> None:
    settings = made(model, data.draw(changes(model)))
    for name, value in settings.flat().items():
        assert read(name, json.loads(json.dumps(shown(value)))) == value


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [
        ("steps", "12", 12),
        ("steps", 12.0, 12),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("cfg", "7, 5, 3", (7.0, 5.0, 3.0)),
        ("cfg", [7, 5, 3], (7.0, 5.0, 3.0)),
        ("cfg", "7", 7.0),
        ("sigmas", "", None),
        ("start_sigma", " ", None),
        ("device_gib", 12, 12.0),
        ("feta", True, True),
        ("attention_mode", "sdpa", "sdpa"),
        ("context.overlap", 40, 40),  # what context.frames allows is not known here
    ],
)
def test_what_a_browser_says_is_read_as_settings_take_it(name: str, said: Any, value: Any) -> None:
    found = read(name, said)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "said", "sentence"),
    [
        ("frames", 80, "frames is 80; it must be 4n + 1, for example 77 or 81."),
        ("steps", "many", "steps is 'many'; it must be a whole number."),
        ("steps", 2.5, "steps is 2.5; it must be a whole number."),
        ("steps", "1_0", "steps is '1_0'; it must be a whole number."),
        ("steps", "", "steps is ''; it must be a whole number."),
        ("steps", "9" * 5000, f"steps is '{'9' * 5000}'; it must be a whole number."),
        ("cfg", "a lot", "cfg is 'a lot'; it must be a number or a list of numbers."),
        ("shift", "1e999", "shift is inf; it must be a finite number."),
        ("solver", "heun", "solver is 'heun'; it must be one of unipc, euler, dpm++, dpm++_sde."),
        ("clip.frame_rate", 1000, "clip.frame_rate is 1000; it must be from 1 to 120 frames/s."),
        ("load_device", "gpu", "load_device is 'gpu'; it must be cpu, cuda, cuda:0 (1, 2 ...) or mps."),
        ("feta", 3, "feta is 3; it must be True or False."),
        ("stepz", 3, "stepz is not a setting."),
        (
            "loras",
            [{"file": "a", "blocks": "x"}],
            "loras[0].blocks is 'x'; it must be all, or numbers of blocks such as 0-9,12.",
        ),
        ("loras", 5, "loras is 5; it must be a list."),
    ],
)
def test_what_cannot_be_is_refused_in_the_sentence_of_the_setting(name: str, said: Any, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(name, said)
    assert str(refused.value) == sentence


@given(
    name=st.sampled_from(list(ALL)),
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
        max_leaves=4,
    ),
)
@fuzzing(deadline=None, max_examples=200)
def test_whatever_is_said_is_read_or_refused_in_a_sentence(name: str, said: Any) -> None:
    told = f"{name} is "
    try:
        read(name, said)
    except SettingsError as error:
        told = str(error)
    assert told.startswith((f"{name} is ", f"{name}["))


@pytest.mark.parametrize("model", BOTH)
@fuzzing(deadline=None, max_examples=25)
@given(data=st.data())
def test_the_settings_of_a_whole_form_are_changes_that_lead_to_the_same_settings(model: type[Any], data: st.DataObject) -> None:
    wanted, base = made(model, data.draw(changes(model))), made(model, data.draw(changes(model)))
    found = chosen(answers(wanted), base)
    assert base.but(found) == wanted
    assert (found == {}) == (base == wanted)


def test_a_group_that_is_turned_on_begins_with_what_suits_the_model() -> None:
    said = {"context": True, "context.frames": 81, "context.overlap": 8}
    suits = {"context": {"frames": 81, "overlap": 16}}
    assert chosen(said, Settings(), suits) == {"context": True, "context.overlap": 8}
    assert chosen(said, Settings()) == {"context": True, "context.frames": 81}
    assert chosen({**said, "context": False}, Settings()) == {}


def test_all_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        chosen({"steps": "many", "frames": 80, "cfg": 3}, Settings())
    assert len(str(refused.value).splitlines()) == 2


REFUSALS: list[tuple[dict[str, Any], set[str]]] = [
    ({"frames": 80}, {"frames"}),
    ({"steps": 0, "cfg": 99.0, "clip.frame_rate": 0}, {"steps", "cfg", "clip.frame_rate"}),
    ({"cfg": (7.0, 5.0)}, {"cfg"}),
    ({"prompt": "steps and frames\0"}, {"prompt"}),
    ({"cfg_zero": True, "apg": True}, {"cfg_zero", "apg"}),
    ({"batched_cfg": True, "slg": True}, {"batched_cfg", "slg"}),
    ({"batched_cfg": True, "nag": True}, {"batched_cfg", "nag"}),
    ({"loop": True, "cache": True}, {"loop", "cache"}),
    ({"loop": True, "apg.momentum": -0.5}, {"loop", "apg.momentum"}),
    ({"loop": True, "image": "x"}, {"loop", "image"}),
    ({"context.anchor": "start"}, {"context.anchor", "image"}),
    ({"context.fuse": "relative", "context.schedule": "batched"}, {"context.fuse", "context.schedule"}),
    ({"context.overlap": 20, "context.frames": 17}, {"context.overlap", "context.frames"}),
    ({"freeinit": True, "end_step": 5}, {"freeinit", "end_step"}),
    ({"sigmas": (1.0, 0.5), "schedule": "simple"}, {"sigmas", "schedule"}),
    ({"start_step": 3, "start_sigma": 0.5}, {"start_step", "start_sigma", "denoise_strength"}),
    ({"denoise_strength": 0.5}, {"denoise_strength", "samples"}),
    ({"add_noise": False}, {"add_noise", "samples"}),
    ({"end_step": 30}, {"end_step", "steps"}),
    ({"start_step": 20}, {"denoise_strength", "steps", "start_step"}),
    ({"feta.start_percent": 0.9, "feta.end_percent": 0.1}, {"feta.start_percent", "feta.end_percent"}),
    ({"cache.kind": "taylorseer", "cache.threshold": 1.0}, {"cache.threshold", "cache.kind", "cache.interval"}),
    ({"cache.kind": "easycache", "cache.speed_up": 2.0}, {"cache.speed_up", "cache.threshold"}),
    ({"clip.format": "gif", "clip.frame_rate": 60}, {"clip.format", "clip.frame_rate"}),
    ({"schedule": "distilled"}, {"schedule", "steps"}),
    ({"vae_tile": 128}, {"vae_tile", "vae_tile_stride"}),
    ({"quantization": "torchao_int8", "blocks_to_swap": 2}, {"quantization", "blocks_to_swap"}),
    ({"compile.whole": True, "blocks_to_swap": 2}, {"compile.whole", "blocks_to_swap", "compile"}),
    ({"loras": [{"file": "a", "strength": 99}]}, {"loras"}),
]


@pytest.mark.parametrize(("changes", "names"), REFUSALS)
def test_a_refusal_belongs_to_the_controls_that_caused_it(changes: dict[str, Any], names: set[str]) -> None:
    run, model = divided(changes)
    with pytest.raises(SettingsError) as refused:
        (Settings().but(run), ModelSettings().but(model))
    found = blame(refused.value, controls())
    assert set(found) == names
    assert all(sentence in str(refused.value) for sentence in found.values())


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("This is an image-to-video model (36 input channels); give it an image (image=...), or take another.", {"image"}),
        ("width is 72; this model makes clips in multiples of 16 pixels, for example 64 or 80.", {"width"}),
        ("image and end_image hold 5 frames, and the clip has 1; raise frames.", {"image", "end_image", "frames"}),
        ("model is 'frames'; there is no such folder or file.", {"model"}),
        ("The disk is full.", {""}),
        ("", set()),
    ],
)
def test_sentences_of_others_belong_to_what_they_name(sentence: str, names: set[str]) -> None:
    assert set(blame(SettingsError(sentence), controls())) == names


class Pretended:
    """A lab that says what it was asked for."""

    def __init__(self, **model: Any) -> None:
        self.model = ModelSettings().but(model)

    def run(self, prompt: str | None = None, changes: Mapping[str, Any] | None = None, **settings: Any) -> Settings:
        return Settings().but({**({} if prompt is None else {"prompt": prompt}), **(changes or {}), **settings})


@fuzzing(deadline=None, max_examples=40)
@given(run=changes(Settings), model=changes(ModelSettings))
def test_settings_as_python_give_the_same_settings_when_they_are_run(run: dict[str, Any], model: dict[str, Any]) -> None:
    settings, loader = made(Settings, run), made(ModelSettings, model)
    written = as_python(chosen(answers(settings), Settings()), chosen(answers(loader), ModelSettings()))
    names: dict[str, Any] = {"wl": type("wl", (), {"Lab": Pretended}), "lab": Pretended()}
    exec(written, names)
    assert names["run"] == settings
    assert names["lab"].model == loader


def test_python_is_the_line_that_a_person_would_type() -> None:
    assert as_python({"prompt": "a cat's 'life'", "steps": 20, "clip.frame_rate": 8, "feta": True}) == (
        "run = lab.run(\"a cat's 'life'\", steps=20, feta=True, changes={'clip.frame_rate': 8})"
    )
    assert as_python({}, {"loras": ModelSettings(loras=["a"]).loras, "compile.mode": "default"}) == (
        "lab = wl.Lab(loras=['a'], compile={'mode': 'default'})\nrun = lab.run()"
    )
    assert "\n    negative_prompt=" in as_python({"prompt": "x" * 90, "negative_prompt": "y"})


@pytest.mark.parametrize("model", [None, ModelSettings(loras=[("a", 0.5)], blocks_to_swap=2, compile=True)])
@fuzzing(deadline=None, max_examples=25)
@given(data=st.data())
def test_settings_as_json_come_back_as_they_were(model: ModelSettings | None, data: st.DataObject) -> None:
    settings = made(Settings, data.draw(changes(Settings)))
    found = from_json(as_json(settings, model))
    assert Settings().but(found.changes) == settings
    assert ModelSettings().but(found.model_changes) == (model or ModelSettings())
    assert not found.not_taken


def test_a_technique_of_which_complete_settings_say_nothing_was_off() -> None:
    found = from_json(as_json(Settings(feta=True), ModelSettings()))
    assert Settings(cache=True).but(found.changes) == Settings(feta=True)
    assert ModelSettings(compile=True).but(found.model_changes) == ModelSettings()
    assert from_json('{"steps": 5}').changes == {"steps": 5}


def test_what_is_in_a_json_and_cannot_be_taken_is_told() -> None:
    found = from_json(
        json.dumps(
            {
                "steps": 5,
                "cfgs": 3,
                "frames": 80,
                "forks": [[2, {"cfg": 1}]],
                "model": {"name": "tiny", "device": "cpu"},
                "feta": {"weight": 4},
            }
        )
    )
    assert found.changes == {"steps": 5, "feta.weight": 4}
    assert found.model_changes == {"model": "tiny", "load_device": "cpu"}
    assert [name for name, _, _ in found.not_taken] == ["cfgs", "frames", "forks"]
    assert found.not_taken[1][2] == "frames is 80; it must be 4n + 1, for example 77 or 81."


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"x"', "{" * 100000, "[" * 100000])
def test_text_that_holds_no_settings_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="The settings are"):
        from_json(text)


def test_a_clip_gives_its_settings_back(tmp_path: Path) -> None:
    settings = Settings(prompt="a red circle", seed=2**64 - 1, feta={"weight": 4})
    facts = {**settings.flat(), "model": {"name": "tiny", "id": "x", "loras": []}, "versions": {}, "run": "r", "forks": []}
    wl.Clip(np.zeros((5, 16, 16, 3), np.uint8), settings.clip, facts).save(tmp_path / "clip.webp")
    found = from_clip(tmp_path / "clip.webp")
    assert Settings().but({**found.changes, "clip.format": "mp4"}) == settings
    assert found.model_changes == {"model": "tiny", "loras": ()}
    assert not found.not_taken


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_valid_on_its_model_and_says_where_it_is_from(preset: Any) -> None:
    run, model = divided(preset.changes)
    for name in (preset.model,) if preset.model else ("tiny", "Wan2.1-T2V-14B"):
        plan = wl.plan(run, **{"model": name, **model})
        assert plan.seconds > 0
        assert plan.fits is not False
    assert preset.help.endswith(".")
    assert preset.origin
    for name, value in preset.changes.items():
        read(name, shown(value))


def test_presets_have_names_of_their_own_and_those_of_this_model_stand_apart() -> None:
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    hub = form(Settings().flat(), {"model": "Wan-AI/Wan2.1-T2V-14B-Diffusers"})["presets"]
    here = [preset for preset in hub if preset["group"] == "This model"]
    assert [preset["name"] for preset in here] == [f"Wan2.1-T2V-14B {size}" for size in ("480p", "720p", "picture")]
    assert not any("model" in preset["changes"] for preset in here)


def test_sections_hold_parts_that_begin_with_settings_there_are() -> None:
    begins = [name for section in SECTIONS for part in section.parts for name in part.begin]
    assert len(set(begins)) == len(begins)
    fields = {name for model in BOTH for name in model.model_fields}
    assert set(begins) <= fields
    assert all(placed()[part] for section in SECTIONS for part in section.parts)
    with pytest.raises(LookupError):
        notebook_of("nonsense")
