"""The faces in a real browser: the right frame on every canvas, whatever is pressed, with and without a kernel.

Each frame carries its number painted as eight black or white blocks, so that a canvas tells which frame it shows. Most
properties are tested on a page alone, which is quick; JupyterLab runs for what only it can break.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from playwright.sync_api import expect

from wanlab.show import Tile, player

pytestmark = pytest.mark.browser

# Both in one call: a moment later the players may be a frame on.
PIXELS = """root => [...root.shadowRoot.querySelectorAll('canvas')].map(canvas =>
    [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""
NUMBERS = """root => [...root.shadowRoot.querySelectorAll('canvas')].map(canvas => {
    const row = canvas.getContext('2d').getImageData(0, 4, canvas.width, 1).data;
    return [...Array(8).keys()].reduce((number, bit) => number | (row[4 * (8 * bit + 4)] > 127) << bit, 0); })"""


def clip(seed: int, frames: int = 17, side: int = 64) -> np.ndarray:
    """Random colours with the frame's number in the top eight rows: (frames, side, side, 3) uint8."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), np.uint8).repeat(frames, axis=0)
    for frame in range(frames):
        pixels[frame, 8:, :, 0] = 40 + 3 * frame
        for bit in range(8):
            pixels[frame, :8, 8 * bit : 8 * bit + 8] = 255 * (frame >> bit & 1)
    return pixels


A, B = clip(1), clip(2)
TWO = [Tile(A, "first"), Tile(B, "second")]


def pixels(root: Any) -> list[np.ndarray]:
    """What each canvas of the player holds: (side, side, 3) uint8."""
    found = [np.array(values, np.uint8) for values in root.evaluate(PIXELS)]
    return [values.reshape(int(np.sqrt(values.size // 4)), -1, 4)[..., :3] for values in found]


def scrub(root: Any, frame: int) -> None:
    root.get_by_label("Frame", exact=True).fill(str(frame))
    expect(root).to_have_attribute("data-frame", str(frame))


def test_every_frame_is_exact_on_both_clips(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO))
    for frame in range(17):
        scrub(root, frame)
        assert root.evaluate(NUMBERS) == [frame, frame]
        expect(root.get_by_text(f"{frame + 1} / 17", exact=True)).to_be_visible()
    for found, expected in zip(pixels(root), (A[16], B[16]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_clips_play_at_once_and_in_step(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO), paused=False)
    seen = set()
    for _ in range(12):
        root.page.wait_for_timeout(80)
        first, second = root.evaluate(NUMBERS)
        assert first == second
        seen.add(first)
    assert len(seen) > 3
    root.get_by_role("button", name="Pause", exact=True).click()
    expect(root).to_have_attribute("data-playing", "false")


def test_wipe_shows_the_first_left_and_the_second_right_of_its_edge(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO, mode="wipe"))
    scrub(root, 5)
    for cut, edge in ((0, 0), (0.25, 16), (0.5, 32), (1, 64)):
        root.get_by_label("Wipe position").fill(str(cut))
        (found,) = pixels(root)
        np.testing.assert_array_equal(found[:, :edge], A[5, :, :edge])
        np.testing.assert_array_equal(found[:, edge:], B[5, :, edge:])
    box = root.locator("canvas").bounding_box()
    root.page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 9)
    root.page.mouse.down()
    root.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 40)
    root.page.mouse.up()
    (found,) = pixels(root)
    np.testing.assert_array_equal(found, np.concatenate([A[5, :, :48], B[5, :, 48:]], axis=1))


def test_difference_is_amplified_and_told_in_numbers(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO))
    root.get_by_role("button", name="Difference").click()
    scrub(root, 7)
    difference = np.abs(A[7].astype(int) - B[7])
    for gain in (8, 2):
        root.get_by_label("Amplification").select_option(str(gain))
        (found,) = pixels(root)
        np.testing.assert_array_equal(found, np.minimum(255, gain * difference))
    expect(root.get_by_text(f"{difference.mean():.2f} of 255 on average, {difference.max()} at most.")).to_be_visible()


def test_equal_clips_are_told_to_be_identical(shown: Callable[..., Any]) -> None:
    root = shown(player([Tile(A, "first"), Tile(A, "again")], mode="difference"))
    expect(root.get_by_text("In this frame: identical.")).to_be_visible()
    assert not pixels(root)[0].any()


def test_any_two_of_three_clips_can_be_compared(shown: Callable[..., Any]) -> None:
    root = shown(player([*TWO, Tile(clip(3), "third")], mode="wipe"))
    root.get_by_label("Second clip").select_option("third")
    root.get_by_label("Wipe position").fill("0")
    scrub(root, 2)
    np.testing.assert_array_equal(pixels(root)[0], clip(3)[2])


def test_shorter_clip_holds_its_last_frame_and_other_sizes_are_stretched(shown: Callable[..., Any]) -> None:
    root = shown(player([Tile(A, "long"), Tile(clip(4, 5, 128), "short")]))
    scrub(root, 16)
    assert root.evaluate(NUMBERS)[0] == 16
    np.testing.assert_array_equal(pixels(root)[1], clip(4, 5, 128)[4])
    heights = [box.bounding_box()["height"] for box in root.locator("canvas").all()]
    assert heights[0] == heights[1]
    expect(root.locator(".note", has_text='"short" has 5 of 17 frames; then its last one stays.')).to_be_visible()
    root.get_by_role("button", name="Wipe", exact=True).click()
    root.get_by_label("Wipe position").fill("0")
    np.testing.assert_array_equal(pixels(root)[0], clip(4, 5, 128)[4, ::2, ::2])


def test_keys_do_what_the_help_says(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO))
    scrub(root, 3)
    root.focus()
    for key, frame in (("ArrowRight", 4), ("ArrowLeft", 3), ("End", 16), ("ArrowRight", 0), ("ArrowLeft", 16), ("Home", 0)):
        root.press(key)
        expect(root).to_have_attribute("data-frame", str(frame))
    root.press("Space")
    expect(root).to_have_attribute("data-playing", "true")
    root.press("l")
    expect(root.get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "false")
    expect(root).to_have_attribute("data-playing", "false")  # it stops at the end
    assert root.evaluate(NUMBERS) == [16, 16]
    root.get_by_role("button", name="Keys").click()
    expect(root.get_by_text("Space plays and pauses")).to_be_visible()


def test_pingpong_without_loop_comes_back_to_the_first_frame(shown: Callable[..., Any]) -> None:
    root = shown(player([Tile(clip(1, 5), "a")], frame_rate=30))
    scrub(root, 1)
    root.press("l")
    root.press("p")
    root.press("Space")
    expect(root).to_have_attribute("data-playing", "false")
    assert root.evaluate(NUMBERS) == [0]


def test_buttons_act_once_on_space_and_sliders_keep_their_arrows(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO, mode="wipe"))
    scrub(root, 3)
    root.get_by_role("button", name="One frame forward").press("Space")
    expect(root).to_have_attribute("data-frame", "4")
    expect(root).to_have_attribute("data-playing", "false")
    root.get_by_label("Wipe position").press("ArrowRight")
    expect(root).to_have_attribute("data-frame", "4")
    root.get_by_label("Frame", exact=True).press("Space")
    expect(root).to_have_attribute("data-playing", "true")


def test_zoom_is_exact_and_the_picture_stays_crisp(shown: Callable[..., Any]) -> None:
    root = shown(player([Tile(A, "a")]))
    canvas = root.locator("canvas")
    assert canvas.bounding_box()["width"] == 320  # five times, the largest whole factor within 320
    root.get_by_label("Zoom").select_option("2")
    assert canvas.bounding_box()["width"] == 128
    assert canvas.evaluate("canvas => getComputedStyle(canvas).imageRendering") == "pixelated"


def test_reduced_motion_starts_still(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO), paused=False, reduced_motion="reduce")
    root.page.wait_for_timeout(300)
    expect(root).to_have_attribute("data-playing", "false")
    assert root.evaluate(NUMBERS) == [0, 0]


def test_without_scripts_the_still_and_the_table_remain(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page(java_script_enabled=False)
    page = player(TWO, title="Two clips", table=[("cfg", ["5.5", "3.5"])])
    tab.goto(page.to_html(tmp_path / "page.html").as_uri())
    expect(tab.get_by_role("img", name='Player of "first" | "second"')).to_be_visible()
    for text in ("Two clips", "cfg", "5.5", "3.5"):
        expect(tab.get_by_text(text, exact=True)).to_be_visible()
    assert not tab.locator("canvas").count()


def test_live_player_hides_the_still_and_keeps_the_table(shown: Callable[..., Any]) -> None:
    root = shown(player(TWO, title="Two clips", table=[("cfg", ["5.5", "3.5"])]))
    expect(root.locator("img")).to_be_hidden()
    assert [text.is_visible() for text in root.get_by_text("5.5", exact=True).all()].count(True) == 1


def test_damaged_frames_bring_the_still_back(new_page: Callable[..., Any], tmp_path: Path) -> None:
    html = re.sub("(?<=stills&quot;: &quot;).{40}", 40 * "A", player(TWO).html)
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{html}", encoding="utf-8")
    tab = new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    expect(tab.get_by_text("This player stopped")).to_be_visible()
    expect(tab.locator(".wanlab img")).to_be_visible()


def test_players_on_one_page_leave_each_other_alone(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page()
    both = player(TWO, title="One").html + player([Tile(B, "alone")], title="Other").html
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{both}", encoding="utf-8")
    tab.goto((tmp_path / "page.html").as_uri())
    one, other = tab.get_by_role("group", name="One", exact=True), tab.get_by_role("group", name="Other", exact=True)
    for root in (one, other):
        expect(root).to_have_attribute("data-ready", "1")
        root.get_by_role("button", name="Pause", exact=True).click()
    scrub(one, 3)
    scrub(other, 9)
    one.get_by_role("button", name="Wipe", exact=True).click()
    assert (one.evaluate(NUMBERS), other.evaluate(NUMBERS)) == ([3], [9])
    expect(other).to_have_attribute("data-mode", "side")


def test_hostile_text_is_shown_and_never_run(shown: Callable[..., Any]) -> None:
    text = "</script><img src=x onerror='window.broken = 1'>\"><script>window.broken = 1</script>"
    root = shown(player([Tile(A, text, {text: text}), Tile(B, text)], title=text, table=[(text, [text, text])]))
    root.get_by_role("button", name="Difference").click()
    expect(root.locator("h3")).to_have_text(text)
    assert root.evaluate("() => window.broken") is None


def test_plain_http_of_another_machine_is_enough(page: Any) -> None:
    """A rented GPU is reached like this: no secure context, so no WebCodecs and no clipboard."""
    page.route("http://gpu.test/", lambda route: route.fulfill(body=player(TWO).html, content_type="text/html; charset=utf-8"))
    page.goto("http://gpu.test/")
    expect(page.locator(".wanlab")).to_have_attribute("data-ready", "1")
    assert page.evaluate("[isSecureContext, typeof VideoDecoder]") == [False, "undefined"]


CELL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_faces import A, B
from wanlab.show import Tile, player
player([Tile(A, "first"), Tile(B, "second")], title="Live", table=[("cfg", ["5.5", "3.5"])])
"""


def test_jupyterlab_plays_live_saves_and_plays_again_without_a_kernel(jupyter_lab: Any, page: Any) -> None:
    jupyter_lab.write("live.ipynb", ["'before'", CELL, "'after'"])
    jupyter_lab.open(page, "live.ipynb")
    jupyter_lab.run_all(page)
    root = page.get_by_role("group", name="Live", exact=True)
    expect(root).to_have_attribute("data-ready", "1")
    expect(root).to_have_attribute("data-playing", "true")
    expect(page.locator(".wanlab img")).to_be_hidden()
    root.get_by_role("button", name="Pause", exact=True).click()

    scrub(root, 3)
    root.focus()
    cell = "[...document.querySelectorAll('.jp-Cell')].findIndex(cell => cell.classList.contains('jp-mod-active'))"
    active = page.evaluate(cell)
    for key, frame in (("ArrowRight", 4), ("Home", 0), ("End", 16)):
        page.keyboard.press(key)  # and not to the notebook, for which these mean other things
        expect(root).to_have_attribute("data-frame", str(frame))
    assert root.evaluate(NUMBERS) == [16, 16]
    assert page.evaluate(cell) == active

    saved = jupyter_lab.save(page, "live.ipynb")
    assert set(saved["cells"][1]["outputs"][0]["data"]) == {"text/html", "text/plain", "image/png"}
    page.goto("about:blank")
    jupyter_lab.kill_kernels()
    jupyter_lab.open(page, "live.ipynb")
    expect(root).to_have_attribute("data-ready", "1")
    expect(root).to_have_attribute("data-playing", "true")


def test_jupyterlab_shows_the_still_of_a_notebook_it_does_not_trust(jupyter_lab: Any, page: Any) -> None:
    bundle = player(TWO, title="From elsewhere", table=[("cfg", ["5.5", "3.5"])])._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", bundle, execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output], execution_count=1)])
    (jupyter_lab.folder / "untrusted.ipynb").write_text(json.dumps(notebook))
    jupyter_lab.open(page, "untrusted.ipynb")
    still = page.locator(".wanlab img")
    expect(still).to_be_visible(timeout=30_000)
    assert still.evaluate("image => image.naturalWidth") > 500
    expect(page.get_by_text("5.5", exact=True)).to_be_visible()
    assert not page.locator("canvas").count()
