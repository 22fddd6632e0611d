"""VACE: text to video, and first and last frame to video, by blocks of its own that read known frames and a mask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from safetensors.torch import load_file, save_file

import wanlab as wl
from foreign import write_original
from pipelines import ask, loaded, unipc
from wanlab.denoise import denoise
from wanlab.errors import ModelError, SettingsError
from wanlab.inputs import Inputs
from wanlab.model import checkpoint, finding
from wanlab.model.condition import given
from wanlab.model.model import Model
from wanlab.names import in_force
from wanlab.outline import Outline
from wanlab.quantize.linear import QuantizedLinear
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.techniques import Moment, passes, predicted
from wanlab.techniques.technique import patched
from wanlab.timeline import Timeline

Make = Callable[..., Settings]
SMALL: dict[str, Any] = {"width": 32, "height": 48, "frames": 17, "steps": 4, "seed": 3}
PROMPT = "a red star spins"
RANDOM = np.random.default_rng(0)
PICTURE, END = (RANDOM.integers(0, 255, (48, 32, 3), np.uint8) for _ in range(2))
CLIP = RANDOM.integers(0, 255, (5, 48, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VACE model of two blocks in diffusers' format, with random weights."""
    made = Path(shutil.copytree(wl.tiny_path(), tmp_path_factory.mktemp("vace") / "tiny"))
    config = json.loads((made / "transformer" / "config.json").read_text())
    shutil.rmtree(made / "transformer")
    torch.manual_seed(0)
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    config |= {"num_layers": 2, "vace_layers": [0, 1], "vace_in_channels": 96}
    WanVACETransformer3DModel.from_config(config).save_pretrained(made / "transformer")
    index = made / "model_index.json"
    told = json.loads(index.read_text()) | {"_class_name": "WanVACEPipeline", "expand_timesteps": False}
    index.write_text(json.dumps(told | {"transformer": ["diffusers", "WanVACETransformer3DModel"]}))
    return made


@pytest.fixture(scope="module")
def vace(folder: Path) -> Model:
    torch.set_num_threads(1)
    return loaded(folder)


@pytest.fixture
def lab(folder: Path, vace: Model, tmp_path: Path) -> wl.Lab:
    made = wl.Lab(tmp_path / "lab", model=folder)
    made._bench.__dict__["model"] = vace
    return made


def stock(folder: Path, settings: Settings, **more: Any) -> torch.Tensor:
    """The latents of diffusers' own pipeline."""
    pipe = WanVACEPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.scheduler = unipc(settings.shift)
    return ask(pipe, settings, **more)


def shown(known: dict[int, np.ndarray], frames: int) -> dict[str, Any]:
    """What diffusers' pipeline is given: these frames and mid gray, and a mask that is white where it is gray."""
    video, mask = torch.full((frames, 3, 48, 32), 0.5), torch.ones(frames, 3, 48, 32)
    for index, frame in known.items():
        video[index] = torch.from_numpy(frame).permute(2, 0, 1) / 255
        mask[index] = 0
    return {"video": [video], "mask": [mask]}


def velocities(run: Any) -> list[torch.Tensor]:
    return list(run.velocities)


# --- what it computes --------------------------------------------------------------------------------------------------


def test_text_to_video_equals_wan_vace_pipeline(folder: Path, lab: wl.Lab) -> None:
    run = lab.run(PROMPT, **SMALL)
    torch.testing.assert_close(run.latents(4), stock(folder, run.settings), atol=1e-5, rtol=0)


KNOWN: dict[str, tuple[dict[str, Any], dict[int, np.ndarray]]] = {
    "the first frame": ({"image": PICTURE}, {0: PICTURE}),
    "the last frame": ({"end_image": END}, {16: END}),
    "both": ({"image": PICTURE, "end_image": END}, {0: PICTURE, 16: END}),
    "a beginning of five frames": ({"image": CLIP}, dict(enumerate(CLIP))),
}


@pytest.mark.parametrize("row", KNOWN)
def test_known_frames_equal_wan_vace_pipeline_with_video_and_mask(folder: Path, lab: wl.Lab, row: str) -> None:
    images, known = KNOWN[row]
    run = lab.run(PROMPT, **SMALL, **images)
    theirs = stock(folder, run.settings, **shown(known, 17))
    torch.testing.assert_close(run.latents(4), theirs, atol=1e-5, rtol=0)
    assert (run.latents(4) - lab.run(PROMPT, **SMALL).latents(4)).abs().max() > 1e-3


def test_vace_strength_is_the_conditioning_scale(folder: Path, lab: wl.Lab) -> None:
    run = lab.run(PROMPT, **SMALL, image=PICTURE, vace_strength=0.5)
    theirs = stock(folder, run.settings, **shown({0: PICTURE}, 17), conditioning_scale=0.5)
    torch.testing.assert_close(run.latents(4), theirs, atol=1e-5, rtol=0)


def test_control_is_two_latents_and_the_mask_of_what_is_to_be_made(lab: wl.Lab) -> None:
    run = lab.run(PROMPT, **SMALL, image=CLIP)
    inputs = Inputs(lab.folder / "inputs")
    told = given(lab.model, run.settings, inputs).control
    assert told is not None
    assert told.shape == (1, 96, 5, 6, 4)
    video = np.zeros((17, 48, 32, 3), np.float32)
    gray = lab.model.encode_video(video)
    video[:5] = CLIP.astype(np.float32) / 127.5 - 1
    assert torch.equal(told[:, :16], lab.model.encode_video(video))
    assert torch.equal(told[:, 16:32], gray)
    # of 17 frames those of the mask are 1, 5, 8, 11 and 15
    assert told[0, 32:].mean((0, 2, 3)).tolist() == [0, 1, 1, 1, 1]
    assert told[0, 32:].std(0).max() == 0


# --- names, the store, what is refused ---------------------------------------------------------------------------------


def test_a_run_replays_without_weights_and_an_image_makes_other_steps(lab: wl.Lab, folder: Path) -> None:
    run = lab.run(PROMPT, **SMALL, image=PICTURE)
    again = wl.Lab(lab.folder, model=folder)
    same = again.run(PROMPT, **SMALL, image=PICTURE)
    assert [step.reused for step in same.steps] == [True] * 4
    assert all(map(torch.equal, velocities(run), velocities(same)))
    assert "_loaded" not in again.model.__dict__
    assert lab.plan(PROMPT, **SMALL, image=PICTURE).model_calls == 0
    for more in ({}, {"image": END}, {"image": PICTURE, "vace_strength": 0.5}, {"end_image": PICTURE}):
        assert lab.plan(PROMPT, **SMALL, **more).model_calls == 8


def test_an_unset_strength_is_in_no_name() -> None:
    assert "vace_strength" not in in_force(Settings(), 0)
    assert in_force(Settings(vace_strength=0.5), 0)["vace_strength"] == 0.5


def test_the_vae_is_part_of_who_a_vace_model_is(vace: Model, folder: Path, tmp_path: Path) -> None:
    other = vace.settings.but({"vae_precision": "bf16"})
    assert checkpoint.model_id(vace.checkpoint, other) != vace.id
    made = Path(shutil.copytree(folder, tmp_path / "other"))
    assert finding.find(str(made)).fingerprint == vace.checkpoint.fingerprint
    (file,) = (made / "vae").glob("*.safetensors")
    weights = load_file(file)
    weights["decoder.conv_in.bias"] += 1
    save_file(weights, file)
    assert finding.find(str(made)).fingerprint != vace.checkpoint.fingerprint


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": PICTURE, "clip_embed_strength": 0.5}, r"this model has no image encoder \(VACE\)"),
        ({"image": CLIP[:3]}, r"image holds 3 frames; it must be one picture or 4n \+ 1"),
    ],
)
def test_what_vace_cannot_do_is_refused(lab: wl.Lab, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        lab.run(PROMPT, **SMALL, **changes)


def test_vace_strength_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"vace_strength is 0\.5, but this is not a VACE model; leave it at 1"):
        wl.Lab(tmp_path / "lab").run(PROMPT, **SMALL, vace_strength=0.5)


def test_vace_of_other_channels_is_refused(folder: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(folder, tmp_path / "other"))
    file = made / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vace_in_channels": 352}))
    with pytest.raises(ModelError, match="a VACE model whose own blocks read 352 channels, and wanlab runs those of"):
        finding.find(str(made))


# --- loading -----------------------------------------------------------------------------------------------------------


def one_velocity(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents, control = torch.randn(1, 16, 2, 6, 4, generator=generator), torch.randn(1, 96, 2, 6, 4, generator=generator)
    return model.velocity(latents, torch.tensor(500.0), model.encode(PROMPT), control=control)


@pytest.mark.parametrize(
    "how",
    [
        {"blocks_to_swap": 2},
        {"blocks_to_swap": 1, "offload_device": "disk"},
        {"force_offload": True, "blocks_to_swap": 1},
        {"offload_text_embedding": True},
        {"compile.backend": "eager"},
    ],
)
def test_where_weights_wait_changes_no_bit(folder: Path, vace: Model, how: dict[str, Any]) -> None:
    other = loaded(folder, **how)
    assert torch.equal(one_velocity(other), one_velocity(vace))
    assert other.blocks_swapped == how.get("blocks_to_swap", 0)
    other.unload()


def test_the_own_blocks_are_quantized_too(folder: Path, vace: Model) -> None:
    packed = loaded(folder, quantization="int8")
    changed = [name for name, module in packed.transformer.named_modules() if isinstance(module, QuantizedLinear)]
    assert sum(name.startswith("vace_blocks.") for name in changed) == sum(name.startswith("blocks.") for name in changed) == 20
    ours, exact = one_velocity(packed), one_velocity(vace)
    assert 0 < (ours - exact).norm() / exact.norm() < 0.05


def test_a_single_file_is_the_same_model(folder: Path, vace: Model, tmp_path: Path) -> None:
    config = (folder / "transformer" / "config.json").read_text()
    weights = WanVACETransformer3DModel.from_pretrained(folder / "transformer").state_dict()
    file = write_original(weights, tmp_path / "vace.safetensors", metadata={"config": config})
    parts = {part: str(folder / part) for part in ("text_encoder", "tokenizer", "vae")}
    settings = ModelSettings().but({"model": str(file), **parts})
    found = finding.find(settings)
    assert found.vace
    assert torch.equal(one_velocity(Model(settings, found)), one_velocity(vace))


# --- techniques --------------------------------------------------------------------------------------------------------

ROWS: dict[str, dict[str, Any]] = {
    "feta": {"feta.weight": 8.0},
    "context": {"context.frames": 9, "context.overlap": 4},
    "anchor": {"context.frames": 9, "context.overlap": 4, "context.anchor": "start", "image": PICTURE},
    "taylorseer": {"cache.kind": "taylorseer", "cache.start_percent": 0},
    "easycache": {"cache.kind": "easycache", "cache.threshold": 1.0, "cache.start_percent": 0},
    "firstblock": {"cache.kind": "firstblock", "cache.threshold": 0.9, "cache.start_percent": 0},
    "slg": {"slg.blocks": "0"},
    "nag": {"nag": True, "negative_prompt": "blurry"},
    "riflex": {"riflex.index": 2},
    "batched": {"batched_cfg": True, "image": PICTURE},
    "loop": {"loop.shift": 1},
    "freeinit": {"freeinit.rounds": 2},
}


@pytest.mark.parametrize("row", ROWS)
def test_techniques_act_leave_no_trace_and_their_plans_come_true(lab: wl.Lab, row: str) -> None:
    before = one_velocity(lab.model)
    plan = lab.plan(PROMPT, **SMALL, **ROWS[row])
    run = lab.run(PROMPT, ROWS[row], **SMALL)
    assert plan.fewest_calls <= run.model_calls <= plan.model_calls
    assert plan.fewest_calls == plan.model_calls or row in ("easycache", "firstblock")
    assert torch.isfinite(run.latents(4)).all()
    plain = lab.run(PROMPT, {"image": PICTURE} if "image" in ROWS[row] else {}, **SMALL)
    assert not torch.equal(run.latents(4), plain.latents(4))
    assert torch.equal(one_velocity(lab.model), before)


def noted(spoken: list[int]) -> Callable[..., Any]:
    """For `patched`: functions that note which block computes."""

    def note(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: spoken.append(index) or forward(*args)

    return note


@pytest.mark.parametrize("kind", ["taylorseer", "firstblock", "teacache"])
def test_a_call_that_is_skipped_where_nothing_changed_says_what_the_computed_one_said(
    vace: Model, small: Make, tmp_path: Path, kind: str
) -> None:
    # So what VACE's own blocks say is added once, be they left out or, with firstblock, computed before it is decided.
    how = {} if kind == "taylorseer" else {"cache.threshold": 0.9}
    settings = small(cfg=1.0, **{"cache.kind": kind, "cache.start_percent": 0, **how})
    outline, memory = Outline(Timeline(settings), vace.facts), dict[str, Any]()
    told = given(vace, settings, Inputs(tmp_path))
    latents, timestep = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(900.0)
    skips = [any(call.skipped for call in calls) for calls in outline.calls]
    steps = [0, 1] if kind == "firstblock" else [skips.index(True) - 1, skips.index(True)]
    found, made = [], []
    with torch.inference_mode():
        for index in steps:
            moment = Moment(index, timestep, settings, vace, outline, memory)
            spoken: list[int] = []
            counting = passes.noted(vace.transformer, vace.device)
            with counting as count, patched(vace.transformer.vace_blocks, "forward", noted(spoken)):
                found.append(predicted(moment, latents, told))
            made.append((count.calls, len(spoken)))
    assert made == [(1, 2), (0, 2 if kind == "firstblock" else 0)]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


def test_windows_are_told_their_part_of_the_control(vace: Model, small: Make, tmp_path: Path) -> None:
    told = given(vace, small(frames=17), Inputs(tmp_path))
    assert told.control is not None
    part = told.of([2, 3], 2)
    assert torch.equal(part["control"], told.control[:, :, 2:4].expand(2, -1, -1, -1, -1))


def test_a_published_vace_is_planned_with_its_own_blocks() -> None:
    how = {"width": 832, "height": 480, "frames": 81, "steps": 8, "cfg": 5.0}
    ours, plain = (wl.plan(how, model=f"Wan2.1-{kind}-14B") for kind in ("VACE", "T2V"))
    assert ours.model_calls == plain.model_calls == 16
    assert ours.peak_vram_gib > plain.peak_vram_gib + 8 * 351_394_304 * 2 / 2**30
    assert "encode image" in ours.stages  # gray frames are encoded too


def test_a_block_of_vace_can_be_measured(lab: wl.Lab) -> None:
    assert lab.calibrate(PROMPT, **SMALL).blocks == 4  # with the two of its own


def test_a_run_resumes_bit_equal(vace: Model, small: Make, tmp_path: Path) -> None:
    settings = small(cfg=2.0, **{"cache.kind": "taylorseer", "cache.start_percent": 0})
    whole = list(denoise(vace, Timeline(settings), StepStore(tmp_path / "whole")))
    store = StepStore(tmp_path / "cut")
    for step in denoise(vace, Timeline(settings), store):
        if step.index == 3:
            break
    assert torch.equal(list(denoise(vace, Timeline(settings), store))[-1].after, whole[-1].after)


def test_two_transformers_of_vace_equal_wan_vace_pipeline(folder: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(folder, tmp_path / "pair"))
    shutil.copytree(made / "transformer", made / "transformer_2")
    (file,) = (made / "transformer_2").glob("*.safetensors")
    save_file({name: weight * 1.1 for name, weight in load_file(file).items()}, file)
    index = made / "model_index.json"
    told = {"boundary_ratio": 0.875, "transformer_2": ["diffusers", "WanVACETransformer3DModel"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | told))
    lab = wl.Lab(tmp_path / "lab", model=made, blocks_to_swap=1)
    run = lab.run(PROMPT, **SMALL, image=PICTURE)
    assert lab.model.transformer_at(800.0) is not lab.model.transformer
    theirs = stock(made, run.settings, **shown({0: PICTURE}, 17))
    torch.testing.assert_close(run.latents(4), theirs, atol=1e-5, rtol=0)
