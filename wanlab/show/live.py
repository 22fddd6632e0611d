"""Faces that live: a page's face as a widget with a line to the kernel, and the page itself for when the kernel is gone.

A widget alone leaves "Error displaying widget" in a notebook that is opened the next day. So two outputs are shown: the
widget, and beneath it the page (`build_page` with `twin`), which hides as long as the widget lives (`start.js`, `live.js`).

Needs the extra lab. Messages from the browser are answered in the kernel's main thread, or in another one, as the version of
ipykernel has it: what takes long goes `aside`.
"""

from __future__ import annotations

import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anywidget
import traitlets

from wanlab import aside
from wanlab.errors import WanlabError
from wanlab.show.page import Face, Page, source


def module(face: Face) -> str:
    """The face as a JavaScript module for anywidget."""
    parts = [face.script, source("common/live.js"), f"export default {{ render: (context) => mount({face.name}, context) }};"]
    return "\n".join(parts)


class LiveFace(anywidget.AnyWidget):
    """A face with a line to the kernel. Classes set `_esm = module(FACE)` and answer what the browser tells in `receive`."""

    content = traitlets.Dict().tag(sync=True)
    key = traitlets.Unicode().tag(sync=True)

    def __init__(self, face: Face, content: Mapping[str, Any], **traits: Any) -> None:
        super().__init__(content={"title": "", "notes": [], **content, "css": face.css}, key=secrets.token_hex(8), **traits)
        self._kept: list[Any] = []
        self._turn = threading.Lock()
        self.on_msg(self._heard)

    def receive(self, message: dict[str, Any]) -> None:
        """What to do when the browser says something; an error is shown above the face."""

    def page(self) -> Page | None:
        """The page that stays when the kernel is gone, made with `twin=self.key`; None if there is nothing to keep."""
        return None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say something to the browser, in every view."""
        self.send(dict(message))

    def aside(self, work: Callable[[], None]) -> None:
        """Do what takes long in a thread of its own, one after the other; an error is shown above the face as well."""
        aside.start(partial(self._one_by_one, work), "wanlab face")

    def _one_by_one(self, work: Callable[[], None]) -> None:
        with self._turn:
            self._telling(work)

    def _heard(self, _: Any, message: Any, buffers: Any) -> None:
        self._telling(lambda: self.receive(message if isinstance(message, dict) else {}))

    def _telling(self, work: Callable[[], None]) -> None:
        """Do it, and tell the browser what went wrong, or that nothing did."""
        problem = ""
        try:
            work()
        except WanlabError as error:
            problem = str(error)
        except Exception as error:  # else nobody would see it: a notebook does not show errors of callbacks
            problem = "".join(traceback.format_exception_only(error)).strip()
        self.tell({"problem": problem})

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self._repr_mimebundle_()
        contents, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(contents, metadata=metadata, raw=True)
        page = self.page()
        if page is not None:
            self._kept.append(display(page, display_id=True))

    def keep(self) -> None:
        """Put the page of now in the place of those that lie beneath the views, for the notebook that is saved next."""
        page = self.page() if self._kept else None
        for handle in self._kept:
            handle.update(page)
