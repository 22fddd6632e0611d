"""The first notebook as a newcomer meets it: opened in JupyterLab, run, played, wiped, and opened again the next day."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from test_faces import pixels, scrub

pytestmark = pytest.mark.browser

NAME = "01_first_clip.ipynb"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / NAME


def test_the_first_notebook_runs_plays_and_wipes_the_exact_frames(jupyter_lab: Any, page: Any) -> None:
    import wanlab as wl

    shutil.copy(NOTEBOOK, jupyter_lab.folder / NAME)
    jupyter_lab.open(page, NAME)
    jupyter_lab.run_all(page)
    lab = wl.Lab(jupyter_lab.folder / "my_lab")
    log = lab.log
    assert list(log["status"]) == ["done"] * 4
    assert list(log["steps_reused"]) == [0, 0, 8, 20]
    first, without, _, _ = (lab.open(name).clip.frames for name in log.index)

    players = page.locator('.wanlab[data-face="Player"]')
    expect(players).to_have_count(4)  # the run, a step beside the clip, and two comparisons
    for index in range(4):
        expect(players.nth(index)).to_have_attribute("data-ready", "1")
    run, compared = players.nth(0), players.nth(2)
    for root in (run, compared):
        root.get_by_role("button", name="Pause", exact=True).click()
    for frame in (0, 7, 16):
        scrub(run, frame)
        np.testing.assert_array_equal(pixels(run)[0], first[frame])
    scrub(compared, 9)
    compared.get_by_role("button", name="Wipe", exact=True).click()
    compared.get_by_label("Wipe position").fill("0.5")
    (found,) = pixels(compared)
    np.testing.assert_array_equal(found, np.concatenate([first[9, :, :32], without[9, :, 32:]], axis=1))
    expect(page.get_by_text("frames is 80; it must be 4n + 1, for example 77 or 81.")).to_be_visible()
    table, still = (page.locator(f'.wanlab[data-face="RunTable"][data-{kind}]') for kind in ("live", "twin"))
    expect(table).to_have_attribute("data-rows", "4")  # also the one that was made after it
    expect(still).to_be_hidden()  # while the table lives
    table.get_by_role("button", name=f"Star run {log.index[1]}").click()
    expect(still).to_have_attribute("data-wanlab", re.compile(log.index[3]))  # made anew, with what was noted
    table.get_by_label("Filter", exact=True).fill("starred")
    expect(table).to_have_attribute("data-rows", "1")
    if folder := os.environ.get("WANLAB_SCREENSHOTS"):  # for the README
        page.set_viewport_size({"width": 1280, "height": 1060})
        run.get_by_role("button", name="Play", exact=True).scroll_into_view_if_needed()
        page.screenshot(path=Path(folder) / "notebook.png")
        for index in range(4):
            players.nth(index).screenshot(path=Path(folder) / f"face_{index}.png")

    saved = jupyter_lab.save(page, NAME)
    assert "widgets" not in saved["metadata"]
    live = [str(cell["outputs"]) for cell in saved["cells"] if "jupyter.widget-view+json" in str(cell.get("outputs"))]
    assert len(live) == 2  # the table and the panel, and beside each the page that stays
    assert all("data-twin" in outputs for outputs in live)
    assert list(lab.log["star"].dropna().index) == [log.index[1]]
    page.goto("about:blank")
    jupyter_lab.kill_kernels()
    jupyter_lab.open(page, NAME)
    run = players.first
    expect(run).to_have_attribute("data-ready", "1", timeout=60_000)
    run.get_by_role("button", name="Pause", exact=True).click()
    scrub(run, 12)
    np.testing.assert_array_equal(pixels(run)[0], first[12])
    expect(still).to_have_attribute("data-rows", "4")  # as it was when something was noted last
    expect(still).to_be_visible()
    expect(still.get_by_role("button", name=f"Star run {log.index[1]}")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("Error displaying widget").filter(visible=True)).to_have_count(0)  # of table and panel
