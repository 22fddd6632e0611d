"""The scripts that train the tiny Wan: the laws of what they share, and the two tricks of the transformer's training."""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from transformers import AutoTokenizer, UMT5EncoderModel

from wanlab.tiny import clips, tiny_path, transformer
from wanlab.tiny.training import Fit, Ranks, Rates, _orthogonal

WEIGHTS = Path(tiny_path())


def fit(folder: Path) -> Fit:
    """A small network that has both kinds of weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    return Fit(model, folder, Ranks(), Rates(adam=0.01, muon=0.02, warmup=2), lambda name, weight: weight.dim() == 2)


def error(model: nn.Module) -> Tensor:
    """The loss of a batch of the default generator, which `Fit` seeds at each step."""
    x = torch.randn(32, 6)
    return (model(x) - torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 3:].sum(1)], 1)).square().mean()


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_stopped_training_goes_on_exactly(cut: int, tmp_path: Path) -> None:
    whole, first = fit(tmp_path / "whole"), fit(tmp_path / "cut")
    whole.run(lambda step, rng: error(whole.model), 9)

    def stopping(step: int, rng: random.Random) -> Tensor:
        if step == cut:
            first.save()
            raise KeyboardInterrupt
        return error(first.model)

    with pytest.raises(KeyboardInterrupt):
        first.run(stopping, 9)
    second = fit(tmp_path / "cut")
    assert second.step == cut
    second.run(lambda step, rng: error(second.model), 9)
    for ours, theirs in zip(second.weights + second.mean, whole.weights + whole.mean, strict=True):
        assert torch.equal(ours, theirs)


def test_a_training_lowers_its_loss_and_logs_it(tmp_path: Path) -> None:
    training = fit(tmp_path)
    torch.manual_seed(1)
    before = error(training.model).item()
    training.run(lambda step, rng: error(training.model), 150)
    torch.manual_seed(1)
    assert error(training.model).item() < 0.3 * before
    assert len((tmp_path / "curve.jsonl").read_text().splitlines()) == 3


def test_muons_step_is_nearly_orthogonal() -> None:
    for rows, columns in ((8, 8), (16, 64), (128, 512)):
        matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
        ours, (left, _, right) = _orthogonal(matrix[None])[0], torch.linalg.svd(matrix, full_matrices=False)
        values = torch.linalg.svdvals(ours)
        assert 0.6 < float(values.median()) < 1.3
        assert float(values.max()) < 1.3  # the coefficients trade exactness for speed; the oracle is the polar factor
        assert float((ours * (left @ right)).sum() / ours.norm() / (left @ right).norm()) > 0.9


def test_the_rates_rise_hold_and_fall() -> None:
    rates = Rates(adam=1, muon=1, warmup=10, hold=0.5)
    course = [rates.factor(step, 100) for step in range(100)]
    assert course[:10] == [(step + 1) / 10 for step in range(10)]
    assert set(course[10:50]) == {1.0}
    assert all(a > b for a, b in pairwise(course[50:]))
    assert course[-1] == pytest.approx(0.02)


def test_noise_levels_are_spread_around_their_median() -> None:
    torch.manual_seed(0)
    levels = torch.cat([transformer._noise_levels(16) for _ in range(200)])
    assert float(levels.min()) > 0
    assert float(levels.max()) < 1
    assert float(levels.median()) == pytest.approx(transformer.SHIFT * 0.5 / (1 + (transformer.SHIFT - 1) * 0.5), abs=0.01)
    batch = torch.sort(transformer._noise_levels(16)).values  # stratified: one level in each sixteenth
    quantile = torch.special.ndtr(torch.logit(batch / (transformer.SHIFT - (transformer.SHIFT - 1) * batch)) / 1.15)
    assert (quantile * 16).floor().int().tolist() == list(range(16))


@torch.no_grad()
def test_counted_padding_equals_wans_padding_to_512() -> None:
    model = WanTransformer3DModel.from_pretrained(WEIGHTS / "transformer")
    captions = ["a red circle moves right on a blue background", ""]
    x = torch.randn(2, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    time = torch.tensor([900.0, 300.0])
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(WEIGHTS / "text_encoder", dtype=torch.float32)
    batch = tokenizer(captions, padding="max_length", max_length=512, return_tensors="pt")
    states = encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    wans = model(x, time, states * batch.attention_mask[..., None], return_dict=False)[0]
    ours = transformer._count_padding(model)(
        x, time, transformer.Teacher(WEIGHTS, torch.device("cpu"))(captions), return_dict=False
    )[0]
    assert torch.allclose(ours, wans, atol=1e-4)
    assert not torch.allclose(wans[0], wans[1], atol=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="the blocks are compiled by a C++ compiler")
def test_the_fast_way_is_the_exact_one_but_for_rounding() -> None:
    x = torch.randn(2, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    text = transformer.Teacher(WEIGHTS, torch.device("cpu"))(["a red circle moves right on a blue background", ""])
    found = []
    for fast in (False, True):
        model = transformer._count_padding(WanTransformer3DModel.from_pretrained(WEIGHTS / "transformer"))
        products = transformer._hasten(model) if fast else nullcontext
        with products():
            velocity = model(x, torch.tensor([900.0, 300.0]), text, return_dict=False)[0]
        velocity.square().mean().backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        found.append((velocity.detach(), gradient))
    (exact, slope), (rounded, rounded_slope) = found
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).square().mean() / exact.square().mean()) < 1e-3
    assert float(nn.functional.cosine_similarity(slope, rounded_slope, dim=0)) > 0.98


def test_training_scenes_are_never_held_out_and_hard_ones_come_more_often() -> None:
    rng = random.Random(0)
    scenes = [clips.random_scene(rng) for _ in range(4000)]
    assert not any(scene.held_out for scene in scenes)
    motions = Counter(scene.motion for scene in scenes)
    assert motions["spin"] > 1.5 * motions["still"]


@pytest.mark.parametrize("motion", clips.MOTIONS)
def test_the_lattice_repeats_itself_in_whole_latent_cells(motion: str) -> None:
    scene = clips.Scene("star", "red", motion, "white")
    for seed in range(8):
        way = clips.path(scene, 33, random.Random(seed), lattice=True)
        step = {"bounce": 12, "orbit": 20, "spin": 8}.get(motion, 4)  # frames; a spin turns by a quarter in 8
        turn = math.pi / 2 if motion == "spin" else 0
        for place in (way.x, way.y):
            moved = (place[step:] - place[:-step]) * 8  # in latent cells
            whole = moved.round() if motion != "bounce" and motion != "orbit" else torch.zeros_like(moved)
            assert torch.allclose(moved, whole, atol=1e-3)
        assert np.allclose((way.angle[step:] - way.angle[:-step]).tolist(), turn, atol=1e-5)
