"""FETA against the numbers of the authors' code, and its own laws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from wanlab.errors import ModelError
from wanlab.groups import FetaSettings
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.settings import Settings
from wanlab.techniques.feta import Feta, cross_frame_intensity, feta_scale
from wanlab.techniques.technique import Moment
from wanlab.timeline import Timeline

REFERENCE = json.loads((Path(__file__).parent / "reference" / "feta.json").read_text())
CASES = [pytest.param(case, id=case["label"]) for case in REFERENCE["cases"]]


def queries(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    shape = case["shape_B_L_N_C"]
    return torch.tensor(case["query"]).view(shape), torch.tensor(case["key"]).view(shape)


@pytest.mark.parametrize("case", CASES)
def test_intensity_and_scale_equal_the_authors(case: dict[str, Any]) -> None:
    query, key = queries(case)
    frames = case["num_frames_T"]
    assert float(cross_frame_intensity(query, key, frames)) == pytest.approx(case["cross_frame_intensity"], abs=1e-5)
    for weight, score in case["score_reference_nus"].items():
        scale = float(feta_scale(query, key, frames, float(weight)))
        low, high = case["bounds"][weight]
        assert scale == pytest.approx(score, abs=1e-5)
        assert low <= scale <= high + 1e-5


def test_tokens_lie_frame_after_frame() -> None:
    """Frames that are equal within themselves and unlike each other: the layout place after place would say 1.41."""
    case = next(case for case in REFERENCE["cases"] if "inside" in case["label"])
    wrong = case["score_kijai_mar2025_layout"]["2.0"]
    assert wrong > 1.3
    assert float(feta_scale(*queries(case), case["num_frames_T"], 2.0)) == pytest.approx(1)


@pytest.mark.parametrize("frames", [2, 5, 21])
@pytest.mark.parametrize("weight", [0.0, 2.0, 10.0])
def test_a_static_clip_gives_the_closed_form_and_flicker_gives_one(frames: int, weight: float) -> None:
    static = torch.randn(2, 1, 6, 3, 32).expand(2, frames, 6, 3, 32).flatten(1, 2)
    assert float(feta_scale(static, static, frames, weight)) == pytest.approx(1 + weight / frames, abs=1e-5)
    flicker = 100 * torch.eye(32)[:frames].view(1, frames, 1, 1, 32).expand(2, frames, 6, 3, 32).flatten(1, 2)
    assert float(feta_scale(flicker, flicker, frames, weight)) == 1


def test_a_single_frame_is_left_alone() -> None:
    tokens = torch.randn(1, 16, 4, 8)
    assert float(feta_scale(tokens, tokens, 1, 10.0)) == 1


def test_heads_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(2, 2, 15 * 4, 6, 8, generator=torch.Generator().manual_seed(0))
    whole = cross_frame_intensity(query, key, 5)
    monkeypatch.setattr("wanlab.techniques.feta._CHUNK", 1)
    assert torch.allclose(cross_frame_intensity(query, key, 5), whole, atol=1e-7)


@pytest.mark.parametrize("gate", REFERENCE["step_gate"], ids=lambda gate: f"{gate['start_percent']} to {gate['end_percent']}")
def test_it_acts_on_the_steps_that_the_percents_mean(gate: dict[str, Any]) -> None:
    settings = Settings(
        steps=gate["steps"], feta=FetaSettings(start_percent=gate["start_percent"], end_percent=gate["end_percent"])
    )
    assert [step for step in range(gate["steps"]) if settings.acting(step)] == gate["active_steps"]


@pytest.fixture
def feta(model: Model, small: Callable[..., Settings]) -> Feta:
    settings = small(**{"feta.weight": 8.0})
    moment = Moment(0, torch.tensor(900), settings, model, Outline(Timeline(settings), model.facts), {})
    return Feta(settings.feta, moment)


def test_two_branches_in_one_pass_get_the_factors_of_two_passes(model: Model, feta: Feta) -> None:
    latents = torch.randn(2, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    texts = torch.cat([model.encode("a red circle moves right on a blue background"), model.encode("")])
    with feta.attach(model.transformer):
        together = model.velocity(latents, torch.tensor(900), texts)
        apart = [model.velocity(latents[k : k + 1], torch.tensor(900), texts[k : k + 1]) for k in range(2)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)
    assert not torch.allclose(together, model.velocity(latents, torch.tensor(900), texts), atol=1e-3)
    blocks = len(model.transformer.blocks)
    assert len(feta.scales) == 4 * blocks
    assert feta.moment.notes == {"feta": pytest.approx(float(torch.stack(feta.scales).mean()))}


def test_a_step_without_calls_has_no_note(model: Model, feta: Feta) -> None:
    with feta.attach(model.transformer):
        pass
    assert feta.moment.notes == {}


@pytest.mark.parametrize(
    "blocks", [[], [SimpleNamespace(attn2=None)], [SimpleNamespace(attn1=SimpleNamespace(processor=None))]]
)
def test_a_transformer_without_wans_attention_is_refused(model: Model, feta: Feta, blocks: list[Any]) -> None:
    class Other(torch.nn.Module):
        config = model.transformer.config

    other = Other()
    other.blocks = blocks
    with pytest.raises(ModelError, match="feta finds blocks without diffusers' self-attention"), feta.attach(other):
        pass
    assert not other._forward_pre_hooks
