"""Safety of what is shown: whatever a text is, in whichever place, a page has the tags and scripts of a plain one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

import wanlab as wl
from hostile import FEW, PROMPTS, STRINGS, Reading
from wanlab.columns import described
from wanlab.comfy.result import Entries, Entry, FromComfy
from wanlab.panel.told import cost_told, plan_told
from wanlab.show import Cell, Curve, Denoising, Page, Tile, denoising_page, grid_page, player, steps_page
from wanlab.show.panel import panel_page
from wanlab.show.runtable import RunTableContent, run_table_page

CLIP = np.arange(3 * 16 * 16 * 3, dtype=np.uint8).reshape(3, 16, 16, 3)
NUMBERS = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 1, 2, 2)


def one(text: str) -> Page:
    return player([Tile(CLIP, text, {text: text})], title=text)


def compared(text: str) -> Page:
    tiles = [Tile(CLIP, text, {text: text}), Tile(CLIP[:2], text, {text: text, "seed": "7"})]
    return player(tiles, title=text, mode="wipe", table=[(text, [text, text])], summary=text)


def steps(text: str) -> Page:
    return steps_page([CLIP, CLIP], [text, text], [1.0, 0.5], title=text)


def parted(text: str) -> Page:
    runs = [
        Denoising(
            text,
            [1.0, 0.5],
            [CLIP, CLIP],
            [CLIP[:1]] * 2,
            [NUMBERS] * 2,
            [NUMBERS] * 2,
            block_seconds=[[0.1, 0.2]] * 2,
            forks=[(1, text)],
        )
        for _ in "ab"
    ]
    return denoising_page(runs, [Curve(text, [1.0, 0.5], shown=True)], title=text, told=[text], parted=1)


def grid(text: str) -> Page:
    axes = {f"{text}a": [f"{text}1", f"{text}2"], f"{text}b": [text]}
    at = [{f"{text}a": f"{text}{k}", f"{text}b": text} for k in (1, 2)]
    done = Cell(f"{text}1", at[0], CLIP, caption=text, numbers={text: 1.0}, facts={text: text})
    failed = Cell(f"{text}2", at[1], state="failed", caption=text, problem=text)
    return grid_page([done, failed], axes, title=text, notes=[text], table=[(text, [text])])


def table(text: str) -> Page:
    rows = {
        f"{text}{k}": {"status": "done", "prompt": text, text or "empty": text, "note": text, "tags": [text], "cfg": float(k)}
        for k in (1, 2)
    }
    columns = [asdict(column) for column in described(rows)]
    return run_table_page(RunTableContent(columns, rows, ["status", "prompt", "note"]), title=text)


@cache
def planned() -> dict[str, Any]:
    """A plan and its cost as the panel tells them."""
    [run] = wl.plan({"steps": 2}).runs
    assert run.estimate is not None
    return {"plan": plan_told(run), "cost": cost_told(run.estimate)}


def panel(text: str) -> Page:
    told = planned()
    state = {**told, "cost": {**told["cost"], "verdict": text, "notes": [text]}, "code": {"python": text, "json": text}}
    picture = Image.new("RGB", (8, 8))
    return panel_page({"state": state}, pictures=[picture], rows=[(text, [text])], code=text, text=text)


FACES: dict[str, Callable[[str], Page]] = {
    "player": one,
    "compare": compared,
    "steps": steps,
    "compare_steps": parted,
    "grid": grid,
    "table": table,
    "panel": panel,
}


def workflow(text: str) -> str:
    told = Entries([Entry(text, text, text, text)])
    origins = {"steps": text}
    return FromComfy(
        wl.Settings(), wl.ModelSettings(), told, told, {"steps": 5}, {}, (text,), origins, source=text
    )._repr_html_()


def log(text: str) -> str:
    """A table of pandas, which the log is."""
    return str(pandas.DataFrame({"prompt": [text], text: [text]})._repr_html_())  # type: ignore[operator]


TABLES: dict[str, Callable[[str], str]] = {"workflow": workflow, "log": log}


def test_there_are_five_hundred_of_them() -> None:
    assert len(STRINGS) >= len(PROMPTS) >= 500


@pytest.mark.parametrize("face", FACES)
def test_no_text_can_leave_its_place(face: str) -> None:
    plain = Reading(FACES[face]("plain").html)
    for text in STRINGS:
        if text:  # a page without a title has no line for it
            reading = Reading(FACES[face](text).html)
            assert reading.skeleton == plain.skeleton, text
            assert not reading.harmful, text
            assert text.encode("utf-8", "replace").decode() in "".join(reading.texts), text


@pytest.mark.parametrize("what", TABLES)
def test_no_text_can_leave_the_table_it_is_in(what: str) -> None:
    plain = Reading(TABLES[what]("plain"))
    for text in PROMPTS:
        reading = Reading(TABLES[what](text))
        assert reading.skeleton == plain.skeleton, text
        assert not reading.harmful, text


@pytest.mark.parametrize("face", FACES)
def test_a_saved_file_holds_one_script_and_can_be_read(face: str, tmp_path: Path) -> None:
    for text in FEW:
        reading = Reading(FACES[face](text).to_html(tmp_path / "page.html").read_text(encoding="utf-8"))
        assert reading.tags.count("script") == len(reading.scripts) == 1, text
        assert reading.tags.count("title") == 1, text
        assert not reading.harmful, text
