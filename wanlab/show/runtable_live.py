"""The table of runs as a widget: what the browser asks goes to a function, what it returns goes back. Needs the extra lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wanlab.show.live import LiveFace, module
from wanlab.show.page import Page
from wanlab.show.runtable import RUN_TABLE

_CHANGES = ("annotate", "delete", "restore")  # what the page beneath shows otherwise afterwards
_LONG = ("compare",)  # clips are decoded for it
Answer = Callable[[dict[str, Any]], Mapping[str, Any] | None]


class LiveRunTable(LiveFace):
    """The table with a line to the kernel; `still` makes the page that remains without it, from the widget's key."""

    _esm = module(RUN_TABLE)

    def __init__(self, content: Mapping[str, Any], answer: Answer, still: Callable[[str], Page]) -> None:
        super().__init__(RUN_TABLE, {**content, "title": "Runs"})
        self._answer, self._still = answer, still

    def receive(self, message: dict[str, Any]) -> None:
        """Answer the browser, where that takes long from a thread of its own."""
        if message.get("ask") in _LONG:
            self.aside(lambda: self._reply(message))
        else:
            self._reply(message)

    def _reply(self, message: dict[str, Any]) -> None:
        """The browser is told in any case that an answer came, so that it waits for none."""
        answer: Mapping[str, Any] = {}
        try:
            answer = self._answer(message) or {}
        finally:
            self.tell({"answered": message.get("ask"), **answer})
        if message.get("ask") in _CHANGES:
            self.keep()

    def page(self) -> Page:
        """The table as it was when it was shown."""
        return self._still(self.key)
