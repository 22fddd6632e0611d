"""Safety of what is shown: whatever a text is, in whichever place, a page has the tags and scripts of a plain one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hostile import PROMPTS, STRINGS, Reading
from wanlab.show import Page, Tile, player, steps_page

CLIP = np.arange(3 * 16 * 16 * 3, dtype=np.uint8).reshape(3, 16, 16, 3)


def one(text: str) -> Page:
    return player([Tile(CLIP, text, {text: text})], title=text)


def compared(text: str) -> Page:
    tiles = [Tile(CLIP, text, {text: text}), Tile(CLIP[:2], text, {text: text, "seed": "7"})]
    return player(tiles, title=text, mode="wipe", table=[(text, [text, text])])


def steps(text: str) -> Page:
    return steps_page([CLIP, CLIP], [text, text], [1.0, 0.5], title=text)


FACES: dict[str, Callable[[str], Page]] = {"player": one, "compare": compared, "steps": steps}


def test_there_are_five_hundred_of_them() -> None:
    assert len(STRINGS) >= len(PROMPTS) >= 500


@pytest.mark.parametrize("face", FACES)
def test_no_text_can_leave_its_place(face: str) -> None:
    plain = Reading(FACES[face]("plain").html)
    for text in STRINGS:
        reading = Reading(FACES[face](text).html)
        if text:  # a page without a title has no line for it
            assert reading.skeleton == plain.skeleton, text
        assert not reading.harmful, text
        assert text.encode("utf-8", "replace").decode() in "".join(reading.texts), text
        assert text in str([reading.content["title"]]) or text in reading.content.values(), text


@pytest.mark.parametrize("face", FACES)
def test_a_saved_file_holds_one_script_and_can_be_read(face: str, tmp_path: Path) -> None:
    for text in STRINGS[::7]:
        reading = Reading(FACES[face](text).to_html(tmp_path / "page.html").read_text(encoding="utf-8"))
        assert reading.tags.count("script") == len(reading.scripts) == 1, text
        assert reading.tags.count("title") == 1, text
        assert not reading.harmful, text
