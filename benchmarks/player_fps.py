"""How many frames a second the player paints: nine clips at 60 frames a second in a browser, small ones and large ones.

Chromium plays a saved page; at each of its ticks the page is asked which frame it shows. A tick is the browser's chance to
paint (60 a second at most), a frame is shown when it is another than at the tick before, and left out when it is not the next.

    python benchmarks/player_fps.py [--seconds 8] [--clips 9]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from wanlab.show import Tile, player

SIZES = {"64 x 64, 17 frames": (17, 64, 64), "832 x 480, 81 frames": (81, 480, 832)}
WATCH = """seconds => new Promise(done => {
    const root = document.querySelector('.wanlab');
    const count = Number(root.dataset.frames);
    let [begin, ticks, shown, left, last] = [null, 0, 0, 0, Number(root.dataset.frame)];
    requestAnimationFrame(function tick(now) {
        begin ??= now;
        ticks += 1;
        const frame = Number(root.dataset.frame);
        if (frame !== last) {
            shown += 1;
            left += (frame - last + count) % count - 1;
            last = frame;
        }
        const passed = (now - begin) / 1000;
        if (passed < seconds) requestAnimationFrame(tick);
        else done([(ticks - 1) / passed, shown / passed, left / passed]);
    });
})"""


def moving(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """A disc that moves over a gradient, with a little grain: (t, h, w, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 2, (8, height, width, 1)).astype(np.float32)
    ground = np.stack([60 + 90 * y / height, 80 + 60 * x / width, 160 + 0 * x], axis=-1)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for frame in range(frames):
        disc = np.hypot(x - width * (0.2 + 0.6 * frame / max(1, frames - 1)), y - height / 2)[..., None] < height / 6
        clip[frame] = np.clip(np.where(disc, np.float32([220, 60, 50]), ground) + noise[frame % 8], 0, 255)
    return clip


def measured(chrome: Any, page: Path, seconds: float) -> list[tuple[float, float, float]]:
    """Ticks, frames shown and frames left out, all a second: as it begins, while stills are decoded, and the next time."""
    tab = chrome.new_page(viewport={"width": 1400, "height": 1000})
    tab.goto(page.as_uri())
    tab.wait_for_selector(".wanlab[data-ready='1']", timeout=120_000)
    rates = [tuple(tab.evaluate(WATCH, seconds)) for _ in range(2)]
    tab.close()
    return rates


def main() -> None:
    """Print a row for each size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=8)
    options.add_argument("--clips", type=int, default=9)
    asked = options.parse_args()
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, no GPU\n")
    print("| clips | page, MB | when | ticks/s | frames shown/s | left out/s |\n|---|---|---|---|---|---|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chrome = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, size in SIZES.items():
            tiles = [Tile(moving(*size, seed), f"clip {seed}") for seed in range(asked.clips)]
            path = player(tiles, frame_rate=60).to_html(Path(folder) / "page.html")
            for when, rates in zip(("at first", "then"), measured(chrome, path, asked.seconds), strict=True):
                ticks, shown, left = (f"{rate:.1f}" for rate in rates)
                megabytes = path.stat().st_size / 1e6
                print(f"| {asked.clips} of {name} | {megabytes:.1f} | {when} | {ticks} | {shown} | {left} |", flush=True)
        chrome.close()


if __name__ == "__main__":
    main()
