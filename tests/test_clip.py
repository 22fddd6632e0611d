"""Clips: what is written comes back, names never collide or escape, and no fault leaves half a file."""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
import os
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wanlab import clip as clip_module
from wanlab.clip import Clip, Frames, contact_sheet, read_frames, read_settings
from wanlab.errors import FileError, SettingsError
from wanlab.files import safe_prefix
from wanlab.settings import ClipSettings

FORMATS = ["mp4", "webm", "gif", "webp", "png"]
PROMPT = "Ein \"Käfer\" ;=#\\ {läuft} 'links' %s\n\t\r zweite Zeile | <b>&amp; 红色的圆 🎈 \u202e\x01\x7f"
METADATA = {"prompt": PROMPT, "seed": 2**64 - 1, "cfg": 5.5, "model": None, "versions": {"wanlab": "1.0"}, "list": [1, [True]]}


def smooth(t: int = 5, h: int = 32, w: int = 48) -> Frames:
    """A soft wave of colours that moves: nothing an encoder could find hard."""
    time, y, x = np.meshgrid(np.arange(t) / 8, np.linspace(0, 1, h), np.linspace(0, 1, w), indexing="ij")
    waves = [np.sin(4 * x + time), np.cos(3 * y - time), np.sin(2 * x + 2 * y)]
    return np.uint8(127.5 + 100 * np.stack(waves, -1))


def psnr(found: Frames, expected: Frames) -> float:
    error = np.mean((found.astype(float) - expected) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def listing(folder: Path) -> set[str]:
    """All names below a folder, without following links."""
    return {str((Path(root) / name).relative_to(folder)) for root, dirs, files in os.walk(folder) for name in dirs + files}


# Round trips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_settings_come_back_from_the_file_itself(tmp_path: Path, format: str, sidecar: bool) -> None:
    clip = Clip(smooth(2), ClipSettings(loop_count=1), METADATA)
    path = clip.save(folder=tmp_path, format=format, frame_rate=12)
    beside = tmp_path / f"clip_00001.{format}.json"
    assert json.loads(beside.read_text("utf-8")) == read_settings(beside)
    if not sidecar:
        beside.unlink()
    found = read_settings(path)
    assert found.items() >= METADATA.items()
    assert {name: value for name, value in found.items() if name.startswith("clip.")} == {
        "clip.frame_rate": 12,
        "clip.loop_count": 1,
        "clip.filename_prefix": "clip",
        "clip.format": format,
        "clip.pingpong": False,
        "clip.save_output": True,
    }


def test_settings_come_back_from_the_first_picture_of_a_folder(tmp_path: Path) -> None:
    folder = Clip(smooth(2), metadata=METADATA).save(tmp_path / "stills", format="png")
    assert read_settings(folder / "00001.png") == read_settings(folder)
    assert read_settings(folder)["prompt"] == PROMPT
    frames, frame_rate = read_frames(folder / "00002.png")
    assert (frames[0] == smooth(2)[1]).all()
    assert math.isnan(frame_rate)


def test_a_long_comment_comes_back_and_one_too_long_is_refused(tmp_path: Path) -> None:
    for format in FORMATS:
        path = Clip(smooth(1), metadata={"prompt": "x" * 1_000_000}).save(tmp_path / f"a.{format}")
        assert len(read_settings(path)["prompt"]) == 1_000_000
    with pytest.raises(ValueError, match="characters"):
        Clip(smooth(1), metadata={"prompt": "x" * 2**20})


@pytest.mark.parametrize("format", ["webp", "png"])
@pytest.mark.parametrize("shape", [(4, 32, 48), (3, 17, 9), (1, 1, 1)])
def test_lossless_formats_give_equal_frames(tmp_path: Path, format: str, shape: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = Clip(frames, ClipSettings(frame_rate=23.976)).save(tmp_path / f"a.{format}")
    found, frame_rate = read_frames(path)
    assert (found == frames).all()
    assert frame_rate == 23.976


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("frame_rate", [1, 16, 23.976, 29.97, 120])
def test_video_is_close_and_keeps_its_rate(tmp_path: Path, format: str, frame_rate: float) -> None:
    found, found_rate = read_frames(Clip(smooth(), ClipSettings(frame_rate=frame_rate)).save(tmp_path / f"a.{format}"))
    assert psnr(found, smooth()) > 35
    assert found_rate == frame_rate


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_video_keeps_pure_colours(tmp_path: Path, format: str) -> None:
    """A wrong matrix (bt601 for bt709) or range moves these by 10 or more."""
    colours = np.array([[220, 30, 40], [20, 200, 60], [30, 40, 230], [255, 255, 255], [0, 0, 0]], np.uint8)
    frames = np.broadcast_to(colours.repeat(16, 0), (3, 32, 80, 3))
    found, _ = read_frames(Clip(frames).save(tmp_path / f"a.{format}"))
    assert abs(found[0, 16, 8::16].astype(int) - colours).max() <= 3


def test_gif_keeps_a_clip_of_few_colours_exactly(tmp_path: Path) -> None:
    frames = smooth() // 64 * 64
    found, _ = read_frames(Clip(frames).save(tmp_path / "a.gif"))
    assert (found == frames).all()


def test_gif_dithers_many_colours(tmp_path: Path) -> None:
    frames = smooth(3, 96, 128)
    found, _ = read_frames(Clip(frames).save(tmp_path / "a.gif"))
    blurred = [array.reshape(3, 24, 4, 32, 4, 3).mean((2, 4)) for array in (found, frames)]
    assert psnr(*blurred) > 38


@pytest.mark.parametrize("format", ["gif", "webp"])
@pytest.mark.parametrize("frame_rate", [1, 16, 24, 30, 50])
def test_rounded_frame_times_keep_the_length_of_the_clip(tmp_path: Path, format: str, frame_rate: int) -> None:
    path = Clip(smooth(17, 8, 8), ClipSettings(frame_rate=frame_rate)).save(tmp_path / f"a.{format}")
    durations = []
    with Image.open(path) as image:
        for k in range(17):
            image.seek(k)
            image.load()
            durations.append(image.info["duration"])
    assert sum(durations) / 1000 == pytest.approx(17 / frame_rate, abs=0.005)
    assert max(durations) - min(durations) <= 10
    assert read_frames(path)[1] == frame_rate
    if (format, frame_rate) == ("gif", 16):
        assert durations[:5] == [60, 60, 70, 60, 60]


@pytest.mark.parametrize("format", FORMATS)
def test_a_clip_that_stands_still_keeps_its_frames(tmp_path: Path, format: str) -> None:
    frames, frame_rate = read_frames(Clip(np.full((5, 16, 16, 3), 99, np.uint8)).save(tmp_path / f"a.{format}"))
    assert (len(frames), frame_rate) == (5, 16)


@pytest.mark.parametrize("format", FORMATS)
def test_odd_sizes_are_padded_by_their_edge_only_where_the_codec_needs_it(tmp_path: Path, format: str) -> None:
    found, _ = read_frames(Clip(smooth(2, 33, 47)).save(tmp_path / f"a.{format}"))
    if format in ("mp4", "webm"):
        assert found.shape == (2, 34, 48, 3)
        assert psnr(found[:, 33], found[:, 32]) > 30
        assert psnr(found[:, :, 47], found[:, :, 46]) > 30
    else:
        assert found.shape == (2, 33, 47, 3)


@pytest.mark.parametrize("format", FORMATS)
def test_one_frame(tmp_path: Path, format: str) -> None:
    found, frame_rate = read_frames(Clip(smooth(1)).save(tmp_path / f"a.{format}", pingpong=True))
    assert found.shape == (1, 32, 48, 3)
    assert frame_rate == 16
    assert psnr(found, smooth(1)) > 25


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_pingpong_adds_the_way_back_without_its_ends(tmp_path: Path, format: str, count: int, expected: int) -> None:
    frames = smooth(count)
    found, _ = read_frames(Clip(frames).save(tmp_path / f"a.{format}", pingpong=True))
    assert len(found) == expected
    order = [*range(count), *range(count - 2, 0, -1)]
    assert psnr(found, frames[order]) > 25


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("loop_count", [0, 1, 3])
def test_loop_count_repeats_video_and_is_stored_elsewhere(tmp_path: Path, format: str, loop_count: int) -> None:
    path = Clip(smooth(3)).save(tmp_path / f"a.{format}", loop_count=loop_count, pingpong=True)
    assert len(read_frames(path)[0]) == 4 * (1 + loop_count if format in ("mp4", "webm") else 1)
    if format in ("gif", "webp"):
        with Image.open(path) as image:
            assert image.info["loop"] == loop_count


def test_mp4_begins_with_its_index_and_carries_bt709_tags(tmp_path: Path) -> None:
    import av

    path = Clip(smooth()).save(tmp_path / "a.mp4")
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (
            "yuv420p",
            1,
            1,
            1,
            1,
        )
        assert container.duration == 5 / 16 * 1e6


def test_a_file_of_another_program_plays_at_its_measured_rate(tmp_path: Path) -> None:
    stills = [Image.fromarray(frame) for frame in smooth()]
    stills[0].save(tmp_path / "a.gif", save_all=True, append_images=stills[1:], duration=40)
    frames, frame_rate = read_frames(tmp_path / "a.gif")
    assert (len(frames), frame_rate) == (5, 25)
    with pytest.raises(FileError, match="holds no settings"):
        read_settings(tmp_path / "a.gif")


# Names ------------------------------------------------------------------------------------------------------------------


def test_numbers_count_on_from_the_largest(tmp_path: Path) -> None:
    clip = Clip(smooth(1, 2, 2), ClipSettings(format="png"))
    assert clip.save(folder=tmp_path) == tmp_path / "clip_00001"
    assert clip.save(folder=tmp_path, format="gif") == tmp_path / "clip_00002.gif"
    (tmp_path / "clip_00041.webp").touch()
    (tmp_path / "clipper_00900.webp").touch()
    (tmp_path / "clip_x.webp").touch()
    assert clip.save(folder=tmp_path, format="webp").name == "clip_00042.webp"
    assert clip.save(folder=tmp_path / "new", filename_prefix="a/b.c").relative_to(tmp_path) == Path("new/a/b.c_00001")
    (tmp_path / ".clip_00043.claim").touch()
    assert clip.save(folder=tmp_path, format="gif").name == "clip_00044.gif"


def _save_many(folder: Path, barrier: object, who: int) -> None:
    clip = Clip(np.full((1, 2, 2, 3), who, np.uint8), metadata={"who": who})
    barrier.wait()  # type: ignore[attr-defined]
    for k in range(20):
        clip.save(folder=folder, format=("png", "gif", "webp")[k % 3])


def test_eight_processes_that_save_at_once_never_overwrite_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    workers = [context.Process(target=_save_many, args=(tmp_path, barrier, who)) for who in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    clips = [path for path in tmp_path.iterdir() if path.suffix != ".json"]
    assert not [path for path in clips if path.name.startswith(".")]
    assert len({path.stem for path in clips}) == len(clips) == 160
    owners = [read_settings(path)["who"] for path in clips]
    assert sorted(owners) == [who for who in range(8) for _ in range(20)]
    for path, owner in zip(clips, owners, strict=True):
        format = path.suffix.removeprefix(".") or "png"
        assert read_settings(tmp_path / f"{path.stem}.{format}.json")["who"] == owner
        assert read_frames(path)[0].max() == owner


NASTY = r"""
.. . ../a a/../b ../../../../tmp/a /tmp/a /etc/passwd //server/share/a ~/a ~root/a a/~b a//b /a a/ / C:\a C:a D:/a \\server\a
..\a a\b %2e%2e/a %date%/../a %DATE% %s a:b a*b a?b a"b a<b a>b a|b CON con con.txt a/NUL nul.mp4 COM1 lpt9 aux.x a. a./b ...
.../a a/./b ./a ./../a link/a link/b/c loop/a dangling/a link .clip.part/a
"""
NASTY_PREFIXES = [*NASTY.split(), "a\0b", "\0", "../a\0.mp4", "", " ", " a", "a ", "a /b", "a\nb", "\n", "\x1b[31m", "a\tb"]
NASTY_PREFIXES += ["x" * 300, "a/" * 200 + "b", "ü" * 100, "\ud800", "\uff0f..\uff0fa", "\u2024\u2024/a"]


@pytest.mark.parametrize("prefix", NASTY_PREFIXES)
def test_no_prefix_leaves_its_folder(tmp_path: Path, prefix: str) -> None:
    folder, outside = tmp_path / "runs" / "one", tmp_path / "outside"
    folder.mkdir(parents=True)
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    before = listing(tmp_path)
    path = None
    with contextlib.suppress(SettingsError, FileError):
        path = Clip(smooth(1, 2, 2)).save(folder=folder, filename_prefix=prefix, format="webp")
    new = listing(tmp_path) - before
    assert not [name for name in new if not name.startswith("runs/one/")]
    if path:
        assert path.is_file()
        assert path.resolve().is_relative_to(folder)
    else:
        assert not new


def test_a_link_at_the_next_number_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "clip_00001.gif").symlink_to(tmp_path / "victim.gif")
    path = Clip(smooth(1, 2, 2)).save(folder=tmp_path / "runs", format="gif")
    assert path.name == "clip_00002.gif"
    assert not (tmp_path / "victim.gif").exists()


def test_a_path_is_taken_exactly_and_the_ending_says_the_format(tmp_path: Path) -> None:
    clip = Clip(smooth(2, 16, 16))
    assert clip.save(tmp_path / "new" / "folder" / "A.GIF") == tmp_path / "new" / "folder" / "A.GIF"
    assert (tmp_path / "new" / "folder" / "A.GIF").read_bytes()[:4] == b"GIF8"
    (tmp_path / "circle.json").write_text("mine")
    first = clip.save(str(tmp_path / "circle.mp4"), frame_rate=8)
    assert clip.save(tmp_path / "circle.mp4", frame_rate=4) == first
    assert read_settings(first)["clip.frame_rate"] == read_settings(tmp_path / "circle.mp4.json")["clip.frame_rate"] == 4
    assert (tmp_path / "circle.json").read_text() == "mine"
    assert listing(tmp_path) == {
        *("new", "new/folder", "new/folder/A.GIF", "new/folder/A.GIF.json"),
        *("circle.json", "circle.mp4", "circle.mp4.json"),
    }


def test_a_folder_of_pictures_is_replaced_only_if_it_holds_nothing_else(tmp_path: Path) -> None:
    stills = tmp_path / "stills.v2"
    assert Clip(smooth(5, 2, 2)).save(stills, format="png") == stills
    Clip(smooth(3, 2, 2)).save(stills, format="png")
    assert len(read_frames(stills)[0]) == 3
    assert listing(tmp_path) == {"stills.v2", "stills.v2.png.json", *(f"stills.v2/0000{k}.png" for k in (1, 2, 3))}
    (stills / "thesis.txt").touch()
    with pytest.raises(FileError, match=r"holds other things too, as thesis\.txt"):
        Clip(smooth(1, 2, 2)).save(stills, format="png")
    assert len(read_frames(stills)[0]) == 3


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "changes", "sentence"),
    [
        (
            "a.avi",
            {},
            "a.avi does not end in a format; it must be one of .mp4, .webm, .gif, .webp, .png, for example circle.mp4.",
        ),
        ("a", {}, "a does not end in a format"),
        ("a.avi", {"format": "mp4"}, "a.avi does not end in a format"),
        (
            "a.gif",
            {"format": "mp4"},
            "clip.format is mp4, but the file is to be a.gif; leave format out, or change the ending to .mp4.",
        ),
        ("a.gif", {"format": "png"}, "clip.format is png, but the file is to be a.gif"),
        ("a.gif", {"frame_rate": 60}, "clip.format is 'gif'; a gif plays at most 50 frames/s"),
        ("a.mp4", {"frame_rate": 0}, "clip.frame_rate is 0; it must be from 1 to 120 frames/s."),
        ("a.mp4", {"frame_rte": 8}, "clip.frame_rte is not a setting; did you mean clip.frame_rate"),
        ("a.mp4", {"loop_count": -1}, "clip.loop_count is -1; it must be from 0 to 100."),
        ("a.mp4", {"loop_count": 1.5}, "clip.loop_count is 1.5; it must be a whole number."),
        ("a.mp4", {"pingpong": "yes"}, "clip.pingpong is 'yes'; it must be True or False."),
        ("a.mp4", {"format": "avi"}, "clip.format is 'avi'; it must be one of mp4, webm, gif, webp, png."),
        ("a.mp4", {"filename_prefix": "../a"}, "clip.filename_prefix is '../a'; it must be a name"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(tmp_path: Path, path: str, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Clip(smooth(1)).save(tmp_path / path, **changes)
    assert str(caught.value).startswith(sentence)
    assert not listing(tmp_path)


def test_a_path_and_a_folder_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not both"):
        Clip(smooth(1)).save(tmp_path / "a.mp4", tmp_path)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([[1]], "frames are list; they must be a numpy array of uint8, values 0 to 255."),
        (smooth().astype(np.float32), "frames are float32 (5, 32, 48, 3); they must be"),
        (smooth()[0], "frames are uint8 (32, 48, 3); their shape must be (t, h, w, 3), with at least one pixel."),
        (smooth()[:, :, :, :1], "frames are uint8 (5, 32, 48, 1); their shape"),
        (smooth()[:0], "frames are uint8 (0, 32, 48, 3); their shape"),
    ],
)
def test_frames_are_checked_at_the_border(frames: Frames, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Clip(frames)


def _nested(depth: int) -> dict[str, object]:
    return {"a": _nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1, 2}, b"bytes", "\ud800", np.zeros(2), _nested(900) and {"a": object()}]
)
def test_metadata_is_checked_at_the_border(value: object) -> None:
    with pytest.raises(ValueError, match="metadata cannot be written as JSON: "):
        Clip(smooth(1), metadata={"a": value})


@pytest.mark.parametrize("format", FORMATS)
def test_what_cannot_be_written_is_a_file_error_and_leaves_nothing(tmp_path: Path, format: str) -> None:
    (tmp_path / "file").touch()
    clip = Clip(smooth(2))
    for where in (tmp_path / "file" / f"a.{format}", Path("/proc/none") / f"a.{format}", tmp_path / ("x" * 300 + f".{format}")):
        with pytest.raises(
            FileError, match=r"cannot be written: .*\. Try another folder or format; the clip is still in memory\.$"
        ):
            clip.save(where)
    (tmp_path / f"taken.{format}" / "inside").mkdir(parents=True)
    with pytest.raises(FileError, match="taken"):
        clip.save(tmp_path / f"taken.{format}")
    with pytest.raises(FileError, match="cannot be written"):
        clip.save(folder=tmp_path / "file", format=format)
    assert listing(tmp_path) == {"file", f"taken.{format}", f"taken.{format}/inside"}


def test_a_folder_that_vanishes_while_the_clip_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(path: Path, *rest: object) -> None:
        path.write_bytes(b"whole")
        (tmp_path / "runs").rename(tmp_path / "elsewhere")

    monkeypatch.setitem(clip_module.WRITERS, "gif", vanish)
    with pytest.raises(FileError, match="No such file or directory"):
        Clip(smooth(2)).save(folder=tmp_path / "runs", format="gif")
    assert not [name for name in listing(tmp_path) if "clip_" in name]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    def interrupted(path: Path, *rest: object) -> None:
        path.write_bytes(b"half")
        raise fault

    monkeypatch.setitem(clip_module.WRITERS, "gif", interrupted)
    with pytest.raises(fault):
        Clip(smooth(2)).save(folder=tmp_path, format="gif")
    assert not listing(tmp_path)


def test_a_full_disk_is_a_file_error_and_leaves_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts every write at a size: inside the clip, its index, its comment or its side-car."""
    clip = Clip(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), metadata={"prompt": "x" * 3000})
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for format in FORMATS:
        size = 0
        while True:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            try:
                clip.save(folder=tmp_path, format=format)
                break
            except FileError as error:
                reason = str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert "File too large" in reason
            assert not listing(tmp_path), (format, size)
            size = size * 5 // 4 + 700
        path = tmp_path / f"clip_00001{'' if format == 'png' else '.' + format}"
        assert size > 3000
        assert read_settings(path)["prompt"] == "x" * 3000
        assert len(read_frames(path)[0]) == 4
        subprocess.run(["rm", "-r", *tmp_path.iterdir()], check=True)


# Hostile input ----------------------------------------------------------------------------------------------------------


HOSTILE = {
    "a deep list": "[" * 100_000,
    "a deep object": '{"a":' * 100_000,
    "not a number": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "a float that overflows": '{"a": 1e400}',
    "a long number": '{"a": ' + "9" * 5000 + "}",
    "a list": "[1]",
    "null": "null",
    "a string": '"text"',
    "another program's comment": "Made with GIMP",
    "half an object": '{"a": 1',
    "blank": " ",
    "no JSON": "\x80\xff",
    "too large": '{"a": "' + "x" * 2**20 + '"}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_settings_are_a_file_error(tmp_path: Path, text: str) -> None:
    from wanlab.containers import WRITERS

    (tmp_path / "a.mp4.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError, match=r"cannot be read: .*\.$"):
        read_settings(tmp_path / "a.mp4.json")
    for format in FORMATS:
        path = tmp_path / f"a.{format}"
        WRITERS[format](path, list(smooth(1, 16, 16)), ClipSettings(format=format), text)
        with pytest.raises(FileError):
            read_settings(path)
        assert read_frames(path)[0].shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"GIF8", b"RIFF\xff\xff\xff\xffWEBP", b"\x89PNG", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3"]
)
def test_what_is_no_clip_is_a_file_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    for read in (read_settings, read_frames):
        with pytest.raises(FileError, match=r"\.$"):
            read(tmp_path / "a.mp4")
        with pytest.raises(FileError, match="No such file"):
            read(tmp_path / "missing.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"empty holds no pictures\."):
        read_frames(tmp_path / "empty")


def test_a_playlist_that_names_another_file_is_not_opened(tmp_path: Path) -> None:
    secret = Clip(smooth(1)).save(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{secret}\n")
    with pytest.raises(FileError, match="is no clip"):
        read_frames(tmp_path / "a.mp4")


def test_missing_settings_point_to_the_side_car(tmp_path: Path) -> None:
    path = Clip(smooth(2)).save(tmp_path / "stills.png")
    Image.open(path / "00002.png").save(path / "00001.png")
    with pytest.raises(
        FileError, match=r"another program removed them\. Its side-car has them: read_settings\('.*stills\.png\.json'\)\.$"
    ):
        read_settings(path)
    assert math.isnan(read_frames(path)[1])


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_load_or_are_a_file_error(tmp_path: Path, format: str) -> None:
    path = Clip(smooth(3, 16, 16), metadata={"prompt": "a red circle"}).save(tmp_path / f"a.{format}")
    target = path / "00001.png" if format == "png" else path
    content, damage = target.read_bytes(), random.Random(0)
    for k in range(60):
        broken = bytearray(content)
        for _ in range(1 + k % 4):
            broken[damage.randrange(len(broken))] ^= 1 << damage.randrange(8)
        target.write_bytes(broken[: damage.randrange(len(broken))] if k % 3 == 0 else bytes(broken))
        for read in (read_settings, read_frames):
            with contextlib.suppress(FileError):
                read(path)


def test_a_small_file_with_huge_frames_is_refused(tmp_path: Path) -> None:
    Clip(smooth(1, 2, 2)).save(tmp_path / "a.gif")
    content = bytearray((tmp_path / "a.gif").read_bytes())
    content[6:10] = b"\x80\x3e\x80\x3e"
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(FileError, match="16000 x 16000"):
        read_frames(tmp_path / "a.gif")


# The rest ---------------------------------------------------------------------------------------------------------------


def test_repr_and_lengths() -> None:
    assert repr(Clip(smooth(17))) == "Clip(17 frames of 48 x 32, 1.06 s at 16 frames/s)"
    assert repr(Clip(smooth(1), ClipSettings(frame_rate=2.5))) == "Clip(1 frame of 48 x 32, 0.40 s at 2.5 frames/s)"
    assert (len(Clip(smooth(17))), Clip(smooth(8)).seconds) == (17, 0.5)


def test_contact_sheet_shows_every_frame_in_rows() -> None:
    frames = np.stack([np.full((32, 48, 3), 20 * k, np.uint8) for k in range(7)])
    with Image.open(io.BytesIO(contact_sheet(frames, columns=3, height=16))) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (3 * 16, 3 * 24, 3)
    assert [int(sheet[16 * (k // 3) + 8, 24 * (k % 3) + 12, 0]) for k in range(9)] == [*range(0, 140, 20), 255, 255]


def test_importing_clip_loads_no_encoder_and_no_torch() -> None:
    code = "import sys, wanlab.clip; print([name for name in ('torch', 'av', 'PIL') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_a_legal_prefix_is_kept() -> None:
    assert str(safe_prefix("lesson 1/käfer-2.v3")) == "lesson 1/käfer-2.v3"
