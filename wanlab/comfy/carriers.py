"""The files that carry a workflow: JSON, and the pictures and videos that ComfyUI and VideoHelperSuite write. No torch.

ComfyUI writes what it ran into what it made: a png has text chunks `prompt` and `workflow`, a png that moves chunks `comf`, a
webp two texts in its EXIF ("workflow:{...}"), a video tags of these names or, by older versions of VideoHelperSuite, one
comment with both. Pictures are read here by their outer structure alone, no pixel is decoded.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from wanlab.errors import FileError

MOST_BYTES = 32 * 2**20  # of JSON, and of one chunk of a picture; people's workflows are of up to some hundred kB
_NAMES = ("prompt", "workflow")
_EXIF_TEXT = 2  # TIFF's type ASCII


def documents(path: Path) -> list[Any]:
    """The JSON documents of a file that may be workflows, that which the server ran first; FileError if there is none."""
    reason = ""
    found: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            found = _texts(file, path)
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise FileError(f"{path} cannot be read: {reason}.")
    parsed: list[Any] = []
    for name in ("json", *_NAMES, "comment"):
        if name in found:
            with contextlib.suppress(ValueError, RecursionError):
                parsed += unwrapped(json.loads(found[name]))
    if not parsed and "json" in found:
        raise FileError(f"{path} is no JSON, so no workflow of ComfyUI.")
    if not parsed:
        raise FileError(f"{path} carries no workflow: it was not written by ComfyUI, or another program removed it.")
    return parsed


def unwrapped(document: Any) -> Iterator[Any]:
    """A document that holds workflows under the names that the server gives them, or is one."""
    inner = [document[name] for name in _NAMES if isinstance(document, dict) and isinstance(document.get(name), dict)]
    if inner and "nodes" not in document:
        yield from inner
    else:
        yield document


def _texts(file: BinaryIO, path: Path) -> dict[str, str]:
    """The texts of a file by name, of a JSON file the whole as `json`."""
    head = file.read(16)
    file.seek(0)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return dict(_of_png(file))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return dict(_of_webp(file))
    if head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3":
        return _of_video(file, path, "mov" if head[4:8] == b"ftyp" else "matroska")
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise FileError(f"{path} is no workflow: it has more than {MOST_BYTES // 2**20} MiB.")
    for encoding in ("utf-8-sig", "utf-16"):
        with contextlib.suppress(UnicodeDecodeError):
            return {"json": content.decode(encoding)}
    return {"json": ""}


def _of_png(file: BinaryIO) -> Iterator[tuple[str, str]]:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind not in (b"tEXt", b"iTXt", b"zTXt", b"comf"):
            file.seek(size + 4, 1)
            continue
        content = file.read(size) if size <= MOST_BYTES else b""
        file.seek(4 + (size if size > MOST_BYTES else 0), 1)
        name, _, rest = content.partition(b"\0")
        if name.decode("latin-1").lower() in (*_NAMES, "comment"):
            yield name.decode("latin-1").lower(), _png_text(kind, rest)


def _png_text(kind: bytes, rest: bytes) -> str:
    if kind == b"zTXt":
        return _inflated(rest[1:]).decode("latin-1")
    if kind == b"iTXt":
        packed, parts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        text = parts[2] if len(parts) == 3 else b""
        return (_inflated(text) if packed else text).decode("utf-8", "replace")
    return rest.decode("utf-8", "replace") if kind == b"comf" else rest.decode("latin-1")


def _inflated(content: bytes) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(content, MOST_BYTES)
    return b""


def _of_webp(file: BinaryIO) -> Iterator[tuple[str, str]]:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind == b"EXIF" and size <= MOST_BYTES:
            yield from _of_exif(file.read(size).removeprefix(b"Exif\0\0"))
            file.seek(size % 2, 1)
        else:
            file.seek(size + size % 2, 1)


def _of_exif(content: bytes) -> Iterator[tuple[str, str]]:
    """The texts of the first directory of a TIFF file that begin with a name: "workflow:{...}"."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    with contextlib.suppress(struct.error):
        if order is None:
            return
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for k in range(count):
            _, kind, size, place = struct.unpack_from(f"{order}HHII", content, start + 2 + 12 * k)
            if kind != _EXIF_TEXT or size <= 4:
                continue
            text = content[place : place + size].split(b"\0")[0].decode("utf-8", "replace")
            name, _, rest = text.partition(":")
            if name.lower() in _NAMES:
                yield name.lower(), rest


def _of_video(file: BinaryIO, path: Path, format: str) -> dict[str, str]:
    import av
    from av.error import FFmpegError

    tags: dict[str, str] = {}
    broken = ""
    try:
        with av.open(file, "r", format=format) as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
    except (FFmpegError, ValueError, OverflowError, MemoryError) as error:
        broken = str(error)
    if broken:
        raise FileError(f"{path} is damaged: {broken}.")
    return {name: tags[name][:MOST_BYTES] for name in (*_NAMES, "comment") if name in tags}
