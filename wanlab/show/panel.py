"""The face of the control panel: a form, the plan beside it, and the run as it happens; and the page that stays of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from wanlab.document import Row, esc, table_html
from wanlab.show import form
from wanlab.show.page import Face, Page, build_page
from wanlab.show.player import PLAYER
from wanlab.show.stills import as_data_url

_SCRIPTS = (*PLAYER.scripts, *form.SCRIPTS, *(f"panel/{name}" for name in ("plan_drawing", "costs", "runs", "tools", "panel")))
PANEL = Face("Panel", _SCRIPTS, (*form.STYLES, "panel/panel"))


def panel_page(
    content: Mapping[str, object],
    *,
    pictures: Sequence[Image.Image],
    rows: Sequence[Row],
    code: str,
    text: str,
    twin: str = "",
) -> Page:
    """The panel to look at, without a kernel: the plan, the last clip, the settings that differ, and the code to go on with.

    `content` is what the face is told: plan, cost, code, and the last clip. `pictures` are its still ones, the first of which
    stands for it.
    """
    more = "".join(f'<p><img src="{as_data_url(picture)}" alt="The plan of the next run"></p>' for picture in pictures[1:])
    tables = more + table_html(rows) + f"<pre><code>{esc(code)}</code></pre>"
    content = {**content, "rows": [[name, *values] for name, values in rows]}
    return build_page(PANEL, content, sheet=pictures[0], title="Control panel", text=text, tables=tables, twin=twin)
