"""RIFLEx, Mobius and FreeInit: what they change, and that they change nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from diffusers.pipelines.free_init_utils import FreeInitMixin
from torch import Tensor

from wanlab import latents
from wanlab.errors import SettingsError
from wanlab.groups import FreeInitSettings, RiflexSettings
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.settings import Settings
from wanlab.techniques.freeinit import exchanged, fresh_noise, low_pass, mixed, noised
from wanlab.techniques.loop import Loop
from wanlab.techniques.riflex import Riflex, frequency
from wanlab.techniques.technique import GUIDED, POSITIVE, Ask, Moment
from wanlab.timeline import Timeline

Make = Callable[..., Settings]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moment(model: Model, settings: Settings, index: int = 0) -> Moment:
    return Moment(index, torch.tensor(900), settings, model, Outline(Timeline(settings), model.facts), {})


# RIFLEx


@pytest.mark.parametrize("frames", [2, 11, 21])
@pytest.mark.parametrize("index", [1, 2, 6])
def test_riflex_changes_one_frequency_to_less_than_a_turn(model: Model, small: Make, frames: int, index: int) -> None:
    """The oracle is the authors' riflex_utils.py with numpy, for the six temporal frequencies of the tiny model."""
    settings = small(**{"riflex.index": index})
    rope, grid = model.transformer.rope, torch.zeros(1, 16, frames, 4, 6)
    tables = rope.freqs_cos, rope.freqs_sin
    values = [table.clone() for table in tables]
    plain = rope(grid)
    with Riflex(settings.riflex, moment(model, settings)).attach(model.transformer):
        changed = rope(grid)
    frequencies = 10000.0 ** -(np.arange(6) / 6)
    frequencies[index - 1] = 0.9 * 2 * np.pi / frames
    angles = np.outer(np.arange(frames), frequencies).repeat(2, axis=1).repeat(6, axis=0)  # 2 x 3 places a frame
    for part, turned in zip(changed, (np.cos(angles), np.sin(angles)), strict=True):
        assert np.allclose(part[0, :, 0, :12].numpy(), turned, atol=1e-6)
    pair = [2 * index - 2, 2 * index - 1]
    for before, after in zip(plain, changed, strict=True):
        columns = (before != after).any(dim=1).flatten().nonzero().flatten().tolist()
        assert columns == pair
        assert after.dtype == before.dtype
    assert 2 * math.pi / frequency(frames) > frames
    assert rope.freqs_cos is tables[0]
    assert rope.freqs_sin is tables[1]
    assert all(map(torch.equal, tables, values))
    assert "forward" not in rope.__dict__


def test_riflex_takes_the_frames_of_each_call(model: Model, small: Make) -> None:
    settings = small(riflex=True)
    with Riflex(settings.riflex, moment(model, settings)).attach(model.transformer):
        long, short = (model.transformer.rope(torch.zeros(1, 16, frames, 2, 2))[0][0, :, 0, 2] for frames in (9, 5))
    assert torch.allclose(long[1], torch.tensor(math.cos(frequency(9))))
    assert torch.allclose(short[1], torch.tensor(math.cos(frequency(5))))


@pytest.mark.parametrize(("head_dim", "most"), [(32, 6), (128, 22)])
def test_riflex_refuses_a_frequency_that_the_model_does_not_have(head_dim: int, most: int) -> None:
    assert WanRotaryPosEmbed(head_dim, (1, 2, 2), 4).t_dim == 2 * most
    RiflexSettings(index=most).check(head_dim)
    with pytest.raises(SettingsError) as refused:
        RiflexSettings(index=most + 1).check(head_dim)
    assert str(refused.value) == f"riflex.index is {most + 1}; this model has the temporal frequencies 1 to {most}."


# Mobius


def looped(
    model: Model, settings: Settings, index: int, predict: Callable[[Ask, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    around = Loop(settings.loop, moment(model, settings, index)).around(predict)
    return lambda clip: around(Ask(GUIDED, tuple(range(clip.shape[2]))), clip)


@pytest.mark.parametrize("index", [1, 2, 5])
def test_a_model_that_does_not_know_where_a_clip_begins_is_not_changed_by_the_loop(
    model: Model, small: Make, index: int
) -> None:
    settings, clip = small(frames=17, **{"loop.shift": 2}), noise(1, 16, 5, 4, 4)

    def neighbours(ask: Ask, clip: Tensor) -> Tensor:
        return clip.roll(1, 2) - 3 * clip.roll(-1, 2) + clip**2

    assert torch.equal(looped(model, settings, index, neighbours)(clip), neighbours(Ask(GUIDED, ()), clip))


def test_the_model_sees_the_clip_from_another_frame_on_each_step(model: Model, small: Make) -> None:
    """A model that marks its first frame: over the steps every frame is marked once, forwards by the shift."""
    settings, asked = small(frames=17, **{"loop.shift": 2}), []

    def mark(ask: Ask, clip: Tensor) -> Tensor:
        asked.append(ask)
        marked = torch.zeros_like(clip)
        marked[:, :, 0] = 1
        return marked

    firsts = [int(looped(model, settings, index, mark)(noise(1, 16, 5, 4, 4))[0, 0, :, 0, 0].argmax()) for index in range(5)]
    assert firsts == [0, 2, 4, 1, 3]
    assert {ask.frames for ask in asked} == {(0, 1, 2, 3, 4)}


def test_only_the_whole_prediction_is_rolled(model: Model, small: Make) -> None:
    settings, clip = small(frames=17, loop=True), noise(1, 16, 5, 4, 4)
    around = Loop(settings.loop, moment(model, settings, 1)).around(lambda ask, seen: seen)
    assert around(Ask(POSITIVE, (0, 1, 2, 3, 4)), clip) is clip


# FreeInit

FILTERS = ["butterworth", "gaussian", "ideal", "box"]


@pytest.mark.parametrize("filter", ["butterworth", "gaussian"])
@pytest.mark.parametrize(("spatial", "temporal"), [(0.25, 0.25), (0.5, 0.2), (1.0, 1.0)])
def test_filters_equal_diffusers_where_lengths_are_even(filter: str, spatial: float, temporal: float) -> None:
    theirs = FreeInitMixin()._get_free_init_freq_filter((1, 1, 6, 4, 8), "cpu", filter, 4, spatial, temporal)
    ours = low_pass((6, 4, 8), filter, 4, spatial, temporal)
    assert torch.allclose(ours, torch.fft.ifftshift(theirs[0, 0], dim=(0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("shape", [(5, 4, 4), (6, 5, 7), (1, 4, 4), (21, 8, 6)])
def test_filters_are_whole_at_frequency_zero_fall_from_there_and_are_symmetric(
    filter: str, shape: tuple[int, int, int]
) -> None:
    mask = low_pass(shape, filter, 4, 0.4, 0.3)
    assert mask[0, 0, 0] == 1
    assert mask.min() >= 0
    for axis, length in enumerate(shape):
        half = mask.movedim(axis, 0)[: length // 2 + 1]
        assert (half[1:] <= half[:-1]).all()
    mirrored = mask.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))
    assert torch.equal(mask, mirrored)  # so that the result is real
    assert not low_pass(shape, filter, 4, 0.0, 0.3).any()
    assert not low_pass(shape, filter, 4, 0.3, 0.0).any()


def test_filters_have_their_values_at_the_cutoff() -> None:
    at = {filter: low_pass((8, 8, 8), filter, 3, 0.5, 0.25) for filter in FILTERS}  # bin 2 in space, bin 1 in time
    assert at["butterworth"][1, 0, 0] == at["butterworth"][0, 2, 0] == at["butterworth"][0, 0, -2] == 0.5
    assert at["gaussian"][1, 0, 0] == pytest.approx(math.exp(-0.5))
    assert [at["ideal"][0, k, 0].item() for k in range(5)] == [1, 1, 1, 0, 0]
    assert at["ideal"][0, 2, 2] == 0
    assert at["box"][1, 2, 2] == 1
    assert low_pass((5, 4, 4), "box", 4, 1.0, 1.0).all()


@pytest.mark.parametrize("shape", [(5, 4, 4), (4, 6, 6)])
def test_a_filter_of_ones_keeps_the_clip_and_one_of_zeros_the_fresh_noise(shape: tuple[int, int, int]) -> None:
    kept, fresh = noise(1, 16, *shape), noise(1, 16, *shape, seed=1)
    assert torch.allclose(exchanged(kept, fresh, torch.ones(shape)), kept, atol=1e-5)
    assert torch.equal(exchanged(kept, fresh, torch.zeros(shape)), fresh)
    spectrum = torch.fft.fftn(kept - fresh, dim=(-3, -2, -1))
    exact = torch.fft.ifftn(low_pass(shape, "butterworth", 4, 0.4, 0.4) * spectrum, dim=(-3, -2, -1))
    assert exact.imag.abs().max() < 1e-6  # nothing is dropped


def test_the_new_noise_has_the_mean_of_the_clip_the_fresh_details_and_unit_variance() -> None:
    clean, start, fresh = (noise(1, 16, 5, 16, 16, seed=seed) for seed in range(3))
    clean += 3.0
    new = mixed(clean, start, fresh, FreeInitSettings(filter="box", spatial_cutoff=0.25, temporal_cutoff=0.5))
    assert torch.allclose(new.mean((2, 3, 4)), noised(clean, start).mean((2, 3, 4)), atol=1e-5)
    spectra = [torch.fft.fftn(one, dim=(-3, -2, -1)) for one in (new, noised(clean, start), fresh)]
    assert torch.allclose(spectra[0][..., 1, 1, 1], spectra[1][..., 1, 1, 1], atol=1e-3)
    assert torch.allclose(spectra[0][..., 2, 8, 8], spectra[2][..., 2, 8, 8], atol=1e-3)
    assert new.std() == pytest.approx(1, abs=0.05)
    assert new.dtype == torch.float32


def test_something_of_the_clip_is_left_in_the_new_noise() -> None:
    """6.8 %, as in the authors' models: the levels of Stable Diffusion, from their betas."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    remaining = float((1 - betas).prod()) ** 0.5
    clean, start = noise(1, 16, 5, 16, 16), noise(1, 16, 5, 16, 16, seed=1)
    expected = remaining * clean + (1 - remaining**2) ** 0.5 * start
    assert remaining == pytest.approx(0.068265, abs=1e-6)
    assert torch.allclose(noised(clean, start), expected, atol=1e-5)


def test_each_seed_and_round_has_fresh_noise_of_its_own(small: Make) -> None:
    def drawn(round: int, **changes: Any) -> Tensor:
        return fresh_noise(small(**changes), round)

    assert torch.equal(drawn(2), drawn(2, freeinit=True))
    others = [drawn(2), drawn(3), drawn(2, seed=4), latents.noise(small())]
    assert {tuple(one.shape) for one in others} == {(1, 16, 2, 4, 4)}
    assert len({float(one.sum()) for one in others}) == 4
