"""The grid in a real browser: one clock, axes that move, headers that stay, comparing, keys, and cells that fill live."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from wanlab.show.grid import Cell, grid_page

pytestmark = pytest.mark.browser

# The number on the frame that each painted cell shows. In one call: a moment later it is another.
NUMBERS = """root => [...root.shadowRoot.querySelectorAll('td canvas:not([hidden])')].map(canvas => {
    const row = canvas.getContext('2d').getImageData(0, 4, canvas.width, 1).data;
    return [...Array(8).keys()].reduce((number, bit) => number | (row[4 * (8 * bit + 4)] > 127) << bit, 0); })"""
PIXELS = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
AXES = {"cfg": ["1", "3", "5"], "shift": ["3", "8"], "seed": ["1", "2"]}


def clip(seed: int, frames: int = 9, side: int = 64) -> np.ndarray:
    """Random colours with the frame's number in the top eight rows: (frames, side, side, 3) uint8."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), np.uint8).repeat(frames, axis=0)
    for frame, bit in itertools.product(range(frames), range(8)):
        pixels[frame, :8, 8 * bit : 8 * bit + 8] = 255 * (frame >> bit & 1)
    return pixels


def cells_of(axes: dict[str, list[str]], frames: int = 9) -> list[Cell]:
    """A cell for each combination, named by its values, with its own clip and a number that grows from cell to cell."""
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [
        Cell(" ".join(at.values()), at, clip(number, frames), numbers={"psnr": 20.0 + number})
        for number, at in enumerate(combinations)
    ]


CELLS = cells_of(AXES)


def cell(root: Any, name: str) -> Any:
    """The cell whose label begins so: "cfg 1, shift 3, seed 1"."""
    return root.get_by_role("gridcell", name=re.compile(f"^{re.escape(name)},"))


def scrub(root: Any, frame: int) -> None:
    root.get_by_label("Frame", exact=True).first.fill(str(frame))
    expect(root).to_have_attribute("data-frame", str(frame))


def pixels(place: Any) -> np.ndarray:
    """What the canvas in an element holds: (side, side, 3) uint8."""
    found = np.array(place.locator("canvas").first.evaluate(PIXELS), np.uint8)
    return found.reshape(int(np.sqrt(found.size // 4)), -1, 4)[..., :3]


def test_every_cell_shows_the_same_frame_whichever_is_due(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES))
    for frame in (0, 3, 8):
        scrub(root, frame)
        assert root.evaluate(NUMBERS) == 6 * [frame]
    np.testing.assert_array_equal(pixels(cell(root, "cfg 3, shift 8, seed 1")), clip(6)[8])


def test_cells_play_at_once_and_in_step(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES), paused=False)
    seen = set()
    for _ in range(12):
        root.page.wait_for_timeout(80)
        numbers = set(root.evaluate(NUMBERS))
        assert len(numbers) == 1
        seen |= numbers
    assert len(seen) > 3


def test_axes_go_where_a_person_puts_them(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES))
    headers = root.get_by_role("columnheader")
    expect(headers).to_have_text(["cfg 1", "cfg 3", "cfg 5"])
    expect(root.get_by_role("rowheader")).to_have_text(["shift 3", "shift 8"])
    root.get_by_role("button", name="Swap rows and columns").click()
    expect(headers).to_have_text(["shift 3", "shift 8"])
    root.get_by_label("Place of seed").select_option("Columns")
    expect(headers).to_have_text(["shift 3", "shift 8", "seed 1", "seed 2", "seed 1", "seed 2"])
    assert root.get_by_role("row").nth(2).get_by_role("gridcell").count() == 4
    root.get_by_label("Place of cfg").select_option("Pages")
    expect(root).to_have_attribute("data-rows", "1")
    expect(cell(root, "cfg 1, shift 8, seed 2")).to_be_visible()
    root.get_by_label("cfg", exact=True).fill("2")
    expect(cell(root, "cfg 5, shift 8, seed 2")).to_be_visible()
    expect(cell(root, "cfg 1, shift 8, seed 2")).to_have_count(0)
    scrub(root, 5)
    np.testing.assert_array_equal(pixels(cell(root, "cfg 5, shift 8, seed 2")), clip(11)[5])


def test_an_averaged_axis_is_a_stack_with_mean_and_spread(shown: Callable[..., Any]) -> None:
    cells = [*CELLS[:-1], replace(CELLS[-1], numbers={"psnr": float("nan")})]
    root = shown(grid_page(cells, AXES))
    root.get_by_label("Colour by").select_option("psnr")
    expect(cell(root, "cfg 1, shift 3, seed 1")).to_contain_text("20.5 ± 0.7071")
    expect(cell(root, "cfg 5, shift 8, seed 1")).to_contain_text("30 (1 of 2)")
    expect(root.locator(".legend")).to_have_text("20.530")
    first = cell(root, "cfg 1, shift 3, seed 1")
    first.focus()
    root.page.keyboard.press("]")
    expect(first).to_have_count(0)
    expect(cell(root, "cfg 1, shift 3, seed 2")).to_be_focused()
    expect(root.get_by_text("2 (2 of 2)")).to_be_visible()
    np.testing.assert_array_equal(pixels(cell(root, "cfg 1, shift 3, seed 2"))[8:], clip(1)[0, 8:])
    root.page.keyboard.press("[")
    expect(first).to_be_focused()


def test_a_number_colours_the_cells_from_the_least_to_the_largest(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES, rows=["shift", "seed"]))
    expect(cell(root, "cfg 1, shift 3, seed 1")).not_to_contain_text("20")
    root.get_by_label("Colour by").select_option("psnr")
    expect(cell(root, "cfg 3, shift 3, seed 2")).to_contain_text("25")
    colour = "cell => getComputedStyle(cell.querySelector('.box')).borderBottomColor"
    ends = [cell(root, name).evaluate(colour) for name in ("cfg 1, shift 3, seed 1", "cfg 5, shift 8, seed 2")]
    assert [[round(255 * float(value)) for value in re.findall(r"[\d.]+", end)[-3:]] for end in ends] == [
        [68, 1, 84],
        [253, 231, 37],
    ]
    root.get_by_label("Colour by").select_option("nothing")
    expect(root.locator(".legend")).to_be_hidden()


def test_headers_stay_while_the_grid_scrolls(shown: Callable[..., Any]) -> None:
    axes = {"cfg": [str(n) for n in range(9)], "shift": [str(n) for n in range(9)]}
    root = shown(grid_page(cells_of(axes, frames=2), axes), viewport={"width": 700, "height": 600})
    boxes = "part => { const { left, top, right, bottom } = part.getBoundingClientRect(); return [left, top, right, bottom] }"
    column, row, scroll = (root.locator(place) for place in ("th[title='cfg 4']", "th[title='shift 4']", ".scroll"))
    before = [column.evaluate(boxes), row.evaluate(boxes)]
    scroll.evaluate("scroll => scroll.scrollTo(150, 150)")
    after = [column.evaluate(boxes), row.evaluate(boxes)]
    assert (after[0][1], after[1][0]) == (before[0][1], before[1][0])
    assert after[0][0] == before[0][0] - 150
    assert after[1][1] == before[1][1] - 150
    left, top, _, _ = scroll.evaluate(boxes)
    # Over both, the empty corner
    corner = "([x, y]) => document.querySelector('.wanlab').shadowRoot.elementFromPoint(x, y).className"
    assert root.page.evaluate(corner, [left + 10, top + 10]) == "corner"


def test_cells_out_of_view_are_not_painted(shown: Callable[..., Any]) -> None:
    axes = {"cfg": [str(n) for n in range(9)], "shift": [str(n) for n in range(9)]}
    root = shown(grid_page(cells_of(axes, frames=2), axes), viewport={"width": 700, "height": 600})
    scrub(root, 1)
    assert 0 < int(root.get_attribute("data-painted")) < 45
    far = cell(root, "cfg 8, shift 8")
    assert not pixels(far).any()
    far.scroll_into_view_if_needed()
    root.page.wait_for_function(
        "cell => cell.querySelector('canvas').getContext('2d').getImageData(30, 30, 1, 1).data[3]", arg=far.element_handle()
    )
    np.testing.assert_array_equal(pixels(far), clip(80)[1])


def test_a_click_opens_one_clip_with_its_facts_and_two_in_the_player(shown: Callable[..., Any]) -> None:
    root = shown(grid_page([replace(each, facts={"id": each.key, "solver": "unipc"}) for each in CELLS], AXES))
    chosen = root.get_by_role("region", name="Chosen clips")
    first, second = cell(root, "cfg 1, shift 3, seed 1"), cell(root, "cfg 3, shift 3, seed 1")
    first.click()
    expect(first).to_have_attribute("aria-selected", "true")
    for text in ("cfg", "psnr", "20", "unipc"):
        expect(chosen.get_by_text(text, exact=True)).to_be_visible()
    second.click()
    expect(root).to_have_attribute("data-chosen", "2")
    player = chosen.locator(".player")
    expect(player).to_have_attribute("data-ready", "1")
    expect(player.locator("figcaption")).to_have_text([re.compile("cfg 1$"), re.compile("cfg 3$")])
    rows = player.get_by_role("row").filter(has_text=re.compile("^(psnr|id|solver)"))
    expect(rows).to_have_text(["psnr2024", "id1 3 13 3 1"])  # the solver does not differ
    player.get_by_role("button", name="Wipe", exact=True).click()
    expect(player).to_have_attribute("data-mode", "wipe")
    first.click()
    expect(root).to_have_attribute("data-chosen", "1")
    root.page.keyboard.press("Escape")
    expect(chosen).to_be_hidden()


def test_at_most_nine_are_compared(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES, rows=["shift", "seed"]))
    cells = root.get_by_role("gridcell")
    for number in range(10):
        cells.nth(number).click(position={"x": 20, "y": 20})
    expect(root.get_by_text("At most 9 clips are compared.")).to_be_visible()
    expect(root).to_have_attribute("data-chosen", "9")
    expect(root.locator(".player canvas")).to_have_count(9)


def test_the_others_are_shown_against_a_reference(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES))
    scrub(root, 4)
    other = cell(root, "cfg 5, shift 8, seed 1")
    cell(root, "cfg 3, shift 3, seed 1").focus()
    root.page.keyboard.press("r")
    expect(cell(root, "cfg 3, shift 3, seed 1")).to_contain_text("reference")
    root.get_by_label("Against the reference").select_option("difference")
    difference = np.abs(clip(10)[4].astype(int) - clip(4)[4])
    root.get_by_label("Amplification").first.select_option("2")
    np.testing.assert_array_equal(pixels(other), np.minimum(255, 2 * difference))
    np.testing.assert_array_equal(pixels(cell(root, "cfg 3, shift 3, seed 1")), clip(4)[4])
    root.get_by_label("Against the reference").select_option("wipe")
    root.get_by_label("Wipe position").first.fill("0.25")
    np.testing.assert_array_equal(pixels(other), np.concatenate([clip(4)[4, :, :16], clip(10)[4, :, 16:]], axis=1))
    root.get_by_label("Against the reference").select_option("off")
    np.testing.assert_array_equal(pixels(other), clip(10)[4])


def test_keys_move_choose_and_open(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES))
    scrub(root, 2)
    names = ["cfg 1, shift 3, seed 1", "cfg 3, shift 3, seed 1", "cfg 5, shift 3, seed 1", "cfg 5, shift 8, seed 1"]
    one, two, three, below = (cell(root, name) for name in names)
    one.focus()
    keyboard = root.page.keyboard
    for key, focused in (("ArrowRight", two), ("End", three), ("ArrowRight", three), ("ArrowDown", below), ("Home", None)):
        keyboard.press(key)
        expect(focused or cell(root, "cfg 1, shift 8, seed 1")).to_be_focused()
    assert root.locator("td[tabindex='0']").count() == 1
    keyboard.press("Space")
    keyboard.press("ArrowUp")
    keyboard.press("Space")
    expect(root).to_have_attribute("data-chosen", "2")
    keyboard.press("Enter")
    expect(root).to_have_attribute("data-chosen", "1")
    expect(one).to_be_focused()
    keyboard.press(".")
    expect(root).to_have_attribute("data-frame", "3")
    keyboard.press("k")
    expect(root).to_have_attribute("data-playing", "true")
    root.get_by_role("button", name="Keys").first.click()
    expect(root.get_by_text("Arrows move from cell to cell")).to_be_visible()


def test_states_are_told_with_their_reasons(shown: Callable[..., Any]) -> None:
    axes = {"cfg": list("12345")}
    told = [
        ("waiting", "Waiting"),
        ("running", "Running"),
        ("stopped", "Stopped"),
        ("failed", "Failed"),
        ("unfit", "Does not fit"),
    ]
    cells = [
        Cell(f"{n}", {"cfg": axes["cfg"][n]}, None, state, f"caption {n}", f"reason {n}") for n, (state, _) in enumerate(told)
    ]
    root = shown(grid_page(cells, axes), paused=False)
    for number, (_, words) in enumerate(told):
        place = root.get_by_role("gridcell", name=f"cfg {number + 1}, {words}, reason {number}, caption {number}")
        expect(place.get_by_text(words, exact=True)).to_be_visible()
        expect(place.get_by_text(f"reason {number}", exact=True)).to_be_visible()
    expect(root.get_by_role("status").first).to_have_text("1 waiting, 1 running, 1 stopped, 1 failed, 1 does not fit")
    root.get_by_role("gridcell").nth(3).click()
    expect(root.get_by_role("region", name="Chosen clips").get_by_text("Failed: reason 3")).to_be_visible()
    assert not root.locator(".player").count()


def test_places_without_a_run_are_empty_and_arrows_pass_over_them(shown: Callable[..., Any]) -> None:
    axes = {"cfg": ["1", "2", "3"], "shift": ["1", "2", "3"]}
    cells = [each for each in cells_of(axes) if each.at["cfg"] == each.at["shift"] or each.at["shift"] == "1"]
    root = shown(grid_page(cells, axes))
    assert root.get_by_role("gridcell", name="No run").count() == 4
    cell(root, "cfg 3, shift 1").focus()
    root.page.keyboard.press("ArrowDown")
    expect(cell(root, "cfg 3, shift 3")).to_be_focused()


def test_one_run_alone_is_a_grid_too(shown: Callable[..., Any]) -> None:
    root = shown(grid_page([Cell("a", {"cfg": "1"}, clip(0))], {"cfg": ["1"]}))
    assert root.evaluate(NUMBERS) == [int(root.get_attribute("data-frame"))]
    assert not root.get_by_role("button", name="Swap rows and columns").count()


def test_the_grid_can_be_kept_as_a_picture(shown: Callable[..., Any], tmp_path: Path) -> None:
    colours = [np.full((2, 32, 32, 3), 20 * number, np.uint8) for number in range(12)]
    root = shown(grid_page([replace(each, frames=frames) for each, frames in zip(CELLS, colours, strict=True)], AXES))
    with root.page.expect_download() as download:
        root.get_by_role("button", name="Save as a picture").click()
    download.value.save_as(tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    found = [picture[28 + 6 + 80 + row * 166, 156 + 6 + 80 + column * 166, 0] for row in (0, 1) for column in (0, 1, 2)]
    assert found == [0, 80, 160, 40, 120, 200]


def test_reduced_motion_starts_still(shown: Callable[..., Any]) -> None:
    root = shown(grid_page(CELLS, AXES), paused=False, reduced_motion="reduce")
    expect(root).to_have_attribute("data-playing", "false")
    assert root.evaluate(NUMBERS) == 6 * [0]


def test_hostile_text_is_shown_and_never_run(shown: Callable[..., Any]) -> None:
    text = "</script><img src=x onerror='window.broken = 1'>\"><script>window.broken = 1</script>"
    axes = {text: [text, "__proto__"], "__proto__": ["constructor", text]}
    at = {text: text, "__proto__": text}
    cells = [
        Cell(text, at, clip(0), "stopped", text, text, {text: 1.0, "__proto__": 2.0}, {text: text}),
        Cell("__proto__", {**at, text: "__proto__"}, clip(1), "done", text, "", {text: 2.0}),
        Cell("other", {**at, "__proto__": "constructor"}, None, "failed", text, text),
    ]
    root = shown(grid_page(cells, axes, title=text, notes=[text], table=[(text, [text])]))
    root.get_by_label("Colour by").select_option("__proto__")
    for number in (0, 1):
        root.get_by_role("gridcell").nth(number).click()
    root.get_by_role("button", name="Swap rows and columns").click()
    root.get_by_label("Place of __proto__").select_option("Pages")
    expect(root.locator("h3").first).to_have_text(text)
    assert root.evaluate("() => window.broken") is None


def test_damaged_frames_are_told_in_their_cell_and_the_others_play(new_page: Callable[..., Any], tmp_path: Path) -> None:
    html = re.sub("(?<=stills&quot;: &quot;).{40}", 40 * "A", grid_page(CELLS, AXES).html, count=1)
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{html}", encoding="utf-8")
    tab = new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    root = tab.locator(".wanlab")
    expect(root.get_by_text("Its pictures cannot be read")).to_be_visible()
    assert len(root.evaluate(NUMBERS)) == 5


def test_without_scripts_the_picture_and_the_table_remain(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page(java_script_enabled=False)
    tab.goto(grid_page(CELLS, AXES, title="A sweep").to_html(tmp_path / "page.html").as_uri())
    expect(tab.get_by_role("img", name="Grid of 12 runs, cfg (3) by shift (2) by seed (2): 12 done.")).to_be_visible()
    tab.get_by_text("All 12 runs").click()
    expect(tab.get_by_text("31", exact=True)).to_be_visible()


def test_plain_http_of_another_machine_is_enough(page: Any) -> None:
    html = grid_page(CELLS, AXES).html
    page.route("http://gpu.test/", lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8"))
    page.goto("http://gpu.test/")
    expect(page.locator(".wanlab")).to_have_attribute("data-ready", "1")


NOTEBOOK = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from dataclasses import replace
from test_grid_face import AXES, cells_of
from wanlab.show.live_grid import LiveGrid
cells = cells_of(AXES)
grid = LiveGrid([replace(cell, frames=None, state="waiting") for cell in cells], AXES, title="Sweep")
grid
"""
LOOP = """
import time
for cell in cells[:-1]:
    grid.update(replace(cell, frames=None, state="running", caption="step 1 of 4"))
    grid.update(cell)
while not (FOLDER / "go").exists():
    time.sleep(0.05)
grid.update(cells[-1])
"""


def test_jupyterlab_fills_cells_while_a_loop_runs_and_shows_them_without_a_kernel(jupyter_lab: Any, page: Any) -> None:
    folder = f"from pathlib import Path; FOLDER = Path({str(jupyter_lab.folder)!r})"
    jupyter_lab.write("grid.ipynb", [folder, NOTEBOOK, LOOP])
    jupyter_lab.open(page, "grid.ipynb")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=180_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    root = page.locator(".wanlab[data-live]")
    expect(root).to_have_attribute("data-clips", "11", timeout=60_000)  # the cell with the loop has not ended
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()
    expect(root.get_by_role("status").first).to_have_text("1 waiting, 11 done")
    (jupyter_lab.folder / "go").touch()
    expect(root.get_by_role("status").first).to_have_text("12 done")
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()

    active = "[...document.querySelectorAll('.jp-Cell')].findIndex(cell => cell.classList.contains('jp-mod-active'))"
    cell(root, "cfg 1, shift 3, seed 1").focus()
    before = page.evaluate(active)
    for key in ("ArrowDown", "ArrowRight", "Enter"):  # and not to the notebook, for which these mean other things
        page.keyboard.press(key)
    expect(cell(root, "cfg 3, shift 8, seed 1")).to_be_focused()
    expect(root).to_have_attribute("data-chosen", "1")
    assert page.evaluate(active) == before
    page.locator(".wanlab[data-twin][data-wanlab*=stills]").wait_for(state="attached")  # the page beneath is as of now
    jupyter_lab.save(page, "grid.ipynb")
    jupyter_lab.open(page, "grid.ipynb")  # with its kernel: the widget comes back with all cells
    expect(root).to_have_attribute("data-clips", "12", timeout=60_000)
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()
    page.goto("about:blank")
    jupyter_lab.kill_kernels()
    jupyter_lab.open(page, "grid.ipynb")
    twin = page.locator(".wanlab[data-twin]")
    expect(twin).to_have_attribute("data-ready", "1", timeout=60_000)
    expect(twin).to_have_attribute("data-clips", "12")
