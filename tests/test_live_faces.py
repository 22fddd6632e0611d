"""Live faces keep the conventions of the places that show them: JupyterLab and Notebook 7, Voila, VS Code, Colab.

Those two that no test can open here need: scripts that load nothing, traits of plain JSON (binary ones were lost in Colab for
years), messages below what servers let through, a text that says what it is, and a page for when the kernel is gone.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wanlab as wl
from wanlab.show import Cell
from wanlab.show.live import LiveFace
from wanlab.show.live_grid import LiveGrid

CLIP = np.zeros((5, 32, 32, 3), np.uint8)
MOST_MESSAGE = 10 * 2**20  # bytes; what tornado, and so most servers, let through


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> wl.Lab:
    lab = wl.Lab(tmp_path_factory.mktemp("lab"))
    lab.run("a circle", steps=2, width=32, height=32, frames=5)
    return lab


LIVE: dict[str, Callable[[wl.Lab], tuple[LiveFace, Any]]] = {
    "panel": lambda lab: (lambda panel: (panel._face, panel))(lab.panel()),
    "table": lambda lab: (lambda table: (table.widget, table))(lab.table()),
    "grid": lambda lab: (lambda grid: (grid, grid))(LiveGrid([Cell("a", {"cfg": "1"}, CLIP)], {"cfg": ["1"]})),
}


@pytest.fixture(params=LIVE)
def live(request: pytest.FixtureRequest, lab: wl.Lab) -> Any:
    face, shown = LIVE[request.param](lab)
    yield face, shown
    if hasattr(shown, "close"):
        shown.close()


def test_every_live_face_is_here() -> None:
    def below(kind: type) -> set[str]:
        return {name for one in kind.__subclasses__() for name in {one.__name__, *below(one)}}

    for module in pkgutil.walk_packages(wl.__path__, "wanlab."):
        if module.name != "wanlab.__main__":
            importlib.import_module(module.name)
    assert below(LiveFace) == {"PanelFace", "LiveRunTable", "LiveGrid"}


def test_the_script_loads_nothing_and_is_no_address(live: Any) -> None:
    face, _ = live
    script = str(face._esm)
    assert "export default" in script
    assert not re.search(r"https?://(?!www\.w3\.org/)", script)
    assert not re.search(r"^\s*import\b|\bimport\(|\bfetch\(|XMLHttpRequest|new WebSocket", script, re.M)
    assert "VideoDecoder" not in script  # these two do not exist on plain http
    assert "ImageDecoder" not in script


def test_what_travels_is_plain_json_of_moderate_size(live: Any) -> None:
    face, _ = live
    own = {name for name in face.keys if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip", "comm")}
    assert {"content", "key"} <= own
    state = {name: value for name, value in face.get_state().items() if name in own}
    assert len(json.dumps(state, allow_nan=False)) < MOST_MESSAGE


def test_it_says_in_words_what_it_is(live: Any) -> None:
    _, shown = live
    assert re.search(r"\w{3}", repr(shown))
    assert " object at 0x" not in repr(shown)


def test_a_page_stays_and_is_written(live: Any, tmp_path: Path) -> None:
    face, shown = live
    page = face.page()
    assert page is not None
    assert f'data-twin="{face.key}"' in page.html
    assert shown.to_html(tmp_path / "page.html").stat().st_size > 10_000


def test_an_error_of_a_callback_is_told_and_not_lost(live: Any) -> None:
    face, _ = live
    told: list[Any] = []
    face.send = lambda message, buffers=None: told.append(message)
    face._heard(face, {"do": "nonsense", "ask": "nonsense", "id": "../etc"}, [])
    face._heard(face, "no mapping at all", [])
    problems = [one["problem"] for one in told if isinstance(one, dict) and "problem" in one]
    assert len(problems) >= 2
