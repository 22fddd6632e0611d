"""The tiny image-to-video model: how its conditions are laid out, how it is trained, and what the shipped folder does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from torch import Tensor

from wanlab.latents import mask_channels
from wanlab.metrics import psnr
from wanlab.tiny import clips, image_to_video, tiny_path, transformer, vision
from wanlab.tiny.evaluate_image import every_motion
from wanlab.tiny.image_to_video import condition, known_frames, normalised

WEIGHTS, T2V = Path(tiny_path("tiny-i2v")), Path(tiny_path())
SCENE = clips.Scene("square", "red", "right", "white")


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(WEIGHTS / "vae", dtype=torch.float32)


@pytest.fixture(scope="module")
def pipe() -> WanImageToVideoPipeline:
    pipe = WanImageToVideoPipeline.from_pretrained(WEIGHTS, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def clip(frames: int, scene: clips.Scene = SCENE) -> Tensor:
    """A batch of one clip: (1, 3, frames, 64, 64) in -1..1."""
    return clips.random_clip(scene, frames, 64, random.Random(0), lattice=True)[None]


@pytest.mark.parametrize("kind", ["start", "both"])
def test_conditions_are_those_of_diffusers(kind: str, pipe: WanImageToVideoPipeline, vae: AutoencoderKLWan) -> None:
    video = clip(17)
    last = video[:, :, -1] if kind == "both" else None
    size = dict(batch_size=1, height=64, width=64, num_frames=17, dtype=torch.float32, device=torch.device("cpu"))
    theirs = pipe.prepare_latents(video[:, :, 0], last_image=last, **size)[1]
    ours = condition(vae, video, known_frames(kind, 17))
    assert torch.equal(ours[:, :4], theirs[:, :4])
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_mask_says_which_pixel_frames_are_known() -> None:
    assert mask_channels(known_frames("start", 9)).tolist() == [[1, 0, 0]] * 4
    assert mask_channels(known_frames("end", 9)).tolist() == [[0, 0, 0]] * 3 + [[0, 0, 1]]
    assert mask_channels(known_frames("clip", 9)).tolist() == [[1, 1, 0]] * 4
    known = torch.rand(17, generator=torch.Generator().manual_seed(0)) > 0.5
    mask = mask_channels(known)
    for frame in range(1, 17):
        assert mask[(frame + 3) % 4, (frame + 3) // 4] == known[frame]


@torch.no_grad()
def test_latent_0_of_a_condition_is_that_of_the_picture(vae: AutoencoderKLWan) -> None:
    video = clip(9)
    told = condition(vae, video, known_frames("start", 9))
    picture = normalised(vae, vae.encode(video[:, :, :1]).latent_dist.mode())
    assert torch.allclose(told[:, 4:, :1], picture, atol=1e-5)
    assert torch.equal(told, condition(vae, video.clone().index_fill_(2, torch.arange(1, 9), 0.5), known_frames("start", 9)))


@torch.no_grad()
def test_untrained_it_is_the_text_to_video_model() -> None:
    old = WanTransformer3DModel.from_pretrained(T2V / "transformer", dtype=torch.float32)
    new = image_to_video.grown(T2V / "transformer").float()
    x, told, text = torch.randn(1, 16, 3, 8, 8), torch.randn(1, 20, 3, 8, 8), torch.randn(1, 512, 128)
    time, seen = torch.tensor([700.0]), torch.randn(1, 17, vision.HIDDEN)
    theirs = old(x, time, text, return_dict=False)[0]
    assert torch.equal(new(torch.cat([x, told], 1), time, text, seen, return_dict=False)[0], theirs)


@torch.no_grad()
@pytest.mark.parametrize("pictures", [1, 2])
def test_counted_padding_equals_wans_padding_beside_pictures(pictures: int) -> None:
    model = WanTransformer3DModel.from_pretrained(WEIGHTS / "transformer", dtype=torch.float32)
    x, seen = torch.randn(1, 36, 2, 8, 8), torch.randn(1, 17 * pictures, vision.HIDDEN)
    time, text = torch.tensor([700.0]), transformer.Teacher(WEIGHTS, torch.device("cpu"))(["a red circle spins"])
    full = torch.nn.functional.pad(text, (0, 0, 0, transformer.PADDED - transformer.SLOTS))
    wans = model(x, time, full, seen, return_dict=False)[0]
    ours = transformer._count_padding(model)(x, time, text, seen, return_dict=False)[0]
    assert torch.allclose(ours, wans, atol=1e-4)
    assert not torch.allclose(ours, model(x, time, text, -seen, return_dict=False)[0], atol=1e-3)


def test_our_tokens_are_those_of_the_pipeline(pipe: WanImageToVideoPipeline) -> None:
    frame = clips.to_frames(clip(1)[0])[0]
    theirs = pipe.encode_image(Image.fromarray(frame.numpy()))
    ours = vision.tokens(pipe.image_encoder, frame.permute(2, 0, 1)[None] / 127.5 - 1)
    assert ours.shape == (1, vision.TOKENS, vision.HIDDEN)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_still_picture_is_asked_for_every_motion() -> None:
    scenes, videos = every_motion(3, 5)
    for motion in clips.MOTIONS:
        assert sum(scene.motion == motion for scene in scenes) == (2 if motion == "spin" else 3)  # one shape is a circle
    assert len(scenes) == len(videos)
    assert len({tuple(picture.flatten().tolist()) for picture in videos[:, :, 0]}) == 3
    assert videos.diff(dim=2).abs().max() == 0


# --- training ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder with a few clips and their conditions."""
    folder = tmp_path_factory.mktemp("training")
    for part in ("vae", "text_encoder", "tokenizer", "image_encoder"):
        (folder / part).symlink_to(WEIGHTS / part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_to_video, "COUNTS", {17: 40, 33: 8})
        image_to_video.write(folder)
    return folder


def test_written_conditions_are_those_of_their_clips(written: Path, vae: AutoencoderKLWan) -> None:
    data = image_to_video.Conditions(written, torch.device("cpu"))
    for kind in image_to_video.KINDS:
        latents, told, tokens, scenes = data.sample(17, kind, 6, random.Random(0))
        assert tokens.shape[1] == (34 if kind == "both" else 17)
        assert torch.equal(told[0, :4, :, 3, 5], mask_channels(known_frames(kind, 17)))
        same = (told[:, 4:] - latents).abs().amax((0, 1, 3, 4)) < 1e-3  # a causal VAE: what comes later changes nothing
        assert same.tolist() == {"end": [False] * 5, "clip": [True] * 2 + [False] * 3}.get(kind, [True] + [False] * 4)
        assert not any(scene.held_out for scene in scenes)


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Trainings within are stopped, after a checkpoint, when so many steps are done."""
    original = image_to_video.Fit._update

    def update(fit: image_to_video.Fit, factor: float) -> None:
        if fit.step == steps:
            fit.save()
            raise KeyboardInterrupt
        original(fit, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_to_video.Fit, "_update", update)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_a_stopped_image_training_goes_on_exactly(written: Path, tmp_path: Path) -> None:
    start, found = T2V / "transformer", []
    for name in ("whole", "cut"):
        folder = tmp_path / name
        folder.mkdir()
        for part in written.iterdir():
            (folder / part.name).symlink_to(part)
        if name == "cut":
            with stopped_after(2):
                image_to_video.train(folder, 3, start=start, size=2)
        image_to_video.train(folder, 3, start=start, size=2)
        found.append(WanTransformer3DModel.from_pretrained(folder / "transformer").state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert found[0]["patch_embedding.weight"][:, 16:].abs().max() > 0


# --- the shipped folder ------------------------------------------------------------------------------------------------


def test_names_of_shipped_models_are_checked() -> None:
    assert tiny_path() == tiny_path("tiny") != tiny_path("tiny-i2v")
    with pytest.raises(ValueError, match="tiny, tiny-i2v"):
        tiny_path("tiny-v2v")


def test_shared_parts_are_the_very_files_of_text_to_video() -> None:
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        for file in (T2V / part).iterdir():
            assert (WEIGHTS / part / file.name).read_bytes() == file.read_bytes()
    assert (WEIGHTS / "preview.safetensors").read_bytes() == (T2V / "preview.safetensors").read_bytes()
    weights = (file for folder in (T2V, WEIGHTS) for file in folder.rglob("*"))
    assert sum(file.stat().st_size for file in weights) < 32 * 2**20


def test_the_clip_of_wans_own_pipeline_begins_with_the_picture(pipe: WanImageToVideoPipeline) -> None:
    picture = clips.to_frames(clip(1)[0])[0].numpy()
    made = pipe(
        image=Image.fromarray(picture),
        prompt=clips.caption(SCENE),
        height=64,
        width=64,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).frames[0]
    frames = (np.asarray(made) * 255).round().astype(np.uint8)
    assert frames.shape == (9, 64, 64, 3)
    assert psnr(frames[:1], picture[None]) > 24
    assert psnr(frames[8:9], picture[None]) < 20  # and it moves
