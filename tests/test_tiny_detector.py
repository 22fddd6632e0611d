"""The judge of the tiny model reads true clips, obeys the symmetries of the world, and is not fooled by anything else."""

import ast
import json
import math
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from wanlab.tiny import clips, detector, evaluate, motion
from wanlab.tiny.clips import Scene
from wanlab.tiny.detector import detect
from wanlab.tiny.evaluate import ALL, Score, score, spread, wilson

KINDS = [(17, False), (17, True), (33, False), (33, True)]  # frames, on the lattice


def rendered(scene: Scene, frames: int = 17, seed: int = 0, lattice: bool = True, side: int = 64) -> np.ndarray:
    return clips.to_frames(clips.random_clip(scene, frames, side, random.Random(seed), lattice)).numpy()


@cache
def held_out(frames: int, lattice: bool, count: int = 16) -> tuple[tuple[Scene, ...], tuple[np.ndarray, ...]]:
    rng = random.Random(f"{frames} {lattice}")
    scenes = tuple(clips.random_scene(rng, held_out=True) for _ in range(count))
    return scenes, tuple(rendered(scene, frames, seed, lattice) for seed, scene in enumerate(scenes))


def noisy(frames: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, frames.shape)
    return np.clip(frames + noise, 0, 255).round().astype(np.uint8)


def blurred(frames: np.ndarray, times: int = 1) -> np.ndarray:
    soft = np.pad(frames, ((0, 0), (times, times), (times, times), (0, 0)), mode="edge").astype(np.float32)
    for _ in range(times):
        soft = (soft[:, :-2] + 2 * soft[:, 1:-1] + soft[:, 2:]) / 4
        soft = (soft[:, :, :-2] + 2 * soft[:, :, 1:-1] + soft[:, :, 2:]) / 4
    return soft.round().astype(np.uint8)


# --- true clips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "lattice"), KINDS)
@pytest.mark.parametrize("damage", [np.asarray, noisy, blurred], ids=["clean", "noisy", "blurred"])
def test_true_held_out_clips_are_read(frames: int, lattice: bool, damage: Callable[[np.ndarray], np.ndarray]) -> None:
    scenes, made = held_out(frames, lattice)
    result = score(scenes, [damage(clip) for clip in made])
    wrong = [
        (scene, seen.words) for scene, seen, right in zip(scenes, result.seen, result.right(ALL), strict=True) if not right
    ]
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize(("side", "frames"), [(48, 9), (64, 5), (96, 17), (128, 5)])
def test_other_sizes_and_lengths_are_read(side: int, frames: int) -> None:
    scenes = [Scene("star", "red", motion, "gray") for motion in clips.MOTIONS]
    assert score(scenes, [rendered(scene, frames, 3, side=side) for scene in scenes]).share() == 1


def test_a_single_frame_has_everything_but_a_motion() -> None:
    scene = Scene("triangle", "yellow", "right", "purple")
    assert detect(rendered(scene, frames=1)).words == ("triangle", "yellow", "purple", None)


def test_all_words_are_those_of_the_vocabulary() -> None:
    assert detector.COLORS == clips.COLORS
    assert detector.BACKGROUNDS == clips.BACKGROUNDS


def test_the_judge_shares_no_code_with_the_renderer() -> None:
    names: set[str] = set()
    for module in (detector, motion):
        tree = ast.parse(Path(module.__file__).read_text())
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"__future__", "collections.abc", "dataclasses", "numpy", "numpy.typing", motion.__name__}


# --- laws --------------------------------------------------------------------------------------------------------------

SAME = {motion: motion for motion in clips.MOTIONS}
TRANSFORMS = {
    "mirrored": (lambda clip: clip[:, :, ::-1], SAME | {"left": "right", "right": "left"}),
    "upside down": (lambda clip: clip[:, ::-1], SAME | {"up": "down", "down": "up", "bounce": None}),
    "backwards": (
        lambda clip: clip[::-1],
        SAME | {"left": "right", "right": "left", "up": "down", "down": "up", "grow": "shrink", "shrink": "grow"},
    ),
    "a quarter turn left": (
        lambda clip: np.rot90(clip, axes=(1, 2)),
        SAME | {"left": "down", "down": "right", "right": "up", "up": "left", "bounce": None},
    ),
    "shifted on the torus": (lambda clip: np.roll(clip, 5, axis=2), SAME),
}


@pytest.mark.parametrize("motion", clips.MOTIONS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transformed_clip_shows_the_transformed_motion(transform: str, motion: str) -> None:
    change, becomes = TRANSFORMS[transform]
    clip = rendered(Scene("star", "orange", motion, "blue"), seed=7)
    before, after = detect(clip), detect(np.ascontiguousarray(change(clip)))
    assert before.words == ("star", "orange", "blue", motion)
    assert after.motion == becomes[motion]
    assert (after.shape, after.color) == (before.shape, before.color)


@pytest.mark.parametrize("color", clips.COLORS)
def test_another_colour_changes_the_colour_alone(color: str) -> None:
    for background in clips.BACKGROUNDS:
        if color != background:
            scene = Scene("square", color, "orbit", background)
            assert detect(rendered(scene, frames=5)).words == ("square", color, background, "orbit")


@pytest.mark.parametrize("shape", clips.SHAPES)
def test_a_clip_that_becomes_another_shape_or_colour_has_none(shape: str) -> None:
    first = rendered(Scene(shape, "red", "still", "gray"))
    for other in set(clips.SHAPES) - {shape}:
        second = rendered(Scene(other, "red", "still", "gray"))
        assert detect(np.concatenate([first[:9], second[9:]])).shape is None
    second = rendered(Scene(shape, "cyan", "still", "gray"))
    assert detect(np.concatenate([first[:9], second[9:]])).color is None


# --- what is no clip ---------------------------------------------------------------------------------------------------


def test_noise_and_nothing_are_not_read_as_an_object() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    patches = np.kron(rng.integers(0, 256, (5, 5, 5, 3)), np.ones((4, 13, 13, 1)))[:17, :64, :64].astype(np.uint8)
    assert detect(noise).words == detect(patches).words == (None, None, None, None)
    for name, color in clips.BACKGROUNDS.items():
        plain = np.full((17, 64, 64, 3), color, np.uint8)
        assert detect(plain).words == detect(noisy(plain)).words == (None, None, name, None)


@pytest.mark.parametrize("shape", clips.SHAPES)
def test_a_blurred_blob_is_no_shape(shape: str) -> None:
    melted = detect(blurred(rendered(Scene(shape, "red", "right", "gray")), times=40))  # a gaussian of 4.5 pixels
    assert melted.shape is None


def test_two_objects_are_not_one() -> None:
    star = np.roll(rendered(Scene("star", "red", "still", "gray")), -16, axis=2)
    circle = np.roll(rendered(Scene("circle", "red", "still", "gray")), 16, axis=2)
    both = np.concatenate([star[:, :, :32], circle[:, :, 32:]], axis=2)
    assert None in detect(both).words


def test_frames_in_the_wrong_order_have_no_motion() -> None:
    clip = rendered(Scene("circle", "green", "right", "white"))
    assert detect(clip[np.random.default_rng(0).permutation(17)]).motion is None


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float32 \(17, 64, 64, 3\); they must be uint8"):
        detect(np.zeros((17, 64, 64, 3), np.float32))  # type: ignore[arg-type]


# --- the evaluation ----------------------------------------------------------------------------------------------------


def test_true_clips_score_one_and_shuffled_ones_do_not() -> None:
    scenes, made = held_out(17, True)
    assert score(scenes, made).share() >= 0.95
    shuffled = score(scenes, made[1:] + made[:1])
    assert shuffled.share() < 0.1
    assert shuffled.share("background") < 0.5
    assert sum(shuffled.confusions("motion").values()) == len(made) - sum(shuffled.right("motion"))


def test_there_is_one_clip_of_each_scene() -> None:
    scenes, made = held_out(17, True)
    with pytest.raises(ValueError, match="16 scenes and 15 clips"):
        score(scenes, made[1:])


def test_single_frames_are_judged_without_a_motion() -> None:
    scenes, made = held_out(17, True)
    result = score(scenes, [frames[:1] for frames in made])
    assert result.share() >= 0.9
    assert result.right(evaluate.ALL) == [
        all(parts) for parts in zip(result.right("shape"), result.right("color"), result.right("background"), strict=True)
    ]
    assert evaluate.table({"single": result}).splitlines()[-1].split("|")[6].strip() == ""
    assert "motion taken" not in evaluate.details(result)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662)],  # the last: Newcombe 1998, Stat. in Med. 17
)
def test_wilson_intervals_equal_published_ones(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("count", [1, 7, 233])
def test_wilson_intervals_hold_the_share_and_mirror(count: int) -> None:
    for right in range(count + 1):
        low, high = wilson(right, count)
        assert 0 <= low <= right / count <= high <= 1
        assert wilson(count - right, count) == pytest.approx((1 - high, 1 - low))
    assert all(math.isnan(end) for end in wilson(0, 0))


@pytest.mark.parametrize("count", [1, 2, 50, 232, 233])
def test_a_part_is_evenly_spread(count: int) -> None:
    chosen = spread(233, count)
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert set(np.diff([*chosen, 233 + chosen[0]])) <= {233 // count, -(-233 // count)}


@pytest.mark.parametrize("count", [0, 234])
def test_more_than_there_is_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 233"):
        spread(233, count)


def test_the_report_tells_shares_and_confusions_and_the_sheet_shows_every_clip() -> None:
    scenes = [Scene("star", "red", "left", "gray"), Scene("circle", "red", "left", "gray")]
    made = [rendered(scenes[0])] * 2
    result: Score = score(scenes, made)
    assert "| 0.50 (0.09 to 0.91) | 1.00 (0.34 to 1.00) |" in evaluate.table({"generated": result})
    assert "circle as star 1" in evaluate.details(result)
    assert json.loads(json.dumps(evaluate.as_json(result)))["shares"]["shape"]["right"] == 1
    page = evaluate.sheet(result, made, stills=3, columns=1)
    assert page.height == 2 * (64 + 32)
    assert {(255, 0, 0), (0, 128, 0)} <= {color for _, color in page.getcolors(1 << 20) or []}


@pytest.mark.slow
def test_the_command_judges_the_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["evaluate", "--count", "2", "--steps", "2", "--frames", "5", "--json", str(file)])
    assert evaluate.main() == 0
    assert "| generated | 2 |" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["generated"]["clips"]) == 2
