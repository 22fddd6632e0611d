"""The panel as a widget, and its page for when the kernel is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wanlab.show.live import LiveFace, module
from wanlab.show.page import Page
from wanlab.show.panel import PANEL


class PanelFace(LiveFace):
    """The panel in the browser: what is said there goes to `heard`; `page(twin)` makes what stays in the notebook.

    `state` is all that a view has to know which opens now.
    """

    _esm = module(PANEL)

    def __init__(
        self, content: Mapping[str, Any], heard: Callable[[dict[str, Any]], None], page: Callable[[str], Page]
    ) -> None:
        self._told, self._make_page = heard, page
        self._saying = threading.Lock()
        self.state: dict[str, Any] = {}
        super().__init__(PANEL, content)

    def say(self, *, by: object = None, mine: Sequence[str] = (), **parts: Any) -> None:
        """Tell all views of these parts of the state; may be called in any thread, and takes no time.

        `values` are added to those that were told before. The view `by`, which changed them itself, takes only those in `mine`.
        """
        with self._saying:
            values = {**self.state.get("values", {}), **parts.get("values", {})}
            self.state |= {**parts, "values": values}
            self.tell({"state": parts, "by": by, "mine": list(mine)})

    def receive(self, message: dict[str, Any]) -> None:
        """Tell a view that has just opened everything; give anything else to the panel."""
        if message.get("do") == "hello":
            with self._saying:
                self.tell({"state": self.state, "to": message.get("by")})
        else:
            self._told(message)

    def page(self) -> Page:
        """The panel as it is now, to look at."""
        return self._make_page(self.key)
