"""Caches: the rules against the authors' plans, decisions and outputs against diffusers' hooks, and the laws of all kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig, WanTransformer3DModel
from diffusers.hooks.taylorseer_cache import TaylorSeerState
from torch import Tensor

from wanlab.bench import Bench
from wanlab.denoise import Step, denoise
from wanlab.errors import ModelError, SettingsError
from wanlab.latents import noise
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.plans import make_plan
from wanlab.settings import Settings
from wanlab.skips import TABLES, Facts, Rule, computed, rule_of
from wanlab.solver import Solver
from wanlab.timeline import Timeline
from wanlab.tiny import tiny_path
from wanlab.weights.time_layers import read_time_embedding

Make = Callable[..., Settings]
REFERENCE = json.loads((Path(__file__).parent / "reference" / "constants.json").read_text())
PLANS = [pytest.param(plan, id=f"{plan['model']} {plan['steps']}") for plan in REFERENCE["magcache"]]
KINDS = ["teacache", "magcache", "easycache", "firstblock", "taylorseer"]
PLANNED = ["teacache", "magcache", "taylorseer"]


def facts_of(name: str) -> Facts:
    """Of a published model, of which only the name and the shape are there."""
    shape = next(one["shape"] for one in json.loads(TABLES.read_text())["models"] if one["name"] == name)
    return Facts.of("m", f"Wan2.1-{name}-Diffusers", shape)


def tiny_facts() -> Facts:
    folder = Path(tiny_path())
    config = json.loads((folder / "transformer" / "config.json").read_text())
    return Facts.of("tiny", "tiny", config, folder, lambda: read_time_embedding(folder / "transformer"))


def run(model: Model, bench: Bench, settings: Settings) -> list[Step]:
    return list(denoise(model, Timeline(settings), bench.store, fresh=True))


def cached(kind: str, **changes: Any) -> dict[str, Any]:
    return {"cache.kind": kind} | {f"cache.{name}": value for name, value in changes.items()}


def off_by(ours: list[Step], theirs: list[Step]) -> float:
    return float((ours[-1].after - theirs[-1].after).norm() / theirs[-1].after.norm())


# Rules


@pytest.mark.parametrize("plan", PLANS)
def test_magcache_plans_equal_the_authors(plan: dict[str, Any]) -> None:
    steps = plan["steps"]
    # The authors compute the first steps and then skip at once. Here the first step on which the cache acts is computed, since
    # only there something is remembered, so it acts from the last of these on.
    start = (int(steps * plan["retention"]) - 1) / steps
    how = cached("magcache", threshold=plan["threshold"], max_skip=plan["max_skip"], start_percent=start)
    outline = Outline(Timeline(Settings(steps=steps).but(how)), facts_of(plan["model"]))
    for branch in ("positive", "negative"):
        made = [call.skipped for calls in outline.calls for call in calls if call.branch == branch]
        assert "".join(str(int(bool(skipped))) for skipped in made) == plan[branch]


def test_a_model_is_known_by_its_shape_and_two_by_their_names_too() -> None:
    assert facts_of("t2v-1.3B").caches["teacache"]["threshold"] == 0.05
    assert facts_of("t2v-14B").caches["magcache"]["max_skip"] == 6
    assert facts_of("i2v-14B-480P").caches["teacache"]["threshold"] == 0.13
    assert facts_of("i2v-14B-720P").caches["teacache"]["threshold"] == 0.18
    other = {"num_attention_heads": 3, "num_layers": 30, "in_channels": 16}
    assert not Facts.of("m", "other", other).caches


@pytest.mark.parametrize("kind", ["teacache", "magcache"])
def test_constants_that_are_not_known_are_refused_in_a_sentence(kind: str) -> None:
    with pytest.raises(SettingsError, match=rf"cache.kind is '{kind}'; its constants are not known .* Take easycache"):
        rule_of(Settings().but(cached(kind)), Facts("m"))


def test_kinds_that_decide_on_the_way_have_no_rule_and_need_no_facts() -> None:
    assert rule_of(Settings(), Facts("m")) is None
    assert rule_of(Settings().but(cached("easycache")), Facts("m")) is None
    assert rule_of(Settings().but(cached("firstblock")), Facts("m")) is None
    assert rule_of(Settings().but(cached("taylorseer")), Facts("m")) is not None


@pytest.mark.parametrize("kind", ["teacache", "magcache"])
def test_the_default_threshold_of_the_tiny_model_skips_a_third(kind: str) -> None:
    outline = Outline(Timeline(Settings().but(cached(kind))), tiny_facts())
    skipped = [call.skipped for calls in outline.calls for call in calls]
    assert sum(map(bool, skipped)) / len(skipped) == pytest.approx(1 / 3, abs=0.03)


def test_the_change_of_the_tiny_models_residual_is_never_taken_for_negative() -> None:
    facts = tiny_facts()
    assert facts.time_embedding is not None
    polynomial = facts.caches["teacache"]["polynomial"]
    for steps in (2, 7, 20, 100):
        for shift in (0.5, 1, 3, 12):
            for solver in ("euler", "unipc"):
                grid = Settings(steps=steps, shift=shift, solver=solver).grid  # type: ignore[arg-type]
                assert (np.polyval(polynomial, facts.time_embedding.changes(grid.timesteps)) >= 0).all()


def test_teacache_computes_the_first_and_the_last_step_also_of_a_part_of_the_schedule() -> None:
    how = cached("teacache", threshold=100.0, start_percent=0.0)
    for changes, expected in (({}, [0, 19]), ({"start_step": 5}, [0, 14]), ({"end_step": 10}, [0])):
        settings = Settings(steps=20).but({**how, **changes})
        rule = rule_of(settings, tiny_facts())
        assert rule is not None
        assert settings.cache is not None
        assert computed(settings, settings.cache, rule) == expected


def test_a_run_that_begins_later_follows_the_same_part_of_the_tables() -> None:
    for kind in ("teacache", "magcache"):
        whole = rule_of(Settings().but(cached(kind)), tiny_facts())
        part = rule_of(Settings(start_step=6).but(cached(kind)), tiny_facts())
        assert whole is not None
        assert part is not None
        for last, step in ((0, 1), (2, 5), (4, 6)):
            assert part.change(last, step) == pytest.approx(whole.change(last + 6, step + 6))


# Speed-up


def count(settings: Settings) -> int:
    rule, cache = rule_of(settings, tiny_facts()), settings.cache
    assert rule is not None
    assert cache is not None
    return len(computed(settings, cache, rule))


@pytest.mark.parametrize("kind", PLANNED)
@pytest.mark.parametrize("steps", [8, 20, 31])
def test_a_speed_up_comes_as_near_as_any_threshold_does(kind: str, steps: int) -> None:
    plain = Settings(steps=steps)
    name, values = ("interval", range(1, 40)) if kind == "taylorseer" else ("threshold", np.linspace(0, 6, 300).tolist())
    counts = [count(plain.but(cached(kind, **{name: value}))) for value in values]
    assert counts == sorted(counts, reverse=True)
    for wished in (1.0, 1.2, 1.5, 1.9):
        made = count(plain.but(cached(kind, speed_up=wished)))
        assert abs(made - steps / wished) <= min(abs(one - steps / wished) for one in counts) + 1e-9


@pytest.mark.parametrize("kind", PLANNED)
def test_no_smaller_threshold_makes_the_same_speed_up(kind: str) -> None:
    settings = Settings().but(cached(kind, speed_up=1.5))
    rule, cache = rule_of(settings, tiny_facts()), settings.cache
    assert rule is not None
    assert cache is not None
    smaller = Rule(rule.change, rule.threshold - 1e-9)
    assert len(computed(settings, cache, smaller)) > len(computed(settings, cache, rule))


@pytest.mark.parametrize(("schedule", "asked"), [("static_standard", 1.8), ("uniform_standard", 1.3)])
def test_a_speed_up_counts_the_calls_of_context_windows(schedule: str, asked: float) -> None:
    windows = {"frames": 65, "context.frames": 33, "context.schedule": schedule}
    plain = Settings().but(windows)
    settings = plain.but(cached("teacache", speed_up=asked))
    calls = [make_plan(tiny_facts(), [(Timeline(one), {})], lambda name: False).model_calls for one in (plain, settings)]
    assert calls[0] / calls[1] == pytest.approx(asked, rel=0.07)


def test_a_speed_up_that_moving_windows_cannot_reach_is_refused() -> None:
    windows = {"context.frames": 81, "context.overlap": 16, "context.schedule": "uniform_looped"}
    settings = Settings().but({"frames": 161, **windows})
    with pytest.raises(SettingsError, match=r"take windows that stay in their place \(context\.schedule\)"):
        rule_of(settings.but(cached("teacache", speed_up=1.8)), tiny_facts())


def test_a_speed_up_that_cannot_be_reached_is_refused_with_the_one_that_can() -> None:
    with pytest.raises(SettingsError) as refused:
        rule_of(Settings().but(cached("magcache", speed_up=10, max_skip=2)), tiny_facts())
    assert "cache.speed_up is 10; with these settings at most 2.5 can be reached: 8 of 20 calls" in str(refused.value)
    with pytest.raises(SettingsError, match=r"cache.threshold is 0.1; taylorseer has none"):
        Settings().but(cached("taylorseer", threshold=0.1))


# The embedded timestep


@pytest.mark.parametrize("timesteps", [np.array([999, 500, 3, 0]), np.linspace(1000, 0.3, 50, dtype=np.float32)])
def test_the_time_embedding_equals_the_transformers(model: Model, timesteps: np.ndarray) -> None:
    embedder = model.transformer.condition_embedder
    with torch.inference_mode():
        theirs = embedder.time_embedder(embedder.timesteps_proj(torch.from_numpy(timesteps)))
    ours = read_time_embedding(Path(tiny_path()) / "transformer").embed(timesteps)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_read_from_files_in_parts_and_in_every_precision(model: Model, tmp_path: Path, dtype: torch.dtype) -> None:
    layers = model.transformer.condition_embedder.time_embedder
    copy = WanTransformer3DModel.from_config(model.transformer.config)
    copy.load_state_dict(model.transformer.state_dict())
    copy.to(dtype).save_pretrained(tmp_path / "transformer", max_shard_size="1MB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    read = read_time_embedding(tmp_path / "transformer")
    for ours, theirs in ((read.inner, layers.linear_1.weight), (read.outer_bias, layers.linear_2.bias)):
        np.testing.assert_array_equal(ours, theirs.to(dtype).float().numpy())


def test_a_transformer_without_it_and_a_damaged_file_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"transformer does not exist"):
        read_time_embedding(tmp_path / "transformer")
    (tmp_path / "transformer").mkdir()
    for content in (b"", b"\xff" * 20, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"{}"):
        (tmp_path / "transformer" / "a.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=r"has no|is no safetensors file|is damaged"):
            read_time_embedding(tmp_path / "transformer")


# On the model


@contextmanager
def counted_blocks(model: Model) -> Iterator[list[int]]:
    """Within, a list with the number of blocks that each pass of the model has computed."""
    counts: list[int] = []

    def add(*_: Any) -> None:
        counts[-1] += 1

    hooks = [model.transformer.register_forward_pre_hook(lambda *_: counts.append(0))]
    hooks += [block.norm1.register_forward_pre_hook(add) for block in model.transformer.blocks]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_calls_compute_no_blocks_and_are_those_of_the_outline(
    model: Model, bench: Bench, small: Make, kind: str
) -> None:
    settings = small(steps=10, **cached(kind, **({} if kind == "taylorseer" else {"threshold": 0.5})))
    with counted_blocks(model) as blocks:
        steps = run(model, bench, settings)
    shares = [step.notes.get("cache") for step in steps]
    skipped = sum(2 * share for share in shares if share)
    assert shares[0] is None  # start_percent is 0.1
    assert skipped > 2
    if kind == "easycache":  # not even called
        assert blocks == [8] * (20 - int(skipped))
    else:
        assert blocks.count(1 if kind == "firstblock" else 0) == skipped
        assert blocks.count(8) == 20 - skipped
    outline = Outline(Timeline(settings), model.facts)
    if kind in PLANNED:
        planned = [call.skipped for calls in outline.calls for call in calls]
        assert [count == 0 for count in blocks] == planned
    else:
        assert any(call.skipped is None for calls in outline.calls for call in calls)


@pytest.mark.parametrize("kind", KINDS)
def test_a_threshold_of_zero_is_the_plain_run_bit_for_bit(model: Model, bench: Bench, small: Make, kind: str) -> None:
    nothing = {"interval": 1} if kind == "taylorseer" else {"threshold": 0.0}
    for ours, theirs in zip(run(model, bench, small(**cached(kind, **nothing))), run(model, bench, small()), strict=True):
        assert torch.equal(ours.velocity, theirs.velocity)
        assert ours.notes.get("cache", 0) == 0


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("teacache", "threshold", (0.1, 0.3, 2.0)),
        ("magcache", "threshold", (0.07, 0.3, 2.0)),
        ("easycache", "threshold", (0.06, 0.1, 0.2)),
        ("firstblock", "threshold", (0.07, 0.15, 0.4)),
        ("taylorseer", "interval", (2, 3, 5)),
    ],
)
def test_more_is_skipped_and_the_clip_is_farther_off_with_a_larger_threshold(
    model: Model, bench: Bench, small: Make, kind: str, name: str, values: tuple[float, ...]
) -> None:
    plain = run(model, bench, small(steps=16))
    runs = [run(model, bench, small(steps=16, **cached(kind, **{name: value}))) for value in values]
    errors = [off_by(one, plain) for one in runs]
    assert errors == sorted(errors)
    assert 0 < errors[0] < 0.06
    calls = [sum(step.calls for step in one) for one in runs]
    assert calls == sorted(set(calls), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_on_the_transformer(model: Model, bench: Bench, small: Make, kind: str) -> None:
    run(model, bench, small(**cached(kind)))
    modules = list(model.transformer.modules())
    assert not any("forward" in module.__dict__ for module in modules)
    assert not any(getattr(module, "_diffusers_hook", None) for module in modules[1:])


def test_each_window_and_branch_has_a_memory_of_its_own(model: Model, bench: Bench, small: Make) -> None:
    """Windows that do not overlap are clips of their own: cached together they are what each is alone."""
    how = cached("firstblock", threshold=0.1)
    context = {"context.schedule": "batched", "context.frames": 5, "context.overlap": 0}
    both = run(model, bench, small(frames=13, steps=10, **how, **context))  # latent frames 0 1, 2 3
    first = noise(small(frames=13))
    for part in (slice(0, 2), slice(2, 4)):
        alone = run_from(model, bench, small(frames=5, steps=10, **how), first[:, :, part])
        for ours, theirs in zip(both, alone, strict=True):
            torch.testing.assert_close(ours.velocity[:, :, part], theirs.velocity, atol=1e-5, rtol=0)


def run_from(model: Model, bench: Bench, settings: Settings, first: Tensor) -> list[Step]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wanlab.denoise.first_noise", lambda *_: first)
        return run(model, bench, settings)


# Against diffusers' hooks


def hooked(model: Model, settings: Settings, config: Any) -> list[Tensor]:
    """The latents after each step of a plain loop with a cache of diffusers."""
    solver, x, found = Solver(settings), noise(settings), []
    model.transformer.enable_cache(config)
    try:
        for timestep in solver.timesteps:
            velocities = []
            for name, text in (("cond", settings.prompt), ("uncond", settings.negative_prompt)):
                with model.transformer.cache_context(name):
                    velocities.append(model.velocity(x, timestep, model.encode(text)))
            positive, negative = velocities
            x = solver.step(negative + settings.cfg * (positive - negative), x)
            found.append(x)
    finally:
        model.transformer.disable_cache()
        for module in model.transformer.modules():
            module.__dict__.pop("_diffusers_hook", None)
            module.__dict__.pop("forward", None)
    return found


def check_against(model: Model, bench: Bench, settings: Settings, config: Any) -> None:
    with counted_blocks(model) as theirs:
        latents = hooked(model, settings, config)
    with counted_blocks(model) as ours:
        steps = run(model, bench, settings)
    assert ours == theirs
    assert 4 < ours.count(8) < len(ours) - 4
    for step, expected in zip(steps, latents, strict=True):
        torch.testing.assert_close(step.after, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.08, 0.1, 0.2])
def test_firstblock_equals_diffusers(model: Model, bench: Bench, small: Make, threshold: float) -> None:
    settings = small(steps=14, **cached("firstblock", threshold=threshold, start_percent=0.0))
    check_against(model, bench, settings, FirstBlockCacheConfig(threshold=threshold))


@pytest.mark.parametrize("threshold", [0.06, 0.2])
def test_magcache_equals_diffusers(model: Model, bench: Bench, small: Make, threshold: float) -> None:
    ratios = model.facts.caches["magcache"]["ratios"]
    config = MagCacheConfig(threshold, max_skip_steps=3, retention_ratio=0.25, num_inference_steps=16, mag_ratios=ratios)
    settings = small(steps=16, **cached("magcache", threshold=threshold, max_skip=3, start_percent=3 / 16))
    check_against(model, bench, settings, config)


def test_taylorseer_extrapolates_as_diffusers_does(
    model: Model, bench: Bench, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers' state of a layer, fed with the residuals of the computed calls, gives those of the skipped ones."""
    entered: list[Tensor] = []
    residuals: list[Tensor] = []
    norm = model.transformer.norm_out.forward

    def leave(hidden: Tensor) -> Tensor:
        residuals.append(hidden - entered[-1])
        return norm(hidden)

    hook = model.transformer.patch_embedding.register_forward_hook(
        lambda module, latents, embedded: entered.append(embedded.flatten(2).transpose(1, 2))
    )
    monkeypatch.setattr(model.transformer.norm_out, "forward", leave)
    settings = small(steps=12, cfg=1.0, **cached("taylorseer", interval=3, start_percent=0.0))
    run(model, bench, settings)
    hook.remove()
    state = TaylorSeerState(taylor_factors_dtype=torch.float32, max_order=1)
    for step, residual in enumerate(residuals):
        state.current_step = step
        if step in (0, 1, 4, 7, 10):
            state.update((residual,))
        else:
            torch.testing.assert_close(residual, state.predict()[0], atol=1e-4, rtol=1e-4)


def test_easycache_decides_and_answers_as_the_authors_do(model: Model, bench: Bench, small: Make) -> None:
    """Their code for Wan2.1 (H-EmbodVis/EasyCache @5127804, easycache_generate.py), written down plainly."""
    settings, threshold = small(steps=16, **cached("easycache", threshold=0.12, start_percent=0.0)), 0.12
    solver, x, skips = Solver(settings), noise(settings), []
    before = computed_at = velocities = factor = None
    error = 0.0
    texts = [model.encode(text) for text in (settings.prompt, settings.negative_prompt)]
    for step, timestep in enumerate(solver.timesteps):
        skip = False
        if factor is not None and step < 15:
            error += float(factor * (x - before).abs().mean() / velocities[0].abs().mean())
            skip = error < threshold
        error *= skip
        if not skip:
            answers = [model.velocity(x, timestep, text) for text in texts]
            if velocities is not None:
                factor = (answers[0] - velocities[0]).abs().mean() / (x - computed_at).abs().mean()
            velocities, computed_at = answers, x
            deltas = [velocity - x for velocity in velocities]
        positive, negative = (x + delta for delta in deltas)
        before, x = x, solver.step(negative + settings.cfg * (positive - negative), x)
        skips.append(skip)
    steps = run(model, bench, settings)
    assert [step.notes["cache"] for step in steps] == skips
    assert 4 < sum(skips) < 12
    torch.testing.assert_close(steps[-1].after, x, atol=1e-4, rtol=1e-4)
