"""Names and files: prefixes that cannot leave their folder, and writes that happen whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from wanlab.errors import FileError

_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}

CONTENT_NAME = re.compile(r"[\w.-]*-([0-9a-f]{32})\.npz")  # of files that are named by what is in them


def content_of(name: str) -> str:
    """The part of a file's name that stands for its content; another name as it is."""
    found = CONTENT_NAME.fullmatch(name)
    return found[1] if found else name


def safe_prefix(prefix: str) -> PurePosixPath:
    """The relative path that a filename prefix means; ValueError if it leaves its folder or is no legal name anywhere.

    `%date%` becomes the day, as 2026-01-31.

    >>> safe_prefix("lesson/walk")
    PurePosixPath('lesson/walk')
    """
    text = prefix.replace("%date%", time.strftime("%Y-%m-%d"))
    parts = text.split("/")
    for part in parts:
        if not part or part in (".", "..") or part.startswith("~"):
            raise ValueError('it must be a name, or folders and a name with "/" between, for example lesson1/walk.')
        if any(ord(sign) < 32 or sign in '\\:*?"<>|%' for sign in part):
            raise ValueError('it must not hold control characters or any of \\ : * ? " < > | %, apart from %date%.')
        if part != part.strip() or part.endswith(".") or part.split(".")[0].lower() in _RESERVED or len(part.encode()) > 150:
            raise ValueError(
                "each part must be legal everywhere: at most 150 bytes, no blank or dot at its end, no device name."
            )
    return PurePosixPath(text)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that it appears whole or not at all: temporary name, sync, rename, sync of the folder.

    Raises FileError when the disk is full or the folder cannot be written; nothing is left behind then.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    reason = ""
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if reason:
        raise FileError(
            f"{path} cannot be written: {reason}. Free some space or choose another folder; finished steps are kept."
        )


def read_into(file: IO[bytes], position: int, target: memoryview) -> int:
    """Fill the target from this position of a file on; returns how many bytes the file lacks. Raises OSError.

    A system may read 2 GB at once and no more.
    """
    file.seek(position)
    while target:
        count: int = file.readinto(target)  # type: ignore[attr-defined]
        if not count:
            break
        target = target[count:]
    return len(target)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can do that (Windows and some network drives cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def folder_within(root: Path, inner: PurePosixPath) -> Path:
    """Make the folder `root/inner` and return it with all links resolved; FileError if a link leads it out of `root`."""
    try:
        home = root.resolve()
        folder = (home / inner).resolve()
    except RuntimeError:  # before Python 3.13 a circle of links is one
        raise FileError(f"{root / inner} is a circle of links; choose another filename_prefix.") from None
    if not folder.is_relative_to(home):
        raise FileError(f"{root / inner} is a link that leads out of {root}, to {folder}; choose another filename_prefix.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def part_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` for files in the making; it is gone afterwards, with what was not moved out of it.

    Only a killed process leaves one behind, as `.<letters>.part`: never a half-written file under a final name.
    """
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=folder, ignore_cleanup_errors=True) as part:
        yield Path(part)


def publish(part: Path, path: Path) -> None:
    """Move a finished file, or folder of numbered pictures, to its final name; an older one there is replaced."""
    _sync(part)
    if not part.is_dir():
        os.replace(part, path)
        return
    if path.is_dir() and not path.is_symlink():
        strange = [entry.name for entry in os.scandir(path) if not re.fullmatch(r"[0-9]{5,}\.png", entry.name)]
        if strange:
            raise FileError(f"{path} is a folder that holds other things too, as {strange[0]}; choose another name.")
        aside = part.with_name("replaced")
        os.replace(path, aside)
        os.replace(part, path)
        shutil.rmtree(aside, ignore_errors=True)
        return
    os.replace(part, path)


def publish_numbered(parts: Mapping[str, Path], folder: Path, stem: str) -> str:
    """Move finished files to `{stem}_{number:05}` and their ending, and return that name without ending.

    The number is one above the largest that any file in `folder` has with this stem. Processes that publish at the same
    moment get different numbers: each claims its own with an exclusively created hidden file (hard links would do it in one
    step, but many shared and cloud drives have none). A claim that a killed process left only skips a number.
    """
    for part in parts.values():
        _sync(part)
    number = 0
    while True:
        number = max(number, _largest_number(folder, stem)) + 1
        name = f"{stem}_{number:05}"
        claim = folder / f".{name}.claim"
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        try:
            if _largest_number(folder, stem) < number:  # no one published it between our look and our claim
                for ending, part in parts.items():
                    os.replace(part, folder / (name + ending))
                return name
        finally:
            claim.unlink(missing_ok=True)


def _largest_number(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(stem) + r"_([0-9]{1,12})(?:\.|$)", re.IGNORECASE)
    found = (pattern.match(entry.name) for entry in os.scandir(folder))
    return max((int(match[1]) for match in found if match), default=0)


def _sync(part: Path) -> None:
    """Bring a file, or each file of a folder, onto the disk, so that not even a power cut leaves half of it."""
    for file in part.iterdir() if part.is_dir() else [part]:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
