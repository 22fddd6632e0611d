"""Whose turn it is: a model works for one thread at a time. No torch.

Techniques change the inside of the transformer while a step is computed, so two runs at once on the same weights would
spoil each other. Runs of one thread may nest, as they always could; another thread is refused at once and told why, since
a cell that waits without a word looks like one that hangs. Who is willing to wait asks `free` first.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from wanlab.errors import BusyError


class Turn:
    """The turn of one model."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: int | None = None
        self._depth = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Within, the model is this thread's alone. Raises BusyError while it is another's."""
        here = threading.get_ident()
        with self._changed:
            if self._thread not in (None, here):
                raise BusyError(
                    "The model is at work on a run in another thread, such as the panel's; wait until that run is done, or "
                    "stop it."
                )
            self._thread, self._depth = here, self._depth + 1
        try:
            yield
        finally:  # a generator may be closed by another thread than the one that began it
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._thread = None
                    self._changed.notify_all()

    def free(self, seconds: float = 0.0) -> bool:
        """Whether this thread could take the turn now, or can within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread in (None, threading.get_ident()), seconds)
