"""Everything that a notebook shows can be written as one offline file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wanlab as wl
from wanlab.bench import Bench
from wanlab.model.attention import availability
from wanlab.quantize.report import compare_kinds
from wanlab.run import Run, perform
from wanlab.settings import Settings
from wanlab.show import Page
from wanlab.show.drawing import Drawing, drawing
from wanlab.timeline import Timeline

NAMESPACES = re.compile(r"http://www\.w3\.org/(2000/svg|1999/xlink)")  # names, which nothing is loaded from


@pytest.fixture(scope="module")
def run(shared_bench: Bench) -> Run:
    prompt = "</script><b>$x$</b> & a circle"
    return perform(shared_bench, Timeline(Settings(width=32, height=32, frames=5, steps=2, seed=3, prompt=prompt)))


def shown_classes() -> Iterator[type]:
    """The classes of the package that a notebook shows as more than a text, widgets apart."""
    for found in pkgutil.walk_packages(wl.__path__, "wanlab."):
        if found.name.endswith("__main__") or found.name == "wanlab.show.live":
            continue
        for _, kind in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
            if kind.__module__ == found.name and {"_repr_html_", "_repr_mimebundle_"} & set(dir(kind)):
                yield kind


def test_what_a_notebook_shows_can_be_written() -> None:
    kinds = set(shown_classes())
    assert {Page, Run, wl.Plan} < kinds
    widgets = {kind for kind in kinds if any(base.__module__.startswith("ipywidgets") for base in kind.__mro__)}
    assert [kind for kind in kinds - widgets if not callable(getattr(kind, "to_html", None))] == []


OBJECTS: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run,
    "steps": lambda run: run.steps,
    "plan": lambda run: wl.plan(run.settings, {"cfg": 1.0}),
    "drawing of a plan": lambda run: wl.plan(run.settings).show(),
    "drawing of memory": lambda run: wl.plan(run.settings).show_memory(),
    "comparison": lambda run: wl.compare(run, run),
    "quantization": lambda run: compare_kinds({"blocks.0.attn1.to_q.weight": torch.ones(32, 32)}, ["int8"]),
    "attention": lambda run: availability(),
    "checkpoint": lambda run: wl.inspect_checkpoint(wl.tiny_path()),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_written_display_is_whole_and_loads_nothing(name: str, run: Run, tmp_path: Path) -> None:
    shown = OBJECTS[name](run)
    file = shown.to_html(tmp_path / "shown.html")
    text = NAMESPACES.sub("", file.read_text(encoding="utf-8"))
    assert file == tmp_path / "shown.html"
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'" in text
    assert "://" not in text
    assert "<b>$x$" not in text


def test_a_drawing_is_shown_once_and_a_notebook_knows_it() -> None:
    from matplotlib import pyplot

    made = drawing(4, 2)
    assert isinstance(made, Drawing)
    assert made.number not in pyplot.get_fignums()  # type: ignore[attr-defined]
