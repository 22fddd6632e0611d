"""The trash of a log: runs that were deleted lie beside the others, under a name that readers pass over, until it is emptied.

Deleting and restoring is one rename each, so a run is always whole and in one place. Its steps stay in the store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from wanlab.errors import FileError

FOLDER = ".trash"


class Trash:
    """The deleted runs of the log in this folder."""

    def __init__(self, runs: Path) -> None:
        """Nothing is made before something is deleted."""
        self.runs, self.folder = runs, runs / FOLDER

    def ids(self) -> list[str]:
        """The ids of the runs in it, oldest first."""
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(self.folder) if name[0] != "." and name.isprintable())
        return []

    @property
    def bytes(self) -> int:
        """How much room they take on the disk."""
        total = 0
        for parent, _, files in os.walk(self.folder):
            for name in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_size
        return total

    def put(self, id: str) -> None:
        """Take a run out of the log; raises FileError if it is not there or cannot be moved."""
        self._move(self.runs / id, self.folder / id)

    def restore(self, id: str) -> None:
        """Put a run back into the log; raises FileError if it is not in the trash or cannot be moved."""
        self._move(self.folder / id, self.runs / id)

    def empty(self) -> int:
        """Remove for good what is in it; returns the bytes freed. Raises FileError for what cannot be removed."""
        before, reason = self.bytes, ""
        for id in self.ids():
            try:
                shutil.rmtree(self.folder / id)
            except FileNotFoundError:  # somebody else empties it too
                continue
            except OSError as error:
                reason = f"{id}: {error.strerror or error}"
        if reason:
            raise FileError(f"{self.folder} cannot be emptied: {reason}.")
        return before

    def _move(self, source: Path, target: Path) -> None:
        reason = ""
        try:
            target.parent.mkdir(exist_ok=True)
            if target.exists():  # renaming onto an empty folder would replace it
                reason = f"{target} is there already"
            else:
                os.rename(source, target)
        except FileNotFoundError:
            reason = f"it is not in {source.parent}"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise FileError(f"Run {source.name} cannot be moved to {target.parent}: {reason}.")
