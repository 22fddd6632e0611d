"""Context windows in the loop: what the model sees, how its answers are blended, and which prompt a window reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from torch import Tensor

from wanlab.bench import Bench
from wanlab.denoise import denoise
from wanlab.errors import SettingsError
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.run import perform
from wanlab.settings import Settings, declared
from wanlab.skips import Facts
from wanlab.start import first_noise
from wanlab.store import StepStore
from wanlab.techniques import feta
from wanlab.techniques.technique import POSITIVE, Ask, Moment
from wanlab.techniques.windows import Context
from wanlab.timeline import Timeline
from wanlab.windows import FUSES, SCHEDULES

Make = Callable[..., Settings]
NINE = {"frames": 33, "context.frames": 17, "context.overlap": 8}


def moment(settings: Settings, step: int = 0) -> Moment:
    outline: Any = Outline(Timeline(settings), Facts(id="m"))
    none: Any = None
    return Moment(step, torch.tensor(999), settings, none, outline, {})


def blended(settings: Settings, step: int, predict: Callable[[Ask, Tensor], Tensor], latents: Tensor) -> Tensor:
    context = Context(settings.context, moment(settings, step))
    return context.around(predict)(Ask(POSITIVE, tuple(range(settings.latent_frames))), latents)


def test_the_declared_choices_are_those_of_the_arithmetic() -> None:
    assert declared()["context.schedule"].choices == SCHEDULES
    assert declared()["context.fuse"].choices == FUSES


@fuzzing(max_examples=60, deadline=None)
@given(
    schedule=st.sampled_from(SCHEDULES),
    fuse=st.sampled_from(FUSES),
    frames=st.integers(2, 12),
    length=st.integers(1, 6),
    overlap=st.integers(0, 4),
    stride=st.integers(1, 3),
    step=st.integers(0, 19),
    causal=st.booleans(),
)
def test_a_model_that_looks_at_single_frames_gives_the_same_with_any_windows(
    schedule: Any, fuse: Any, frames: int, length: int, overlap: int, stride: int, step: int, causal: bool
) -> None:
    if fuse == "relative":
        schedule = "static_standard"
    settings = Settings().but(
        {
            "frames": 4 * frames - 3,
            "context.schedule": schedule,
            "context.fuse": fuse,
            "context.frames": 4 * length - 3,
            "context.overlap": 4 * min(overlap, length - 1),
            "context.stride": 4 * stride,
            "context.anchor": "causal" if causal else "none",
        }
    )
    if settings.latent_frames <= length:
        assert settings.acting(step) == {}
        return
    latents = torch.randn(1, 16, frames, 2, 2)
    torch.testing.assert_close(blended(settings, step, lambda ask, x: 2 * x + 1, latents), 2 * latents + 1)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_one_window_is_no_window_bit_for_bit(model: Model, tmp_path: Path, small: Make, cfg: float) -> None:
    plain = small(frames=17, cfg=cfg)
    for frames in (17, 33):
        windowed = plain.but({"context.frames": frames, "context.freenoise": True})
        one, other = (
            list(denoise(model, Timeline(settings), StepStore(tmp_path / str(frames) / str(k) / "steps")))
            for k, settings in enumerate((plain, windowed))
        )
        assert all(torch.equal(a.velocity, b.velocity) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("frames", [33, 65, 129])
def test_what_the_model_sees_at_once_depends_on_the_window_and_not_on_the_clip(
    model: Model, bench: Bench, small: Make, frames: int
) -> None:
    seen: list[int] = []
    hook = model.transformer.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    try:
        settings = small(steps=2, **NINE | {"frames": frames, "context.schedule": "uniform_standard"})
        list(denoise(model, Timeline(settings), bench.store))
    finally:
        hook.remove()
    assert max(seen) == 5 * 4  # latent frames of the window, times places of 16 x 16 pixels


def test_feta_looks_at_the_frames_of_the_window(
    model: Model, bench: Bench, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[int] = []
    limited = feta._limited

    def seen(query: Tensor, key: Tensor, count: int, *line: Tensor) -> Tensor:
        frames.append(count)
        return limited(query, key, count, *line)

    monkeypatch.setattr(feta, "_limited", seen)
    list(denoise(model, Timeline(small(steps=1, feta=True, **NINE)), bench.store))
    assert set(frames) == {5}


def test_the_causal_anchor_is_the_frame_before_and_thrown_away_again() -> None:
    asked: list[tuple[int, ...]] = []

    def predict(ask: Ask, latents: Tensor) -> Tensor:
        asked.append(ask.frames)
        assert latents.shape[2] == len(ask.frames)
        return latents

    settings = Settings().but(NINE | {"context.anchor": "causal"})
    latents = torch.randn(1, 16, 9, 2, 2)
    torch.testing.assert_close(blended(settings, 0, predict, latents), latents)
    assert [frames[:2] for frames in asked] == [(0, 1), (2, 3), (3, 4)]
    assert [len(frames) for frames in asked] == [5, 6, 6]


def test_the_start_anchor_gives_every_window_the_condition_of_the_first_frame() -> None:
    asked: list[Any] = []
    settings = Settings().but(NINE | {"image": "cat", "context.anchor": "start"})
    blended(settings, 0, lambda ask, x: asked.append(ask.condition) or x, torch.randn(1, 16, 9, 2, 2))  # type: ignore[func-returns-value]
    assert asked == [None, (0, 4, 5, 6, 7), (0, 5, 6, 7, 8)]


def test_a_window_reads_the_section_of_its_centre(model: Model, bench: Bench, small: Make, monkeypatch: Any) -> None:
    read: list[str] = []
    encode = model.encode

    def reading(text: str) -> Tensor:
        read.append(text)
        return encode(text)

    monkeypatch.setattr(model, "encode", reading)
    parts = "a red circle | a blue square | a green star"
    steps = list(denoise(model, Timeline(small(cfg=1.0, steps=1, prompt=parts, **NINE)), bench.store))
    assert read == ["a red circle", "a blue square", "a green star"]
    same = " | ".join(["a red circle"] * 3)
    alone, thrice = (
        list(denoise(model, Timeline(small(cfg=1.0, steps=1, prompt=prompt, **NINE)), bench.store))
        for prompt in ("a red circle", same)
    )
    assert torch.equal(alone[0].velocity, thrice[0].velocity)
    assert not torch.equal(alone[0].velocity, steps[0].velocity)


def test_a_section_without_a_window_is_refused_before_the_run(bench: Bench, small: Make) -> None:
    sections = " | ".join("abcdefgh")
    with pytest.raises(SettingsError, match=r"prompt has 8 sections, and no window has its centre in section \d"):
        perform(bench, Timeline(small(prompt=sections, **NINE)))
    assert bench.log.frame().empty
    perform(bench, Timeline(small(prompt=sections, steps=1)))  # without windows a bar is a letter like any other


def test_freenoise_is_the_noise_of_the_first_window_again() -> None:
    settings = Settings().but(NINE | {"frames": 65, "context.freenoise": True})
    noise, plain = first_noise(settings), first_noise(settings.but({"context.freenoise": False}))
    assert torch.equal(noise[:, :, :5], plain[:, :, :5])
    first = {tuple(frame.flatten().tolist()) for frame in plain[0, :, :5].unbind(1)}
    assert {tuple(frame.flatten().tolist()) for frame in noise[0].unbind(1)} == first
    assert torch.equal(first_noise(settings), noise)


@pytest.mark.parametrize("fuse", ["partition", "pyramid", "flat"])
@pytest.mark.parametrize("schedule", ["static_standard", "uniform_looped"])
def test_no_frame_is_far_from_its_neighbours_at_a_seam(
    model: Model, bench: Bench, small: Make, schedule: str, fuse: str
) -> None:
    settings = small(frames=33, steps=3, **{"context.frames": 17, "context.schedule": schedule, "context.fuse": fuse})
    *_, last = denoise(model, Timeline(settings), bench.store)
    assert torch.isfinite(last.after).all()
    jumps = last.after.diff(dim=2).flatten(3).norm(dim=3).mean(1).flatten()
    assert float(jumps.max()) < 6 * float(jumps.median())
