"""What is noted of the passes of a model: how many compute, and each use of each block."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from wanlab.inputs import Inputs
from wanlab.model.condition import given
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.settings import Settings
from wanlab.techniques import Moment, predicted
from wanlab.techniques.passes import noted
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
SLG = {"slg.blocks": "3", "slg.start_percent": 0, "slg.end_percent": 1}


@pytest.mark.parametrize(
    ("changes", "calls", "uses"),
    [
        ({"cfg": 1.0}, 1, [1] * 8),
        ({"cfg": 3.0}, 2, [2] * 8),
        ({"cfg": 3.0, "batched_cfg": True}, 1, [1] * 8),
        ({"cfg": 3.0, **SLG}, 2, [2, 2, 2, 1, 2, 2, 2, 2]),
        ({"cfg": 1.0, "frames": 33, "context.frames": 17, "context.overlap": 4}, 2, [2] * 8),
    ],
)
def test_every_use_of_a_block_is_noted_once(
    model: Model, small: Make, tmp_path: Any, changes: dict[str, Any], calls: int, uses: list[int]
) -> None:
    settings = small(**changes)
    outline = Outline(Timeline(settings), model.facts)
    moment = Moment(0, torch.tensor(1000.0), settings, model, outline, {})
    latents = torch.randn(1, 16, settings.latent_frames, settings.height // 8, settings.width // 8)
    with torch.inference_mode(), noted(model.transformer, model.device) as passes:
        predicted(moment, latents, given(model, settings, Inputs(tmp_path)))
    assert passes.calls == calls
    assert [len(one) for one in passes.uses] == uses
    spans = sorted(span for one in passes.uses for span in one)
    assert all(began <= ended for began, ended in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))  # none within another
    assert passes.block_seconds() == pytest.approx([sum(ended - began for began, ended in one) for one in passes.uses])
    assert "forward" not in model.transformer.blocks[0].__dict__
