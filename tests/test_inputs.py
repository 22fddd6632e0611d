"""Pictures, clips and latents as inputs: kept by content, checked before the run, told to the model as diffusers does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image

import wanlab as wl
from pipelines import ask
from wanlab.bench import Bench
from wanlab.denoise import denoise
from wanlab.errors import FileError, SettingsError
from wanlab.inputs import Inputs
from wanlab.model import finding
from wanlab.model.condition import Given, fitted, given
from wanlab.model.loaded import Loaded
from wanlab.model.model import Model
from wanlab.outline import TEXT_TOKENS
from wanlab.settings import ModelSettings, Settings
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def seeing() -> Model:
    """The tiny image-to-video model."""
    torch.set_num_threads(1)
    return Model(ModelSettings(model="tiny-i2v"), finding.find("tiny-i2v"))


@pytest.fixture
def image_lab(seeing: Model, tmp_path: Path) -> wl.Lab:
    lab = wl.Lab(tmp_path / "lab", model="tiny-i2v")
    lab._bench.__dict__["model"] = seeing
    return lab


@pytest.fixture
def text_lab(model: Model, tmp_path: Path) -> wl.Lab:
    lab = wl.Lab(tmp_path / "text")
    lab._bench.__dict__["model"] = model
    return lab


SMALL: dict[str, Any] = {"width": 32, "height": 32, "frames": 9, "steps": 4, "seed": 3}


# --- what is kept ------------------------------------------------------------------------------------------------------


def test_an_input_is_kept_by_its_content(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "inputs")
    name = inputs.keep("image", PICTURE)
    Image.fromarray(PICTURE).save(tmp_path / "a cat.png")
    other = inputs.keep("image", tmp_path / "a cat.png")
    assert other.startswith("a_cat-")
    assert name.split("-")[1] == other.split("-")[1] == inputs.keep("image", Image.fromarray(PICTURE)).split("-")[1]
    assert inputs.keep("image", name) == name
    kind, frames = inputs.read("image", other)
    assert kind == "frames"
    assert np.array_equal(frames, PICTURE[None])
    assert inputs.keep("image", "") == inputs.keep("image", None) == ""


def test_latents_are_kept_for_samples_only(tmp_path: Path) -> None:
    inputs, latents = Inputs(tmp_path), torch.randn(1, 16, 2, 4, 4)
    kind, read = inputs.read("samples", inputs.keep("samples", latents))
    assert kind == "latents"
    assert np.array_equal(read, latents.numpy())
    with pytest.raises(SettingsError, match=r"image is an array of float32 .* it must be a file, a picture, frames"):
        inputs.keep("image", latents)
    with pytest.raises(SettingsError, match="not finite"):
        inputs.keep("samples", latents / 0)


def test_what_is_no_input_is_refused_in_a_sentence(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    with pytest.raises(FileError, match=r"image is 'nowhere\.png'; there is no such file"):
        inputs.keep("image", "nowhere.png")
    with pytest.raises(FileError, match="has no such input"):
        inputs.read("image", "../../secret-0123456789abcdef0123456789abcdef.npz")
    with pytest.raises(SettingsError, match="samples is an array of int64"):
        inputs.keep("samples", [1, 2, 3])
    name = inputs.keep("image", PICTURE)
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(FileError, match="cannot be read"):
        inputs.read("image", name)


@pytest.mark.parametrize("size", [(64, 32), (20, 90), (32, 32)])
def test_a_picture_is_cut_and_not_bent(size: tuple[int, int]) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width]
    side = min(size)
    disc = (x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2 < (side * 0.3) ** 2
    made = fitted(np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, 2), 48, 48)[..., 0] > 127
    assert made.shape == (48, 48)
    wide, high = made.any(0).sum(), made.any(1).sum()
    assert abs(int(wide) - int(high)) <= 2
    assert abs(wide - 0.6 * 48) <= 3


# --- image to video ----------------------------------------------------------------------------------------------------


def stock(seeing: Model, settings: Settings) -> torch.Tensor:
    """The latents of diffusers' own pipeline around the same weights."""
    pipe = WanImageToVideoPipeline.from_pretrained(wl.tiny_path("tiny-i2v"), dtype=torch.float32)
    return ask(pipe, settings, image=Image.fromarray(PICTURE))


def test_image_to_video_equals_diffusers_own_pipeline(seeing: Model, image_lab: wl.Lab) -> None:
    run = image_lab.run("a red star spins on a gray background", image=PICTURE, **SMALL)
    torch.testing.assert_close(run.latents(4), stock(seeing, run.settings), atol=2e-4, rtol=1e-3)


def test_the_condition_says_what_is_known(seeing: Model, image_lab: wl.Lab) -> None:
    inputs = image_lab._bench.inputs
    start, end = (inputs.keep("image", frames) for frames in (PICTURE, PICTURE[::-1].copy()))
    five = inputs.keep("image", np.stack([PICTURE] * 5))

    def told(**changes: Any) -> Given:
        return given(seeing, Settings().but(SMALL | changes), inputs)

    one, both, last, long = told(image=start), told(image=start, end_image=end), told(end_image=end), told(image=five)
    tokens = one.image
    assert tokens is not None
    masks = [part.condition[0, :4, :, 0, 0].T.int().tolist() for part in (one, both, last, long) if part.condition is not None]
    ones, zeros = [1] * 4, [0] * 4
    assert masks == [[ones, zeros, zeros], [ones, zeros, [0, 0, 0, 1]], [zeros, zeros, [0, 0, 0, 1]], [ones, ones, zeros]]
    assert both.image is not None
    assert both.image.shape[1] == 2 * tokens.shape[1]
    stronger = told(image=start, start_latent_strength=2.0, clip_embed_strength=0.5)
    assert one.condition is not None
    assert stronger.condition is not None
    assert stronger.image is not None
    assert torch.equal(stronger.condition[:, 4:, 0], 2 * one.condition[:, 4:, 0])
    assert torch.equal(stronger.condition[:, 4:, 1:], one.condition[:, 4:, 1:])
    assert torch.equal(stronger.image, 0.5 * tokens)
    ended = told(image=start, end_image=end, end_latent_strength=0.5)
    assert both.condition is not None
    assert ended.condition is not None
    assert torch.equal(ended.condition[:, 4:, -1], 0.5 * both.condition[:, 4:, -1])
    noisy, again = told(image=start, noise_aug_strength=0.1), told(image=start, noise_aug_strength=0.1)
    assert noisy.condition is not None
    assert again.condition is not None
    assert torch.equal(noisy.condition, again.condition)
    assert not torch.equal(noisy.condition, one.condition)
    assert torch.equal(noisy.condition[:, :4], one.condition[:, :4])
    assert told() == Given()


def test_a_first_and_last_frame_model_reads_both_pictures(seeing: Model) -> None:
    torch.manual_seed(0)
    config = dict(seeing.transformer.config, num_layers=1, pos_embed_seq_len=34)
    both = Model(seeing.settings, seeing.checkpoint)
    both.__dict__["_loaded"] = (Loaded(WanTransformer3DModel.from_config(config).eval(), seeing.settings),)
    x, condition = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 20, 2, 4, 4)
    text, tokens = torch.randn(1, 512, 128), torch.randn(2, 17, both.transformer.config.image_dim)
    ours = both.velocity(x, torch.tensor(500), text, condition=condition, image=tokens.flatten(0, 1)[None])
    with torch.inference_mode():
        theirs = both.transformer(torch.cat([x, condition], 1), torch.tensor([500]), text, tokens, return_dict=False)[0]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("prompt", ["", "a red circle", "a red circle moves right on a blue background " * 5])
def test_text_is_always_512_tokens_so_that_diffusers_finds_the_image_in_front_of_it(seeing: Model, prompt: str) -> None:
    """diffusers takes the last 512 tokens for the text: with fewer of them it would read tokens of the image as text."""
    text = seeing.encode(prompt)
    assert text.shape[1] == TEXT_TOKENS == 512
    read: list[int] = []
    hook = seeing.transformer.blocks[0].attn2.add_k_proj.register_forward_hook(
        lambda _, args, out: read.append(args[0].shape[1])
    )
    image = torch.randn(1, 17, seeing.transformer.config.image_dim)
    try:
        seeing.velocity(torch.randn(1, 16, 1, 4, 4), torch.tensor(500.0), text, torch.randn(1, 20, 1, 4, 4), image)
    finally:
        hook.remove()
    assert read == [17]


def test_what_a_model_cannot_do_with_an_image_is_said_before_the_run(image_lab: wl.Lab, text_lab: wl.Lab) -> None:
    for lab, changes, sentence in (
        (text_lab, {"image": PICTURE}, "this is a text-to-video model"),
        (image_lab, {}, "This is an image-to-video model"),
        (
            image_lab,
            {"image": np.stack([PICTURE] * 4)},
            "image holds 4 frames; it must be one picture or 4n . 1",
        ),
        (image_lab, {"end_image": np.stack([PICTURE] * 5)}, "end_image holds 5 frames; it must be one picture."),
        (image_lab, {"image": PICTURE, "end_image": PICTURE, "frames": 1}, "hold 2 frames, and the clip has 1"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            lab.run("x", **SMALL | changes)
        with pytest.raises(SettingsError, match=sentence):
            lab.plan("x", **SMALL | changes)
        assert lab.log.empty


def test_a_run_with_an_image_resumes_and_its_windows_see_their_part_of_it(image_lab: wl.Lab) -> None:
    settings = image_lab.settings.but(
        SMALL | {"frames": 17, "image": image_lab._bench.inputs.keep("image", PICTURE), "context.frames": 9}
    )
    made = {}
    for anchor in ("none", "start", "causal"):
        line = Timeline(settings.but({"context.anchor": anchor, "context.overlap": 4}))
        plan = image_lab.plan(line.settings)
        steps = list(denoise(image_lab._bench.model, line, image_lab._bench.store))
        assert sum(step.calls for step in steps) == plan.model_calls == 16
        again = list(denoise(image_lab._bench.model, line, image_lab._bench.store, only_stored=True))
        assert torch.equal(again[-1].after, steps[-1].after)
        made[anchor] = steps[-1].after
    assert not torch.equal(made["none"], made["start"])
    assert not torch.equal(made["none"], made["causal"])


def test_a_clip_is_extended_from_its_last_frames(image_lab: wl.Lab, text_lab: wl.Lab) -> None:
    first = text_lab.run(**SMALL | {"frames": 13})
    more = image_lab.extend(first, "a green star spins on a black background", frames=9, steps=4)
    assert (more.facts["extends"], more.facts["overlap"]) == (first.id, 5)
    assert (more.settings.width, more.settings.height, more.settings.frames) == (32, 32, 9)
    whole = wl.join(first, more)
    assert whole.frames.shape == (17, 32, 32, 3)
    assert np.array_equal(whole.frames[:13], first.clip.frames)
    assert np.array_equal(whole.frames[13:], more.clip.frames[5:])
    with pytest.raises(SettingsError, match="overlap is 4; it must be 4n"):
        image_lab.extend(first, overlap=4)
    with pytest.raises(SettingsError, match="does not extend"):
        wl.join(more, first)


# --- clip to clip, and parts of the schedule ---------------------------------------------------------------------------


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 6), (0.5, 3), (0.34, 2), (0.17, 1)])
def test_denoise_strength_makes_just_that_part_of_the_steps(
    model: Model, bench: Bench, small: Make, strength: float, steps: int
) -> None:
    samples = bench.inputs.keep("samples", torch.randn(1, 16, 2, 4, 4))
    settings = small(samples=samples, denoise_strength=strength)
    made = list(denoise(model, Timeline(settings), bench.store))
    assert len(made) == steps
    assert sum(step.calls for step in made) == 2 * steps
    assert made[0].sigma == pytest.approx(float(small().grid.sigmas[6 - steps]))


def test_less_strength_keeps_more_of_the_clip(model: Model, bench: Bench, small: Make) -> None:
    samples = torch.randn(1, 16, 2, 4, 4)
    name = bench.inputs.keep("samples", samples)
    errors = []
    for strength in (0.17, 0.34, 0.5, 1.0):
        settings = small(samples=name, denoise_strength=strength, shift=1.0)
        *_, last = denoise(model, Timeline(settings), bench.store)
        errors.append(float((last.after - samples).norm()))
    assert errors == sorted(errors)


def test_samples_start_from_the_mixture_of_the_first_level(model: Model, bench: Bench, small: Make) -> None:
    samples = torch.randn(1, 16, 2, 4, 4)
    settings = small(samples=bench.inputs.keep("samples", samples), start_sigma=0.7)
    step = next(denoise(model, Timeline(settings), bench.store))
    assert step.sigma <= 0.7 < float(small().grid.sigmas[settings.first_step - 1])
    noise = next(denoise(model, Timeline(small()), bench.store)).latents
    torch.testing.assert_close(step.latents, step.sigma * noise + (1 - step.sigma) * samples)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_two_parts_of_a_schedule_are_the_whole_bit_for_bit(text_lab: wl.Lab, cut: int) -> None:
    how = SMALL | {"steps": 6, "solver": "euler"}
    whole = text_lab.run(**how)
    first = text_lab.run(**how, end_step=cut)
    assert (first.steps_reused, len(first.steps)) == (cut, cut)
    second = text_lab.run(**how, start_step=cut, samples=first, add_noise=False)
    assert torch.equal(second.latents(6 - cut), whole.latents(6))
    assert first.clip.frames.shape == whole.clip.frames.shape  # the clean estimate


def test_samples_bring_their_size_along_and_a_wrong_one_is_told(text_lab: wl.Lab) -> None:
    first = text_lab.run(**SMALL)
    second = text_lab.run("x", samples=first, steps=4, denoise_strength=0.5)
    assert (second.settings.width, second.settings.frames) == (32, 9)
    with pytest.raises(SettingsError, match=r"samples are latents of 9 frames of 32 x 32, and the run has 5 of 32 x 32"):
        text_lab.run("x", samples=first, frames=5)
    with pytest.raises(SettingsError, match="samples hold 7 frames, and the run has 9"):
        text_lab.run("x", samples=first.clip.frames[:7], frames=9)


def test_the_number_of_steps_of_every_start_is_the_planned_one(text_lab: wl.Lab) -> None:
    first = text_lab.run(**SMALL)
    for how in ({"denoise_strength": 0.5}, {"start_sigma": 0.6}, {"start_step": 1}):
        plan = text_lab.plan(first.settings, {"samples": first, **how}).runs[1]
        run = text_lab.run(first.settings, {"samples": first, **how})
        assert len(plan.passes) == len(run.steps) < 4
        assert plan.model_calls == run.model_calls > 0


# --- guidance by lists, text to image ----------------------------------------------------------------------------------


def test_a_list_for_cfg_is_a_cfg_for_each_step(model: Model, bench: Bench, small: Make) -> None:
    listed = list(denoise(model, Timeline(small(cfg=[5.0, 5.0, 3.0, 3.0, 1.0, 1.0])), bench.store))
    forked = Timeline(small(cfg=5.0)).fork(2, {"cfg": 3.0}).fork(4, {"cfg": 1.0})
    same = list(denoise(model, forked, bench.store))
    assert [step.calls for step in listed] == [2, 2, 2, 2, 1, 1]
    assert all(step.reused for step in same)
    assert torch.equal(same[-1].after, listed[-1].after)


def test_one_frame_is_a_picture(text_lab: wl.Lab, tmp_path: Path) -> None:
    run = text_lab.run("a red circle stays still on a blue background", **SMALL | {"frames": 1}, feta=True)
    assert run.clip.frames.shape == (1, 32, 32, 3)
    assert "feta" not in run.steps.table()  # a single frame has no other to look at
    assert run.clip.save(tmp_path / "circle.png").exists()
