"""A notebook with every face, run and saved in JupyterLab, then exported to HTML: what is left plays, without a kernel."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CELLS = [
    "import wanlab as wl\nlab = wl.Lab('exported')",
    "run = lab.run('a red circle moves right', steps=3, width=32, height=32, frames=5)",
    "run",
    "run.steps",
    "wl.compare(run, run.fork(2, cfg=1.0), mode='wipe')",
    "sweep = lab.sweep(run, {'cfg': [1.0, 3.0], 'shift': [3.0, 5.0]})\nsweep.grid()",
    "sweep.run();",
    "lab.table()",
    "lab.panel()",
]
FACES = ("Player", "Steps", "Grid", "RunTable", "Panel")


def test_an_exported_notebook_shows_and_plays_every_face(jupyter_lab: Any, page: Any, new_page: Any) -> None:
    jupyter_lab.write("exported.ipynb", CELLS)
    jupyter_lab.open(page, "exported.ipynb")
    jupyter_lab.run_all(page)
    for face in FACES:
        expect(page.locator(f".wanlab[data-face={face}][data-ready='1']:visible").first).to_be_visible()
    expect(page.locator(".wanlab[data-face=Grid]:visible").get_by_role("gridcell")).to_have_count(4)
    notebook = jupyter_lab.folder / "exported.ipynb"
    jupyter_lab.save(page, "exported.ipynb")

    html, _ = HTMLExporter().from_notebook_node(nbformat.read(notebook, as_version=4))
    exported = jupyter_lab.folder / "exported.html"
    exported.write_text(html, encoding="utf-8")
    tab = new_page()
    tab.route("http*://**", lambda route: route.abort())  # there is no internet
    tab.goto(exported.as_uri(), wait_until="domcontentloaded")
    for face in FACES:
        expect(tab.locator(f".wanlab[data-face={face}][data-ready='1']").first).to_be_visible()
    run = tab.locator(".wanlab[data-face=Player]").first
    expect(run).to_have_attribute("data-playing", "true")
    before = run.get_attribute("data-frame")
    tab.wait_for_function("([root, before]) => root.dataset.frame !== before", arg=[run.element_handle(), before])
    compared = tab.locator(".wanlab[data-face=Player]").nth(1)
    compared.get_by_role("button", name="Pause", exact=True).click()
    compared.get_by_label("Frame", exact=True).fill("3")
    expect(compared).to_have_attribute("data-frame", "3")
    expect(compared).to_have_attribute("data-mode", "wipe")
