"""Metrics of clips: scikit-image agrees, laws hold, and known motion is found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wanlab import metrics
from wanlab.bench import Bench
from wanlab.errors import SettingsError
from wanlab.measuring import measure
from wanlab.run import perform
from wanlab.settings import Settings
from wanlab.timeline import Timeline
from wanlab.tiny import clips
from wanlab.tiny.wording import asked, prompt_score

RNG = np.random.default_rng(5)
NOISE = RNG.integers(0, 256, (4, 37, 52, 3), dtype=np.uint8)
NOISY = (NOISE + RNG.normal(0, 25, NOISE.shape)).clip(0, 255).astype(np.uint8)


def textured(shift: tuple[float, float], frames: int = 6, side: int = 64) -> np.ndarray:
    """A smooth texture that moves by so many pixels (x, y) a frame, round and round."""
    waves = [(2, 1), (1, 3), (4, -3), (-3, 5), (5, 2), (6, -1), (1, 7)]
    phases = np.random.default_rng(1).uniform(0, 2 * math.pi, len(waves))
    y, x = np.mgrid[:side, :side]
    made = []
    for k in range(frames):
        place = (x - k * shift[0], y - k * shift[1])
        parts = (
            np.sin(2 * math.pi * (a * place[0] + b * place[1]) / side + p) for (a, b), p in zip(waves, phases, strict=True)
        )
        made.append(128 + 24 * sum(parts))
    return np.repeat(np.stack(made)[..., None], 3, -1).clip(0, 255).astype(np.uint8)


def disc(speed: float, frames: int = 12) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    inside = [np.hypot(y - 32, x - 16 - speed * k)[..., None] < 10 for k in range(frames)]
    return np.stack([np.where(part, (225, 45, 45), (75, 110, 200)) for part in inside]).astype(np.uint8)


def test_ssim_is_that_of_scikit_image() -> None:
    theirs = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
        )
        for a, b in zip(NOISE, NOISY, strict=True)
    ]
    assert metrics.ssim(NOISE, NOISY) == pytest.approx(np.mean(theirs), abs=1e-9)


def test_psnr_is_that_of_scikit_image() -> None:
    assert metrics.psnr(NOISE, NOISY) == pytest.approx(peak_signal_noise_ratio(NOISE, NOISY), abs=1e-5)


def test_equal_clips_are_as_alike_as_can_be() -> None:
    assert metrics.psnr(NOISE, NOISE) == math.inf
    assert metrics.ssim(NOISE, NOISE) == pytest.approx(1)
    assert metrics.latent_error(NOISE.astype(float), NOISE.astype(float)) == 0


def test_comparisons_do_not_mind_which_clip_comes_first() -> None:
    assert metrics.psnr(NOISE, NOISY) == metrics.psnr(NOISY, NOISE)
    assert metrics.ssim(NOISE, NOISY) == pytest.approx(metrics.ssim(NOISY, NOISE), abs=1e-12)


def test_long_clips_are_compared_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metrics.ssim(NOISE, NOISY)
    monkeypatch.setattr(metrics, "_AT_ONCE", 1)
    assert metrics.ssim(NOISE, NOISY) == pytest.approx(whole, abs=1e-12)


def test_the_error_of_latents_is_relative() -> None:
    latents = RNG.normal(size=(1, 16, 2, 4, 4))
    assert metrics.latent_error(1.1 * latents, latents) == pytest.approx(0.1)
    assert metrics.latent_error(5 * 1.1 * latents, 5 * latents) == pytest.approx(0.1)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 2), (2, -1), (3, 4), (0.5, 0), (1.3, 0.7)])
def test_the_motion_of_a_texture_is_found(shift: tuple[float, float]) -> None:
    assert metrics.motion(textured(shift)) == pytest.approx(math.hypot(*shift), abs=0.1)


@pytest.mark.parametrize("speed", [0.0, 1.0, 2.0, 3.0])
def test_the_motion_of_a_disc_on_a_plain_background_is_that_of_the_disc(speed: float) -> None:
    assert metrics.motion(disc(speed)) == pytest.approx(speed, abs=0.15)


def test_the_motion_of_a_large_picture_is_in_its_own_pixels() -> None:
    large = disc(2.0).repeat(4, 1).repeat(4, 2)
    assert metrics.motion(large) == pytest.approx(8, abs=1.2)


def test_noise_flickers_and_does_not_move() -> None:
    still = np.repeat(textured((0, 0), 1), 8, 0)
    noisy = (still + np.random.default_rng(2).normal(0, 4, still.shape)).clip(0, 255).astype(np.uint8)
    assert metrics.flicker(still) == 0
    assert metrics.flicker(noisy) > 0.01
    assert metrics.motion(noisy) < 0.1


def test_flicker_is_the_mean_change_on_a_scale_of_one() -> None:
    dark, light = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    assert metrics.flicker(np.concatenate([dark, light, dark])) == 1
    assert metrics.flicker(np.concatenate([dark, light, light])) == 0.5


def test_sharpness_minds_blur_and_not_contrast() -> None:
    sharp = textured((0, 0), 1)
    weak = (sharp // 2 + 40).astype(np.uint8)
    blurred = ((sharp.astype(int) + np.roll(sharp, 3, 1) + np.roll(sharp, 3, 2) + np.roll(sharp, 6, 2)) // 4).astype(np.uint8)
    assert metrics.sharpness(weak) == pytest.approx(metrics.sharpness(sharp), rel=0.05)
    assert metrics.sharpness(blurred) < 0.8 * metrics.sharpness(sharp)


def test_what_is_not_defined_is_not_a_number() -> None:
    picture, plain = NOISE[:1], np.full((3, 32, 32, 3), 90, np.uint8)
    assert math.isnan(metrics.flicker(picture))
    assert math.isnan(metrics.motion(picture))
    assert math.isnan(metrics.sharpness(plain))
    assert math.isnan(metrics.motion(plain))


def test_clips_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one length and size"):
        metrics.psnr(NOISE, NOISE[:2])
    with pytest.raises(ValueError, match="one length and size"):
        metrics.ssim(NOISE, NOISE[:, :20])
    with pytest.raises(ValueError, match="at least 11 x 11"):
        metrics.ssim(NOISE[:, :8], NOISE[:, :8])
    with pytest.raises(ValueError, match="one shape"):
        metrics.latent_error(np.zeros(3), np.zeros(4))


def test_every_caption_of_the_training_clips_is_understood() -> None:
    rng = random.Random(3)
    for scene in [clips.random_scene(rng) for _ in range(400)]:
        wanted = {"shape": scene.shape, "color": scene.color, "background": scene.background, "motion": scene.motion}
        assert asked(clips.caption(scene, rng)) == wanted


def test_the_prompt_score_is_the_part_that_shows() -> None:
    true = clips.to_frames(
        clips.random_clip(clips.Scene("circle", "red", "right", "blue"), 17, 64, __import__("random").Random(2))
    )
    frames = np.asarray(true)
    assert prompt_score(frames, "a red circle moves right on a blue background") == 1
    assert prompt_score(frames, "a red circle moves left on a blue background") == 0.75
    assert prompt_score(frames, "a green star moves left on a white background") == 0
    assert prompt_score(frames[:1], "a red circle moves left on a blue background") == 1  # no motion is asked of a picture
    assert prompt_score(frames, "a cat walks through tall grass") is None


def test_measured_runs_have_their_metrics_in_the_log(bench: Bench, small: Callable[..., Settings]) -> None:
    plain, other = (perform(bench, Timeline(small(steps=2, seed=seed))) for seed in (1, 2))
    own = measure(plain)
    assert set(own) == {"flicker", "motion", "sharpness", "prompt_score"}
    against = measure(other, plain)
    assert against["ssim"] is not None
    assert against["ssim"] < 1
    assert measure(plain, plain)["latent_error"] == 0
    log = bench.log.frame()
    assert log.loc[plain.id, "metrics.flicker"] == pytest.approx(own["flicker"])
    assert log.loc[other.id, "metrics.psnr"] == pytest.approx(against["psnr"])
    longer = perform(bench, Timeline(small(steps=2, frames=9)))
    with pytest.raises(SettingsError, match="same size and length"):
        measure(longer, plain)
