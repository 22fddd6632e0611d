"""The form in a real browser, alone on a page: found by label, changed by keyboard and mouse, searched, folded, refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from wanlab.controls import chosen, form
from wanlab.settings import ModelSettings, Settings
from wanlab.show.form import SCRIPTS, STYLES
from wanlab.show.page import Face

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><meta charset="utf-8">
<style>:root {{ color-scheme: light dark }} body {{ background: Canvas; color: CanvasText }}</style>
<div id="root"></div>
<script>(() => {{
"use strict";
{script}
const shadow = document.getElementById("root").attachShadow({{ mode: "open" }});
const place = make("div");
shadow.append(make("style", {{ textContent: {css} }}), place);
window.heard = [];
window.form = new Form(place, {form}, (changes) => window.heard.push(changes));
window.again = () => new Form(make("div"), window.form.form, () => {{}});
}})();</script>"""


@pytest.fixture
def opened(new_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Opens a page with a form of these settings, in the expert view with all sections open unless it is to be `simple`."""

    def open_form(settings: Settings | None = None, *, simple: bool = False, **options: Any) -> Any:
        made = form((settings or Settings()).flat(), ModelSettings().flat())
        face = Face("Form", SCRIPTS, STYLES)
        told = {"css": json.dumps(face.css), "form": json.dumps(made).replace("<", "\\u003c")}
        (tmp_path / "form.html").write_text(PAGE.format(script=face.script, **told), encoding="utf-8")
        page = new_page(**options)
        page.goto((tmp_path / "form.html").as_uri())
        expect(page.locator(".form")).to_have_attribute("data-ready", "1")
        if not simple:
            page.get_by_role("button", name="Expert").click()
            page.evaluate("for (const one of form.root.querySelectorAll('details')) one.open = true")
        return page

    return open_form


def heard(page: Any) -> dict[str, Any]:
    """What was told since the last time, as one mapping."""
    page.wait_for_function("heard.length > 0")
    page.wait_for_timeout(60)  # a slider tells a moment after it has moved
    changes = page.evaluate("heard.splice(0)")
    return {name: value for one in changes for name, value in one.items()}


def box(page: Any, name: str) -> Any:
    return page.get_by_label(name, exact=True)


def test_every_control_is_found_by_its_label_and_shows_its_default(opened: Callable[..., Any]) -> None:
    page = opened()
    made = page.evaluate("form.form.sections.flatMap((section) => section.controls)")
    for control in made:
        found = box(page, control["name"])
        expect(found).to_be_visible()
        if control["kind"] == "toggle":
            expect(found).to_be_checked(checked=control["default"])
        elif control["kind"] != "loras":
            default = control["default"]
            expect(found).to_have_value("" if default is None else str(default).removesuffix(".0"))
        if control["usual"]:
            expect(page.get_by_role("slider", name=f"{control['name']} slider", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name=f"Help on {control['name']}", exact=True)).to_be_visible()
    assert page.evaluate("heard") == []


def test_what_the_form_says_untouched_are_the_settings_it_was_made_of(opened: Callable[..., Any]) -> None:
    settings = Settings(cfg=2.5, seed=2**64 - 1, feta={"weight": 4.0}, sigmas=tuple(1 - k / 20 for k in range(20)))
    values = opened(settings).evaluate("form.values")
    assert chosen({name: values[name] for name in values if name in settings.flat() or name == "feta"}, settings) == {}
    assert Settings().but(chosen(values, Settings())) == settings


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("steps", ["ArrowRight", "ArrowRight"], 22),
        ("frames", ["ArrowRight"], 21),
        ("width", ["End"], 1280),
        ("cfg", ["ArrowLeft"], 2.5),
        ("lora_strength", ["ArrowRight", "ArrowRight"], 1.2),
        ("apg.momentum", ["Home"], None),  # its technique is off
        ("denoise_strength", ["ArrowLeft"] * 3, 0.85),
        ("boundary_ratio", ["ArrowRight"] * 3, 0.815),
        ("riflex.index", ["ArrowRight"], None),
    ],
)
def test_a_slider_moves_by_exact_steps_and_carries_its_box_along(
    opened: Callable[..., Any], name: str, keys: list[str], value: Any
) -> None:
    page = opened()
    slider = page.get_by_role("slider", name=f"{name} slider", exact=True)
    if value is None:
        expect(slider).to_be_disabled()
        return
    for key in keys:
        slider.press(key)
    assert heard(page) == {name: value}
    expect(box(page, name)).to_have_value(str(value))


def test_every_place_of_every_slider_is_the_decimal_that_is_meant(opened: Callable[..., Any]) -> None:
    moved = """() => [...form.rows.values()].filter((row) => row.control.usual).map(({ control, field }) => {
        const [low, high] = control.usual, told = [], range = field.inputs[1];
        for (let place = 0; low + place * control.step <= high + 1e-9; place++) {
            range.value = low + place * control.step;
            range.dispatchEvent(new Event("input"));
            told.push(form.values[control.name]);
        }
        return [control.name, low, control.step, told];
    })"""
    for name, low, step, told in opened().evaluate(moved):
        assert len(told) > 3
        for place, value in enumerate(told):
            assert value == round(low + place * step, 6), name
            assert len(str(value)) < 8, name


def test_a_box_takes_what_the_slider_does_not_offer_and_the_slider_leaves_it(opened: Callable[..., Any]) -> None:
    page = opened()
    for typed, value in (("3.14159", 3.14159), ("29", 29), ("7, 5, 3", [7, 5, 3]), ("a lot", "a lot"), ("1e999", "1e999")):
        box(page, "cfg").fill(typed)
        box(page, "cfg").press("Enter")
        assert heard(page) == {"cfg": value}
        expect(box(page, "cfg")).to_have_value(typed)
    box(page, "start_sigma").fill("0.5")
    assert heard(page) == {"start_sigma": 0.5}
    box(page, "start_sigma").fill("")
    assert heard(page) == {"start_sigma": None}
    box(page, "seed").fill("18446744073709551615")
    assert heard(page) == {"seed": "18446744073709551615"}


def test_arrows_in_a_box_go_by_steps_over_the_whole_range(opened: Callable[..., Any]) -> None:
    page = opened()
    box(page, "cfg").fill("10")
    for _ in range(3):
        box(page, "cfg").press("ArrowUp")
    assert heard(page)["cfg"] == 11.5
    box(page, "shift").fill("0.1")
    box(page, "shift").press("ArrowDown")
    assert heard(page)["shift"] == 0.01


def test_a_drag_with_the_mouse_is_told_a_moment_later(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    slider = page.get_by_role("slider", name="steps slider")
    slider.scroll_into_view_if_needed()
    place = slider.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 3, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] - 1, place["y"] + place["height"] / 2, steps=8)
    page.mouse.up()
    assert heard(page) == {"steps": 60}
    expect(box(page, "steps")).to_have_value("60")


def test_choices_toggles_text_and_dice_are_told(opened: Callable[..., Any]) -> None:
    page = opened()
    box(page, "solver").select_option("euler")
    assert heard(page) == {"solver": "euler"}
    box(page, "batched_cfg").press("Space")
    assert heard(page) == {"batched_cfg": True}
    box(page, "prompt").fill('a "cat" </script><b>')
    assert heard(page) == {"prompt": 'a "cat" </script><b>'}
    page.get_by_role("button", name="Another seed").click()
    assert re.fullmatch(r"\d+", heard(page)["seed"])


def test_a_switch_turns_the_controls_of_its_group_on(opened: Callable[..., Any]) -> None:
    page = opened()
    expect(box(page, "feta.weight")).to_be_disabled()
    box(page, "feta").click()
    assert heard(page) == {"feta": True}
    box(page, "feta.weight").fill("4")
    assert heard(page) == {"feta.weight": 4}
    expect(page.locator("[data-section=feta] .state")).to_have_text("on2 changed")


def test_loras_are_rows_that_come_and_go(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    page.get_by_role("button", name="Add a LoRA").click()
    expect(box(page, "loras[0].file")).to_be_focused()
    page.keyboard.type("style.safetensors")
    box(page, "loras[0].strength").fill("1, 0.5")
    box(page, "loras[0].merge").click()
    added = {"file": "style.safetensors", "strength": [1, 0.5], "blocks": "all", "merge": True, "expert": "both"}
    assert heard(page) == {"loras": [added]}
    page.get_by_role("button", name="Add a LoRA").click()
    box(page, "loras[1].file").fill("other")
    box(page, "loras[1].strength").press("ArrowUp")
    assert [(lora["file"], lora["strength"]) for lora in heard(page)["loras"]] == [
        ("style.safetensors", [1, 0.5]),
        ("other", 1.05),
    ]
    page.get_by_role("button", name="Remove loras[0]").click()
    assert [lora["file"] for lora in heard(page)["loras"]] == ["other"]
    page.get_by_role("button", name="Reset loras").click()
    assert heard(page) == {"loras": []}
    expect(page.get_by_role("button", name="Remove loras[0]")).to_have_count(0)


def test_reset_is_there_for_what_changed_and_goes_back(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    expect(page.get_by_role("button", name=re.compile("Reset"))).to_have_count(0)
    box(page, "steps").fill("30")
    box(page, "solver").select_option("euler")
    heard(page)
    page.get_by_role("button", name="Reset steps").click()
    assert heard(page) == {"steps": 20}
    expect(box(page, "steps")).to_be_focused()
    page.get_by_role("button", name="1 changed").click()
    expect(page.locator(".row:visible")).to_have_count(1)
    page.get_by_role("button", name="Reset all").click()
    assert heard(page) == {"solver": "unipc"}


def test_values_that_are_put_in_are_shown_and_not_told(opened: Callable[..., Any]) -> None:
    page = opened()
    page.evaluate("form.set({cfg: [7, 5], sigmas: null, seed: 12, 'clip.format': 'gif', feta: true, nonsense: 3})")
    expect(box(page, "cfg")).to_have_value("7, 5")
    expect(box(page, "seed")).to_have_value("12")
    expect(box(page, "clip.format")).to_have_value("gif")
    expect(box(page, "feta.weight")).to_be_enabled()
    page.wait_for_timeout(500)
    assert page.evaluate("heard") == []


def test_problems_stand_beside_their_controls(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    said = {"frames": "frames is 80; it must be 4n + 1.", "vae_tile": "vae_tile is 3.", "": "Something else."}
    page.evaluate("(said) => form.problems(said)", said)
    for name in ("frames", "vae_tile"):  # the second one is no simple setting
        expect(box(page, name)).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#{box(page, name).get_attribute('aria-describedby')}")).to_have_text(said[name])
        expect(page.get_by_text(said[name])).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_text("Something else.")
    page.evaluate("form.problems({})")
    expect(page.get_by_text("frames is 80")).to_have_count(0)
    expect(box(page, "frames")).not_to_have_attribute("aria-invalid", "true")
    expect(box(page, "vae_tile")).to_be_hidden()


def test_a_locked_form_takes_nothing_and_still_explains(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    page.evaluate("form.lock(true)")
    expect(box(page, "steps")).to_be_disabled()
    expect(page.get_by_label("Preset")).to_be_disabled()
    page.get_by_role("button", name="Help on steps").click()
    expect(page.get_by_text("Steps of the solver from noise to clip.")).to_be_visible()
    page.evaluate("form.lock(false)")
    expect(box(page, "steps")).to_be_enabled()
    expect(box(page, "feta.weight")).to_be_disabled()


def test_help_opens_on_demand_with_range_default_and_notebook(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    ask = page.get_by_role("button", name="Help on cfg")
    expect(ask).to_have_attribute("aria-expanded", "false")
    ask.press("Enter")
    expect(ask).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_text("The slider goes from 1 to 10; the box takes 0 to 30.")).to_be_visible()
    link = page.get_by_role("link", name="02_steps_shift_cfg.ipynb")
    expect(link).to_have_attribute("href", "notebooks/02_steps_shift_cfg.ipynb")
    ask.press("Enter")
    expect(link).to_be_hidden()


def test_search_finds_settings_of_both_views_by_name_and_help(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    expect(box(page, "momentum")).to_be_hidden()
    search = page.get_by_label("Search settings")
    search.fill("vae tile stride")
    expect(page.locator(".row:visible")).to_have_count(1)
    expect(box(page, "vae_tile_stride")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("1 setting found")
    search.fill("oversaturation")
    expect(box(page, "apg")).to_be_visible()
    search.fill("nothing is called so")
    expect(page.get_by_role("status")).to_have_text("0 settings found")
    search.fill("")
    expect(box(page, "steps")).to_be_visible()
    expect(box(page, "vae_tile_stride")).to_be_hidden()


def test_a_view_and_what_was_folded_are_remembered(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    page.get_by_role("button", name="Expert").click()
    page.locator("summary", has_text="Sampler").click()
    page.locator("summary", has_text="Caches").click()
    expect(box(page, "steps")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("button", name="Expert")).to_have_attribute("aria-pressed", "true")
    expect(box(page, "steps")).to_be_hidden()
    expect(box(page, "cache.kind")).to_be_visible()


def test_another_preset_takes_back_what_the_one_before_set(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    preset = page.get_by_label("Preset")
    preset.select_option("distilled 4 steps")
    assert heard(page) == {"steps": 4, "cfg": 1, "shift": 5, "schedule": "distilled", "solver": "euler"}
    box(page, "solver").select_option("dpm++")  # a person's own choice stays
    heard(page)
    preset.select_option("Wan2.1-T2V-1.3B 480p")
    told = heard(page)
    assert told["schedule"] == "solver"
    assert (told["steps"], told["model"]) == (50, "Wan2.1-T2V-1.3B")
    assert "solver" not in told
    expect(page.get_by_text("Origin: the authors' defaults for Wan2.1-T2V-1.3B.")).to_be_visible()


@pytest.mark.parametrize(("width", "columns"), [(400, 1), (800, 2), (1400, 3)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_where_it_is_put(opened: Callable[..., Any], width: int, columns: int, scheme: str) -> None:
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    expect(page.locator(".column")).to_have_count(columns)
    for name in ("feta", "cfg"):
        page.get_by_role("button", name=f"Help on {name}", exact=True).click()
    page.evaluate("(said) => form.problems({steps: said, '': said})", "steps_is_" + "9" * 300)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = """() => [...form.root.querySelectorAll("*")].filter((one) => !one.hidden && one.scrollWidth > one.clientWidth + 1
        && one.clientWidth && getComputedStyle(one).overflowX === "visible" && getComputedStyle(one).display !== "inline"
        && !one.matches(".switch, .prefix, option, input[type=range]")).map((one) => one.className || one.tagName)"""
    assert page.evaluate(wide) == []
    assert page.locator(".form").evaluate("(form) => form.style.colorScheme") == scheme


def test_the_order_of_the_keyboard_is_that_of_the_page(opened: Callable[..., Any]) -> None:
    page = opened(simple=True, viewport={"width": 1400, "height": 900})
    page.get_by_label("Search settings").focus()
    seen = []
    for _ in range(16):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("form.root.getRootNode().activeElement.closest('.row')?.dataset.name"))
    assert [name for name in dict.fromkeys(seen) if name][:4] == ["prompt", "negative_prompt", "width", "height"]


def test_keys_that_are_typed_do_not_reach_the_notebook_around(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    page.evaluate("window.keys = []; document.body.addEventListener('keydown', (event) => keys.push(event.key))")
    box(page, "prompt").press("a")
    box(page, "steps").press("Backspace")
    box(page, "clip.pingpong").press("Space")
    page.get_by_role("slider", name="steps slider").press("ArrowLeft")
    assert page.evaluate("keys") == []
    box(page, "prompt").press("Control+s")
    box(page, "prompt").press("Tab")
    assert page.evaluate("keys") == ["Control", "s", "Tab"]


def test_a_form_can_be_made_before_it_is_in_the_page(opened: Callable[..., Any]) -> None:
    page = opened(simple=True)
    assert page.evaluate("again().rows.size") == page.evaluate("form.rows.size")


def test_names_and_values_of_others_are_text(opened: Callable[..., Any]) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    page = opened(Settings(prompt=hostile, image=hostile, clip={"filename_prefix": "a"}))
    page.evaluate("(said) => form.problems({prompt: said, '': said})", hostile)
    page.evaluate(
        "(said) => form.set({loras: [{file: said, strength: 1, blocks: said, merge: false, expert: 'both'}]})", hostile
    )
    expect(box(page, "prompt")).to_have_value(hostile)
    expect(box(page, "loras[0].blocks")).to_have_value(hostile)
    assert page.evaluate("form.root.querySelectorAll('img, script').length") == 0
