"""The faces without a browser: what a page contains, that nothing in it can break out, and how large it is."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import Reading
from wanlab.document import esc
from wanlab.errors import FileError
from wanlab.show import Page, Tile, player, steps_page
from wanlab.show.grid import GRID
from wanlab.show.page import SHARED, Face, _lean, source
from wanlab.show.panel import PANEL
from wanlab.show.player import MOST_CLIPS, PLAYER
from wanlab.show.runtable import RUN_TABLE
from wanlab.show.steps import STEPS
from wanlab.show.stills import contact_sheet, encode, spread


def clip(frames: int = 17, height: int = 64, width: int = 64, seed: int = 0, grain: float = 2.0) -> np.ndarray:
    """A disc that moves over a gradient, with some grain, as a decoded clip has: (t, h, w, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    noise = np.random.default_rng(seed).normal(0, grain, (frames, height, width, 1))
    center = width * (0.2 + 0.6 * np.arange(frames) / max(1, frames - 1))
    disc = np.hypot(x - center[:, None, None], y - height / 2)[..., None] < height / 6
    ground = np.stack([60 + 90 * y / height, 80 + 60 * x / width, 160 + 0 * x], axis=-1)
    return np.clip(np.where(disc, np.array([220, 60, 50]), ground) + noise, 0, 255).astype(np.uint8)


@cache
def pages(text: str) -> list[Page]:
    """One page of each kind with this text in every place that takes one."""
    tiles = [Tile(clip(3), text, {text: text}), Tile(clip(2, 32, 32), text, {text: text, "seed": "7"})]
    return [
        player(tiles[:1], title=text),
        player(tiles, title=text, mode="wipe", table=[(text, [text, text])], summary=text),
        steps_page([clip(2), clip(2)], [text, text], [1.0, 0.5], title=text),
    ]


def stills(content: dict, index: int) -> np.ndarray:
    """The frames of clip `index` as a browser decodes them."""
    packed, frames = content["clips"][index], []
    stream = io.BytesIO(base64.b64decode(packed["stills"]))
    for size in packed["sizes"]:
        frames.append(np.asarray(Image.open(io.BytesIO(stream.read(size))).convert("RGB")))
    return np.stack(frames)


def test_script_cannot_be_ended_by_its_own_source() -> None:
    (script,) = Reading(player([Tile(clip(1), "a")]).html).scripts
    assert "</script" not in script.lower()
    assert "<!--" not in script


def test_the_browser_and_python_agree_on_how_many_clips_play_together() -> None:
    assert f"const MOST_CLIPS = {MOST_CLIPS};" in source("common/controls.js")


def test_esc_leaves_plain_text_alone() -> None:
    assert esc("Grüße, 3.5 → 5.0") == "Grüße, 3.5 → 5.0"


def test_page_loads_nothing(tmp_path: Path) -> None:
    for page in pages("plain"):
        saved = page.to_html(tmp_path / "page.html").read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in saved
        assert "@import" not in saved
        sources = [value for name, value in Reading(saved).attributes if name in ("src", "href", "srcset")]
        assert len(sources) == 1
        assert sources[0].startswith("data:image/webp;base64,")


def test_small_clips_travel_exactly() -> None:
    clips = [clip(seed=1), clip(9, 32, 48, seed=2)]
    content = Reading(player([Tile(frames, "a") for frames in clips]).html).content
    assert content["kind"] == "image/webp"
    for index, frames in enumerate(clips):
        np.testing.assert_array_equal(stills(content, index), frames)


def test_large_clips_travel_as_jpeg_close_to_the_frames() -> None:
    frames = clip(6, 480, 832, grain=1.0)
    content = Reading(player([Tile(frames, "a")]).html).content
    assert content["kind"] == "image/jpeg"
    assert np.abs(stills(content, 0).astype(int) - frames).mean() < 2


def test_one_page_has_one_codec() -> None:
    """A difference between an exact clip and a JPEG would show the compression."""
    kind, _ = encode([clip(2), clip(6, 480, 832, grain=1.0)])
    assert kind == "image/jpeg"


def test_noise_too_large_to_be_exact_becomes_jpeg() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 256, 256, 3), np.uint8)
    kind, (encoded,) = encode([noise])
    assert kind == "image/jpeg"
    assert sum(map(len, encoded.pieces)) < noise.size


def test_page_of_17_frames_stays_under_150_kilobytes() -> None:
    assert len(player([Tile(clip(), "a red circle moves right", {"seed": "7"})]).html) < 150_000


def test_bundle_offers_html_a_picture_and_a_sentence() -> None:
    page = player([Tile(clip(), "a"), Tile(clip(9), "b")], frame_rate=12)
    bundle = page._repr_mimebundle_()
    assert bundle["text/html"] == page._repr_html_() == page.html
    assert bundle["text/plain"] == repr(page) == 'Player of "a" | "b": 17 frames of 64x64, 12 a second.'
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert (picture.format, picture.height) == ("PNG", 2 * (128 + 20) + 4)


def test_still_part_holds_the_picture_the_notes_and_both_tables() -> None:
    tiles = [Tile(clip(17), "long", {"seed": "7"}), Tile(clip(9, 32, 32), "short", {"seed": "8"})]
    reading = Reading(player(tiles, title="Two", table=[("cfg", ["5", "3"])]).html)
    text = " ".join(reading.texts)
    assert dict(reading.attributes)["alt"].startswith('Player of "long" | "short"')
    assert '"short" has 9 of 17 frames; then its last one stays.' in text
    assert '"short" is 32x32, not 64x64' in text
    assert reading.tags.count("table") == 2
    assert reading.tags.count("details") == 1  # folded, since the table comes first
    assert all(word in text for word in ("Two", "cfg", "5", "3", "seed", "7", "8"))


def test_other_frame_rates_are_told() -> None:
    tiles = [Tile(clip(2), "a", {}, 16.0), Tile(clip(2), "b", {}, 8.0), Tile(clip(2), "c")]
    notes = Reading(player(tiles).html).content["notes"]
    assert notes == ['"b" was made for 8 frames a second; here all play at 16.']


def test_summary_stands_in_the_page_and_in_its_sentence() -> None:
    page = player([Tile(clip(2), "a"), Tile(clip(2), "b")], summary="Only cfg differs.")
    assert page.text.endswith("16 a second. Only cfg differs.")
    assert "Only cfg differs." in " ".join(Reading(page.html).texts)


def test_still_of_nine_clips_has_a_labelled_row_for_each_and_stays_small() -> None:
    page = player([Tile(clip(3, seed=seed), f"clip {seed}") for seed in range(9)])
    picture = Image.open(io.BytesIO(page.png))
    assert picture.height == 9 * (64 + 20) + 8 * 4
    assert len(page.png) < 500_000


@pytest.mark.parametrize(
    "label", ["", "1   a", 300 * "long ", "2   \u7ea2\u8272\u7684\u5706", "3   \ud800 lone", "4   cfg 5.5 \u2192 3.5\u2026"]
)
def test_sheet_writes_any_label_or_only_its_number(label: str) -> None:
    sheet = np.asarray(contact_sheet([[clip(1)[0]]], labels=[label]))
    assert sheet.shape == (128 + 20, 128, 4)
    assert (sheet[:20, :, 0] > 180).any() == bool(label.strip())


def test_pages_carry_code_without_its_comments() -> None:
    source = 'a();\n  /* one\n   * two */\n\n  // three\n  b("/* kept */"); /* kept */ c(); // kept\n  /* kept */ d();\n'
    assert _lean(source) == 'a();\nb("/* kept */"); /* kept */ c(); // kept\n/* kept */ d();'


def test_details_of_a_player_without_a_table_are_open() -> None:
    reading = Reading(player([Tile(clip(2), "a", {"seed": "7"})]).html)
    assert "details" not in reading.tags
    assert reading.tags.count("table") == 1


def test_steps_page_carries_every_step() -> None:
    clips = [clip(5, seed=step) for step in range(4)]
    page = steps_page(clips, ["a", "b", "c", "d"], [1.0, 0.9, 0.7, 0.4], frame_rate=8)
    content = Reading(page.html).content
    (run,) = content["runs"]
    assert (run["sigmas"], run["captions"], content["rate"]) == ([1.0, 0.9, 0.7, 0.4], ["a", "b", "c", "d"], 8)
    for step, frames in enumerate(clips):
        np.testing.assert_array_equal(stills({"clips": run["clean"]}, step), frames)
    assert repr(page) == "Denoising in 4 steps, sigma 1 to 0.4: the clean estimate after each, 5 frames of 64x64, 8 a second."


def test_save_writes_a_whole_document_and_returns_its_path(tmp_path: Path) -> None:
    page = player([Tile(clip(2), "a")], title="A & B")
    path = page.to_html(str(tmp_path / "a.html"))
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "a.html"
    assert text.startswith("<!doctype html>")
    assert "<title>A &amp; B</title>" in text
    assert page.html in text
    with pytest.raises(FileError, match="cannot be written"):
        page.to_html(tmp_path / "missing" / "a.html")


@pytest.mark.parametrize(
    ("frames", "word"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"\(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"\(0, 8, 8, 3\)"),
        ([[1]], "list"),
    ],
)
def test_wrong_frames_are_refused_with_what_they_are(frames: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Tile(frames, "a")


def test_player_refuses_what_does_not_fit() -> None:
    one, two = [Tile(clip(1), "a")], [Tile(clip(1), "a"), Tile(clip(1), "b")]
    with pytest.raises(ValueError, match="0 clips"):
        player([])
    with pytest.raises(ValueError, match="10 clips; a player shows 1 to 9"):
        player(10 * one)
    with pytest.raises(ValueError, match="needs two clips"):
        player(one, mode="wipe")
    with pytest.raises(ValueError, match="one of side, wipe, blink, difference"):
        player(two, mode="diff")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame_rate is 0"):
        player(one, frame_rate=0)
    with pytest.raises(ValueError, match="frame_rate is nan"):
        player([Tile(clip(1), "a", {}, float("nan"))])
    with pytest.raises(ValueError, match=r"'cfg'.* one value per clip: 2"):
        player(two, table=[("cfg", ["5"])])
    with pytest.raises(ValueError, match="'cfg'"):
        player(two, table=[("cfg", "53")])


def test_steps_page_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="captions has 1 entries; there are 2 steps"):
        steps_page([clip(1), clip(1)], ["a"], [1.0, 0.5])
    with pytest.raises(ValueError, match="0 clips and 0 sigmas"):
        steps_page([], [], [])
    with pytest.raises(ValueError, match="step 1 is"):
        steps_page([clip(1), clip(2)], ["a", "b"], [1.0, 0.5])
    with pytest.raises(ValueError, match="sigma of step 1 is nan"):
        steps_page([clip(1), clip(1)], ["a", "b"], [1.0, float("nan")])


def test_contact_sheet_keeps_pixels_square_and_gaps_clear() -> None:
    frames = clip(2, 32, 16)
    sheet = contact_sheet([[frames[0], frames[1]], [frames[0]]])
    assert sheet.size == (2 * 64 + 4, 2 * 128 + 4)
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[:128:4, :64:4, :3], frames[0])
    assert (pixels[:, 64:68, 3] == 0).all()


@pytest.mark.parametrize(("count", "wanted"), [(1, 6), (2, 6), (6, 6), (17, 6), (81, 6), (5, 1)])
def test_spread_is_different_indices_in_order_from_the_first(count: int, wanted: int) -> None:
    indices = spread(count, wanted)
    assert indices == sorted(set(indices))
    assert indices[0] == 0
    assert len(indices) == min(count, wanted)
    assert wanted == 1 or indices[-1] == count - 1


@pytest.mark.parametrize("face", [PLAYER, GRID, STEPS, RUN_TABLE, PANEL], ids=lambda face: face.name)
def test_a_top_level_name_is_given_once_in_a_face(face: Face) -> None:
    """All scripts of a face are joined into one: a class that is declared twice is an error, of two functions one wins."""
    folder = files("wanlab.show") / "faces"
    scripts = [
        folder.joinpath(f"{name}.js").read_text("utf-8") for name in (*SHARED, *face.scripts, "common/start", "common/live")
    ]
    found = re.findall(r"^(?:async )?(?:class|function|const|let) (\w+|\[.*?\] =)", "\n".join(scripts), re.MULTILINE)
    names = [name for one in found for name in re.findall(r"\w+", one)]
    assert {face.name, "make", "furnish", "start", "mount"} <= set(names)
    assert sorted(names) == sorted(set(names))
