"""Clips: frames that can be written as mp4, webm, gif, webp or pictures, and read back with all their settings.

A file explains itself: the settings that made it are JSON in the comment of the file, and once more, for people and
other tools, in a side-car beside it (`circle.mp4.json`). Everything is written into a hidden folder first and renamed
when it is whole.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wanlab.containers import MOST_TEXT, WRITERS, Picture, read_comment, read_pictures
from wanlab.errors import FileError, SettingsError
from wanlab.files import folder_within, part_folder, publish, publish_numbered, safe_prefix
from wanlab.settings import ClipSettings, Settings

Frames = npt.NDArray[np.uint8]  # (t, h, w, 3) RGB


@dataclass(frozen=True, eq=False, repr=False)
class Clip:
    """Finished frames, (t, h, w, 3) uint8, with how to write them and what is known about how they were made.

    `metadata` is any JSON: the run's settings by dotted name, model, versions. Raises ValueError for anything else.

    >>> Clip(np.zeros((17, 64, 64, 3), np.uint8))
    Clip(17 frames of 64 x 64, 1.06 s at 16 frames/s)
    """

    frames: Frames
    settings: ClipSettings = field(default_factory=ClipSettings)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check frames and metadata."""
        found = f"{getattr(self.frames, 'dtype', type(self.frames).__name__)} {getattr(self.frames, 'shape', '')}".strip()
        if not isinstance(self.frames, np.ndarray) or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are {found}; they must be a numpy array of uint8, values 0 to 255.")
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.size == 0:
            raise ValueError(f"frames are {found}; their shape must be (t, h, w, 3), with at least one pixel.")
        _to_json(self.metadata)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.settings.frame_rate

    @property
    def seconds(self) -> float:
        """How long it plays, once and forwards."""
        return len(self) / self.frame_rate

    def __len__(self) -> int:
        """How many frames."""
        return len(self.frames)

    def __repr__(self) -> str:
        """Frames, size and length."""
        t, h, w, _ = self.frames.shape
        return f"Clip({t} frame{'s' * (t > 1)} of {w} x {h}, {self.seconds:.2f} s at {self.frame_rate:g} frames/s)"

    def save(
        self,
        path: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        **clip_settings: Any,
    ) -> Path:
        """Write the clip and its side-car; return where it is. `clip_settings` override those of the clip for this file.

        With `path`: exactly there; its ending says the format, and an older file is replaced. Else as `{prefix}_00001.mp4`
        in `folder` (the current one), with the next free number, also when many processes save at once.

        mp4 (h264, crf 18) and webm (VP9, crf 20): odd sizes are padded by their last row or column; `loop_count` writes the
        clip that many extra times. gif: frames last multiples of 10 ms; at 16 frames/s 60, 60, 70 and 60 ms in turn,
        62.5 on average; more than 50 frames/s are refused. webp: lossless. gif and webp store `loop_count`, 0 for ever.
        png: lossless, `path` is a folder of 00001.png, 00002.png ...; one that holds other files is not replaced.

        Raises SettingsError for settings or endings that are wrong, FileError for what cannot be written; then nothing is
        left under the final name.
        """
        if path is not None and folder is not None:
            raise SettingsError("save() takes a path or a folder, not both: a path says where, a folder gets a numbered name.")
        target = None if path is None else Path(path)
        settings = _chosen(self.settings, target, clip_settings)
        used = {f"clip.{name}": value for name, value in settings.model_dump().items()}
        metadata = _to_json({**self.metadata, **used})

        from av.error import FFmpegError

        try:
            if target:
                return self._save_as(target, settings, metadata)
            return self._save_numbered(Path(folder or "."), settings, metadata)
        except FileError:
            raise
        except (OSError, ValueError, FFmpegError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        place = target or Path(folder or ".") / settings.filename_prefix
        raise FileError(f"{place} cannot be written: {reason}. Try another folder or format; the clip is still in memory.")

    def _save_as(self, path: Path, settings: ClipSettings, metadata: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_folder(path.parent) as part:
            written, sidecar = self._write(part, settings, metadata)
            publish(written, path)
            publish(sidecar, _sidecar(path))
        return path

    def _save_numbered(self, root: Path, settings: ClipSettings, metadata: str) -> Path:
        prefix = safe_prefix(settings.filename_prefix)
        folder = folder_within(root, prefix.parent)
        with part_folder(folder) as part:
            written, sidecar = self._write(part, settings, metadata)
            name = publish_numbered({written.suffix: written, f".{settings.format}.json": sidecar}, folder, prefix.name)
        return root / prefix.parent / (name + written.suffix)

    def _write(self, part: Path, settings: ClipSettings, metadata: str) -> tuple[Path, Path]:
        """The clip and its side-car, not yet under their names."""
        written = part / ("clip" if settings.format == "png" else f"clip.{settings.format}")
        WRITERS[settings.format](written, _in_order(self.frames, settings), settings, metadata)
        sidecar = part / "clip.json"
        sidecar.write_text(json.dumps(json.loads(metadata), ensure_ascii=False, indent=1), "utf-8")
        return written, sidecar


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a clip, a folder of pictures, its first picture, or a side-car; FileError if there are none.

    They are read from the file itself, so they survive without the side-car; a side-car is only read when `path` names it.
    """
    path = Path(path)
    with _reading(path):
        if path.suffix.lower() == ".json":
            with path.open("rb") as file:
                return _from_json(file.read(2 * MOST_TEXT))
        comment = read_comment(path)
        if comment:
            return _from_json(comment)
    way_out = f" Its side-car has them: read_settings({str(_sidecar(path))!r})." if _sidecar(path).exists() else ""
    raise FileError(f"{path} holds no settings: it was not written by wanlab, or another program removed them.{way_out}")


def read_frames(path: str | os.PathLike[str]) -> tuple[Frames, float]:
    """The frames, (t, h, w, 3) uint8, and frames per second of any format that save() writes.

    As they are in the file: mp4 and webm with their padding and repeats, gif with its 255 colours. A picture without
    settings has no frame rate: NaN. A gif or webm that was cut off gives the frames that are left; other damage that shows,
    a missing file, and more than 4 GiB of frames raise FileError.
    """
    path = Path(path)
    with _reading(path):
        pictures, seconds = read_pictures(path)
        if pictures:
            return np.stack(pictures), _frame_rate(path, len(pictures), seconds)
    raise FileError(f"{path} holds no pictures.")


def contact_sheet(frames: Frames, columns: int = 8, height: int = 96) -> bytes:
    """All frames in rows of `columns`, each `height` pixels high, as a PNG."""
    from PIL import Image

    t, h, w, _ = frames.shape
    columns, width = min(columns, t), max(1, round(w * height / h))
    sheet = Image.new("RGB", (columns * width, math.ceil(t / columns) * height), "white")
    for k, frame in enumerate(frames):
        still = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(still, (k % columns * width, k // columns * height))
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=2)  # a third of the time of the default, little larger
    return out.getvalue()


def _chosen(settings: ClipSettings, path: Path | None, changes: Mapping[str, Any]) -> ClipSettings:
    """The settings for this file: those of the clip, the changes, and the format that the ending of the path says."""
    named = {f"clip.{name}": value for name, value in changes.items()}
    ending = path.suffix.lower().removeprefix(".") if path else ""
    if ending in WRITERS:
        named.setdefault("clip.format", ending)
    chosen = Settings(clip=settings).but(named).clip
    if path and ending != chosen.format:
        if ending in WRITERS:
            raise SettingsError(
                f"clip.format is {chosen.format}, but the file is to be {path.name}; "
                f"leave format out, or change the ending to .{chosen.format}."
            )
        if chosen.format != "png":
            endings = ", ".join(f".{name}" for name in WRITERS)
            raise SettingsError(f"{path.name} does not end in a format; it must be one of {endings}, for example circle.mp4.")
    return chosen


def _in_order(frames: Frames, settings: ClipSettings) -> list[Picture]:
    """Views of the frames, in the order of the file."""
    pictures = list(frames)
    if settings.pingpong:
        pictures += pictures[-2:0:-1]
    if settings.format in ("mp4", "webm"):
        pictures *= 1 + settings.loop_count
    return pictures


def _sidecar(path: Path) -> Path:
    """`circle.mp4.json`, for a folder of pictures `circle.png.json`: never the `circle.json` that someone else may keep."""
    ending = "" if path.suffix.lower().removeprefix(".") in WRITERS else ".png"
    return path.with_name(f"{path.name}{ending}.json")


def _to_json(values: Mapping[str, Any]) -> str:
    """JSON in plain ASCII, which every container keeps as it is."""
    try:
        text = json.dumps(dict(values), allow_nan=False)
        json.dumps(dict(values), ensure_ascii=False).encode("utf-8")
        reason = f"it has {len(text)} characters, and {MOST_TEXT} are the most"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    else:
        if len(text) <= MOST_TEXT:
            return text
    raise ValueError(f"metadata cannot be written as JSON: {reason}. Use text, finite numbers, None, lists and dicts.")


def _from_json(content: bytes) -> dict[str, Any]:
    if len(content) > MOST_TEXT:
        raise ValueError(f"its settings are longer than {MOST_TEXT} bytes")
    try:
        values = json.loads(content.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its comment is no JSON that wanlab writes ({error})") from None
    if not isinstance(values, dict):
        raise ValueError("its comment is JSON, but no settings")
    return values


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"the number {number[:20]} is not finite")
    return float(number)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever the decoders raise for damaged bytes, which can be anything, into a FileError."""
    try:
        yield
        return
    except FileError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise FileError(f"{path} cannot be read: {reason}. It is missing, damaged, or no clip.") from None


def _frame_rate(path: Path, count: int, seconds: float) -> float:
    """The rate in the settings if the file plays that long, to the 10 ms steps of a gif; else the measured one."""
    told: Any = None
    with contextlib.suppress(FileError):
        told = read_settings(path).get("clip.frame_rate")
    fits = isinstance(told, int | float) and told > 0 and (math.isnan(seconds) or abs(count / told - seconds) < 0.006)
    if fits:
        return float(told)
    return count / seconds if seconds else math.nan
