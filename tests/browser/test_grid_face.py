"""The grid in a real browser: one clock, axes that move, headers that stay, comparing, keys, and cells that fill live."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from wanlab.show.grid import Cell
from wanlab.show.page import Page

pytestmark = pytest.mark.browser

# What each painted cell shows: its key and the number that is painted on the frame. In one call: a moment later it is another.
NUMBERS = """root => [...root.shadowRoot.querySelectorAll('td canvas:not([hidden])')].map(canvas => {
    const row = canvas.getContext('2d').getImageData(0, 4, canvas.width, 1).data;
    return [...Array(8).keys()].reduce((number, bit) => number | (row[4 * (8 * bit + 4)] > 127) << bit, 0); })"""
AXES = {"cfg": ["1", "3", "5"], "shift": ["3", "8"], "seed": ["1", "2"]}


def clip(seed: int, frames: int = 9, side: int = 64) -> np.ndarray:
    """Random colours with the frame's number in the top eight rows: (frames, side, side, 3) uint8."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), np.uint8).repeat(frames, axis=0)
    for frame, bit in itertools.product(range(frames), range(8)):
        pixels[frame, :8, 8 * bit : 8 * bit + 8] = 255 * (frame >> bit & 1)
    return pixels


def cells_of(axes: dict[str, list[str]], **more: Any) -> list[Cell]:
    """A cell for each combination, named by its values, with its own clip and a number that grows from cell to cell."""
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [
        Cell(" ".join(at.values()), at, clip(number), numbers={"psnr": 20.0 + number}, **more)
        for number, at in enumerate(combinations)
    ]


@pytest.fixture
def shown(new_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Saves a page, opens it as a file, and waits for its grid; `paused` also stops it."""

    def show(page: Page, *, paused: bool = True, **options: Any) -> Any:
        tab = new_page(**options)
        tab.goto(page.to_html(tmp_path / "page.html").as_uri())
        root = tab.locator(".wanlab")
        expect(root).to_have_attribute("data-ready", "1")
        if paused:
            root.get_by_role("button", name="Pause", exact=True).click()
        return root

    return show


CELLS = f"""
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
    jupyter_lab.write("grid.ipynb", [folder, CELLS, LOOP])
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

    jupyter_lab.save(page, "grid.ipynb")
    page.goto("about:blank")
    jupyter_lab.kill_kernels()
    jupyter_lab.open(page, "grid.ipynb")
    twin = page.locator(".wanlab[data-twin]")
    expect(twin).to_have_attribute("data-ready", "1", timeout=60_000)
    expect(twin).to_have_attribute("data-clips", "12")
