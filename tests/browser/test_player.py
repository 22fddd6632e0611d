"""The player in a real browser: two clips in one picture, curves, full screen, room for nine clips, accessibility."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from test_faces import TWO, A, B, clip, pixels, scrub
from wanlab.show import Tile, player
from wanlab.show.page import source

pytestmark = pytest.mark.browser


def test_blink_shows_one_clip_at_a_time_in_the_same_place(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO, mode="blink"))
    scrub(root, 5)
    expect(root).to_have_attribute("data-blink", "1")  # it began by itself
    expect(root).to_have_attribute("data-blink", "0")
    root.get_by_role("button", name="Pause blinking").click()
    root.get_by_label("Changes a second").select_option("8")
    root.focus()
    root.page.keyboard.down("b")
    expect(root).to_have_attribute("data-blink", "1")
    (found,) = pixels(root)
    np.testing.assert_array_equal(found, B[5])
    expect(root.locator("figcaption [data-seen]")).to_have_text("2second")
    root.page.keyboard.up("b")
    expect(root).to_have_attribute("data-blink", "0")
    (found,) = pixels(root)
    np.testing.assert_array_equal(found, A[5])
    expect(root).to_have_attribute("data-playing", "false")


def test_blinking_begins_slowly_and_not_at_all_where_motion_is_unwanted(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO, mode="blink"), paused=False, reduced_motion="reduce")
    expect(root.get_by_role("button", name="Play blinking")).to_be_visible()
    root.get_by_role("button", name="Side by side").click()
    root.get_by_role("button", name="Blink", exact=True).click()
    expect(root.get_by_role("button", name="Play blinking")).to_be_visible()
    assert int(root.get_by_label("Changes a second").input_value()) <= 6  # two changes are one flash, three flashes the limit


def test_full_screen_is_filled_and_left_again(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO))
    width = root.locator("canvas").first.bounding_box()["width"]
    root.focus()
    root.press("f")
    expect(root.get_by_role("button", name="Full screen")).to_have_attribute("aria-pressed", "true")
    assert root.evaluate("root => document.fullscreenElement === root")
    assert root.locator("canvas").first.bounding_box()["width"] > width
    root.get_by_role("button", name="Full screen").click()
    expect(root.get_by_role("button", name="Full screen")).to_have_attribute("aria-pressed", "false")
    assert root.locator("canvas").first.bounding_box()["width"] == width


def test_where_no_full_screen_is_given_the_window_is_filled(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO), paused=False)
    root.evaluate("root => (root.requestFullscreen = () => Promise.reject(new TypeError('not allowed')))")
    before = root.bounding_box()
    root.get_by_role("button", name="Full screen").click()
    expect(root.get_by_role("button", name="Full screen")).to_have_attribute("aria-pressed", "true")
    assert root.bounding_box() == {"x": 0, "y": 0, "width": 1200, "height": 1000}
    root.press("Escape")
    expect(root.get_by_role("button", name="Full screen")).to_have_attribute("aria-pressed", "false")
    assert root.bounding_box() == before


def test_keys_choose_mode_and_pair(shown: Callable[..., Any]) -> None:
    root = shown(player([*TWO, Tile(clip(3), "third"), Tile(clip(4), "fourth")]))
    scrub(root, 2)
    root.focus()
    for key, mode in (("w", "wipe"), ("d", "difference"), ("b", "blink"), ("s", "side"), ("d", "difference")):
        root.press(key)
        expect(root).to_have_attribute("data-mode", mode)
    root.press("3")
    root.press("4")
    assert [root.get_by_label(f"{which} clip").input_value() for which in ("First", "Second")] == ["2", "3"]
    difference = np.abs(clip(3)[2].astype(int) - clip(4)[2]).mean()
    expect(root.get_by_text(f"{difference:.2f} of 255 on average")).to_be_visible()
    root.press("9")  # there is none
    assert root.get_by_label("Second clip").input_value() == "3"


def test_curves_tell_the_current_frame_and_move_the_clock(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO))
    scrub(root, 4)
    value = root.locator(".legend li", has_text="second").locator("b")
    expected = np.abs(A.astype(int) - B).mean(axis=(1, 2, 3))
    expect(value).to_have_text(f"{expected[4]:.3g}")
    plot = root.get_by_role("img", name="mean difference, of 255")
    box = plot.bounding_box()
    left, right = box["x"] + 44, box["x"] + box["width"] - 26
    root.page.mouse.move(left + (right - left) * 10 / 16 + 2, box["y"] + 40)
    root.page.mouse.down()
    expect(root).to_have_attribute("data-frame", "10")
    root.page.mouse.move(right + 50, box["y"] + 40)
    root.page.mouse.up()
    expect(root).to_have_attribute("data-frame", "16")
    expect(value).to_have_text(f"{expected[16]:.3g}")
    root.get_by_label("Curve", exact=True).select_option("red")
    reds = [clip[16, ..., 0].mean() for clip in (A, B)]
    expect(root.locator(".legend b")).to_have_text([f"{red:.3g}" for red in reds])


def test_curves_are_a_table_too(shown: Callable[..., Any]) -> None:
    root = shown(player([*TWO, Tile(clip(3, 5), "third")]))
    root.get_by_label("Reference clip").select_option("second")
    root.get_by_text("These numbers as a table").click()
    rows = root.locator(".numbers tbody tr")
    expect(rows).to_have_count(17)
    last = [np.abs(one[-1].astype(int) - B[16]).mean() for one in (A, clip(3, 5))]  # the short one keeps its last frame
    expect(rows.last.locator("td")).to_have_text([f"{value:.3g}" for value in last])
    root.get_by_label("Curve", exact=True).select_option("flicker")
    expect(rows.first.locator("td")).to_have_text(["\u2013"] * 3)
    expect(rows.last.locator("td").last).to_have_text("\u2013")


def test_settings_stand_beneath_their_clips_where_there_is_room(shown: Callable[..., Any]) -> None:
    rows = [("cfg", ["5.5", "3.5", "5.5"]), ("seed", ["1", "1", "1234567"])]
    root = shown(player([*TWO, Tile(clip(3), "third")], table=rows))
    table = root.get_by_role("table", name="Settings that differ")
    for canvas, cell in zip(root.locator("canvas").all(), table.locator("tbody tr").first.locator("td").all(), strict=True):
        assert abs(canvas.bounding_box()["x"] - cell.bounding_box()["x"]) < 1
    assert table.locator(".other").all_text_contents() == ["3.5", "1234567"]
    root.page.set_viewport_size({"width": 400, "height": 900})
    expect(table.locator("td").first).to_be_visible()
    assert root.evaluate("root => root.scrollWidth") <= 400


@pytest.mark.parametrize("count", range(2, 10))
def test_clips_share_the_room_in_balanced_rows(shown: Callable[..., Any], count: int) -> None:
    tiles = [Tile(clip(seed, 1), f"clip with a name of some length, number {seed}") for seed in range(count)]
    root = shown(player(tiles), paused=False)
    for width in (1400, 800, 400):
        root.page.set_viewport_size({"width": width, "height": 900})
        root.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        boxes = [canvas.bounding_box() for canvas in root.locator("canvas").all()]
        rows = Counter(box["y"] for box in boxes)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
        assert all(box["width"] == box["height"] == boxes[0]["width"] >= 64 for box in boxes)
        holes = max(rows.values()) * len(rows) - count
        assert holes <= max(rows.values()) / 2
        assert root.evaluate("() => document.documentElement.scrollWidth") <= width


CONTRASTS = """root => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const parsed = (colour) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const up = (element) => element.parentElement ?? element.getRootNode().host ?? null;
    const over = ([r, g, b, a], ground) => [r, g, b].map((value, i) => a * value + (1 - a) * ground[i]);
    const ground = (element) => {
        if (!element) return parsed(getComputedStyle(document.body).backgroundColor);
        const behind = ground(up(element));
        return over(parsed(getComputedStyle(element).backgroundColor), behind);
    };
    const luminance = (colour) => {
        const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.map((value) => linear(value / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const texts = document.createTreeWalker(root.shadowRoot, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); ) {
        const element = text.parentElement;
        if (!text.textContent.trim() || element.closest('style, .unseen') || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const colour = parsed(element instanceof SVGElement ? style.fill : style.color);
        for (let each = element; each; each = up(each)) colour[3] *= Number(getComputedStyle(each).opacity);
        const behind = ground(element);
        const [low, high] = [luminance(over(colour, behind)), luminance(behind)].sort((a, b) => a - b);
        found.push([text.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(shown: Callable[..., Any], scheme: str) -> None:
    tiles = [Tile(clip(seed), f"number {seed}", {"seed": str(seed)}) for seed in range(9)]
    rows = [("cfg", [str(seed) for seed in range(8)] + [""])]
    root = shown(player(tiles, title="Nine", table=rows, summary="Only cfg differs."), color_scheme=scheme)
    root.get_by_role("button", name="Keys").click()
    root.get_by_text("These numbers as a table").click()
    root.locator(".tables summary").click()
    for mode in ("Side by side", "Wipe", "Blink", "Difference"):
        root.get_by_role("button", name=mode, exact=True).click()
        found = root.evaluate(CONTRASTS)
        assert len(found) > 60
        assert [(text, contrast) for text, contrast in found if contrast < 4.5] == []


FOCUSED = """root => {
    const one = root.shadowRoot.activeElement;
    if (!one) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(one);
    return [one.ariaLabel || one.labels?.[0]?.textContent || one.textContent.trim(), outlineStyle, outlineWidth];
}"""


def test_every_control_has_a_name_and_shows_its_focus(shown: Callable[..., Any]) -> None:
    root = shown(
        player([*TWO, Tile(clip(3), "third")], table=[("cfg", ["1", "2", "3"])]), reduced_motion="reduce", paused=False
    )
    reached = set()
    for mode in ("Wipe", "Blink", "Difference"):
        root.get_by_role("button", name=mode, exact=True).click()
        root.focus()
        for _ in range(40):
            root.page.keyboard.press("Tab")
            told = root.evaluate(FOCUSED)
            if told is None:
                break
            name, outline, thick = told
            assert name
            assert (outline, thick) == ("solid", "2px"), name
            reached.add(name)
    assert {"Play", "Frame", "Wipe position", "Play blinking", "Changes a second", "Amplification", "First clip"} <= reached
    assert {"Second clip", "Loop", "Forward and backward", "Speed", "Zoom", "Full screen", "Keys", "Curve"} <= reached
    assert not root.evaluate("root => root.shadowRoot.querySelectorAll('[aria-live], [role=status], [role=alert]').length")


TICKS = """({{ rate, display, jitter }}) => {{
    let due = null;
    const requestAnimationFrame = (tick) => ((due = tick), 1);
    const cancelAnimationFrame = () => {{}};
    {clock}
    const clock = new Clock(97, rate, () => {{}});
    clock.set({{ playing: true, awake: true }});
    const shown = [];
    for (let k = 0; k < 20 * display; k += 1) {{
        due(5000 + 1000 * (k / display) + jitter * Math.sin(7.3 * k));
        shown.push(clock.index);
    }}
    return shown;
}}"""


@pytest.mark.parametrize(("rate", "display"), [(60, 60), (60, 59.94), (60, 60.02), (30, 60), (16, 60), (60, 120), (24, 144)])
def test_no_frame_is_left_out_or_shown_twice_by_a_display_that_is_fast_enough(page: Any, rate: float, display: float) -> None:
    script = TICKS.format(clock=source("common/clock.js"))
    shown = page.evaluate(script, {"rate": rate, "display": display, "jitter": 0.1})
    begins = [tick for tick, (before, frame) in enumerate(itertools.pairwise(shown)) if frame != before]
    assert {(shown[tick + 1] - shown[tick]) % 97 for tick in begins} == {1}
    gaps = {after - before for before, after in itertools.pairwise(begins)}
    assert gaps <= {int(display / rate), math.ceil(round(display / rate, 1))}
    assert len(begins) == pytest.approx(20 * rate, rel=0.01)
