"""Formulas of guidance against diffusers' guiders and the authors' formulas, and against their own laws."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import Tensor

from wanlab.errors import ModelError, SettingsError
from wanlab.groups import NagSettings, SlgSettings
from wanlab.guidance import cfg
from wanlab.latents import clean
from wanlab.model.model import Model
from wanlab.outline import TEXT_TOKENS, Outline
from wanlab.settings import Settings
from wanlab.techniques.apg import Apg, limited, projected
from wanlab.techniques.cfg_zero import CfgZero, fitted
from wanlab.techniques.nag import Nag, _Guided, normalized
from wanlab.techniques.slg import Slg
from wanlab.techniques.technique import BOTH, GUIDED, NEGATIVE, POSITIVE, Ask, Moment, Technique
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
PROMPT = "a red circle moves right on a blue background"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predictions(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A positive and a negative velocity of two clips, alike as real ones are."""
    positive = noise(2, 16, 3, 4, 4, seed=seed)
    return positive, 0.7 * positive + 0.3 * noise(2, 16, 3, 4, 4, seed=seed + 100)


def moment(model: Model, settings: Settings, index: int = 0, memory: dict[str, Any] | None = None) -> Moment:
    outline = Outline(Timeline(settings), model.facts)
    return Moment(index, torch.tensor(900), settings.at(index), model, outline, {} if memory is None else memory)


def velocity(technique: Technique, branch: str, text: str = PROMPT, latents: Tensor | None = None) -> Tensor:
    """One call of the tiny model for a branch, with the technique attached."""
    now = technique.moment
    latents = noise(1, 16, 2, 4, 4) if latents is None else latents
    with technique.attach(now.model.transformer):
        now.ask = Ask(branch, (0, 1))
        return now.model.velocity(latents, now.timestep, now.model.encode(text))


def test_plain_guidance_goes_from_the_negative_through_the_positive_prediction() -> None:
    positive, negative = predictions()
    assert torch.equal(cfg(positive, negative, 0.0), negative)
    assert torch.allclose(cfg(positive, negative, 1.0), positive, atol=1e-6)
    assert torch.equal(cfg(positive, negative, 5.0), negative + 5.0 * (positive - negative))


# CFG-Zero*


@pytest.mark.parametrize("scale", [1.5, 5.0])
def test_cfg_zero_equals_diffusers(scale: float) -> None:
    guider = ClassifierFreeZeroStarGuidance(guidance_scale=scale, zero_init_steps=0)
    guider.set_state(step=3, num_inference_steps=10, timestep=torch.tensor(500))
    assert torch.allclose(fitted(*predictions(), scale), guider.forward(*predictions()).pred, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, -2.0, 50.0])
def test_cfg_zero_is_the_same_however_large_the_negative_prediction_is(factor: float) -> None:
    positive, negative = predictions()
    assert torch.allclose(fitted(positive, factor * negative, 5.0), fitted(positive, negative, 5.0), atol=1e-5)


def test_cfg_zero_leaves_the_nearest_negative_prediction() -> None:
    """At scale 0 only the fitted negative prediction is left: its error stands at right angles to it."""
    positive, negative = predictions()
    nearest = fitted(positive, negative, 0.0)
    assert torch.allclose(((positive - nearest) * negative).sum((1, 2, 3, 4)), torch.zeros(2), atol=1e-3)
    assert torch.equal(fitted(positive, torch.zeros_like(positive), 3.0), 3.0 * positive)
    each = [fitted(positive[k : k + 1], negative[k : k + 1], 3.0) for k in range(2)]
    assert torch.allclose(fitted(positive, negative, 3.0), torch.cat(each), atol=1e-6)


def test_cfg_zero_asks_nobody_on_its_zero_steps_and_is_out_of_the_way_afterwards(model: Model, small: Make) -> None:
    settings = small(**{"cfg_zero.zero_steps": 2})
    latents, asked = noise(1, 16, 2, 4, 4), Ask(GUIDED, (0, 1))

    def predict(ask: Ask, latents: Tensor) -> Tensor:
        assert ask.branch != GUIDED
        return latents

    for index in (0, 1):
        around = CfgZero(settings.cfg_zero, moment(model, settings, index)).around(predict)
        assert torch.equal(around(asked, latents), torch.zeros_like(latents))
        assert around(asked.of(POSITIVE), latents) is latents
    assert CfgZero(settings.cfg_zero, moment(model, settings, 2)).around(predict) is predict


# APG


def apg(
    model: Model, settings: Settings, index: int, memory: dict[str, Any], latents: Tensor, pair: tuple[Tensor, Tensor]
) -> Tensor:
    technique = Apg(settings.apg, moment(model, settings, index, memory))
    technique.around(lambda ask, latents: latents)(Ask(GUIDED, (0, 1, 2)), latents)
    return technique.combine(*pair)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize("threshold", [None, 5.0])
def test_apg_equals_diffusers_on_the_clean_clips(
    model: Model, small: Make, eta: float, momentum: float, threshold: float | None
) -> None:
    settings = small(cfg=6.0, **{"apg.eta": eta, "apg.momentum": momentum, "apg.norm_threshold": threshold})
    guider = AdaptiveProjectedGuidance(
        guidance_scale=5.0, use_original_formulation=True, eta=eta, adaptive_projected_guidance_rescale=threshold or 0.0
    )
    guider.momentum_buffer = MomentumBuffer(momentum)
    memory: dict[str, Any] = {}
    for index in range(3):
        sigma, latents, pair = float(settings.grid.sigmas[index]), noise(2, 16, 3, 4, 4, seed=index), predictions(index)
        ours = clean(latents, apg(model, settings, index, memory, latents, pair), sigma)
        theirs = guider.forward(*(clean(latents, one, sigma) for one in pair)).pred
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_apg_with_eta_one_is_plain_guidance_and_with_eta_zero_adds_nothing_along_the_clip(model: Model, small: Make) -> None:
    latents, pair = noise(2, 16, 3, 4, 4), predictions()
    plain = small(cfg=6.0, **{"apg.eta": 1.0})
    assert torch.allclose(apg(model, plain, 2, {}, latents, pair), cfg(*pair, 6.0), atol=1e-4)
    settings = small(cfg=6.0, apg=True)
    sigma = float(settings.grid.sigmas[2])
    before, after = (clean(latents, one, sigma) for one in (pair[0], apg(model, settings, 2, {}, latents, pair)))
    cosine = torch.cosine_similarity((after - before).flatten(1), before.flatten(1))
    assert torch.allclose(cosine, torch.zeros(2), atol=1e-5)


def test_the_parts_of_apg_keep_their_laws() -> None:
    difference, prediction = predictions()
    assert torch.equal(limited(difference, None), difference)
    assert torch.equal(limited(difference, 1e6), difference)
    assert torch.allclose(limited(difference, 3.0).flatten(1).norm(dim=1), torch.full((2,), 3.0))
    parts = projected(difference, prediction, 0.0), difference - projected(difference, prediction, 0.0)
    assert torch.allclose((parts[0] * parts[1]).sum((1, 2, 3, 4)), torch.zeros(2), atol=1e-3)
    assert torch.allclose(projected(difference, 7 * prediction, 0.3), projected(difference, prediction, 0.3), atol=1e-5)
    assert torch.equal(limited(torch.zeros(1, 4), 1.0), torch.zeros(1, 4))


def test_apg_forgets_where_a_stretch_of_steps_begins(model: Model, small: Make) -> None:
    settings = small(**{"apg.momentum": 0.9, "apg.start_percent": 0.3})
    latents, pair, memory = noise(2, 16, 3, 4, 4), predictions(), {"apg": (0, {"difference": noise(2, 16, 3, 4, 4, seed=9)})}
    assert torch.equal(apg(model, settings, 2, memory, latents, pair), apg(model, settings, 2, {}, latents, pair))
    assert not torch.equal(apg(model, settings, 3, memory, latents, pair), apg(model, settings, 3, {}, latents, pair))


# NAG


def test_nag_is_the_formula_of_the_authors_code() -> None:
    positive, negative = (noise(2, 40, 32, seed=seed) for seed in (0, 1))
    guided = positive * 11 - negative * 10
    ratio = torch.norm(guided, p=1, dim=-1, keepdim=True) / torch.norm(positive, p=1, dim=-1, keepdim=True)
    expected = torch.where(ratio > 2.5, guided / ratio * 2.5, guided) * 0.25 + positive * 0.75
    assert torch.allclose(normalized(positive, negative, 11, 2.5, 0.25), expected, atol=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_nag_bounds_the_norm_of_every_token(tau: float, alpha: float) -> None:
    positive, negative = (noise(2, 40, 32, seed=seed) for seed in (0, 1))
    before, after = (part.abs().sum(-1) for part in (positive, normalized(positive, negative, 50, tau, alpha)))
    assert (after <= (alpha * tau + 1 - alpha) * before * (1 + 1e-5)).all()
    if alpha == 1:
        assert torch.allclose(after, tau * before, rtol=1e-4)
    assert torch.equal(normalized(0 * positive, 0 * negative, 11, tau, alpha), 0 * positive)


def test_nag_of_equal_prompts_is_plain_attention() -> None:
    positive = noise(2, 40, 32)
    assert torch.allclose(normalized(positive, positive, 11, 2.5, 0.25), positive, atol=1e-5)


def test_nag_changes_the_positive_branch_alone_and_scale_one_nothing(model: Model, small: Make) -> None:
    latents, settings = noise(1, 16, 2, 4, 4), small(nag=True, negative_prompt="a blue square")
    plain = model.velocity(latents, torch.tensor(900), model.encode(PROMPT))
    nag = Nag(settings.nag, moment(model, settings))
    assert not torch.allclose(velocity(nag, POSITIVE), plain, atol=1e-3)
    assert torch.equal(velocity(nag, NEGATIVE), plain)
    none = Nag(NagSettings(scale=1.0), moment(model, settings))
    assert torch.equal(velocity(none, POSITIVE), plain)
    same = Nag(settings.nag, moment(model, settings.but({"negative_prompt": PROMPT})))
    assert torch.allclose(velocity(same, POSITIVE), plain, atol=1e-4)
    assert torch.equal(model.velocity(latents, torch.tensor(900), model.encode(PROMPT)), plain)


def test_nag_adds_what_is_read_from_an_image_untouched(model: Model, small: Make) -> None:
    torch.manual_seed(0)
    attention = WanAttention(
        32, heads=2, dim_head=16, added_kv_proj_dim=32, cross_attention_dim_head=16, processor=WanAttnProcessor()
    )
    queries, image, texts = noise(1, 6, 32), noise(1, 5, 32, seed=1), noise(2, TEXT_TOKENS, 32, seed=2)
    reading = copy.deepcopy(attention)
    reading.to_out[0] = torch.nn.Identity()
    whole = reading(queries, torch.cat([image, texts[:1]], 1))
    reading.add_k_proj = None
    positive, negative = (reading(queries, text[None]) for text in texts)
    expected = attention.to_out[0](normalized(positive, negative, 11, 2.5, 0.25) + (whole - positive))

    settings = small(nag=True)
    nag = Nag(settings.nag, moment(model, settings))
    nag.moment.ask, nag.__dict__["negative"] = Ask(POSITIVE, (0,)), texts[1:]
    attention.set_processor(_Guided(attention.processor, nag))
    assert torch.allclose(attention(queries, torch.cat([image, texts[:1]], 1)), expected, atol=1e-5)


def test_nag_embeds_the_negative_prompt_once_a_step(model: Model, small: Make) -> None:
    settings, seen = small(nag=True), []
    nag = Nag(settings.nag, moment(model, settings))
    hook = model.transformer.condition_embedder.text_embedder.register_forward_hook(lambda *_: seen.append(1))
    try:
        for _ in range(2):
            velocity(nag, POSITIVE)
    finally:
        hook.remove()
    assert len(seen) == 3  # the prompt in each call, the negative prompt once


def test_nag_refuses_a_transformer_without_wans_attention(model: Model, small: Make) -> None:
    nag = Nag(NagSettings(), moment(model, small(nag=True)))
    with pytest.raises(ModelError, match="nag finds blocks without"), nag.attach(SimpleNamespace(blocks=[])):
        pass


# SLG


@pytest.mark.parametrize("blocks", ["3", "0, 5", "0,1,2,3,4,5,6"])
def test_slg_is_a_model_without_these_blocks_in_the_negative_branch(model: Model, small: Make, blocks: str) -> None:
    latents, settings = noise(1, 16, 2, 4, 4), small(**{"slg.blocks": blocks})
    slg = Slg(settings.slg, moment(model, settings))
    lesser = copy.copy(model.transformer)
    lesser._modules = dict(model.transformer._modules)
    kept = [block for k, block in enumerate(model.transformer.blocks) if k not in settings.slg.skipped]
    lesser._modules["blocks"] = torch.nn.ModuleList(kept)
    with torch.inference_mode():
        expected = lesser(latents, torch.tensor([900]), model.encode(PROMPT), return_dict=False)[0]
    assert torch.equal(velocity(slg, NEGATIVE), expected)
    for branch in (POSITIVE, BOTH):
        assert torch.equal(velocity(slg, branch), model.velocity(latents, torch.tensor(900), model.encode(PROMPT)))
    assert not any("forward" in block.__dict__ for block in model.transformer.blocks)


def test_slg_refuses_a_block_that_the_model_does_not_have(model: Model, small: Make) -> None:
    SlgSettings(blocks="0, 7").check(8)
    sentence = "slg.blocks is '7, 9, 30'; this model has the blocks 0 to 7."
    with pytest.raises(SettingsError) as refused:
        SlgSettings(blocks="7, 9, 30").check(8)
    assert str(refused.value) == sentence
    slg = Slg(SlgSettings(blocks="8"), moment(model, small()))
    with pytest.raises(SettingsError), slg.attach(model.transformer):
        pass
