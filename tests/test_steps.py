"""The steps of a run, shown and measured: numbers against direct computation, and pages that stay small."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from test_show import Reading, clip
from wanlab.bench import Bench
from wanlab.run import Run, perform
from wanlab.settings import Settings
from wanlab.show import Curve, Denoising, denoising_page
from wanlab.show.steps import Thinning, thinning
from wanlab.steps import relative
from wanlab.timeline import Timeline


def make(shared_bench: Bench, **changes: Any) -> Run:
    return perform(shared_bench, Timeline(Settings(width=32, height=32, frames=5, steps=4, seed=3).but(changes)))


@pytest.fixture(scope="module")
def run(shared_bench: Bench) -> Run:
    return make(shared_bench)


def content(run: Run) -> dict[str, Any]:
    return Reading(run.steps.page().html).content


def decoded(content: dict[str, Any], kind: str, run: int = 0) -> np.ndarray:
    """The numbers in a page: (step, channel, frame, row, column)."""
    maps, codes = content["maps"], base64.b64decode(content["runs"][run][kind])
    shape = (-1, maps["channels"], maps["frames"], maps["height"], maps["width"])
    return (np.frombuffer(codes, np.uint8).reshape(shape).astype(float) - 127) / 127 * content["scales"][kind]


def test_the_table_holds_what_the_steps_hold(run: Run) -> None:
    table, steps = run.steps.table(), list(run.steps)
    assert table["sigma"].tolist() == [step.sigma for step in steps]
    assert table["velocity"].tolist() == pytest.approx([float(step.velocity.std()) for step in steps])
    assert table["latents"].tolist() == pytest.approx([float(step.latents.std()) for step in steps])
    assert np.isnan(table["change"][0])
    for k in (1, 2, 3):
        moved = (steps[k].clean - steps[k - 1].clean).norm() / steps[k].clean.norm()
        assert table["change"][k] == pytest.approx(float(moved))
    assert table["calls"].tolist() == [2.0] * 4
    assert table["reused"].tolist() == [False] * 4


def test_calls_of_a_step_are_those_that_were_made(shared_bench: Bench) -> None:
    cached = make(shared_bench, seed=5, steps=8, **{"cache.kind": "easycache", "cache.threshold": 0.5})
    table = cached.steps.table()
    assert table["calls"].sum() == cached.model_calls < 16
    assert table["calls"].tolist() == [2 * (1 - share) for share in table["cache"].fillna(0)]


def test_the_seconds_of_blocks_are_within_those_of_the_step_and_zero_where_a_block_is_left_out(shared_bench: Bench) -> None:
    cached = make(shared_bench, seed=6, steps=8, **{"cache.kind": "teacache", "cache.threshold": 0.5})
    blocks, table = cached.steps.blocks(), cached.steps.table()
    assert blocks.shape == (8, len(shared_bench.model.transformer.blocks))
    assert (blocks.sum(axis=1) <= table["seconds"]).all()
    assert ((blocks > 0).all(axis=1) == (table["calls"] > 0)).all()
    assert (blocks[table["calls"] == 0].loc[:, 1:] == 0).all(axis=None)  # the first may be looked at
    assert 0 < table["calls"].sum() < 16


def test_the_page_has_the_seconds_of_blocks(run: Run) -> None:
    told = content(run)["runs"][0]["block_seconds"]
    np.testing.assert_allclose(told, run.steps.blocks().to_numpy(), rtol=6e-3)
    assert "Milliseconds of each block" in run.steps.page().html


def test_a_run_that_computes_stored_steps_again_leaves_the_others_their_times(shared_bench: Bench) -> None:
    first = make(shared_bench, seed=8)
    blocks, table = first.steps.blocks(), first.steps.table()
    reusing = make(shared_bench, seed=8)
    np.testing.assert_allclose(reusing.steps.blocks(), blocks, rtol=6e-3)
    again = perform(shared_bench, first.timeline, fresh=True)
    assert first.steps.blocks().equals(blocks)
    assert first.steps.table().equals(table)
    assert not again.steps.blocks().equals(blocks)
    np.testing.assert_allclose(reusing.steps.blocks(), again.steps.blocks(), rtol=6e-3)  # of who computed them last


def test_what_was_stored_without_seconds_of_blocks_is_unknown_and_draws_no_map(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [replace(step, block_seconds=()) for step in run.steps]
    monkeypatch.setattr(Run, "replay", lambda _: iter(steps))
    monkeypatch.delitem(run.facts, "block_seconds")
    assert run.steps.blocks().shape == (4, 0)
    assert "Milliseconds of each block" not in run.steps.page().html


def test_a_fork_reuses_the_steps_before_and_says_what_changed(run: Run) -> None:
    fork = run.fork(2, cfg=1.0)
    assert fork.steps.table()["reused"].tolist() == [True, True, False, False]
    told = content(fork)["runs"][0]
    assert told["reused"] == [True, True, False, False]
    assert told["forks"] == [[2, "cfg 1.0"]]
    assert "from here cfg 1.0" in fork.steps.page().html


def test_latents_and_velocities_travel_to_half_a_code(run: Run) -> None:
    page = content(run)
    for kind in ("latents", "velocity"):
        exact = torch.cat([getattr(step, kind) for step in run.steps]).float().numpy()
        assert page["scales"][kind] == pytest.approx(np.abs(exact).max())
        assert np.abs(decoded(page, kind) - exact).max() <= page["scales"][kind] / 254 * 1.001
    assert 0 < page["limits"]["velocity"] <= page["scales"]["velocity"]


def test_the_curves_are_the_table(run: Run) -> None:
    curves = {curve["name"]: curve["values"] for curve in content(run)["curves"]}
    table = run.steps.table()
    assert curves["sigma"] == table["sigma"].tolist()
    assert curves["velocity (std)"] == table["velocity"].tolist()
    assert curves["change of the estimate"][0] is None
    assert curves["model calls"] == table["calls"].tolist()


def test_twenty_steps_of_the_tiny_clip_take_at_most_three_mebibytes(shared_bench: Bench) -> None:
    """Random colours are the worst that a clip can be."""
    generator = np.random.default_rng(0)
    clips = [generator.integers(0, 256, (17, 64, 64, 3), np.uint8) for _ in range(20)]
    numbers = [generator.normal(size=(16, 5, 8, 8)).astype(np.float32) for _ in range(20)]
    smooth = [clip(17, seed=k) for k in range(20)]
    noisy = [frames[::4] for frames in clips]
    told = Denoising("", np.linspace(1, 0.1, 20).tolist(), smooth, noisy, numbers, numbers)
    assert len(denoising_page([told]).html) < 3 * 2**20


@pytest.mark.parametrize("size", [(81, 480, 832), (81, 720, 1280), (161, 480, 832), (17, 64, 64), (1, 480, 832)])
@pytest.mark.parametrize("steps", [4, 20, 60])
@pytest.mark.parametrize("full", [False, True])
def test_what_is_left_out_bounds_the_page_and_a_small_clip_keeps_all(
    size: tuple[int, int, int], steps: int, full: bool
) -> None:
    frames, height, width = size
    latents = (16, (frames + 3) // 4, height // 8, width // 8)
    pictures = (frames, height, width) if full else (frames, height // 4, width // 4)
    found = thinning(steps, latents, pictures)
    left = steps * np.prod([len(range(0, n, every)) for n, every in zip(latents, _every(found), strict=True)])
    shown = (len(range(0, frames, found.frames)), pictures[1] // found.pixels, pictures[2] // found.pixels)
    assert left <= 2**20
    assert steps * np.prod(shown) <= 2**22
    if frames == 17:
        assert found == Thinning()
        assert found.note() == ""
    elif steps == 60 and frames > 1:
        assert "To keep the page small" in found.note()


def _every(found: Thinning) -> tuple[int, int, int, int]:
    return 1, found.latent_frames, found.cells, found.cells


def test_full_pages_are_decoded_by_the_vae(run: Run) -> None:
    full = Reading(run.steps.page(full=True).html).content
    assert (full["pictures"]["height"], full["pictures"]["width"]) == (32, 32)
    assert full["runs"][0]["clean"] != content(run)["runs"][0]["clean"]


def test_steps_write_themselves(run: Run, tmp_path: Path) -> None:
    file = run.steps.to_html(tmp_path / "steps.html")
    assert run.settings.prompt in file.read_text()


def test_relative_is_zero_for_the_same_and_one_for_nothing() -> None:
    x = torch.arange(1.0, 9.0)
    assert relative(x, x) == 0
    assert relative(0 * x, x) == 1
    assert relative(3 * x, x) == pytest.approx(2)


def test_what_does_not_fit_together_is_refused() -> None:
    one = Denoising("a", [1.0, 0.5], [clip(2), clip(2)])
    with pytest.raises(ValueError, match="0 runs"):
        denoising_page([])
    with pytest.raises(ValueError, match="different size"):
        denoising_page([one, Denoising("b", [1.0], [clip(2, 32, 32)])])
    with pytest.raises(ValueError, match="'x' has 1 values; there are 2 steps"):
        denoising_page([one], [Curve("x", [1.0])])
    with pytest.raises(ValueError, match="latents has 1 entries; there are 2 steps"):
        Denoising("a", [1.0, 0.5], [clip(2), clip(2)], latents=[np.zeros((16, 1, 4, 4), np.float32)])
    with pytest.raises(ValueError, match="all must be alike"):
        Denoising("a", [1.0], [clip(2)], latents=[np.zeros((4, 4), np.float32)])


def test_unknown_numbers_are_no_zeros() -> None:
    one = Denoising("a", [1.0, 0.5], [clip(2), clip(2)])
    page = denoising_page([one], [Curve("x", [None, float("nan")])])
    assert Reading(page.html).content["curves"][0]["values"] == [None, None]
