"""Wan2.2: two transformers that share the noise levels, image to video without an image encoder, and the VAE of 48 channels."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file, save_file

import wanlab as wl
from pipelines import ask, loaded, unipc
from wanlab.denoise import Step, denoise
from wanlab.errors import ModelError, SettingsError
from wanlab.model import finding
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.plans import make_plan
from wanlab.run import preview_of
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.timeline import Timeline
from wanlab.weights.registry import known

Make = Callable[..., Settings]
RATIO = 0.6  # of 6 steps at shift 2 (timesteps 999, 909, 800, 666, 500, 285) two are below
HIGH, LOW = 4, 2
CACHES: dict[str, dict[str, Any]] = {
    "taylorseer": {"cache.kind": "taylorseer", "cache.start_percent": 0},
    "easycache": {"cache.kind": "easycache", "cache.threshold": 1.0, "cache.start_percent": 0},
    "firstblock": {"cache.kind": "firstblock", "cache.threshold": 0.9, "cache.start_percent": 0},
}
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


def index_of(folder: Path, **changes: Any) -> None:
    """Change the folder's model_index.json."""
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def moved(weights: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """The weights a little changed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: one * (1 + 0.1 * torch.randn(one.shape, generator=generator)).to(one) for name, one in weights.items()}


def make_second(folder: Path, ratio: float = RATIO) -> Path:
    """Give a folder a second transformer, the first one with other weights."""
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    (file,) = (folder / "transformer_2").glob("*.safetensors")
    save_file(moved(load_file(file), 1), file)
    index_of(folder, boundary_ratio=ratio, transformer_2=["diffusers", "WanTransformer3DModel"])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan2.2-T2V-A14B in diffusers' format."""
    made = tmp_path_factory.mktemp("a14b") / "tiny"
    shutil.copytree(wl.tiny_path(), made)
    return make_second(made)


@pytest.fixture(scope="module")
def pair(folder: Path) -> Model:
    torch.set_num_threads(1)
    return loaded(folder)


@pytest.fixture
def shifted(small: Make) -> Make:
    def make(**changes: Any) -> Settings:
        return small(shift=2.0, frames=9, **changes)

    return make


def stock(folder: Path, settings: Settings, **more: Any) -> torch.Tensor:
    """The latents of diffusers' own pipeline."""
    kind = WanImageToVideoPipeline if "image" in more else WanPipeline
    pipe = kind.from_pretrained(folder, dtype=torch.float32)
    pipe.scheduler = unipc(settings.shift)
    return ask(pipe, settings, **more)


def steps_of(model: Model, settings: Settings | Timeline, store: StepStore, **how: Any) -> list[Step]:
    return list(denoise(model, settings if isinstance(settings, Timeline) else Timeline(settings), store, **how))


# --- two transformers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "low"), [(5.0, 5.0), (4.0, 3.0)])
def test_two_transformers_equal_wan_pipeline_bit_for_bit(
    folder: Path, pair: Model, shifted: Make, tmp_path: Path, high: float, low: float
) -> None:
    settings = shifted(cfg=[high] * HIGH + [low] * LOW, negative_prompt="blurry")
    ours = steps_of(pair, settings, StepStore(tmp_path))[-1].after
    assert torch.equal(ours, stock(folder, settings, guidance_scale=high, guidance_scale_2=low))


def test_the_first_transformer_predicts_at_the_boundary_itself(tmp_path: Path, shifted: Make) -> None:
    made = tmp_path / "tiny"
    shutil.copytree(wl.tiny_path(), made)
    settings = shifted(cfg=1.0)
    model = loaded(make_second(made, float(settings.grid.timesteps[2]) / 1000))
    assert [model.transformer_at(one) is model.transformer for one in settings.grid.timesteps] == [True] * 3 + [False] * 3
    ours = steps_of(model, settings, StepStore(tmp_path / "steps"))[-1].after
    assert torch.equal(ours, stock(made, settings, guidance_scale=1.0))


def test_a_run_resumes_bit_equal_across_the_boundary(pair: Model, shifted: Make, tmp_path: Path) -> None:
    settings = shifted(cfg=2.0)
    whole = steps_of(pair, settings, StepStore(tmp_path / "whole"))
    for cut in range(6):
        store = StepStore(tmp_path / str(cut))
        for step in denoise(pair, Timeline(settings), store):
            if step.index == cut:
                break
        again = steps_of(pair, settings, store)
        assert [step.reused for step in again] == [True] * (cut + 1) + [False] * (5 - cut)
        assert torch.equal(again[-1].after, whole[-1].after)


def test_a_run_replays_without_either_transformer_and_forks_behind_the_boundary(
    folder: Path, pair: Model, shifted: Make, tmp_path: Path
) -> None:
    base, store = Timeline(shifted(cfg=2.0)), StepStore(tmp_path / "steps")
    first = steps_of(pair, base, store)
    fresh = loaded(folder)
    again = steps_of(fresh, base, store, only_stored=True)
    assert all(torch.equal(one.after, other.after) for one, other in zip(first, again, strict=True))
    assert "_loaded" not in fresh.__dict__
    fork = base.fork(HIGH + 1, {"cfg": 4.0})
    shared, alone = steps_of(pair, fork, store), steps_of(pair, fork, StepStore(tmp_path / "alone"))
    assert [step.reused for step in shared] == [True] * 5 + [False]
    assert torch.equal(shared[-1].after, alone[-1].after)


def test_who_the_model_is_depends_on_both_transformers_and_the_boundary(folder: Path, tmp_path: Path) -> None:
    others = [shutil.copytree(folder, tmp_path / name) for name in ("same", "ratio", "weights", "one")]
    index_of(others[1], boundary_ratio=0.5)
    (file,) = (others[2] / "transformer_2").glob("*.safetensors")
    save_file(moved(load_file(file), 2), file)
    index_of(others[3], boundary_ratio=None)
    prints = [finding.find(str(one)).fingerprint for one in (folder, *others)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    halves = [ModelSettings(model=str(folder)).but({"boundary_ratio": ratio}) for ratio in (None, 0.5, RATIO)]
    assert [finding.find(one).fingerprint for one in halves] == [prints[0], prints[2], prints[0]]
    assert prints[4] == finding.find("tiny").fingerprint  # with one transformer it is named as before


@pytest.mark.parametrize("row", list(CACHES))
def test_a_cache_begins_anew_with_the_second_transformer(pair: Model, shifted: Make, tmp_path: Path, row: str) -> None:
    settings = shifted(cfg=2.0).but(CACHES[row])
    store = StepStore(tmp_path / "steps")
    steps = steps_of(pair, settings, store)
    counts = [step.calls for step in steps]
    assert counts[0] == counts[HIGH] == 2
    assert sum(counts) < 12
    run = make_plan(pair.facts, [(Timeline(settings), {})], lambda _: False).runs[0]
    assert run.fewest_calls <= sum(counts) <= run.model_calls
    if row == "taylorseer":
        assert sum(counts) == run.model_calls
    # What the second transformer does needs nothing that a cache saw of the first one.
    for name in step_names(pair.id, Timeline(settings))[HIGH:]:
        store.discard(name)
    again = steps_of(pair, settings, store)
    assert [step.reused for step in again] == [True] * HIGH + [False] * LOW
    assert torch.equal(again[-1].after, steps[-1].after)


def test_momentum_is_not_carried_over_the_boundary(pair: Model, shifted: Make, tmp_path: Path) -> None:
    settings = shifted(cfg=3.0).but({"apg.momentum": -0.5})
    store = StepStore(tmp_path / "steps")
    steps = steps_of(pair, settings, store)
    store.discard(step_names(pair.id, Timeline(settings))[HIGH])
    again = steps_of(pair, settings, store)
    assert [step.reused for step in again] == [True] * HIGH + [False, True]
    assert torch.equal(again[-1].after, steps[-1].after)


def test_constants_of_wan21_are_not_used_for_two_transformers(folder: Path, pair: Model, shifted: Make) -> None:
    with pytest.raises(SettingsError, match="its constants are not known for this model"):
        _ = make_plan(pair.facts, [(Timeline(shifted().but({"cache.kind": "magcache"})), {})], lambda _: False).model_calls


@pytest.mark.parametrize("row", [{"nag": True}, {"feta.weight": 8.0}, {"slg.blocks": "3"}])
def test_techniques_change_the_transformer_of_the_step_and_leave_no_trace(
    pair: Model, shifted: Make, tmp_path: Path, row: dict[str, Any]
) -> None:
    group = next(iter(row)).partition(".")[0]
    plain = shifted(cfg=2.0, negative_prompt="a red star")
    before = [dict(one.transformer.attn_processors) for one in pair._loaded]
    late = plain.but(row | {f"{group}.start_percent": 0.6})  # from the first step of the second transformer on
    ends = [steps_of(pair, one, StepStore(tmp_path / str(k))) for k, one in enumerate((plain, late))]
    same = [torch.equal(one.velocity, other.velocity) for one, other in zip(*ends, strict=True)]
    assert same == [True] * HIGH + [False] * LOW
    assert [dict(one.transformer.attn_processors) for one in pair._loaded] == before


def test_with_force_offload_one_transformer_is_on_the_device_at_a_time(
    folder: Path, shifted: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[int] = []
    most: list[tuple[int, ...]] = []

    @contextlib.contextmanager
    def resting(module: Any, *_: Any) -> Iterator[None]:
        here.append(id(module))
        most.append(tuple(here))
        yield
        here.remove(id(module))

    monkeypatch.setattr("wanlab.model.loaded.resting", resting)
    model = loaded(folder, force_offload=True)
    steps_of(model, shifted(cfg=1.0), StepStore(tmp_path))
    assert not here
    assert {len(set(one)) for one in most} == {1}
    assert [len(one) for one in most].count(1) == 2  # each came once, and stayed for all of its steps


@pytest.mark.parametrize("how", [{"blocks_to_swap": 3}, {"blocks_to_swap": 3, "offload_device": "disk"}])
def test_blocks_of_each_transformer_are_swapped(
    folder: Path, pair: Model, shifted: Make, tmp_path: Path, how: dict[str, Any]
) -> None:
    model = loaded(folder, **how)
    ends = [steps_of(one, shifted(cfg=1.0), StepStore(tmp_path / str(k)))[-1] for k, one in enumerate((pair, model))]
    assert torch.equal(ends[0].after, ends[1].after)
    assert [one.blocks_swapped for one in model._loaded] == [3, 3]
    model.unload()


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, pair: Model) -> str:
    """A LoRA for the tiny Wan."""
    file = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    generator, width = torch.Generator().manual_seed(4), pair.transformer.blocks[0].attn1.to_q.in_features
    parts = {"A": torch.randn(2, width, generator=generator), "B": torch.randn(width, 2, generator=generator)}
    save_file({f"transformer.blocks.0.attn1.to_q.lora_{part}.weight": one for part, one in parts.items()}, file)
    return str(file)


@pytest.mark.parametrize(("expert", "changed"), [("both", (True, True)), ("high", (True, False)), ("low", (False, True))])
@pytest.mark.parametrize("merge", [True, False])
def test_a_lora_changes_the_transformer_it_is_for(
    folder: Path, pair: Model, lora: str, expert: str, changed: tuple[bool, bool], merge: bool
) -> None:
    asked = {"file": lora, "expert": expert, "merge": merge}
    model = loaded(folder, loras=[asked])
    text, latents = pair.encode("a red circle"), torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep, is_changed in zip((900, 100), changed, strict=True):
        ours, plain = (one.velocity(latents, torch.tensor(timestep), text) for one in (model, pair))
        assert torch.equal(ours, plain) != is_changed
    assert model.lora_report is not None
    assert model.lora_report.matched
    ids = {loaded(folder, loras=[asked | {"expert": one}]).id for one in ("both", "high", "low")}
    assert len(ids) == 3


def test_a_lora_for_one_of_two_is_refused_where_there_is_one(lora: str, tmp_path: Path) -> None:
    lab = wl.Lab(tmp_path, loras=[{"file": lora, "expert": "low"}])
    with pytest.raises(SettingsError, match=r"loras\[0\]\.expert is 'low', but this model has one transformer"):
        lab.plan()


def test_a_folder_without_its_second_transformer_is_not_complete(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    shutil.rmtree(broken / "transformer_2")
    with pytest.raises(ModelError, match="is not complete: transformer_2 missing"):
        finding.find(str(broken))


def single(folder: Path, part: str, to: Path) -> str:
    """A transformer of a folder as a single file, under diffusers' names."""
    (file,) = (folder / part).glob("*.safetensors")
    config = (folder / part / "config.json").read_text()
    save_file({name: one.contiguous() for name, one in load_file(file).items()}, to, metadata={"config": config})
    return str(to)


def test_two_single_files_are_the_same_model_as_the_folder(folder: Path, pair: Model, shifted: Make, tmp_path: Path) -> None:
    rest = {part: str(folder / part) for part in ("text_encoder", "tokenizer", "vae")}
    files = [single(folder, part, tmp_path / f"{part}.safetensors") for part in ("transformer", "transformer_2")]
    how = ModelSettings().but({"model": files[0], "transformer_2": files[1], **rest})
    assert finding.find(how).boundary == 875.0
    how = how.but({"boundary_ratio": RATIO})
    ours, theirs = (
        steps_of(model, shifted(cfg=1.0), StepStore(tmp_path / str(k)))[-1].after
        for k, model in enumerate((Model(how, finding.find(how)), pair))
    )
    assert torch.equal(ours, theirs)
    with pytest.raises(ModelError, match=r"boundary_ratio is 0\.6, but '.*' has one transformer; leave it out"):
        finding.find(how.but({"transformer_2": ""}))
    with pytest.raises(ModelError, match="two transformers have different shapes"):
        finding.find(how.but({"transformer_2": str(Path(wl.tiny_path("tiny-i2v")) / "transformer")}))


def test_plans_of_a14b_count_two_transformers_and_the_same_calls() -> None:
    how = {"width": 832, "height": 480, "frames": 81, "steps": 8, "cfg": 5.0}
    one, two = (wl.plan(how, model=name) for name in ("Wan2.1-T2V-14B", "Wan2.2-T2V-A14B"))
    assert two.model_calls == one.model_calls == 16
    assert two.peak_vram_gib - one.peak_vram_gib == pytest.approx(26.67, abs=0.01)  # another 14B in bf16
    with_offload = [wl.plan(how, model=name, force_offload=True) for name in ("Wan2.1-T2V-14B", "Wan2.2-T2V-A14B")]
    assert with_offload[0].peak_vram_gib == with_offload[1].peak_vram_gib


# --- image to video without an image encoder ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan2.2-I2V-A14B: 36 channels, and no image encoder."""
    made = tmp_path_factory.mktemp("i2v") / "tiny"
    shutil.copytree(wl.tiny_path("tiny-i2v"), made, ignore=shutil.ignore_patterns("image_*"))
    config = json.loads((made / "transformer" / "config.json").read_text()) | {"image_dim": None, "added_kv_proj_dim": None}
    (made / "transformer" / "config.json").write_text(json.dumps(config))
    (file,) = (made / "transformer").glob("*.safetensors")
    kept = WanTransformer3DModel.from_config(config).state_dict()
    save_file({name: one for name, one in load_file(file).items() if name in kept}, file)
    index_of(made, image_encoder=[None, None], image_processor=[None, None])
    return make_second(made)


def test_half_of_an_image_to_video_pair_is_refused(image_folder: Path, tmp_path: Path) -> None:
    half = single(image_folder, "transformer", tmp_path / "high.safetensors")
    rest = {part: str(image_folder / part) for part in ("text_encoder", "tokenizer", "vae")}
    with pytest.raises(
        ModelError, match=r"one of the two transformers of Wan2\.2 A14B; give the one of low noise as transformer_2="
    ):
        finding.find(ModelSettings().but({"model": half, **rest}))
    assert finding.find(ModelSettings().but({"model": half, "transformer_2": half, **rest})).boundary == 900.0


def test_image_to_video_without_an_image_encoder_equals_diffusers(image_folder: Path, tmp_path: Path) -> None:
    lab = wl.Lab(tmp_path, model=image_folder)
    run = lab.run("a red star spins", image=PICTURE, width=32, height=32, frames=9, steps=6, shift=2.0, seed=3)
    theirs = stock(image_folder, run.settings, image=Image.fromarray(PICTURE), guidance_scale=run.settings.cfg)
    torch.testing.assert_close(run.latents(6), theirs, atol=2e-4, rtol=1e-3)
    assert torch.isfinite(theirs).all()
    with pytest.raises(SettingsError, match="this model has no image encoder"):
        lab.run("a red star spins", image=PICTURE, width=32, height=32, clip_embed_strength=0.5)


# --- latents of 48 channels --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_5b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan2.2-TI2V-5B with few random weights: the VAE of Wan2.2, 48 channels, a timestep for each token."""
    made = tmp_path_factory.mktemp("5b") / "tiny"
    shutil.copytree(wl.tiny_path(), made, ignore=shutil.ignore_patterns("preview*", "caches*"))
    torch.manual_seed(0)
    config = json.loads((made / "transformer" / "config.json").read_text()) | {"in_channels": 48, "out_channels": 48}
    vae = known("Wan2.2-TI2V-5B").vae | {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1}
    for part, kind, how in (("transformer", WanTransformer3DModel, config), ("vae", AutoencoderKLWan, vae)):
        shutil.rmtree(made / part)
        kind.from_config(how).save_pretrained(made / part)
    index_of(made, expand_timesteps=True)
    return made


@pytest.fixture
def lab_5b(small_5b: Path, tmp_path: Path) -> wl.Lab:
    return wl.Lab(tmp_path / "lab", model=small_5b)


SMALL: dict[str, Any] = {"width": 64, "height": 32, "frames": 9, "steps": 4, "seed": 3}


def test_48_channels_equal_wan_pipeline_bit_for_bit(small_5b: Path, lab_5b: wl.Lab) -> None:
    run = lab_5b.run("a red star spins", **SMALL)
    assert run.latents(4).shape == (1, 48, 3, 2, 4)
    assert torch.equal(run.latents(4), stock(small_5b, run.settings, guidance_scale=run.settings.cfg))
    assert run.clip.frames.shape == (9, 32, 64, 3)
    assert run.steps[1].clean.shape == (1, 48, 3, 2, 4)
    assert preview_of(run)(run.steps[1].clean).shape == (9, 4, 8, 3)  # fitted to the VAE: two pixels for a latent cell


def test_clips_of_48_channels_go_through_the_vae_and_start_runs(lab_5b: wl.Lab) -> None:
    run = lab_5b.run("a red star spins", **SMALL)
    pixels = run.clip.frames.astype(np.float32) / 127.5 - 1
    assert lab_5b.model.encode_video(pixels).shape == (1, 48, 3, 2, 4)
    again = lab_5b.run("a red star spins", samples=run, steps=4, denoise_strength=0.5)
    assert (again.settings.width, again.settings.height, again.settings.frames) == (64, 32, 9)
    with pytest.raises(SettingsError, match="samples are latents of 16 channels, and those of this model have 48"):
        lab_5b.run("a red star spins", samples=torch.zeros(1, 16, 3, 4, 8), **SMALL)


@pytest.mark.parametrize(
    "row", [{"context.frames": 5, "context.overlap": 4}, {"feta": True}, {"freeinit.rounds": 2}, CACHES["easycache"]]
)
def test_techniques_work_on_48_channels(lab_5b: wl.Lab, row: dict[str, Any]) -> None:
    plan = lab_5b.plan("a red star spins", **SMALL)
    run = lab_5b.run("a red star spins", row, **SMALL)
    assert run.latents(4).shape == (1, 48, 3, 2, 4)
    assert torch.isfinite(run.latents(4)).all()
    assert plan.model_calls == 8


def test_sizes_of_the_larger_cells_are_multiples_of_32(lab_5b: wl.Lab) -> None:
    with pytest.raises(
        SettingsError, match="width is 48; this model makes clips in multiples of 32 pixels, for example 32 or 64"
    ):
        lab_5b.run("a red star spins", **SMALL | {"width": 48})


def test_a_picture_for_the_5b_is_refused_in_a_sentence(lab_5b: wl.Lab) -> None:
    with pytest.raises(SettingsError, match=r"runs Wan2\.2-TI2V-5B as a text-to-video model so far"):
        lab_5b.run("a red star spins", image=PICTURE, **SMALL)


def test_the_vae_of_another_wan_is_refused(small_5b: Path) -> None:
    vae = str(Path(wl.tiny_path()) / "vae")
    with pytest.raises(
        ModelError, match=r"predicts latents of 48 channels, and the VAE has 16; give vae=..., the one of Wan2\.2"
    ):
        finding.find(ModelSettings(model=str(small_5b), vae=vae))
