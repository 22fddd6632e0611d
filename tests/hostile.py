"""Five hundred texts that try to get out of their place, and what a parser finds in a page.

The texts are made of what breaks out of a place (tags, attributes, scripts, styles, JSON, entities, MathJax, tables of
matplotlib and pandas) and of what does harm once outside. All harm sets `window.broken` or opens a dialog, so that a browser
tells whether it happened.
"""

from __future__ import annotations

import itertools
import json
from html.parser import HTMLParser

HARM = "window.broken=1"

_ELEMENTS = [
    f"<script>{HARM}</script>",
    f"<img src=x onerror={HARM}>",
    f"<svg onload={HARM}>",
    f"<svg><script>{HARM}</script></svg>",
    f"<svg><animate onbegin={HARM} attributeName=x dur=1s>",
    f"<body onload={HARM}>",
    f"<input autofocus onfocus={HARM}>",
    f"<details open ontoggle={HARM}><summary>x</summary></details>",
    f"<video><source onerror={HARM}></video>",
    f"<audio src=x onerror={HARM}>",
    f"<iframe srcdoc='<script>parent.{HARM}</script>'></iframe>",
    f"<iframe src='javascript:parent.{HARM}'></iframe>",
    f"<object data='javascript:{HARM}'></object>",
    f"<embed src='javascript:{HARM}'>",
    f"<a href='javascript:{HARM}'>x</a>",
    f"<form action='javascript:{HARM}'><button autofocus onfocus={HARM}>x</button></form>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={HARM}>",
    f"<style>*{{animation:a 1s}}@keyframes a{{}}</style><b onanimationstart={HARM}>x</b>",
    f"<marquee onstart={HARM}>x</marquee>",
    f"<select autofocus onfocus={HARM}>",
    "<meta http-equiv=refresh content='0;url=data:text/html,x'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    f"<noscript><p title='</noscript><img src=x onerror={HARM}>'>",
    "<script>alert(1)</script>",
]
_WAYS_OUT = [
    "{}",
    '">{}',
    "'>{}",
    '"/>{}<x y="',
    "</script>{}",
    "</ScRiPt\n>{}<script>",
    "<!--<script>{}",
    "-->{}<!--",
    "</style>{}",
    "]]>{}",
    "</title>{}",
    "</textarea>{}",
    "</div></td></tr></table></details>{}",
    "</option></select>{}",
    "</text></svg>{}",
    "\x00{}",
    "a\u2028{}\u2029b",
    "\u202e{}\ufeff",
    "&#x3c;{}",
    "&lt;b&gt;{}&quot;",
]
_ALONE = [
    f'" onmouseover="{HARM}" x="',
    f"' onfocus='{HARM}' autofocus='",
    f"` onclick=`{HARM}",
    f'" style="x:expression({HARM})',
    f"javascript:{HARM}",
    "data:text/html,<script>parent.window.broken=1</script>",
    f"${{{HARM}}}",
    f"{{{{constructor.constructor('{HARM}')()}}}}",
    f"\\u003cscript\\u003e{HARM}\\u003c/script\\u003e",
    f"&lt;script&gt;{HARM}&lt;/script&gt;",
    f"&amp;lt;script&amp;gt;{HARM}",
    f"\\');{HARM};//",
    f'\\");{HARM};//',
    f'"}}]}};{HARM};//',
    '{"__proto__": {"broken": 1}}',
    "__proto__",
    "constructor",
    "$\\href{javascript:window.broken=1}{x}$",
    "$\\unclosed{",
    "$$\\frac{1}{$$",
    "a $ b $ c % d \\ e _ f ^ g & h # i ~ j",
    "%s %d {0} {} %(x)s",
    "../../etc/passwd",
    "C:\\nul\\aux.mp4",
    "-rf / --help",
    "=cmd|' /C calc'!A0",
    "\x1b[2J\x1b]0;x\x07",
    "\ud800 lone \udfff",
    "zero \x00 width \u200b \u202e turned",
    "\u0000",
    "\r\nContent-Type: text/html\r\n\r\n<script>window.broken=1</script>",
    "x" * 3000,
    "\u0301" * 300,
    "\U0001f469\u200d\U0001f52c" * 50,
    " ",
    "",
]
STRINGS = list(dict.fromkeys([*_ALONE, *(way.format(element) for element, way in itertools.product(_ELEMENTS, _WAYS_OUT))]))
FEW = STRINGS[::37]  # for where each costs time
# As they may be in a prompt: text that can be written as UTF-8, without NUL characters
PROMPTS = [text for text in STRINGS if "\0" not in text and text == text.encode("utf-8", "ignore").decode()]


class Reading(HTMLParser):
    """What a browser would find in a page: tags, attributes, and the texts outside and inside the script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, text: str) -> None:
        (self.scripts if self._in_script else self.texts).append(text)

    @property
    def content(self) -> dict:
        return json.loads(dict(self.attributes)["data-wanlab"])

    @property
    def skeleton(self) -> tuple[list[str], list[str], list[str]]:
        """What no text may change: the tags, the names of attributes, the scripts."""
        return self.tags, [name for name, _ in self.attributes], self.scripts

    @property
    def harmful(self) -> list[str]:
        """Handlers and addresses that run something."""
        runs = [f"{name}={value}" for name, value in self.attributes if name.startswith("on")]
        return runs + [
            value
            for name, value in self.attributes
            if value.strip().lower().startswith(("javascript:", "data:text"))
            and name in ("href", "src", "action", "data", "formaction", "srcdoc")
        ]
