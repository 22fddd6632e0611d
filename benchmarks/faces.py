"""How quickly the faces answer, in a real browser with a real kernel: the control panel as Voila shows it, a grid, a player.

    python benchmarks/faces.py [--rounds 20]

Needs chromium, playwright and voila. Milliseconds by the page's own clock: from moving a slider to the redrawn plan (with
the 40 ms for which a slider that moves is waited for), and from a click on Run to the first preview of the clip. Then, by the
clock on the wall, from `sweep.grid()` of 25 runs that are done to all their clips on the screen: in the first kernel that asks,
which has to decode them, and asked once more. Frames a second of nine clips: `benchmarks/player_fps.py` has more of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from player_fps import SIZES, measured, moving

import wanlab as wl
from wanlab.show import Tile, player

CELL = "import wanlab as wl\nwl.Lab('lab').panel()"
AIM = {"change to redrawn plan": 150.0, "a grid of 5 x 5": 2000.0, "the same once more": 2000.0}  # milliseconds
PAINTED = """() => new Promise((done) => { const look = () => {
    const root = document.querySelector('.wanlab');
    if (root?.dataset.ready === '1' && Number(root.dataset.painted) >= 25) done(); else requestAnimationFrame(look); };
    look(); })"""

# Do something, and wait until an attribute of an element in the panel changes and the next picture is painted.
WAIT = """(place, name, act) => new Promise((done) => {
    const began = performance.now();
    const painted = () => requestAnimationFrame(() => done(performance.now() - began));
    const watch = new MutationObserver(() => { watch.disconnect(); painted(); });
    watch.observe(place, { attributes: true, attributeFilter: [name] });
    act();
})"""
CHANGE = f"""(root, value) => ({WAIT})(root, 'data-plan', () => {{
    const slider = root.shadowRoot.querySelector('[aria-label="steps slider"]');
    slider.value = value;
    slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
}})"""
RUN = f"""(root) => ({WAIT})(root.shadowRoot.querySelector('.progress'), 'data-seen', () => {{
    [...root.shadowRoot.querySelectorAll('button')].find((button) => button.textContent === 'Run').click();
}})"""


@contextlib.contextmanager
def voila(folder: Path) -> Iterator[str]:
    """The address of a panel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "panel.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "panel.ipynb", "--no-browser", f"--port={port}"]
    log = (folder / "log").open("w")
    server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        log.close()


def measure(page: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each kind."""
    root = page.locator(".wanlab[data-live][data-greeted][data-cost]")
    root.wait_for(timeout=300_000)
    found: dict[str, list[float]] = {"change to redrawn plan": [], "click on Run to first preview": []}
    for turn in range(rounds):
        found["change to redrawn plan"].append(root.evaluate(CHANGE, 20 + turn % 2))
        page.wait_for_timeout(100)
    for turn in range(max(1, rounds // 4)):
        box = root.get_by_label("seed", exact=True)
        box.fill(str(1000 + turn))
        box.press("Enter")
        page.wait_for_timeout(300)
        found["click on Run to first preview"].append(root.evaluate(RUN))
        page.locator(".wanlab[data-live][data-running='']").wait_for(timeout=300_000)
    return found


def grid(browser: Any, folder: Path) -> dict[str, list[float]]:
    """Milliseconds from asking for the grid of a sweep that is done to its 25 clips on the screen."""
    axes = {"cfg": [1.0, 2.0, 3.0, 4.0, 5.0], "shift": [1.0, 2.0, 3.0, 5.0, 8.0]}
    wl.Lab(folder).sweep({"steps": 4}, axes).run()
    found: dict[str, list[float]] = {}
    sweep = wl.Lab(folder).sweep({"steps": 4}, axes)  # as a kernel that has just begun
    for name in ("a grid of 5 x 5", "the same once more"):
        began = time.perf_counter()
        path = sweep.grid(live=False).to_html(folder / "grid.html")
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.goto(path.as_uri())
        page.evaluate(PAINTED)
        found[name] = [1000 * (time.perf_counter() - began)]
        page.close()
    return found


def frames(browser: Any, folder: Path) -> None:
    """Print how many frames a second nine small clips show when they are to play at 60."""
    name, size = next(iter(SIZES.items()))
    path = player([Tile(moving(*size, seed), f"clip {seed}") for seed in range(9)], frame_rate=60).to_html(folder / "nine.html")
    ticks, shown, left = measured(browser, path, 5)[-1]
    print(f"\nnine clips of {name}: {shown:.1f} frames a second of {ticks:.1f} ticks, {left:.1f} left out (aim 60)")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="changes; a quarter as many runs")
    rounds = parser.parse_args().rounds
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, voila(Path(folder)) as address, sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(address, timeout=300_000)
        found = measure(page, rounds)
        page.close()
        found |= grid(browser, Path(folder) / "lab25")
        print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, no GPU\n")
        print(f"{'milliseconds':32} {'median':>8} {'least':>8} {'most':>8} {'aim':>8}")
        for name, values in found.items():
            aim = f"{AIM[name]:8.0f}" if name in AIM else f"{'':>8}"
            print(f"{name:32} {statistics.median(values):8.0f} {min(values):8.0f} {max(values):8.0f} {aim}")
        frames(browser, Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
