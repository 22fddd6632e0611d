"""The dry run and the calibration, with torch: counted on fake tensors, on real ones, and by the closed formulas."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from test_cost import PUBLISHED, TINY, config, rows, tiny
from wanlab.cost import activations, memory, parts, vae
from wanlab.cost.calibrate import FILE, calibrate
from wanlab.cost.dry_run import Live, dry_run_transformer, dry_run_vae, empty_packed
from wanlab.cost.estimate import Request
from wanlab.cost.request import Pass
from wanlab.errors import SettingsError
from wanlab.quantize.formats import pack
from wanlab.quantize.kinds import KINDS, kept_in_fp32
from wanlab.quantize.linear import quantize_linears
from wanlab.settings import ModelSettings, Settings
from wanlab.weights.registry import all_known, known

OURS = [name for name, kind in KINDS.items() if kind.packed]
REAL = [one.name for one in all_known() if one.runs and not one.transformer.get("vace_layers")]
TINY_I2V = TINY.with_name("weights_i2v")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def closed(facts: dict[str, Any], latents: tuple[int, int, int], size: int = 2, batch: int = 1, **more: Any) -> int:
    tokens = latents[0] * latents[1] * latents[2] // 4
    image = more.pop("image_tokens", 0)
    return max(activations.forward(facts, activations.Work(tokens, batch, image, size), **more).values())


# --- bytes


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["tiny", "tiny-i2v", *REAL])
def test_bytes_of_a_transformer_are_those_of_the_class(name: str, precision: str) -> None:
    facts = config(TINY if name == "tiny" else TINY_I2V, "transformer") if name.startswith("tiny") else known(name).transformer
    with torch.device("meta"):
        model = WanTransformer3DModel.from_config(
            {key: value for key, value in facts.items() if key[0] != "_"} | {"num_layers": 1}
        )
    size = parts.SIZES[precision]
    real = {key: tensor.numel() * (4 if kept_in_fp32(key) else size) for key, tensor in model.named_parameters()}
    found = parts.transformer(facts, precision)
    assert found.block == sum(held for key, held in real.items() if key.startswith("blocks."))
    assert found.outside == sum(held for key, held in real.items() if not key.startswith("blocks."))
    assert found.text_embedding == sum(held for key, held in real.items() if ".text_embedder." in key)
    assert found.image_embedding == sum(held for key, held in real.items() if ".image_embedder." in key)


@pytest.mark.parametrize("kind", OURS)
def test_bytes_of_a_quantized_block_are_those_of_its_tensors(kind: str) -> None:
    facts = config(TINY, "transformer")
    model = WanTransformer3DModel.from_config({key: value for key, value in facts.items() if key[0] != "_"} | {"num_layers": 1})
    block = quantize_linears(model.blocks[0], kind, "blocks.0.")
    held = sum(tensor.nbytes for tensor in (*block.parameters(), *block.buffers()))
    assert parts.transformer(facts, "fp32", kind).block == held


@pytest.mark.parametrize("kind", OURS)
def test_an_empty_packed_weight_is_like_a_real_one(kind: str) -> None:
    real, empty = pack(kind, torch.randn(96, 64)), empty_packed(kind, (96, 64))
    described = [{name: (part.shape, part.dtype) for name, part in one.parts.items()} for one in (real, empty)]
    assert described[0] == described[1]


def test_bytes_of_the_other_parts_are_those_of_their_classes() -> None:
    model = known("Wan2.1-I2V-14B-480P")
    assert model.image_encoder is not None
    with torch.device("meta"):
        text = UMT5EncoderModel(UMT5Config(**model.text_encoder))
        image = CLIPVisionModel(CLIPVisionConfig(**model.image_encoder))
        video = AutoencoderKLWan.from_config(dict(model.vae))
    for name, module, facts in (
        ("text_encoder", text, model.text_encoder),
        ("image_encoder", image, model.image_encoder),
        ("vae", video, model.vae),
    ):
        assert parts.part(name, facts, "fp32") == 4 * sum(tensor.numel() for tensor in module.parameters())
    assert UMT5EncoderModel._keep_in_fp32_modules == ["wo"]  # what fp16 costs
    more = parts.part("text_encoder", model.text_encoder, "fp16") - parts.part("text_encoder", model.text_encoder, "bf16")
    assert more == 2 * sum(tensor.numel() for name, tensor in text.named_parameters() if name.endswith("wo.weight"))


# --- activations


@rows("activations_gb")
def test_dry_runs_are_the_published_traces_and_the_closed_form(row: dict[str, Any]) -> None:
    facts, latents = known(row["model"]).transformer, tuple(row["latents"])
    found = dry_run_transformer(facts, latents)  # type: ignore[arg-type]
    assert found.peak / 1e9 == pytest.approx(row["gb"], rel=0.02)
    assert closed(facts, latents) == pytest.approx(found.peak, rel=0.003)  # type: ignore[arg-type]
    weights = parts.transformer(facts, "bf16")
    assert (found.weights, found.block) == (weights.whole, weights.block)


@pytest.mark.parametrize("row", PUBLISHED["operations"], ids=lambda row: f"{row['model']}-{row['tokens']}")
def test_dry_runs_count_the_published_operations(row: dict[str, Any]) -> None:
    latents = {32760: (21, 60, 104), 75600: (21, 90, 160)}[row["tokens"]]
    found = dry_run_transformer(known(row["model"]).transformer, latents)
    assert found.flops / 1e12 == pytest.approx(row["whole"], rel=0.001)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("latents", [(1, 8, 8), (5, 8, 8), (3, 30, 52), (17, 16, 16)])
@pytest.mark.parametrize("name", ["tiny", "Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B"])
def test_the_closed_form_holds_from_one_frame_on(name: str, latents: tuple[int, int, int], precision: str) -> None:
    facts = config(TINY, "transformer") if name == "tiny" else known(name).transformer
    found = dry_run_transformer(facts, latents, precision).peak
    assert closed(facts, latents, parts.SIZES[precision]) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize(("name", "image_tokens"), [("Wan2.1-I2V-14B-480P", 257), ("Wan2.1-FLF2V-14B-720P", 514)])
def test_the_closed_form_holds_with_pictures_and_two_branches(name: str, image_tokens: int) -> None:
    facts = known(name).transformer
    found = dry_run_transformer(facts, (3, 30, 52), batch=2, image_tokens=image_tokens).peak
    assert closed(facts, (3, 30, 52), batch=2, image_tokens=image_tokens) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("kind", ["fp8_e4m3fn_scaled", "int8", "gguf_q4_0"])
@pytest.mark.parametrize("latents", [(5, 8, 8), (5, 60, 104)])
def test_unpacked_weights_are_counted(kind: str, latents: tuple[int, int, int]) -> None:
    facts = known("Wan2.1-T2V-14B").transformer
    found, weights = dry_run_transformer(facts, latents, kind=kind), parts.transformer(facts, "bf16", kind)
    assert (found.weights, found.block) == (weights.whole, weights.block)
    assert closed(facts, latents, weights=weights, gguf=kind.startswith("gguf")) == pytest.approx(found.peak, rel=0.02)


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("which", ["tiny", "2.1", "2.2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_walk_through_the_vae_is_the_class_on_fake_tensors(which: str, way: str, precision: str) -> None:
    facts = {"tiny": config(TINY, "vae"), "2.1": known("Wan2.1-T2V-14B").vae, "2.2": known("Wan2.2-TI2V-5B").vae}[which]
    for frames in (1, 17):  # from the fourth piece of four frames on all are alike
        found = dry_run_vae(facts, way, frames, 128, 192, precision)
        walked = getattr(vae, way)(facts, frames, 128, 192, parts.SIZES[precision])
        assert walked.peak == pytest.approx(found.peak, rel=0.005 if precision == "fp32" and which != "tiny" else 0.045)
        assert walked.flops == pytest.approx(found.flops, rel=0.001)


def test_the_tiled_vae_is_the_class_on_real_tensors() -> None:
    facts = config(TINY, "vae")
    video = AutoencoderKLWan.from_config({key: value for key, value in facts.items() if key[0] != "_"}).eval()
    video.enable_tiling(64, 64, 48, 48)
    latents = torch.zeros(1, 16, 2, 12, 14)
    with torch.inference_mode(), Live([latents, *video.parameters()]) as live:
        video.decode(latents, return_dict=False)
    assert vae.decode(facts, 5, 96, 112, 4, vae.Tiles(64, 48)).peak == pytest.approx(live.peak, rel=0.05)


# --- real against fake


def test_live_bytes_are_counted_by_what_is_alive() -> None:
    with Live() as live:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second.view(10, 100)  # no new bytes
        del second
        assert live.bytes == 4000
        del third
    assert live.bytes == 0
    assert live.peak == 8000


def test_a_composition_does_not_hide_what_it_allocates() -> None:
    norm, x = nn.RMSNorm(64), torch.randn(128, 64)
    peaks = []
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, Live([x, *norm.parameters()]) as live:
            norm(x)
        peaks.append(live.peak)
    assert peaks[0] == peaks[1] > x.nbytes * 2


def test_a_dry_run_of_the_tiny_model_is_the_real_run_to_the_byte() -> None:
    facts = config(TINY, "transformer")
    model = WanTransformer3DModel.from_pretrained(TINY / "transformer", torch_dtype=torch.float32).eval()
    given = torch.zeros(1, 16, 5, 8, 8), torch.zeros(1), torch.zeros(1, 512, facts["text_dim"])
    with torch.no_grad(), Live([*given, *model.parameters(), *model.buffers()]) as live:
        model(*given, return_dict=False)
    found = dry_run_transformer(facts, (5, 8, 8), "fp32")
    assert (found.peak, found.weights) == (live.peak, sum(tensor.nbytes for tensor in model.parameters()))
    assert found.flops == live.flops


@contextlib.contextmanager
def scaled(transformer: Any) -> Iterator[None]:
    """A technique that needs a lot: it keeps what every block put out."""
    kept: list[Any] = []
    hooks = [block.register_forward_hook(lambda *args: kept.append(args[2] * 2)) for block in transformer.blocks]
    yield
    for hook in hooks:
        hook.remove()


def test_a_dry_run_sees_what_a_technique_attaches() -> None:
    facts, latents = known("Wan2.1-T2V-1.3B").transformer, (3, 30, 52)
    plain, more = (dry_run_transformer(facts, latents, attach=attach).peak for attach in (contextlib.nullcontext, scaled))
    assert more - plain == 3 * 15 * 26 * 1536 * 2  # at the peak of the second block what the first one put out is kept


def test_weights_of_a_library_have_no_dry_run() -> None:
    with pytest.raises(SettingsError, match="objects of torchao"):
        dry_run_transformer(config(TINY, "transformer"), (1, 8, 8), kind="torchao_int8")


@pytest.mark.parametrize("frames", [1, 17, 33])
def test_planned_memory_of_the_tiny_model_is_what_torch_holds(frames: int) -> None:
    settings = Settings(frames=frames)
    asked = Request(settings, ModelSettings(), tiny())
    model = WanTransformer3DModel.from_pretrained(TINY / "transformer", torch_dtype=torch.float32).eval()
    video = AutoencoderKLWan.from_pretrained(TINY / "vae", torch_dtype=torch.float32).eval()
    given = torch.zeros(1, 16, settings.latent_frames, 8, 8), torch.zeros(1), torch.zeros(1, 512, 128)
    with torch.inference_mode(), Live([*model.parameters(), *model.buffers()]) as live:
        model(*(tensor.clone() for tensor in given), return_dict=False)
    weights = memory.weights(asked)
    assert weights.transformer == sum(tensor.nbytes for tensor in model.parameters())
    inputs = sum(tensor.nbytes for tensor in given)
    assert memory.denoising(asked) + inputs == pytest.approx(live.peak, rel=0.05)
    with torch.inference_mode(), Live([given[0], *video.parameters()]) as live:
        clip = video.decode(given[0], return_dict=False)[0]
        ((clip[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    latents = given[0].nbytes * 3  # as they are, normalized, and in the VAE's format
    assert memory.decoding(asked) - latents == pytest.approx(live.peak, rel=0.05)


# --- calibration


def test_a_calibration_is_measured_once_and_kept(tmp_path: Path) -> None:
    asked = Request(Settings(frames=5), ModelSettings(), tiny())
    first = calibrate(asked, tmp_path)
    assert calibrate(asked, tmp_path) == first
    assert first.block > 0
    assert first.link is not None
    assert first.decode is not None
    assert (first.blocks, first.tokens, first.batch) == (8, 2 * 16, 1)
    assert len(json.loads((tmp_path / FILE).read_text())) == 1
    other = calibrate(asked.but({"quantization": "int8"}), tmp_path)
    assert other != first
    assert len(json.loads((tmp_path / FILE).read_text())) == 2
    (tmp_path / FILE).write_text("{damaged")
    assert calibrate(asked, tmp_path).blocks == 8


def test_a_calibrated_forward_is_its_blocks_and_the_rest() -> None:
    asked = Request(Settings(frames=5), ModelSettings(), tiny())
    ticks = iter(range(10**6))
    found = calibrate(asked, clock=lambda: next(ticks) * 1.0)  # a clock on which every call takes one second
    assert (found.block, found.rest) == (1.0, 0.0)
    assert found.forward(found.operations) == 8.0
    assert asked.calls == {Pass(2): 2 * len(asked.settings.grid)}
