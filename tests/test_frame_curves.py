"""The curves of a player: closed forms, and laws that hold for any clips."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wanlab.show.frame_curves import difference, flicker, frame_curves, mean_colour


def noise(seed: int, frames: int = 5, height: int = 12, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def flat(*levels: int) -> np.ndarray:
    """A clip of gray frames of these levels."""
    return np.array(levels, np.uint8)[:, None, None, None].repeat(4, 1).repeat(6, 2).repeat(3, 3)


def test_difference_equals_the_mean_of_absolute_differences() -> None:
    one, other = noise(1), noise(2)
    expected = np.abs(one.astype(float) - other).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(difference(one, other), expected, rtol=1e-12)
    np.testing.assert_array_equal(difference(one, other), difference(other, one))


def test_difference_of_gray_frames_is_that_of_their_levels() -> None:
    np.testing.assert_array_equal(difference(flat(0, 100, 255), flat(255, 90, 255)), [255, 10, 0])


def test_shorter_clip_keeps_its_last_frame() -> None:
    np.testing.assert_array_equal(difference(flat(10, 20), flat(10, 10, 10, 50)), [0, 10, 10, 30])
    np.testing.assert_array_equal(difference(flat(10, 10, 10, 50), flat(10, 20)), [0, 10, 10, 30])


def test_other_size_is_stretched() -> None:
    np.testing.assert_array_equal(difference(np.full((2, 3, 9, 3), 40, np.uint8), flat(50, 40)), [10, 0])


def test_flicker_is_the_change_since_the_frame_before() -> None:
    np.testing.assert_array_equal(flicker(flat(0, 10, 10, 4)), [np.nan, 10, 0, 6])
    clip = noise(3)
    np.testing.assert_allclose(flicker(clip)[1:], np.abs(np.diff(clip.astype(float), axis=0)).mean(axis=(1, 2, 3)))
    np.testing.assert_array_equal(flicker(clip[:1]), [np.nan])


def test_mean_colour_is_the_mean_of_each_channel() -> None:
    clip = noise(4)
    np.testing.assert_allclose(mean_colour(clip), clip.mean(axis=(1, 2)))


def test_one_level_in_one_pixel_of_a_large_clip_is_not_nothing() -> None:
    one = np.zeros((1, 480, 832, 3), np.uint8)
    other = one.copy()
    other[0, 7, 7, 1] = 1
    (((value,),), _) = frame_curves([one, other])["difference"]  # type: ignore[misc]
    assert value == pytest.approx(1 / one.size, rel=1e-3)


def test_curves_hold_every_pair_and_are_json() -> None:
    clips = [noise(seed, frames) for seed, frames in ((1, 5), (2, 3), (3, 5), (4, 1))]
    curves = json.loads(json.dumps(frame_curves(clips), allow_nan=False))
    assert [len(row) for row in curves["difference"]] == [3, 2, 1, 0]
    for i, j in ((0, 1), (0, 3), (1, 2), (2, 3)):
        np.testing.assert_allclose(curves["difference"][i][j - i - 1], difference(clips[j], clips[i]), rtol=1e-3)
    assert [curve[0] for curve in curves["flicker"]] == [None] * 4
    assert [len(channel) for channel in curves["colour"][1]] == [3, 3, 3]
