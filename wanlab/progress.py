"""A progress bar that leaves nothing behind: in a notebook a line of HTML that vanishes, in a terminal tqdm.

tqdm's own notebook bar is a widget, and a saved notebook that is opened without its kernel shows an error in its place.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass the items on, and show how many of them have come."""
    shell = _kernel()
    if shell is None:
        yield from tqdm(items, total=total, desc=what, leave=False, disable=None)
        return
    from IPython.display import HTML, display

    handle: Any = display(HTML(_bar(what, 0, total, 0.0)), display_id=True)
    began = shown = time.perf_counter()
    try:
        for done, item in enumerate(items, 1):
            now = time.perf_counter()
            if now - shown > 0.1:
                handle.update(HTML(_bar(what, done, total, now - began)))
                shown = now
            yield item
    finally:
        handle.update(HTML(""))


def _kernel() -> Any:
    """The notebook's shell, or None in a terminal."""
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell: Any = get_ipython()
        return shell if hasattr(shell, "kernel") else None
    return None


def _bar(what: str, done: int, total: int, seconds: float) -> str:
    left = f", {seconds / done * (total - done):.1f} s left" if done else ""
    return (
        f'<progress value="{done}" max="{total}" aria-label="{what}" style="width: 16em; vertical-align: middle"></progress> '
        f"{what}: step {done} of {total}{left}"
    )
