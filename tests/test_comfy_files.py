"""Files that carry a workflow, and files that only pretend to: one FileError or a result, never another exception."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import wanlab as wl
from comfy_graphs import native, wrapper
from test_comfy_reading import subgraph, two_samplers
from wanlab.comfy.carriers import MOST_BYTES
from wanlab.errors import FileError


def png(path: Path, **texts: str) -> Path:
    note = PngInfo()
    for name, text in texts.items():
        note.add_text(name, text, zip=name == "workflow")
    Image.new("RGB", (8, 8)).save(path, pnginfo=note)
    return path


def moving_png(path: Path, prompt: str) -> Path:
    note = PngInfo()
    note.add(b"comf", b"prompt\0" + prompt.encode("latin-1"), after_idat=True)
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in range(3)]
    frames[0].save(path, pnginfo=note, save_all=True, append_images=frames[1:], duration=62)
    return path


def webp(path: Path, **texts: str) -> Path:
    exif = Image.Exif()
    for tag, (name, text) in zip((0x0110, 0x010F), texts.items(), strict=False):
        exif[tag] = f"{name}:{text}"
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], exif=exif)
    return path


def video(path: Path, **tags: str) -> Path:
    import av

    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as file:
        for name, text in tags.items():
            file.metadata[name] = text
        stream = file.add_stream("libx264" if path.suffix == ".mp4" else "libvpx-vp9", rate=16)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode())
    return path


PROMPT = json.dumps(native())
EDITOR = json.dumps(subgraph())


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: png(folder / "a.png", prompt=PROMPT),
        lambda folder: moving_png(folder / "a.png", PROMPT),
        lambda folder: webp(folder / "a.webp", prompt=PROMPT, workflow=EDITOR),
        lambda folder: webp(folder / "a.webp", workflow=EDITOR, prompt=PROMPT),
        lambda folder: video(folder / "a.mp4", prompt=PROMPT, workflow=EDITOR),
        lambda folder: video(folder / "a.webm", prompt=PROMPT),
        lambda folder: video(folder / "a.mp4", comment=json.dumps({"prompt": native(), "workflow": subgraph()})),
    ],
)
def test_pictures_and_videos_carry_what_was_run(make: Any, tmp_path: Path) -> None:
    found = wl.from_comfy(make(tmp_path))
    assert found.settings.prompt == "a blue square"
    assert found.source.startswith("a.")


def test_a_picture_with_the_editors_form_alone(tmp_path: Path) -> None:
    assert wl.from_comfy(png(tmp_path / "a.png", workflow=EDITOR)).settings.steps == 8


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"prompt": one}, lambda one: {"client_id": "x", "prompt": one}])
def test_json_as_it_is_and_as_it_is_sent_to_the_server(wrap: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(native())), "utf-8-sig")
    assert wl.from_comfy(path).settings == wl.from_comfy(wrap(native())).settings


def test_names_of_files_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "workflow.mp4"
    path.write_text(PROMPT)
    assert wl.from_comfy(str(path)).settings.seed == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe\x00\xd8", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a":' * 100_000, "no JSON"),
        (b"[]", "no workflow of ComfyUI"),
        (b"3", "no workflow of ComfyUI"),
        (b'{"nodes": [], "links": []}', "no sampler"),
        (b'{"nodes": [1, null, {"id": [], "type": 3, "inputs": {}, "widgets_values": 5}], "links": [[], 1, {}]}', "no sampler"),
        (b'{"1": {"class_type": "KSampler"}, "2": 4}'.replace(b"KSampler", b"Nothing"), "no sampler"),
        (b"\x89PNG\r\n\x1a\n", "carries no workflow"),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**31, b"tEXt") + b"prompt\0{}", "carries no workflow"),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 9, b"zTXt") + b"prompt\0\0xx", "carries no workflow"),
        (b"RIFF\0\0\0\0WEBPEXIF\x08\0\0\0II*\0\xff\xff\xff\xff", "carries no workflow"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "damaged|carries no workflow"),
        (b"\x1aE\xdf\xa3" + bytes(40), "damaged|carries no workflow"),
    ],
)
def test_what_is_no_workflow_is_one_sentence(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FileError, match=reason):
        wl.from_comfy(path)


def test_a_clip_of_wanlab_is_told_apart(tmp_path: Path) -> None:
    path = wl.Clip(np.zeros((5, 16, 16, 3), np.uint8), metadata=wl.Settings().flat()).save(tmp_path / "own.mp4")
    with pytest.raises(FileError, match="written by wanlab, not by ComfyUI"):
        wl.from_comfy(path)


def test_missing_files_and_folders_are_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(FileError, match="cannot be read"):
            wl.from_comfy(path)


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 10)
    with pytest.raises(FileError, match="more than 32 MiB"):
        wl.from_comfy(path)


def test_a_small_chunk_that_unpacks_to_much_is_cut(tmp_path: Path) -> None:
    packed = zlib.compress(b" " * (MOST_BYTES + 2**20))
    chunk = b"prompt\0\0" + packed
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", len(chunk), b"zTXt") + chunk + bytes(4))
    with pytest.raises(FileError):
        wl.from_comfy(path)


@pytest.mark.parametrize("depth", [100, 900, 990, 5000])
@pytest.mark.parametrize("nested", ["[{}]", '{{"a":{}}}'])
def test_a_value_may_be_nested_as_deep_as_it_will(nested: str, depth: int, tmp_path: Path) -> None:
    before, _, after = nested.format("1").partition("1")
    path = tmp_path / "deep.json"
    path.write_text(json.dumps(native(seed="X")).replace('"X"', before * depth + "1" + after * depth))
    with contextlib.suppress(FileError):  # which is too deep to be read as JSON at all
        assert wl.from_comfy(path).settings.seed == 0


def tower(depth: int, width: int) -> dict[str, Any]:
    """Groups of nodes that hold each other, `width` of the next in each."""
    groups = [
        {
            "id": f"g{k}",
            "nodes": [{"id": n, "type": f"g{k + 1}"} for n in range(width)],
            "links": [],
            "inputs": [],
            "outputs": [],
        }
        for k in range(depth)
    ]
    return {"nodes": [{"id": 1, "type": "g0"}], "links": [], "definitions": {"subgraphs": groups}}


@pytest.mark.parametrize("workflow", [tower(40, 1), tower(12, 9)])
def test_groups_without_end_are_refused(workflow: dict[str, Any]) -> None:
    workflow["definitions"]["subgraphs"].append({"id": "self", "nodes": [{"id": 1, "type": "self"}], "links": []})
    with pytest.raises(FileError, match=r"deep|more than"):
        wl.from_comfy(workflow)


def test_circles_end() -> None:
    workflow = wrapper()
    for one in workflow.values():
        for name, value in one["inputs"].items():
            if isinstance(value, list):
                one["inputs"][name] = ["5", 0]  # all hang on the sampler, also the sampler
    assert wl.from_comfy(workflow).settings.seed == 42
    constants = native(steps=["90", 0])
    constants["90"] = {"class_type": "INTConstant", "inputs": {"value": ["91", 0]}}
    constants["91"] = {"class_type": "INTConstant", "inputs": {"value": ["90", 0]}}
    found = wl.from_comfy(constants)
    assert any("circle" in entry.reason for entry in found.not_taken)


def test_thousands_of_samplers_and_reroutes_take_no_long_time() -> None:
    """Quadratic work would take minutes here; the suite's own limit is what fails."""
    workflow = native()
    for k in range(3000):
        workflow[str(100 + k)] = {"class_type": "Reroute", "inputs": {"any": [str(99 + k) if k else "2", 0]}}
        workflow[str(5000 + k)] = {"class_type": "KSampler", "inputs": {"model": [str(100 + k), 0], "latent_image": ["6", 0]}}
        workflow[str(9000 + k)] = {"class_type": "Strange", "inputs": {"latent_image": [str(8999 + k), 0] if k else ["7", 0]}}
    workflow["7"]["inputs"]["model"] = ["3099", 0]
    assert wl.from_comfy(workflow).model.model == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


def test_a_long_chain_is_read() -> None:
    workflow = native()
    for k in range(3000):
        below = ["1", 0] if k == 0 else [str(99 + k), 0]
        workflow[str(100 + k)] = {"class_type": "SomePatch", "inputs": {"model": below}}
    workflow["7"]["inputs"]["model"] = ["3099", 0]
    assert wl.from_comfy(workflow).model.model == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


JUNK: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["fixed", "\ud800", "%date%", "../x", "a" * 3000, "<script>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name, one in value.items():
            found += places(one, (*path, name))
    elif isinstance(value, list):
        for k, one in enumerate(value):
            found += places(one, (*path, k))
    return found


BASES = {"native": native(), "wrapper": wrapper(), "two": two_samplers(), "group": subgraph()}
BASES["written"] = dict(
    wl.to_comfy(wl.Settings().but({"feta.weight": 2, "context.frames": 9, "image": "a.png", "cfg_zero": True}))
)
PLACES = {name: places(base) for name, base in BASES.items()}


@settings(max_examples=200)
@given(base=st.sampled_from(sorted(BASES)), changes=st.lists(st.tuples(st.integers(0, 10**6), JUNK), min_size=1, max_size=4))
def test_whatever_stands_in_a_workflow_is_read_or_refused(base: str, changes: list[tuple[int, Any]]) -> None:
    workflow = copy.deepcopy(BASES[base])
    for number, junk in changes:
        *path, last = PLACES[base][number % len(PLACES[base])]
        place: Any = workflow
        for step in path:
            try:
                place = place[step]
            except (KeyError, IndexError, TypeError):
                break
        if isinstance(place, dict) or (isinstance(place, list) and isinstance(last, int) and last < len(place)):
            place[last] = junk
    try:
        found = wl.from_comfy(workflow)
    except FileError:
        return
    assert repr(found)
    assert found._repr_html_()
    assert found.code()
    assert found.command()


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["png", "webp", "json", "mp4"]))
def test_damaged_files_are_read_or_refused(seed: int, kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    whole = folder / f"whole.{kind}"
    if not whole.exists():
        {"png": png, "webp": webp, "mp4": video}.get(kind, lambda path, prompt: path.write_text(prompt))(whole, prompt=PROMPT)
    chance = random.Random(seed)
    content = bytearray(whole.read_bytes())
    for _ in range(chance.randint(1, 12)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    broken = folder / f"broken.{kind}"
    broken.write_bytes(content[: chance.randint(0, len(content))] if chance.random() < 0.3 else content)
    with contextlib.suppress(FileError):
        assert repr(wl.from_comfy(broken))
