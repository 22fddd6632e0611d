"""A progress bar that leaves nothing behind: in a notebook a line of HTML that vanishes, in a terminal tqdm.

tqdm's own notebook bar is a widget, and a saved notebook that is opened without its kernel shows an error in its place.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_BLINK = 0.1  # seconds


def progress(items: Iterable[Item], total: int, what: str, counts: Callable[[Item], bool] = lambda _: True) -> Iterator[Item]:
    """Pass the items on, and show how many of those that count have come; nothing for what is done in the blink of an eye."""
    shell = _kernel()
    if shell is None:
        with tqdm(total=total, desc=what, leave=False, disable=None, delay=_BLINK) as bar:
            for item in items:
                bar.update(counts(item))
                yield item
        return
    from IPython.display import HTML, display

    handle: Any = None
    began = shown = time.perf_counter()
    done = 0
    try:
        for item in items:
            done += counts(item)
            now = time.perf_counter()
            if now - shown > _BLINK:
                bar_html = HTML(_bar(what, done, total, now - began))
                handle = handle or display(HTML(""), display_id=True)
                handle.update(bar_html)
                shown = now
            yield item
    finally:
        if handle:
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
