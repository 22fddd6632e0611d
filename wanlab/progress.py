"""A progress bar that leaves nothing behind: in a notebook a line of HTML that vanishes, in a terminal tqdm.

tqdm's own notebook bar is a widget, and a saved notebook that is opened without its kernel shows an error in its place.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from wanlab.document import esc

Item = TypeVar("Item")
Tell = Callable[[float, str], None]
_BLINK = 0.1  # seconds


def progress(items: Iterable[Item], total: int, what: str, counts: Callable[[Item], bool] = lambda _: True) -> Iterator[Item]:
    """Pass the items on, and show how many of those that count have come; nothing for what is done in the blink of an eye."""
    done = 0
    with bar(total, what) as tell:
        for item in items:
            done += counts(item)
            tell(done, f"{what}: step {done} of {total}")
            yield item


@contextlib.contextmanager
def bar(total: float, what: str) -> Iterator[Tell]:
    """Within, `tell(done, text)` shows how much of the total is done, the text, and the seconds that are left at this pace."""
    if kernel() is None:
        with tqdm(total=total, desc=what, leave=False, disable=None, delay=_BLINK) as terminal:
            yield lambda done, text: _forward(terminal, done)
        return
    from IPython.display import HTML, display

    handle: Any = None
    began = shown = time.perf_counter()

    def tell(done: float, text: str) -> None:
        nonlocal handle, shown
        now = time.perf_counter()
        if now - shown > _BLINK:
            handle = handle or display(HTML(""), display_id=True)
            handle.update(HTML(_line(what, done, total, text, now - began)))
            shown = now

    try:
        yield tell
    finally:
        if handle:
            handle.update(HTML(""))


def kernel() -> Any:
    """The notebook's shell, or None in a terminal."""
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell: Any = get_ipython()
        return shell if hasattr(shell, "kernel") else None
    return None


def _forward(terminal: Any, done: float) -> None:
    terminal.update(done - terminal.n)


def _line(what: str, done: float, total: float, text: str, seconds: float) -> str:
    left = f", {seconds / done * (total - done):.1f} s left" if done else ""
    return (
        f'<progress value="{done:.6g}" max="{total:.6g}" aria-label="{esc(what)}" '
        f'style="width: 16em; vertical-align: middle"></progress> {esc(text)}{left}'
    )
