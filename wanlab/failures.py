"""Errors that let go: what goes wrong in a run is raised again without the frames that hold its tensors.

IPython keeps three references to the last traceback, and every frame in it keeps its local variables: after an
out-of-memory error the memory would stay taken until the next cell fails.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """An exception whose frames were cleared, with its text, and whether it was the user's interrupt or a lack of memory."""

    error: BaseException
    text: str
    interrupt: bool
    out_of_memory: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Take what is worth telling from an exception that is being handled, and empty the frames it came through."""
        text = "".join(traceback.format_exception_only(error)).strip()
        seen: BaseException | None = error
        while seen is not None:
            traceback.clear_frames(seen.__traceback__)
            seen = seen.__cause__ or seen.__context__
        error.__context__ = error.__cause__ = None
        interrupt = isinstance(error, KeyboardInterrupt | GeneratorExit)  # or whoever followed the run stopped listening
        return cls(error.with_traceback(None), text, interrupt, _lacks_memory(error))

    def note(self, text: str) -> None:
        """Add a line to what the user sees."""
        if self.interrupt:
            self.error.args = (text,)
        else:
            self.error.add_note(text)


def _lacks_memory(error: BaseException) -> bool:
    """Whether this is Python's, CUDA's or torch's way to say that there is no memory left; torch's CPU has no type for it."""
    named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
