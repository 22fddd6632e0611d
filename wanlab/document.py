"""HTML in Python: text that is safe in it, short enough, tables, and whole documents that need nothing else.

Text gets into HTML through `esc` only.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from wanlab.files import write_whole

Row = tuple[str, Sequence[str]]

# Nothing may be loaded from anywhere: the browser itself then enforces that a saved page is complete.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
:root[data-theme=light] {{ color-scheme: light; }}
:root[data-theme=dark] {{ color-scheme: dark; }}
body {{ margin: 0; padding: 16px; background: Canvas; color: CanvasText; font: 14px/1.5 system-ui, sans-serif; }}
img {{ max-width: 100%; }}
th, td {{ padding: 2px 16px 2px 0; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Shown:
    """What a notebook shows as HTML (`_repr_html_`) is also written as one offline file. To be mixed in."""

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def to_html(self, path: str | Path) -> Path:
        """Write what a notebook shows as one complete HTML file that needs neither the internet nor Python.

        The path is returned. Raises FileError if it cannot be written.
        """
        return write_document(path, repr(self).partition("\n")[0], self._repr_html_())


def write_document(path: str | Path, title: str, body: str) -> Path:
    """Write a fragment of HTML as one complete file that may load nothing; `body` is HTML, `title` any text."""
    path = Path(path)
    write_whole(path, _DOCUMENT.format(policy=_POLICY, title=esc(title), body=body).encode())
    return path


def esc(text: object) -> str:
    """Text that is safe between tags and inside quoted attributes. Lone surrogates, which no file can hold, become "?".

    >>> esc('</script><b title="x">')
    '&lt;/script&gt;&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(writable(text))


def writable(value: object) -> str:
    """As a string that every file and every line to a browser can hold: half a surrogate pair becomes "?"."""
    return str(value).encode("utf-8", "replace").decode()


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def table_html(rows: Sequence[Row], columns: Sequence[str] = (), *, folded: str = "") -> str:
    """A table of named rows; `folded` puts it under a summary line of that text. No rows, no table."""
    if not rows:
        return ""
    head = "".join(f"<th>{esc(column)}</th>" for column in ("", *columns))
    cells = [(name, "".join(f"<td>{esc(value)}</td>" for value in values)) for name, values in rows]
    body = "".join(f"<tr><th>{esc(name)}</th>{values}</tr>" for name, values in cells)
    table = f"<table>{f'<thead><tr>{head}</tr></thead>' if columns else ''}<tbody>{body}</tbody></table>"
    return f"<details><summary>{esc(folded)}</summary>{table}</details>" if folded else table
