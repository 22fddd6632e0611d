"""The loop equals diffusers' own pipeline bit for bit, and a run replays, resumes and forks bit-equal from every step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from pipelines import ask, unipc
from wanlab.bench import Bench
from wanlab.denoise import Step, denoise
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.schedule import grid
from wanlab.settings import Settings, declared
from wanlab.store import StepStore
from wanlab.timeline import Timeline

SOLVERS = declared()["solver"].choices
Make = Callable[..., Settings]


class _GivenSigmas(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler on Wan's levels; by itself it shifts a grid of its own that ends at a wrong level."""

    levels: list[float]

    def set_timesteps(self, num_inference_steps: int, device: object = None) -> None:  # type: ignore[override]
        super().set_timesteps(sigmas=self.levels, device=device)


def pipeline(model: Model, settings: Settings) -> WanPipeline:
    """The stock pipeline around the same weights."""
    if settings.solver == "euler":
        scheduler = _GivenSigmas(shift=1.0)
        scheduler.levels = grid("euler", settings.steps, settings.shift).sigmas[:-1].tolist()
    else:
        scheduler = unipc(settings.shift)
    return WanPipeline(
        tokenizer=model.tokenizer,
        text_encoder=model.text_encoder,
        transformer=model.transformer,
        vae=model.vae,
        scheduler=scheduler,
    )


def final(steps: list[Step]) -> torch.Tensor:
    return steps[-1].after


@pytest.mark.parametrize("solver", ["unipc", "euler"])
@pytest.mark.parametrize("cfg", [5.0, 1.0])
@pytest.mark.parametrize("negative", ["", "blurry, low quality"])
def test_the_loop_equals_wan_pipeline_bit_for_bit(
    model: Model, bench: Bench, small: Make, solver: str, cfg: float, negative: str
) -> None:
    settings = small(solver=solver, cfg=cfg, negative_prompt=negative, frames=9)
    ours = final(list(denoise(model, Timeline(settings), bench.store)))
    assert torch.equal(ours, ask(pipeline(model, settings), settings, "latent"))


def test_the_shipped_folder_through_the_stock_pipeline_gives_the_same_clip(model: Model, bench: Bench, small: Make) -> None:
    from wanlab.tiny import tiny_path

    settings = small(frames=9, width=64, height=64)
    pipe = WanPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    theirs = ask(pipe, settings, "np")[0]
    ours = model.decode(final(list(denoise(model, Timeline(settings), bench.store))))
    assert np.array_equal(ours, (theirs * 255).round().astype(np.uint8))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_replays_bit_equal_without_the_model(
    model: Model, bench: Bench, small: Make, solver: str, calls: list[float]
) -> None:
    line = Timeline(small(solver=solver, steps=16))
    first = list(denoise(model, line, bench.store))
    made = len(calls)
    again = list(denoise(model, line, bench.store, only_stored=True))
    assert len(calls) == made == 32
    assert [step.reused for step in again] == [True] * 16
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.velocity, other.velocity)
        assert torch.equal(one.after, other.after)
        assert one.seconds == other.seconds


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_resumes_bit_equal_from_every_cut(
    model: Model, tmp_path: Path, small: Make, solver: str, calls: list[float]
) -> None:
    line = Timeline(small(solver=solver, cfg=1.0))
    whole = final(list(denoise(model, line, StepStore(tmp_path / "whole"))))
    for cut in range(line.settings.steps):
        store = StepStore(tmp_path / f"cut{cut}")
        for step in denoise(model, line, store):
            if step.index == cut:
                break
        calls.clear()
        assert torch.equal(final(list(denoise(model, line, store))), whole)
        assert len(calls) == line.settings.steps - cut - 1  # only what was missing


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_hole_in_the_store_is_filled_with_the_same_velocity(model: Model, bench: Bench, small: Make, solver: str) -> None:
    line = Timeline(small(solver=solver))
    first = list(denoise(model, line, bench.store))
    names = step_names(model.id, line)
    for name in names[1::2]:
        bench.store.discard(name)
    again = list(denoise(model, line, bench.store))
    assert [step.reused for step in again] == [True, False] * 3
    assert all(torch.equal(one.velocity, other.velocity) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fork_shares_the_steps_before_it_and_equals_a_fresh_run(
    model: Model, bench: Bench, tmp_path: Path, small: Make, solver: str
) -> None:
    base = Timeline(small(solver=solver))
    list(denoise(model, base, bench.store))
    fork = base.fork(2, {"cfg": 2.0, "prompt": "a green star spins on a black background"})
    shared = list(denoise(model, fork, bench.store))
    alone = list(denoise(model, fork, StepStore(tmp_path / "alone")))
    assert [step.reused for step in shared] == [True, True, False, False, False, False]
    assert torch.equal(final(shared), final(alone))
    assert not torch.equal(final(shared), final(list(denoise(model, base, bench.store))))


def test_a_shared_step_0_has_the_same_velocity_whatever_comes_after(model: Model, tmp_path: Path, small: Make) -> None:
    variants = [
        small(shift=s, steps=n, solver=v)
        for s, n, v in ((3, 6, "unipc"), (8, 6, "unipc"), (3, 4, "dpm++"), (5, 9, "dpm++_sde"))
    ]
    starts = [next(denoise(model, Timeline(v), StepStore(tmp_path / str(k)))) for k, v in enumerate(variants)]
    assert all(torch.equal(step.velocity, starts[0].velocity) for step in starts)
    assert len({step_names(model.id, Timeline(v))[0] for v in variants}) == 1


def test_a_damaged_step_is_found_and_computed_again(model: Model, bench: Bench, small: Make, calls: list[float]) -> None:
    line = Timeline(small(cfg=1.0))
    whole = final(list(denoise(model, line, bench.store)))
    name = step_names(model.id, line)[3]
    (file,) = bench.store.folder.glob(f"*/{name}.safetensors")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    calls.clear()
    with pytest.warns(UserWarning, match="is damaged; its step is computed again"):
        assert torch.equal(final(list(denoise(model, line, bench.store))), whole)
    assert len(calls) == 1
    assert bench.store.get(name) is not None


def test_fresh_computes_all_steps(model: Model, bench: Bench, small: Make, calls: list[float]) -> None:
    line = Timeline(small(cfg=1.0))
    list(denoise(model, line, bench.store))
    calls.clear()
    assert not any(step.reused for step in denoise(model, line, bench.store, fresh=True))
    assert len(calls) == 6


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_clean_estimate_is_the_latents_less_sigma_velocities(model: Model, bench: Bench, small: Make, solver: str) -> None:
    for step in denoise(model, Timeline(small(solver=solver, cfg=1.0)), bench.store):
        torch.testing.assert_close(step.latents, step.clean + step.sigma * step.velocity)


def test_euler_lands_on_the_clean_estimate_of_its_last_step(model: Model, bench: Bench, small: Make) -> None:
    last = list(denoise(model, Timeline(small(solver="euler")), bench.store))[-1]
    torch.testing.assert_close(last.after, last.clean)


def test_the_stochastic_solver_draws_the_noise_of_its_seed(model: Model, bench: Bench, small: Make) -> None:
    ends = [
        final(list(denoise(model, Timeline(small(solver="dpm++_sde", cfg=1.0)), bench.store, fresh=True))) for _ in range(2)
    ]
    plain = final(list(denoise(model, Timeline(small(solver="dpm++", cfg=1.0)), bench.store)))
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], plain)


def test_a_run_leaves_no_trace_on_the_weights(model: Model, bench: Bench, small: Make) -> None:
    before = {name: weight.clone() for name, weight in model.transformer.state_dict().items()}
    list(denoise(model, Timeline(small()), bench.store))
    after = model.transformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_interrupted_run_leaves_the_next_one_as_in_a_fresh_kernel(
    model: Model, tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Timeline(small())
    whole = final(list(denoise(model, line, StepStore(tmp_path / "a"))))
    block = model.transformer.blocks[4]
    forward, seen = block.forward, []

    def interrupt(*args: object, **kwargs: object) -> object:
        seen.append(1)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(block, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(denoise(model, line, StepStore(tmp_path / "b")))
    assert torch.equal(final(list(denoise(model, line, StepStore(tmp_path / "b")))), whole)
