"""The panel as a page: what is left of it in a notebook whose kernel is gone, and in a file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from wanlab.document import Row
from wanlab.plans import PlannedRun
from wanlab.show.page import Page
from wanlab.show.panel import panel_page
from wanlab.show.plan import draw_into
from wanlab.show.stills import contact_sheet, spread

_SHOWN = 6  # frames of the clip
_LARGEST = 2_000_000  # letters of a clip that is written into the notebook anew whenever the settings have come to rest


def plan_picture(run: PlannedRun) -> Image.Image:
    """The drawing of a plan as a picture. Not by pyplot, whose figures belong to the main thread."""
    from matplotlib.figure import Figure

    drawing = io.BytesIO()
    figure = Figure(layout="constrained", facecolor="none")
    draw_into(figure, [run])
    figure.savefig(drawing, format="png", dpi=80)
    return Image.open(drawing)


def panel_still(
    state: Mapping[str, Any],
    *,
    plan: PlannedRun | None,
    frames: np.ndarray | None,
    rows: Sequence[Row],
    code: str,
    twin: str,
) -> Page:
    """The page of a panel in this state: its plan, the last clip's frames, the settings that differ, and the code.

    In a page that stands beneath a widget, whose key is `twin`, a large clip is a row of stills.
    """
    state = {name: state.get(name) for name in ("plan", "cost", "code", "clip")}
    if twin and len(json.dumps(state["clip"])) > _LARGEST:
        state["clip"] = {**state["clip"], "content": None}
    pictures = [] if frames is None else [contact_sheet([[frames[i] for i in spread(len(frames), _SHOWN)]])]
    pictures += [] if plan is None else [plan_picture(plan)]
    return panel_page(
        {"state": state},
        pictures=pictures or [Image.new("RGBA", (1, 1))],
        rows=rows,
        code=code,
        text=f"A control panel of wanlab, as it was left: {code}",
        twin=twin,
    )
