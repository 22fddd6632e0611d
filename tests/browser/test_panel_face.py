"""The control panel in JupyterLab and in Voila: a change is planned, a run watched, stopped, and found again the next day."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CELL = "import wanlab as wl\nlab = wl.Lab('panel_lab')\npanel = lab.panel()\npanel"
NAME = "panel.ipynb"


@pytest.fixture
def opened(jupyter_lab: Any, page: Any) -> Any:
    """The panel in a notebook, greeted by its kernel."""
    jupyter_lab.write(NAME, [CELL])
    jupyter_lab.open(page, NAME)
    jupyter_lab.run_all(page)
    panel = page.locator(".wanlab[data-live]")
    expect(panel).to_have_attribute("data-greeted", "1")
    expect(panel).to_have_attribute("data-plan", re.compile(r"\d"))
    return panel


def test_a_change_is_planned_and_a_run_is_watched_stopped_finished_and_found_again(
    jupyter_lab: Any, page: Any, opened: Any
) -> None:
    panel = opened
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()
    steps = panel.get_by_label("steps slider", exact=True)
    steps.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(panel.get_by_text("59 steps", exact=True)).to_be_visible()
    expect(panel).to_have_attribute("data-plan-ms", re.compile(r"\d"))

    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator(".progress")).to_have_attribute("data-seen", re.compile(r"\d"))
    panel.get_by_role("button", name="Stop", exact=True).click()
    expect(panel.get_by_text(re.compile(r"stopped after \d+ of 59 steps"))).to_be_visible()
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel).to_have_attribute("data-clip", re.compile(r"\d"), timeout=180_000)
    expect(panel.locator(".player")).to_have_attribute("data-ready", "1")
    expect(panel.get_by_text("all steps are in the store")).to_be_visible()

    run = panel.get_attribute("data-clip")
    expect(page.locator(f"[data-twin][data-wanlab*='{run}']")).to_have_count(1)  # the page beneath is renewed
    jupyter_lab.save(page, NAME)
    page.goto("about:blank")
    jupyter_lab.kill_kernels()
    jupyter_lab.open(page, NAME)
    twin = page.locator(".wanlab[data-twin]")
    expect(twin).to_have_attribute("data-ready", "1", timeout=60_000)
    expect(twin).to_be_visible()
    expect(twin.locator(".player")).to_have_attribute("data-ready", "1")
    expect(twin.get_by_label("Settings as Python", exact=True)).to_have_value("run = lab.run(steps=59)")
    expect(page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_be_hidden()


def use(panel: Any) -> None:
    """Wait for the kernel, set three steps, run, and see the clip."""
    expect(panel).to_have_attribute("data-greeted", "1", timeout=180_000)
    steps = panel.get_by_label("steps", exact=True)
    steps.fill("3")
    steps.press("Enter")
    expect(panel.get_by_text("3 steps", exact=True)).to_be_visible()
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator(".player")).to_have_attribute("data-ready", "1", timeout=60_000)


def test_voila_shows_the_panel_without_code_and_runs(jupyter_lab: Any, page: Any) -> None:
    jupyter_lab.write("visit.ipynb", [CELL])
    jupyter_lab.visit(page, "visit.ipynb", "voila/render")
    use(page.locator(".wanlab[data-live]"))
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()
    expect(page.get_by_text("import wanlab")).to_have_count(0)


def test_notebook_7_shows_the_panel_and_runs(jupyter_lab: Any, page: Any) -> None:
    jupyter_lab.write("seven.ipynb", [CELL])
    jupyter_lab.visit(page, "seven.ipynb", "notebooks")
    page.locator(".jp-Notebook .cm-content").first.click()
    page.get_by_text("Python 3 (ipykernel)").first.wait_for(timeout=180_000)
    page.keyboard.press("Shift+Enter")
    use(page.locator(".wanlab[data-live]"))
    expect(page.locator(".wanlab[data-twin]")).to_be_hidden()
