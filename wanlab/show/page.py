"""A page: a self-contained piece of HTML that a notebook shows, with its still picture and its sentence.

What travels is one element. Its plain children (a contact sheet, the table) are what remains where scripts are stripped:
on GitHub, in an untrusted notebook, in an e-mail. Where the script runs it attaches a shadow root to the element, which
hides those children by itself and keeps the notebook's styles and the player's apart.

Text gets into HTML through `esc` only (document.py), and all data through one attribute, as escaped JSON, so that no
label, prompt or title can end the script or open a tag.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from PIL import Image

from wanlab.document import esc, write_document
from wanlab.show.stills import as_data_url, as_png

SHARED = tuple(f"common/{name}" for name in ("words", "svg", "controls", "place"))  # what all faces begin with
_COMMENT = re.compile(r"^[ \t]*/\*[^*]*(?:\*(?!/)[^*]*)*\*/[ \t]*$", re.MULTILINE)  # with nothing else on its lines


@dataclass(frozen=True)
class Face:
    """What brings a page to life: a JavaScript class, made as `new Name(root, content, live)`, and the files it needs.

    `content` is what `build_page` was given; `live` is None in a page, and the kernel's end of the line in a widget
    (`show/live.py`). Scripts and styles are files of `show/faces/` without their endings ("player/stage"), in the order in
    which they are joined, after those that all faces share.
    """

    name: str
    scripts: tuple[str, ...]
    styles: tuple[str, ...]

    @property
    def css(self) -> str:
        """All styles as one text, for the face's shadow root."""
        return "\n".join(source(f"{name}.css") for name in ("common/base", *self.styles))

    @property
    def script(self) -> str:
        """The classes as one text."""
        return "\n".join(source(f"{name}.js") for name in (*SHARED, *self.scripts))


@dataclass(frozen=True, repr=False)
class Page:
    """Something to look at: the last expression of a cell shows it, `to_html` writes it as one offline file.

    `html` is a fragment that may be put into any HTML document, several in one too; `png` is its still picture, or empty, and
    `text` its sentence, for places that show nothing better.
    """

    html: str
    png: bytes
    text: str
    title: str
    content: Mapping[str, object] = field(default_factory=dict, compare=False)  # what its face was given

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        picture = {"image/png": base64.b64encode(self.png).decode()} if self.png else {}
        return {"text/html": self.html, **picture, "text/plain": self.text}

    def to_html(self, path: str | Path) -> Path:
        """Write one complete HTML file that needs neither the internet nor Python; the path is returned.

        Raises FileError if it cannot be written; a file that was there before is then still whole.
        """
        return write_document(path, self.title or self.text, self.html)

    save = to_html  # an older name


class Paged:
    """What shows itself as a page is also written as one offline file. To be mixed in."""

    def page(self) -> Page:
        """What is shown."""
        raise NotImplementedError

    def to_html(self, path: str | Path) -> Path:
        """Write `page()` as one complete HTML file that needs neither the internet nor Python; the path is returned.

        Raises FileError if it cannot be written.
        """
        return self.page().to_html(path)


def build_page(
    face: Face,
    content: Mapping[str, object],
    *,
    sheet: Image.Image,
    title: str,
    text: str,
    notes: Sequence[str] = (),
    tables: str = "",
    twin: str = "",
) -> Page:
    """A page whose face is given `content`, and whose still part is the sheet, the sentence, the notes and the tables.

    `twin` is the key of a widget that shows the same: the page hides while that one lives.
    """
    content = {**content, "title": title, "notes": list(notes), "css": face.css}
    payload = json.dumps(content, allow_nan=False)
    key = f' data-twin="{esc(twin)}"' if twin else ""
    parts = [
        f'<div class="wanlab mathjax_ignore" data-face="{esc(face.name)}"{key} data-wanlab="{esc(payload)}">',
        f"<p><strong>{esc(title)}</strong></p>" if title else "",
        f'<img src="{as_data_url(sheet)}" width="{sheet.width}" alt="{esc(text)}">',
        f"<p>{esc(' '.join([text, *notes]))}</p>",
        tables,
        f"<script>{_page_script(face)}</script>",
        "</div>",
    ]
    return Page("\n".join(part for part in parts if part), as_png(sheet), text, title, content)


@cache
def _page_script(face: Face) -> str:
    return f'\n(() => {{\n"use strict";\n{face.script}\n{source("common/start.js")}\nstart({face.name});\n}})();\n'


@cache
def source(name: str) -> str:
    """A script or style of `show/faces/`, as it travels."""
    return _lean(files("wanlab.show").joinpath("faces", name).read_text(encoding="utf-8"))


def _lean(source: str) -> str:
    """A script or style without indentation, empty lines and lines of comment: every page in a notebook carries it."""
    code = _COMMENT.sub("", source)
    return "\n".join(line for line in map(str.strip, code.splitlines()) if line and not line.startswith("// "))
