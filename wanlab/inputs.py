"""What runs start from beside noise: pictures, clips and latents, kept in the lab's `inputs` folder under their content's name.

A setting such as `image` holds the name of a kept input, "cat-<32 hex digits>.npz". So a run can be made again when the
picture's own file is gone or was changed, and a step's name knows the content and not where it lay. No torch.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wanlab.clip import read_frames
from wanlab.errors import FileError, SettingsError
from wanlab.files import CONTENT_NAME, write_whole


class Inputs:
    """The kept inputs in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, setting: str, value: Any) -> str:
        """Keep what somebody gave for this setting, and return its name; "" for nothing.

        `value` is a file (a picture, a clip, or an input kept before), a picture of Pillow, frames (h, w, 3) or
        (t, h, w, 3) uint8, a clip, or for `samples` latents (1, 16, t, h, w) or a run. Raises SettingsError or FileError.
        """
        if value is None or (isinstance(value, str) and not value):
            return ""
        if isinstance(value, str) and CONTENT_NAME.fullmatch(value) and (self.folder / value).exists():
            return value
        stem, array = _array(setting, value)
        kind = _kind(setting, array)
        if array.ndim == 3:
            array = array[None]
        content = io.BytesIO()
        parts: dict[str, Any] = {kind: array}
        np.savez_compressed(content, **parts)
        whole = hashlib.blake2b(repr((kind, array.shape)).encode() + array.tobytes(), digest_size=16).hexdigest()
        name = f"{re.sub(r'[^A-Za-z0-9_]+', '_', stem)[:40] or kind}-{whole}.npz"
        if not (self.folder / name).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / name, content.getvalue())
        return name

    def read(self, setting: str, name: str) -> tuple[Literal["frames", "latents"], np.ndarray]:
        """A kept input: frames (t, h, w, 3) uint8 or latents (1, 16, t, h, w) float32. Raises FileError."""
        file = self.folder / name
        if not CONTENT_NAME.fullmatch(name) or not file.exists():
            raise FileError(f"{setting} is {name!r}; {self.folder} has no such input. Give the picture or the clip itself.")
        try:
            with np.load(file, allow_pickle=False) as parts:
                kind: Any = parts.files[0]
                array = parts[kind]
        except (OSError, ValueError, KeyError, IndexError) as error:
            reason = str(error)
        else:
            return kind, array
        raise FileError(f"{setting} is {name!r}; {file} cannot be read: {reason}. Delete it and give the picture again.")


def _array(setting: str, value: Any) -> tuple[str, np.ndarray]:
    """A name for what was given, and its numbers."""
    if isinstance(value, str | Path):
        file = Path(value).expanduser()
        if not file.is_file():
            raise FileError(f"{setting} is {str(value)!r}; there is no such file.")
        return file.stem, read_frames(file)[0]
    if hasattr(value, "steps") and hasattr(value, "latents"):  # a run
        return f"run_{value.id}", value.latents(len(value.steps)).float().cpu().numpy()
    if hasattr(value, "frames") and hasattr(value, "settings"):  # a clip
        return "clip", np.asarray(value.frames)
    if hasattr(value, "detach"):
        return "latents", value.detach().float().cpu().numpy()
    if hasattr(value, "convert"):
        return "picture", np.asarray(value.convert("RGB"))
    return "frames", np.asarray(value)


def _kind(setting: str, array: np.ndarray) -> str:
    """Whether these numbers are frames or latents; SettingsError for anything else."""
    if array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] == 3 and array.size:
        return "frames"
    if setting == "samples" and array.dtype.kind == "f" and array.ndim == 5 and len(array) == 1:
        if not np.isfinite(array).all():
            raise SettingsError("samples are latents with numbers that are not finite; give others.")
        return "latents"
    latents = ", latents (1, 16, t, h, w), or a run" if setting == "samples" else ""
    raise SettingsError(
        f"{setting} is an array of {array.dtype} with the shape {array.shape}; it must be a file, a picture, frames "
        f"(t, h, w, 3) of uint8{latents}."
    )
