"""The grid without a browser: what its page contains, how clips become smaller, what is refused, and the live one's traits."""

from __future__ import annotations

import base64
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hostile import FEW, Reading
from test_show import clip
from wanlab.show.grid import Cell, grid_page, places_of
from wanlab.show.grid_sheet import STATES, grid_sheet
from wanlab.show.grid_stills import BUDGET, Coding, coding_for
from wanlab.show.page import Page

AXES = {"cfg": ["1", "3", "5"], "shift": ["3", "8"], "seed": ["1", "2"]}


def cells_of(axes: dict[str, list[str]] = AXES, frames: int = 3, **more: Any) -> list[Cell]:
    """A cell for each combination of the values, with a clip of its own."""
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [Cell(f"run{n}", at, clip(frames, 16, 16, seed=n), **more) for n, at in enumerate(combinations)]


def content_of(page: Page) -> dict[str, Any]:
    return Reading(page.html).content


def stills(cell: dict[str, Any]) -> np.ndarray:
    """The frames of a cell as a browser decodes them."""
    stream = io.BytesIO(base64.b64decode(cell["stills"]))
    return np.stack([np.asarray(Image.open(io.BytesIO(stream.read(size))).convert("RGB")) for size in cell["sizes"]])


def test_every_cell_of_a_small_grid_travels_exactly_with_its_place() -> None:
    cells = cells_of()
    content = content_of(grid_page(cells, AXES))
    assert [axis["name"] for axis in content["axes"]] == ["cfg", "shift", "seed"]
    for cell, sent in zip(cells, content["cells"], strict=True):
        assert [axis["values"][number] for axis, number in zip(content["axes"], sent["at"], strict=True)] == [*cell.at.values()]
        assert sent["kind"] == "image/webp"
        np.testing.assert_array_equal(stills(sent), cell.frames)


def test_unknown_numbers_travel_as_null_and_facts_keep_their_order() -> None:
    cell = Cell("a", {}, numbers={"psnr": float("nan"), "ssim": 0.5, "far": float("inf")}, facts={"z": "1", "a": "2"})
    (sent,) = content_of(grid_page([cell], {}))["cells"]
    assert sent["numbers"] == [["psnr", None], ["ssim", 0.5], ["far", None]]
    assert sent["facts"] == [["z", "1"], ["a", "2"]]


def test_the_axes_with_most_values_stand_first_and_seeds_and_prompts_later() -> None:
    axes = {"seed": list("123456"), "prompt": list("ab"), "cfg": list("12"), "shift": list("123"), "solver": ["unipc"]}
    places = places_of(axes, None, None)
    assert (places.columns, places.rows) == (("shift",), ("cfg",))
    assert (places.pages, places.averaged) == (("prompt",), ("seed",))
    assert places_of({"seed": list("12"), "cfg": list("12")}, None, None).rows == ("seed",)
    chosen = places_of(axes, ["seed", "cfg"], None)
    assert (chosen.rows, chosen.columns, chosen.pages) == (("seed", "cfg"), ("shift",), ("prompt",))
    assert places_of(axes, [], []).averaged == ("seed",)


def test_rows_and_columns_that_are_no_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="name 'cgf'"):
        grid_page(cells_of(), AXES, rows=["cgf"])
    with pytest.raises(ValueError, match="must be lists"):
        grid_page(cells_of(), AXES, rows="cfg")
    with pytest.raises(ValueError, match="'cfg' is named twice"):
        grid_page(cells_of(), AXES, rows=["cfg"], columns=["cfg"])


def test_cells_that_do_not_fit_their_axes_are_refused() -> None:
    cells = cells_of()
    with pytest.raises(ValueError, match="at least one"):
        grid_page([], AXES)
    with pytest.raises(ValueError, match="'run1' is given to 2 cells"):
        grid_page([*cells, cells[1]], AXES)
    with pytest.raises(ValueError, match="'x' has no value on the axis 'shift'"):
        grid_page([Cell("x", {"cfg": "1", "seed": "1"})], AXES)
    with pytest.raises(ValueError, match="'x' is '9' on the axis 'cfg'; it must be one of 1, 3, 5"):
        grid_page([Cell("x", {"cfg": "9", "shift": "3", "seed": "1"})], AXES)
    with pytest.raises(ValueError, match="an axis 'steps'"):
        grid_page([Cell("x", {"cfg": "1", "shift": "3", "seed": "1", "steps": "4"})], AXES)
    with pytest.raises(ValueError, match="'cfg' is"):
        grid_page(cells, {**AXES, "cfg": ["1", "1", "3"]})
    with pytest.raises(ValueError, match="frame_rate is 0"):
        grid_page(cells, AXES, frame_rate=0)


def test_a_cell_refuses_an_unknown_state_and_frames_of_another_kind() -> None:
    with pytest.raises(ValueError, match=r"'broken'; it must be one of waiting, .*, unfit"):
        Cell("a", {}, state="broken")
    with pytest.raises(ValueError, match="cell 'a' is float64"):
        Cell("a", {}, np.zeros((1, 8, 8, 3)))


def test_the_sentence_counts_states_and_the_table_has_a_row_for_each_run() -> None:
    cells = cells_of()
    cells[0] = replace(cells[0], frames=None, state="failed", problem="out of memory")
    cells[1] = replace(cells[1], frames=None, state="unfit", numbers={"psnr": 31.25})
    page = grid_page(cells, AXES, title="Mine", table=[("model", ["tiny"])])
    assert repr(page).startswith("Grid of 12 runs, cfg (3) by shift (2) by seed (2): 10 done, 1 failed, 1 does not fit.")
    texts = Reading(page.html).texts
    assert {"Mine", "All 12 runs", "out of memory", "does not fit", "31.25", "tiny"} <= set(texts)


@pytest.mark.parametrize("text", FEW)
def test_no_text_can_leave_its_place(text: str) -> None:
    def page(text: str) -> Page:
        axes = {text: [text, "other"]}
        cells = [
            Cell(text, {text: text}, clip(2), "stopped", text, text, {text: 1.0}, {text: text}),
            Cell("b", {text: "other"}, None, "failed", text, text),
        ]
        return grid_page(cells, axes, title=text, notes=[text], table=[(text, [text])])

    reading, expected = Reading(page(text).html), Reading(page("plain").html)
    assert reading.tags == expected.tags
    assert [name for name, _ in reading.attributes] == [name for name, _ in expected.attributes]
    assert reading.scripts == expected.scripts
    assert reading.content["cells"][1]["problem"] == text.encode("utf-8", "replace").decode()
    json.dumps(reading.content["cells"], ensure_ascii=False).encode()  # as a widget's line to the browser needs it


def test_many_large_clips_are_made_smaller_and_the_page_says_so() -> None:
    axes = {"cfg": [str(number) for number in range(6)]}
    frames = np.random.default_rng(0).integers(0, 256, (16, 240, 416, 3), np.uint8)  # noise: the worst to compress
    cells = [Cell(value, {"cfg": value}, frames) for value in axes["cfg"]]
    page = grid_page(cells, axes)
    content = content_of(page)
    assert sum(len(base64.b64decode(cell["stills"])) for cell in content["cells"]) <= BUDGET
    sizes = {(cell["width"], cell["height"]) for cell in content["cells"]}
    [(width, height)] = sizes
    assert width < 416
    assert width / height == pytest.approx(416 / 240, rel=0.02)
    assert stills(content["cells"][0]).shape == (16, height, width, 3)
    assert f"To keep this page small its clips are {width}x{height}, not 416x240" in " ".join(content["notes"])


def test_the_coding_depends_on_what_is_planned_not_on_what_is_there() -> None:
    frames = clip(17)
    assert coding_for([frames], 25).kind == coding_for([frames] * 25, 25).kind == "image/webp"
    assert coding_for([frames], 1000) == coding_for([frames] * 4, 1000)
    assert coding_for([frames], 1000).kind == "image/jpeg"


def test_a_frame_of_another_size_keeps_its_proportion_within_the_area() -> None:
    coding = Coding("image/jpeg", 10_000)
    encoded, (height, width) = coding.encode(clip(2, 512, 256))
    assert len(encoded.pieces) == 2
    assert height == pytest.approx(2 * width, abs=1)
    assert height * width == pytest.approx(10_000, rel=0.01)
    assert coding.encode(clip(1, 20, 30))[1] == (20, 30)


def test_the_sheet_has_every_clip_at_its_place_beside_labels() -> None:
    axes = {"cfg": ["1", "3"], "shift": ["3", "8"]}
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    places = itertools.product(axes["cfg"], axes["shift"])
    frames = [np.full((1, 8, 8, 3), colour, np.uint8) for colour in colours]
    cells = [Cell(f"{n}", {"cfg": a, "shift": b}, frames[n]) for n, (a, b) in enumerate(places)]
    sheet, left_out = grid_sheet(cells, axes, ["shift"], ["cfg"])
    assert left_out == ""
    pixels = np.asarray(sheet)[..., :3]
    middle = lambda row, column: tuple(pixels[24 + 56 + row * 116, 136 + 56 + column * 116])  # noqa: E731
    assert [middle(0, 0), middle(1, 0), middle(0, 1), middle(1, 1)] == colours


def test_the_sheet_of_a_large_grid_stays_small_and_says_what_is_missing() -> None:
    axes = {"cfg": [str(n) for n in range(20)], "shift": [str(n) for n in range(20)]}
    page = grid_page(
        [Cell(f"{a} {b}", {"cfg": a, "shift": b}, state="waiting") for a in axes["cfg"] for b in axes["shift"]], axes
    )
    assert page.text.endswith("400 waiting. The picture shows 144 of them.")
    assert Image.open(io.BytesIO(page.png)).width < 2000
    assert "All 400 runs, the first 200" in Reading(page.html).texts


@pytest.mark.parametrize("text", [*FEW, "", "\n" * 50, "w" * 5000, "many short words " * 300, "日本語"])
@pytest.mark.parametrize("state", STATES)
def test_any_text_can_be_drawn(text: str, state: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    axes = {text: [text, "b"], "other": [text, "b"]}
    sheet, _ = grid_sheet([Cell("a", {text: text, "other": text}, clip(1, 9, 50), state)], axes, [text], ["other"])
    assert sheet.width < 1000


def test_a_saved_grid_loads_nothing(tmp_path: Path) -> None:
    saved = grid_page(cells_of(), AXES).to_html(tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "://" not in saved.replace("http://www.w3.org/2000/svg", "")


# ---- the live one, without a browser


@pytest.fixture
def waiting() -> list[Cell]:
    return [replace(cell, frames=None, state="waiting", caption="about 4 s") for cell in cells_of()]


def live(cells: list[Cell], **more: Any) -> Any:
    return pytest.importorskip("wanlab.show.live_grid").LiveGrid(cells, AXES, **more)


def test_an_update_sends_the_changed_cell_and_no_other(waiting: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    grid, sent = live(waiting), []
    monkeypatch.setattr(grid, "send_state", lambda key=None: sent.append(key))
    grid.update(cells_of()[3])
    assert sent == ["cell3"]
    np.testing.assert_array_equal(stills(grid.cell3), cells_of()[3].frames)


def test_a_view_that_opens_late_finds_every_cell_in_the_state(waiting: list[Cell]) -> None:
    grid = live(waiting)
    grid.update(*cells_of()[:4])
    state = grid.get_state()
    assert [state[f"cell{n}"]["state"] for n in range(12)] == ["done"] * 4 + ["waiting"] * 8
    assert state["content"]["count"] == 12


def test_the_page_of_a_live_grid_is_that_of_its_cells_as_of_now(waiting: list[Cell], tmp_path: Path) -> None:
    grid = live(waiting, title="Sweep", notes=["mine"])
    grid.update(*cells_of())
    page, expected = grid.page(), grid_page(cells_of(), AXES, title="Sweep", notes=["mine"])
    assert content_of(page) == content_of(expected)
    assert dict(Reading(page.html).attributes)["data-twin"] == grid.key
    assert repr(page) == repr(expected) == f"{grid!r} The picture shows 6 of them."
    assert Reading(grid.to_html(tmp_path / "grid.html").read_text()).tags.count("script") == 1


def test_a_large_preview_is_rough_and_does_not_decide_how_the_clips_travel(waiting: list[Cell]) -> None:
    grid = live(waiting)
    grid.update(replace(waiting[0], state="running", frames=clip(5, 400, 400)))
    assert (grid.cell0["kind"], grid.cell0["width"]) == ("image/jpeg", 256)
    grid.update(replace(waiting[1], state="running", frames=clip(5, 32, 32)))
    assert grid.cell1["kind"] == "image/webp"
    grid.update(cells_of()[0])
    assert (grid.cell0["kind"], grid.cell0["width"]) == ("image/webp", 16)


def test_a_live_grid_says_when_its_clips_are_smaller_and_can_be_sent_whatever_its_texts(waiting: list[Cell]) -> None:
    grid = live(waiting, title="half a pair \ud800", notes=["\ud800"])
    large = np.random.default_rng(0).integers(0, 256, (9, 320, 320, 3), np.uint8)
    grid.update(*(replace(cell, frames=large, state="done") for cell in waiting))
    assert grid.cell0["note"].startswith("To keep this page small its clips are")
    assert content_of(grid.page())["notes"] == ["\ud800", grid.cell0["note"]]
    json.dumps(grid.get_state(), ensure_ascii=False, default=str).encode()


def test_a_live_grid_refuses_cells_it_does_not_know(waiting: list[Cell]) -> None:
    grid = live(waiting)
    with pytest.raises(ValueError, match="'new' is of no cell"):
        grid.update(Cell("new", waiting[0].at))
    with pytest.raises(ValueError, match="has no value on the axis 'cfg'"):
        grid.update(replace(waiting[0], at={}))
    with pytest.raises(ValueError, match="at least one"):
        live([])
