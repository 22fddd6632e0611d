"""The two LoRAs of the tiny model: their files, what they do, and the laws of the scripts that trained them."""

from __future__ import annotations

import json
import random
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import safe_open
from torch import Tensor, nn

from wanlab.schedule import grid
from wanlab.tiny import clips, lora_path, lora_steps, lora_style, tiny_path, train
from wanlab.tiny.evaluate import score
from wanlab.tiny.lora_training import ORIGINAL, add_lora, load_lora, merge_lora, plain_transformer, save_lora
from wanlab.tiny.training import Ranks
from wanlab.tiny.transformer import Teacher, _count_padding
from wanlab.tiny.vae import decode, lay_out

FILES = {name: Path(str(lora_path(stored))) for name, stored in train.LORAS.items()}
HELD_OUT = clips.scenes(held_out=True)


@cache
def teacher() -> Teacher:
    return Teacher(Path(tiny_path()), torch.device("cpu"))


@cache
def walker(name: str = "", strength: float = 1.0) -> lora_steps.Walker:
    model = plain_transformer()
    return lora_steps.Walker.of(merge_lora(model, FILES[name], strength) if name else model, fast=False)


@torch.inference_mode()
def latents(scenes: list[clips.Scene], walker: lora_steps.Walker, steps: int, cfg: float) -> Tensor:
    """Euler steps with shift 3 from noise of the seeds 0, 1, 2 ... to (b, 16, 5, 8, 8)."""
    noise = [torch.randn(lora_steps.SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(len(scenes))]
    text, levels, x = (
        teacher()([clips.caption(scene) for scene in scenes]),
        grid("euler", steps, 3).sigmas.tolist(),
        torch.stack(noise),
    )
    if cfg != 1:
        return walker.guided(x, text, teacher()([""]), levels)
    for level, following in pairwise(levels):
        x = x + (following - level) * walker.velocity(x, level, text)
    return x


@torch.inference_mode()
def frames(latents: Tensor) -> list[np.ndarray]:
    vae = AutoencoderKLWan.from_pretrained(Path(tiny_path()) / "vae", dtype=torch.float32)
    lay_out(vae)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    return [clips.to_frames(decode(vae, one[None] * std + mean)[0]).numpy() for one in latents]


# --- the files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_changes_every_layer_of_the_blocks_and_nothing_else(name: str) -> None:
    assert FILES[name].stat().st_size < 1.2e6
    model = plain_transformer()
    with safe_open(FILES[name], "pt") as stored:
        left = set(stored.keys())
        for index, block in enumerate(model.blocks):
            linear = {path: part for path, part in block.named_modules() if isinstance(part, nn.Linear)}
            assert set(linear) == set(ORIGINAL)
            for path, part in linear.items():
                key = f"diffusion_model.blocks.{index}.{ORIGINAL[path]}"
                down, up = (stored.get_tensor(f"{key}.lora_{end}.weight") for end in ("down", "up"))
                assert (down.dtype, up.dtype) == (torch.float16, torch.float16)
                assert (up.shape[0], down.shape[1]) == tuple(part.weight.shape)
                assert up.shape[1] == down.shape[0] == float(stored.get_tensor(f"{key}.alpha"))
                assert float(up.abs().max()) > 0
                assert float(down.abs().max()) > 0
                left -= {f"{key}.lora_down.weight", f"{key}.lora_up.weight", f"{key}.alpha"}
        assert not left
        assert stored.metadata()["base"] == "tiny"
        assert json.loads(stored.metadata()["wanlab"]) == (lora_steps.SUITS if name == "four_steps" else {})


def test_the_steps_are_those_of_the_guided_model(tmp_path: Path) -> None:
    lora_steps.write_states(tmp_path, lora_steps.Round(16, 0), walker(), None, Ranks(), "unseen")
    states = lora_steps.States([tmp_path])
    text, levels = teacher()(states.captions), lora_steps.LEVELS[:: lora_steps.PARTS]
    for step, (level, following) in enumerate(pairwise(levels)):
        x = torch.stack(states.starts)[:, step].float()
        wanted = (x - torch.stack(states.ends)[:, step].float()) / (level - following)
        with torch.inference_mode():
            off = {n: float((walker(n).velocity(x, level, text) - wanted).square().mean()) for n in ("", "four_steps")}
        assert off["four_steps"] < 0.9 * off[""], step


def test_four_steps_show_what_was_asked_for() -> None:
    scenes = HELD_OUT[5::12]
    good = score(scenes, frames(latents(scenes, walker("four_steps"), 4, 1)))
    assert good.share() >= 0.7


def test_the_style_grows_with_its_strength() -> None:
    scenes = [scene for scene in HELD_OUT[2::40] if scene.background != "black"]
    made = [frames(latents(scenes, walker("style", strength), 12, 3)) for strength in (0, 0.5, 1)]
    dark = [np.mean([lora_style.dark_share(one) for one in some]) for some in made]
    hollow = [np.mean([lora_style.hollow_share(one) for one in some]) for some in made]
    assert dark[0] < 0.1
    assert dark[1] > 0.5
    assert dark[2] > 0.8
    assert hollow[0] < 0.01
    assert hollow[0] <= hollow[1] < hollow[2] - 0.02


# --- how they are trained ----------------------------------------------------------------------------------------------


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 16, 2, 8, 8), torch.tensor([900.0, 300.0]), teacher()(["a red circle spins", "blue"])


@torch.no_grad()
def velocity(model: WanTransformer3DModel) -> Tensor:
    return _count_padding(model)(*inputs(), return_dict=False)[0]


def trained() -> WanTransformer3DModel:
    """A model whose LoRA has taken some random values."""
    model = add_lora(plain_transformer(), rank=4)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())) * 0.1)
    return model


def test_a_new_lora_changes_nothing_and_alone_is_trained() -> None:
    model = add_lora(plain_transformer())
    torch.testing.assert_close(velocity(model), velocity(plain_transformer()))
    assert {name.rpartition(".")[2] for name, weight in model.named_parameters() if weight.requires_grad} == {"up", "down"}


def test_what_is_saved_is_what_was_trained(tmp_path: Path) -> None:
    model = trained()
    save_lora(model, tmp_path / "some.safetensors", {})
    merged = merge_lora(plain_transformer(), tmp_path / "some.safetensors")
    assert float((velocity(model) - velocity(plain_transformer())).abs().max()) > 0.1
    torch.testing.assert_close(velocity(merged), velocity(model), atol=5e-3, rtol=0)  # it was rounded to float16
    again = load_lora(add_lora(plain_transformer(), rank=4), tmp_path / "some.safetensors")
    torch.testing.assert_close(velocity(again), velocity(merged), atol=1e-4, rtol=0)


def test_strengths_add_up(tmp_path: Path) -> None:
    save_lora(trained(), tmp_path / "some.safetensors", {})
    parts = merge_lora(merge_lora(plain_transformer(), tmp_path / "some.safetensors", 0.3), tmp_path / "some.safetensors", 0.5)
    torch.testing.assert_close(
        velocity(parts), velocity(merge_lora(plain_transformer(), tmp_path / "some.safetensors", 0.8)), atol=1e-4, rtol=0
    )
    nothing = merge_lora(plain_transformer(), tmp_path / "some.safetensors", 0.0)
    assert torch.equal(velocity(nothing), velocity(plain_transformer()))


def test_the_students_levels_are_some_of_the_teachers() -> None:
    assert lora_steps.LEVELS[:: lora_steps.PARTS] == pytest.approx(grid("euler", lora_steps.STEPS, lora_steps.SHIFT).sigmas)


class Straight:
    """A model whose velocity is the same everywhere: `slope` times the level's sign."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def velocity(self, x: Tensor, sigma: float, text: Tensor) -> Tensor:
        return torch.full_like(x, self.slope)

    guided = lora_steps.Walker.guided


def test_states_lead_where_the_guide_goes_and_begin_where_the_student_is(tmp_path: Path) -> None:
    for name, student in (("guide", None), ("student", Straight(-3.0))):
        lora_steps.write_states(tmp_path / name, lora_steps.Round(32, 0), Straight(2.0), student, Ranks(), "0")
        states = lora_steps.States([tmp_path / name])
        starts, ends, captions = torch.stack(states.starts), torch.stack(states.ends), states.captions
        levels = lora_steps.LEVELS[:: lora_steps.PARTS]
        assert len(captions) == len(starts) == 32
        for step, (level, following) in enumerate(pairwise(levels)):
            moved = (starts[:, step] - ends[:, step]).float()
            torch.testing.assert_close(moved, torch.full_like(moved, 2.0 * (level - following)), atol=4e-3, rtol=0)
            if step < 3:
                gone = (starts[:, step] - starts[:, step + 1]).float()
                slope = 2.0 if student is None else -3.0
                torch.testing.assert_close(gone, torch.full_like(gone, slope * (level - following)), atol=4e-3, rtol=0)
        x, sigma, wanted, words = states.sample(16, random.Random(0))
        assert sorted(set(sigma.tolist())) == pytest.approx(sorted(levels[:-1]))
        assert set(words) <= set(captions)
        torch.testing.assert_close(wanted, torch.full_like(x, 2.0), atol=0.06, rtol=0)


def test_states_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    lora_steps.write_states(whole, lora_steps.Round(32, 0), Straight(1.0), None, Ranks(), "0")
    lora_steps.write_states(cut, lora_steps.Round(16, 0), Straight(1.0), None, Ranks(), "0")
    first = (cut / "0000.safetensors").stat().st_mtime_ns
    lora_steps.write_states(cut, lora_steps.Round(32, 0), Straight(1.0), None, Ranks(), "0")
    assert (cut / "0000.safetensors").stat().st_mtime_ns == first
    ours, theirs = lora_steps.States([cut]), lora_steps.States([whole])
    assert ours.captions == theirs.captions
    assert torch.equal(torch.stack(ours.ends), torch.stack(theirs.ends))


def test_a_round_may_make_the_first_steps_only(tmp_path: Path) -> None:
    lora_steps.write_states(tmp_path / "whole", lora_steps.Round(16, 0), Straight(1.0), None, Ranks(), "0")
    lora_steps.write_states(tmp_path / "first", lora_steps.Round(16, 0, first=2), Straight(1.0), None, Ranks(), "0")
    states = lora_steps.States([tmp_path / "whole", tmp_path / "first"])
    assert [len(one) for one in states.clips] == [32, 32, 16, 16]
    assert len(set(states.sample(8, random.Random(0))[1].tolist())) == 4


@pytest.mark.parametrize(
    "scene", [clips.Scene("star", "red", "right", "white"), clips.Scene("circle", "black", "grow", "pink")]
)
def test_a_neon_shape_is_hollow_and_lies_where_the_plain_one_does(scene: clips.Scene) -> None:
    path = clips.path(scene, 17, random.Random(0), lattice=True)
    tube = clips.to_frames(lora_style.neon(scene, path)).numpy()
    assert lora_style.dark_share(tube) > 0.8
    column, row = int(float(path.x[0]) * 64), int(float(path.y[0]) * 64)
    assert tube[0, row, column].max() <= lora_style.DARK
    assert lora_style.filled(tube)[0, row, column].max() > lora_style.DARK
    assert lora_style.hollow_share(tube) > 0.02
    assert lora_style.hollow_share(lora_style.filled(tube)) == 0
    plain = score([scene], [clips.to_frames(clips.render(scene, path)).numpy()]).seen[0]
    found = score([scene], [lora_style.filled(tube)]).seen[0]
    assert (found.shape, found.motion) == (scene.shape, scene.motion)
    assert plain.centre is not None
    np.testing.assert_allclose(found.centre, plain.centre, atol=0.02)


def test_filling_leaves_a_whole_shape_alone() -> None:
    scene = clips.Scene("triangle", "green", "orbit", "yellow")
    made = clips.to_frames(clips.random_clip(scene, 17, 64, random.Random(0), lattice=True)).numpy()
    assert score([scene], [lora_style.filled(made)]).share() == 1


def test_the_stage_needs_the_name_of_a_lora(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["lora"], ["text", "--name", "style"]):
        monkeypatch.setattr("sys.argv", ["train", *words, "--folder", "nowhere"])
        with pytest.raises(SystemExit):
            train.main()
        assert "--name says which LoRA" in capsys.readouterr().err
