"""Context windows equal WanVideoWrapper's and ComfyUI's where those are sound, and are sound for all options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from wanlab.windows import FUSES, SCHEDULES, blend_weights, freenoise_order, section, sections_without_window, windows

REFERENCE = json.loads((Path(__file__).parent / "reference" / "windows.json").read_text())
OF_COMFY = {"standard_static": "static_standard", "standard_uniform": "uniform_standard", "looped_uniform": "uniform_looped"}
FULL_RUN = REFERENCE["full_run_161px_81_4_16_30steps"]
FUSE_OF = {
    "linear_mar2025": "linear",
    "linear_later": "linear",
    "overlap-linear": "linear",
    "pyramid": "pyramid",
    "flat": "flat",
}


def made_for(row: dict[str, Any], step: int) -> list[list[int]]:
    schedule = OF_COMFY.get(row["schedule"], row["schedule"])
    options = row["num_frames"], row["context_size"], row["stride"], row["overlap"]
    return windows(schedule, *options, step, row.get("closed_loop", True))


def sound(made: list[list[int]], latent_frames: int) -> bool:
    in_range = all(0 <= frame < latent_frames for window in made for frame in window)
    unique = all(len(set(window)) == len(window) for window in made)
    return in_range and unique and {frame for window in made for frame in window} == set(range(latent_frames))


def fused(outputs: list[np.ndarray], made: list[list[int]], weights: list[np.ndarray], latent_frames: int) -> np.ndarray:
    """The formula of the module, for one number per frame."""
    total, weight = np.zeros(latent_frames), np.zeros(latent_frames)
    for window, own, out in zip(made, weights, outputs, strict=True):
        total[window] += own * out
        weight[window] += own
    return total / weight


def wraps(window: list[int]) -> bool:
    return any(np.diff(window) < 0)


@st.composite
def runs_of_windows(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """The windows of any legal options, the frames of the video, the overlap."""
    latent_frames, length = draw(st.integers(1, 90)), draw(st.integers(1, 24))
    overlap = draw(st.integers(0, length - 1))
    schedule, closed = draw(st.sampled_from(SCHEDULES)), draw(st.booleans())
    stride, step = draw(st.integers(1, 6)), draw(st.integers(0, 200))
    return windows(schedule, latent_frames, length, stride, overlap, step, closed), latent_frames, overlap


# The windows.


def test_sound_windows_of_the_reference_are_ours_and_the_others_are_repaired() -> None:
    """But for videos of one window, which the reference turns as a ring."""
    equal = repaired = 0
    for row in REFERENCE["windows"]:
        made, frames = made_for(row, row["step"]), row["num_frames"]
        if frames <= row["context_size"]:
            assert made == [list(range(frames))]
        elif sound(row["windows"], frames):
            assert made == row["windows"], row
            equal += 1
        else:
            assert sound(made, frames), row
            repaired += 1
    assert (equal, repaired) == (130, 20)


@pytest.mark.parametrize("row", FULL_RUN, ids=lambda row: row["schedule"])
def test_thirty_steps_begin_where_the_references_do_and_make_as_many_calls(row: dict[str, Any]) -> None:
    made = [made_for(row, step) for step in range(30)]
    assert [[window[0] for window in step] for step in made] == row["starts_per_step"]
    calls = {"static_standard": 90, "uniform_standard": 101, "uniform_looped": 90}[row["schedule"]]
    assert sum(map(len, made)) == row["total_model_windows"] == calls


def starts(schedule: str, step: int) -> list[int]:
    return [window[0] for window in windows(schedule, 41, 21, 1, 4, step)]


def test_spot_values() -> None:
    assert windows("static_standard", 41, 21, 1, 4, 0) == [[*range(21)], [*range(17, 38)], [*range(20, 41)]]
    assert starts("uniform_standard", 0) == [0, 17, 20]
    assert starts("uniform_standard", 1) == [20, 0, 13]
    assert starts("uniform_standard", 2) == [10, 20, 0, 3]
    assert starts("uniform_standard", 5) == [20, 0, 2, 19]
    assert starts("uniform_looped", 1) == [20, 37, 13]
    assert starts("uniform_looped", 3) == [31, 7, 24]


def test_the_ring_is_turned_by_the_van_der_corput_sequence() -> None:
    turns = [windows("uniform_looped", 1024, 8, 1, 0, step)[0][0] / 1024 for step in range(8)]
    assert turns == REFERENCE["halving"] == [0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]


@given(runs_of_windows())
def test_windows_of_any_options_are_in_range_unique_covering_and_not_there_twice(run: tuple[list[list[int]], int, int]) -> None:
    made, latent_frames, _ = run
    assert sound(made, latent_frames)
    assert len({tuple(window) for window in made}) == len(made)


@given(st.sampled_from(SCHEDULES), st.integers(1, 30), st.integers(0, 10), st.integers(1, 5), st.integers(0, 40))
def test_a_video_no_longer_than_a_window_is_one_window(schedule: str, frames: int, more: int, stride: int, step: int) -> None:
    assert windows(schedule, frames, frames + more, stride, 0, step) == [list(range(frames))]


@given(st.integers(1, 60), st.integers(1, 20))
def test_batched_windows_do_not_overlap(latent_frames: int, length: int) -> None:
    made = windows("batched", latent_frames, length, 1, 0, 0)
    assert [frame for window in made for frame in window] == list(range(latent_frames))


@given(runs_of_windows(), st.integers(0, 100))
def test_only_looped_windows_wrap_and_the_static_ones_stay(run: tuple[list[list[int]], int, int], step: int) -> None:
    _, frames, overlap = run
    for schedule in ("static_standard", "uniform_standard", "batched"):
        assert not any(wraps(window) for window in windows(schedule, frames, overlap + 1, 3, overlap, step))
    assert windows("static_standard", frames, 7, 1, 2, step) == windows("static_standard", frames, 7, 1, 2, 0)


def test_only_moving_windows_bring_all_near_frames_together() -> None:
    def pairs(schedule: str) -> int:
        made = [window for step in range(30) for window in windows(schedule, 41, 21, 1, 4, step)]
        return len({(a, b) for window in made for a in window for b in window if 0 < b - a <= 20})

    assert (pairs("uniform_standard"), pairs("static_standard")) == (610, 471)


def test_more_stride_is_more_windows_that_see_further() -> None:
    reach = [max(window[-1] - window[0] for window in windows("uniform_standard", 65, 9, stride, 2, 0)) for stride in (1, 2, 3)]
    assert reach == [8, 16, 32]
    counts = [len(windows("uniform_standard", 65, 9, stride, 2, 0)) for stride in (1, 2, 3)]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("static", 41, 21, 1, 4, 0), "no window schedule 'static'; there are static_standard"),
        (("static_standard", 41, 21, 1, 21, 0), "less than the length"),
        (("static_standard", 41, 0, 1, 0, 0), "at least 1"),
        (("static_standard", 41, 21, 0, 4, 0), "at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        windows(*options)


# The weights.


@pytest.mark.parametrize("source", FUSE_OF)
def test_weights_equal_the_reference(source: str) -> None:
    """But for windows that wrap: the first "linear" has no ramps there, the later one not always two if they are dilated."""
    compared = 0
    for row in REFERENCE["blend_weights"]:
        if row["fuse"] != source:
            continue
        ours = blend_weights(FUSE_OF[source], row["windows"], row["num_frames"], row["overlap"])
        for window, own, theirs in zip(row["windows"], ours, row["weights"], strict=True):
            dilated = (window[1] - window[0]) % row["num_frames"] > 1
            if not wraps(window) or (source == "linear_later" and not dilated):
                np.testing.assert_allclose(own, theirs, atol=2e-6)
                compared += 1
    assert compared > 10


@pytest.mark.parametrize("row", REFERENCE["relative_fuse"], ids=lambda row: f"{row['num_frames']} frames")
def test_relative_is_the_running_average_of_the_reference(row: dict[str, Any]) -> None:
    weights = blend_weights("relative", row["windows"], row["num_frames"], row["overlap"])
    outputs = [np.full(len(window), k + 1.0) for k, window in enumerate(row["windows"])]
    np.testing.assert_allclose(fused(outputs, row["windows"], weights, row["num_frames"]), row["fused"], atol=2e-6)


@given(runs_of_windows(), st.sampled_from(FUSES), st.floats(-10, 10))
def test_every_frame_has_weight_and_windows_that_agree_fuse_to_what_they_say(
    run: tuple[list[list[int]], int, int], fuse: str, value: float
) -> None:
    made, latent_frames, overlap = run
    weights = blend_weights(fuse, made, latent_frames, overlap)
    assert [len(own) for own in weights] == [len(window) for window in made]
    assert all((own >= 0).all() for own in weights)
    constant = fused([np.full(len(window), value) for window in made], made, weights, latent_frames)
    np.testing.assert_allclose(constant, value, rtol=1e-12, atol=1e-12)


@given(runs_of_windows())
def test_partition_has_no_weight_0_and_no_ramp_that_reaches_1(run: tuple[list[list[int]], int, int]) -> None:
    made, latent_frames, overlap = run
    for own in blend_weights("partition", made, latent_frames, overlap):
        assert ((own > 0) & (own <= 1)).all()
        assert overlap == 0 or len(made) == 1 or (np.unique(own[own < 1]) <= 1 - 0.5 / overlap + 1e-12).all()


@given(st.integers(2, 24), st.integers(2, 6), st.data())
def test_partition_sums_to_one_where_neighbours_overlap_as_asked(length: int, count: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length // 2))
    latent_frames = length + (count - 1) * (length - overlap)
    made = windows("static_standard", latent_frames, length, 1, overlap, 0)
    total = np.zeros(latent_frames)
    for window, own in zip(made, blend_weights("partition", made, latent_frames, overlap), strict=True):
        total[window] += own
    np.testing.assert_allclose(total, 1)


@given(st.integers(2, 24), st.integers(2, 6), st.integers(0, 50), st.data())
def test_on_a_ring_partition_has_no_ends(length: int, count: int, step: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, length // 2))
    latent_frames = count * (length - overlap)
    assume(latent_frames > length)
    made = windows("uniform_looped", latent_frames, length, 1, overlap, step)
    total = np.zeros(latent_frames)
    for window, own in zip(made, blend_weights("partition", made, latent_frames, overlap), strict=True):
        total[window] += own
    np.testing.assert_allclose(total, 1)


def test_a_frame_that_linear_leaves_out_is_the_mean_of_its_windows_and_no_other_moves() -> None:
    made, frames = [[*range(9)], [*range(8, 17)]], 17
    first, second = blend_weights("linear", made, frames, 2)
    assert (first[-1], second[0]) == (1e-6, 1e-6)
    assert first[:-1].tolist() == second[1:].tolist() == [1.0] * 8
    assert fused([np.zeros(9), np.ones(9)], made, [first, second], frames).tolist() == [0] * 8 + [0.5] + [1] * 8


@pytest.mark.parametrize("fuse", FUSES)
def test_one_window_has_the_weight_1(fuse: str) -> None:
    (weights,) = blend_weights(fuse, [[*range(9)]], 9, 4)
    assert weights.tolist() == [1.0] * 9


def test_an_unknown_fuse_is_refused() -> None:
    with pytest.raises(ValueError, match="no way to fuse windows named 'mean'"):
        blend_weights("mean", [[0, 1], [1, 2]], 3, 1)


# The noise and the prompts.


@pytest.mark.parametrize("row", REFERENCE["freenoise"], ids=lambda row: f"{row['num_frames']} frames")
def test_freenoise_equals_the_reference(row: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(row["seed"])
    torch.randn(row["noise_shape_drawn_first_C_F_H_W"], generator=generator)
    order = freenoise_order(
        row["num_frames"], row["context_size"], row["overlap"], lambda n: torch.randperm(n, generator=generator).tolist()
    )
    assert order == row["source_frame_of_each_frame"]


@given(st.integers(1, 90), st.integers(1, 24), st.data())
def test_freenoise_repeats_the_noise_of_the_first_window(latent_frames: int, length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    permute = lambda n: data.draw(st.permutations(range(n)))  # noqa: E731
    order = freenoise_order(latent_frames, length, overlap, permute)
    first = min(length, latent_frames)
    assert order[:first] == list(range(first))
    assert len(order) == latent_frames
    assert set(order) == set(range(first))


@pytest.mark.parametrize("row", REFERENCE["prompt_index"], ids=lambda row: f"{row['num_prompts']} prompts")
def test_every_prompt_gets_a_window_where_the_old_rule_leaves_the_first_one_out(row: dict[str, Any]) -> None:
    frames, prompts = row["num_frames"], row["num_prompts"]
    made = windows("static_standard", frames, 21, 1, 4, 0)
    assert [window[-1] for window in made] == row["windows_max"]
    old = [min(int(window[-1] / (frames / prompts)), prompts - 1) for window in made]
    assert old == row["prompt_index"]
    assert (0 in old) == (prompts == 2)
    assert sections_without_window([made], frames, prompts) == []


@given(runs_of_windows(), st.integers(1, 8))
def test_a_section_is_one_of_the_prompts_and_the_middle_frame_of_a_wrapped_window_counts(
    run: tuple[list[list[int]], int, int], sections: int
) -> None:
    made, frames, _ = run
    for window in made:
        middle = window[len(window) // 2] if wraps(window) else float(np.mean(window))
        assert section(window, frames, sections) == int(middle / frames * sections + 1e-9) in range(sections)


def test_sections_that_no_step_shows_are_named() -> None:
    steps = [windows("static_standard", 41, 21, 1, 4, step) for step in range(5)]
    assert sections_without_window(steps, 41, 3) == []
    assert sections_without_window(steps, 41, 5) == [0, 2, 4]
    assert sections_without_window([], 41, 2) == [0, 1]
