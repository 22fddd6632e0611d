"""A real browser and a real JupyterLab for the tests of the notebook faces.

Chromium is the system's own (`apt-get install chromium`). Where it is missing these tests are skipped, in CI they fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE = 180  # seconds for anything of JupyterLab: its start took 105 beside a training and three other test runs
# What JupyterLab itself says when a test takes its kernel or its server away
LAB_NOISE = ("Failed to load resource", "WebSocket", "Kernel", "kernel", "ServerConnection", "connection")
LAB_NOISE += ("widget model not found",)  # and of a widget that was its kernel's
LAB_NOISE += ("getter for the shared module", "reading 'schema'", "filebrowser:open-path")  # Voila's and Notebook 7's own


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        missing = "The browser tests need chromium (apt-get install chromium) and playwright (pip install playwright)."
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    expect.set_options(timeout=1000 * PATIENCE / 6)
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield chrome
        chrome.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages, each in a fresh context with the given options; no script on any of them may have complained."""
    contexts, errors = [], []

    def complain(text: str) -> None:
        if not any(noise in text for noise in LAB_NOISE):
            errors.append(text)

    def new_page(**options: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 1000}, **options}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complain(f"uncaught: {error}"))
        page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()


@pytest.fixture
def shown(new_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Saves a page, opens it as a file, and waits for its face; `paused` also stops it."""

    from playwright.sync_api import expect

    def show(page: Any, *, paused: bool = True, **options: Any) -> Any:
        tab = new_page(**options)
        tab.goto(page.to_html(tmp_path / "page.html").as_uri())
        root = tab.locator(".wanlab")
        expect(root).to_have_attribute("data-ready", "1")
        if paused:
            root.get_by_role("button", name="Pause", exact=True).click()
        return root

    return show


class JupyterLab:
    """A running server: notebooks are opened, run, saved and robbed of their kernel by name."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.url, self.token, self.folder = url, token, folder

    def write(self, name: str, cells: list[str]) -> None:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        nbformat.write(notebook, self.folder / name)

    def open(self, page: Any, name: str) -> None:
        page.goto(f"{self.url}/lab/tree/{name}?token={self.token}&reset")
        page.locator(".jp-NotebookPanel").wait_for(timeout=1000 * PATIENCE)

    def visit(self, page: Any, name: str, how: str) -> None:
        """Open a notebook otherwise: `how` is "notebooks" for Notebook 7, "voila/render" for Voila."""
        page.goto(f"{self.url}/{how}/{name}?token={self.token}", timeout=1000 * PATIENCE)

    def run_all(self, page: Any) -> None:
        """Run all cells of the open notebook and wait for the last one."""
        # Not the execution indicator: it says idle before there is a session, and Run All then asks for a kernel.
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=1000 * PATIENCE)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        finished = """() => { const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
            return prompts.length && prompts.every(prompt => /\\[\\d+\\]/.test(prompt.textContent)) }"""
        page.wait_for_function(finished, timeout=1000 * PATIENCE)

    def save(self, page: Any, name: str) -> dict[str, Any]:
        """Save the open notebook and read it. Lab truncates the file before it writes, so it is read until it parses."""
        before, begin = (self.folder / name).stat().st_mtime_ns, time.monotonic()
        page.keyboard.press("Control+s")
        while time.monotonic() < begin + PATIENCE:
            with contextlib.suppress(ValueError):
                if (self.folder / name).stat().st_mtime_ns != before:
                    return json.loads((self.folder / name).read_text())
            time.sleep(0.05)
        raise TimeoutError(f"{name} was not saved")

    def kill_kernels(self) -> None:
        for session in json.load(self._ask("sessions")):
            self._ask(f"sessions/{session['id']}", "DELETE")

    def _ask(self, path: str, method: str = "GET") -> Any:
        address = f"{self.url}/api/{path}?token={self.token}"
        return urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=10)


@pytest.fixture(scope="session")
def jupyter_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    (home / "config/labconfig").mkdir(parents=True)
    (home / "config/labconfig/default_setting_overrides.json").write_text(
        json.dumps(
            {
                "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
                "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
                "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
            }
        )
    )
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    environment = {**os.environ, **{name: str(home / place) for name, place in places.items()}, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.extension_manager=readonly"]
    lab = JupyterLab(f"http://127.0.0.1:{port}", token, folder)
    with (home / "log").open("w") as log:
        # Its own session, so that all of it can be ended
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        begin = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                lab._ask("status")
                break
            if server.poll() is not None or time.monotonic() > begin + PATIENCE:
                raise RuntimeError((home / "log").read_text()[-3000:])
            time.sleep(0.1)
        yield lab
    finally:
        with contextlib.suppress(OSError):
            lab.kill_kernels()  # they are in sessions of their own
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(server.pid, end)
                server.wait(5)
