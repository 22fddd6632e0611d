"""Where weights lie, what is swapped, offloaded, compiled or tiled: what only costs changes no bit, and names say the rest."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

import wanlab as wl
from foreign import tensors_of, write_original
from wanlab.errors import ModelError, SettingsError
from wanlab.model.model import Model
from wanlab.placement.spread import spread
from wanlab.quantize.linear import QuantizedLinear
from wanlab.settings import ModelSettings, declared
from wanlab.tiny import tiny_path

TINY = Path(tiny_path("tiny"))
PROMPT = "a red circle moves right on a blue background"
STYLE = "tiny-style"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Model]:
    """Models of a lab in one folder, as the public door makes them."""

    def make(model: str | Path = "tiny", **settings: Any) -> Model:
        return wl.Lab(tmp_path / "lab", model=model, **{"load_device": "cpu", **settings}).model

    return make


def velocity(model: Model, seed: int = 5) -> Tensor:
    """A velocity of a few tokens, told a picture where the model sees one."""
    seeded = torch.Generator().manual_seed(seed)
    shapes = ((1, 16, 2, 4, 4), (1, 512, 128), (1, 20, 2, 4, 4), (1, 17, 96))
    latents, text, *told = (torch.randn(shape, generator=seeded) for shape in shapes)
    seen = told if model.checkpoint.image_to_video else [None, None]
    return model.velocity(latents, torch.tensor([700.0]), text.to(model.dtype), *seen)


def same_bits(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and torch.equal(one, two)


# --- What only costs changes nothing ---

SWAP = {"blocks_to_swap": 3}
EAGER = {"compile.backend": "eager"}

# For every setting that only costs: values other than the declared one, each with the settings that it needs to matter.
COSTS: dict[str, list[dict[str, Any]]] = {
    "load_device": [{}],  # another device rounds otherwise
    "offload_device": [{**SWAP, "offload_device": "disk"}],
    "force_offload": [{"force_offload": True}, {**SWAP, "force_offload": True}],
    "blocks_to_swap": [{"blocks_to_swap": 1}, {"blocks_to_swap": 8}],
    "prefetch_blocks": [{**SWAP, "prefetch_blocks": 0}, {**SWAP, "prefetch_blocks": 2}, {**SWAP, "prefetch_blocks": 40}],
    "use_non_blocking": [{**SWAP, "use_non_blocking": False}, {**SWAP, "use_non_blocking": False, "offload_device": "disk"}],
    "offload_text_embedding": [
        {"offload_text_embedding": True},
        {"offload_text_embedding": True, "offload_device": "disk"},
        {**SWAP, "offload_text_embedding": True, "force_offload": True},
    ],
    "offload_image_embedding": [{"offload_image_embedding": True}, {"offload_image_embedding": True, "offload_device": "disk"}],
    "text_encoder_device": [{"text_encoder_device": "cpu"}],
    "placement": [{"placement": "auto"}],
    "device_gib": [{"device_gib": 24.0}],
    "margin_gib": [{"margin_gib": 2.0}],
    "compile.backend": [EAGER, {"compile.backend": "aot_eager"}, {**EAGER, **SWAP}],
    "compile.mode": [{**EAGER, "compile.mode": "default"}],  # the others are inductor's
    "compile.dynamic": [{**EAGER, "compile.dynamic": True}],
    "compile.fullgraph": [{**EAGER, "compile.fullgraph": True}],
    "compile.whole": [{**EAGER, "compile.whole": True}],
    "compile.recompile_limit": [{**EAGER, "compile.recompile_limit": 2}],
}
COSTING = [name for name, setting in declared(ModelSettings).items() if setting.affects == "cost"]


@pytest.mark.parametrize("name", COSTING)
def test_what_only_costs_changes_neither_velocities_nor_the_name(name: str, model: Model, load: Callable[..., Model]) -> None:
    wanted = velocity(model)
    for settings in COSTS[name]:
        other = load(**settings)
        if name.startswith("compile."):
            torch.testing.assert_close(velocity(other), wanted, rtol=0, atol=1e-5)
            assert other.compiles.graphs
        else:
            assert same_bits(velocity(other), wanted), settings
            assert same_bits(velocity(other), wanted), "the second time"
        assert other.id == model.id
        other.unload()


# For every setting that changes velocities, and does not only say where files are: a value, and whether velocities differ
# on a CPU (fp16_fast sums otherwise on GPUs alone).
RESULTS: dict[str, dict[str, Any]] = {
    "base_precision": {"base_precision": "bf16"},
    "quantization": {"quantization": "int8"},
    "loras": {"loras": [STYLE]},
    "attention_mode": {"attention_mode": "sdpa_math"},
}
# Of files, whose content is the name; and what needs a second transformer (test_wan22.py).
PLACES = ("model", "text_encoder", "tokenizer", "image_encoder", "transformer_2", "boundary_ratio")


@pytest.mark.parametrize(
    "name", [name for name, one in declared(ModelSettings).items() if one.affects == "result" and name not in PLACES]
)
def test_what_changes_velocities_is_in_the_name(name: str, model: Model, load: Callable[..., Model]) -> None:
    other = load(**RESULTS[name])
    assert other.id != model.id
    assert not same_bits(velocity(other), velocity(model))


CLIPS: dict[str, dict[str, Any]] = {
    "vae": {"vae": str(TINY / "vae")},
    "vae_precision": {"vae_precision": "bf16"},
    "vae_tiling": {"vae_tiling": True},
    "vae_tile": {"vae_tiling": True, "vae_tile": 64, "vae_tile_stride": 48},
    "vae_tile_stride": {"vae_tiling": True, "vae_tile_stride": 128},
}


@pytest.mark.parametrize("name", [name for name, one in declared(ModelSettings).items() if one.affects == "clip"])
def test_the_vae_is_in_the_name_only_of_a_model_that_encodes_with_it(
    name: str, model: Model, load: Callable[..., Model]
) -> None:
    other = load(**CLIPS[name])
    assert other.id == model.id
    assert same_bits(velocity(other), velocity(model))
    if name != "vae":  # whose content is in the fingerprint
        assert load("tiny-i2v", **CLIPS[name]).id != load("tiny-i2v").id


def test_tiles_that_are_not_used_are_in_no_name(load: Callable[..., Model]) -> None:
    assert load("tiny-i2v", vae_tile=64, vae_tile_stride=48).id == load("tiny-i2v").id


def test_the_vae_of_an_image_to_video_model_is_part_of_who_it_is(load: Callable[..., Model], tmp_path: Path) -> None:
    black = {name: torch.zeros_like(tensor) for name, tensor in tensors_of(TINY / "vae").items()}
    file = write_original(black, tmp_path / "vae.safetensors", rename=str)
    parts = {"text_encoder": str(TINY / "text_encoder"), "image_encoder": str(Path(tiny_path("tiny-i2v")) / "image_encoder")}
    alone = write_original(Path(tiny_path("tiny-i2v")) / "transformer", tmp_path / "i2v.safetensors")
    ids = {load(alone, **parts, vae=str(vae)).id for vae in (file, TINY / "vae")}
    assert len(ids) == 2


# --- Swapped blocks ---


@pytest.mark.parametrize("place", ["cpu", "disk"])
@pytest.mark.parametrize("count", range(9))
def test_exactly_as_many_blocks_are_swapped_as_asked(count: int, place: str, model: Model, load: Callable[..., Model]) -> None:
    other = load(blocks_to_swap=count, offload_device=place)
    assert other.blocks_swapped == count
    assert same_bits(velocity(other), velocity(model))
    if count:
        assert other.swap is not None
        assert other.swap.swapped == spread(8, count)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_more_blocks_than_there_are_are_refused_before_anything_is_read(place: str, tmp_path: Path) -> None:
    lab = wl.Lab(tmp_path / "lab", blocks_to_swap=9, offload_device=place, load_device="cpu")
    with pytest.raises(SettingsError, match=r"^blocks_to_swap is 9; this model has 8 blocks, so it must be "):
        lab.run(PROMPT, width=32, height=32, frames=5, steps=1)
    assert not list((tmp_path / "lab" / "runs").glob("*/run.json"))
    with pytest.raises(SettingsError, match=r"^blocks_to_swap is 9; this model has 8 blocks"):
        lab.model.transformer  # noqa: B018


WITH: dict[str, dict[str, Any]] = {
    "bf16": {"base_precision": "bf16"},
    "fp16, as in the file": {"base_precision": "fp16"},
    "fp8": {"quantization": "fp8_e4m3fn"},
    "scaled fp8 per row in bf16": {"quantization": "fp8_e4m3fn_scaled_channel", "base_precision": "bf16"},
    "int8": {"quantization": "int8"},
    "gguf": {"quantization": "gguf_q4_0"},
    "a live LoRA": {"loras": [STYLE]},
    "a merged LoRA": {"loras": [{"file": STYLE, "merge": True}]},
    "a live LoRA beside int8": {"loras": [STYLE], "quantization": "int8", "base_precision": "bf16"},
    "a live and a merged LoRA": {"loras": [STYLE, {"file": "tiny-four-steps", "merge": True, "strength": 0.5}]},
    "another attention": {"attention_mode": "sdpa_math"},
}


@pytest.mark.parametrize("row", WITH)
def test_swapped_blocks_give_the_same_with_all_that_can_be_in_them(row: str, load: Callable[..., Model]) -> None:
    wanted = velocity(load(**WITH[row]))
    for place in ("cpu", "disk"):
        other = load(blocks_to_swap=5, offload_device=place, offload_text_embedding=True, **WITH[row])
        assert same_bits(velocity(other), wanted), place
        assert same_bits(velocity(other), wanted), place


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_swapped_blocks_of_a_scaled_file_are_read_from_it(name: str, load: Callable[..., Model], tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", dtype="e4m3fn", scale_key=name, per_row=True)
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae"), "base_precision": "fp16"}
    wanted = velocity(load(file, **parts))
    other = load(file, blocks_to_swap=6, offload_device="disk", **parts)
    assert same_bits(velocity(other), wanted)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_image_to_video_swaps_and_offloads_too(place: str, load: Callable[..., Model]) -> None:
    wanted = velocity(load("tiny-i2v"))
    how = {"offload_device": place, "offload_text_embedding": True, "offload_image_embedding": True}
    other = load("tiny-i2v", blocks_to_swap=4, force_offload=True, **how)
    assert same_bits(velocity(other), wanted)
    embedders = other._loaded[0].embedders
    assert embedders is not None
    condition = other.transformer.condition_embedder
    assert embedders.modules == (condition.text_embedder, condition.image_embedder)
    assert embedders.copies == 2


def test_counters_count_copies_of_exactly_the_swapped_blocks(load: Callable[..., Model]) -> None:
    other = load(blocks_to_swap=4, prefetch_blocks=1)
    swap = other.swap
    assert swap is not None
    assert swap.slots == 2
    nbytes = sum(tensor.nbytes for tensor in load().transformer.blocks[0].parameters())
    for forward in (1, 2, 3):
        velocity(other)
        assert swap.copies == 4 * forward + 1  # and the first block of the next
    assert nbytes <= swap.bytes_to_device / swap.copies < nbytes + 64 * 256
    assert swap.saved_bytes == 2 * swap.bytes_to_device / swap.copies


def test_the_timeline_has_a_row_for_every_block(load: Callable[..., Model]) -> None:
    other = load(blocks_to_swap=3)
    with other.block_timeline() as timeline:
        velocity(other)
    table = timeline.table()
    assert sorted(table.block) == list(range(8))
    assert set(table.block[table.swapped]) == set(spread(8, 3))
    assert (table.compute_seconds > 0).all()
    velocity(other)
    assert len(timeline.table()) == 8  # it ended
    with pytest.raises(SettingsError, match=r"^blocks_to_swap is 0; without swapped blocks"), load().block_timeline():
        pass


def test_trap_two_models_with_blocks_on_the_disk_do_not_see_each_others_weights(
    load: Callable[..., Model], tmp_path: Path
) -> None:
    """In one folder, at once and one after the other: diffusers 0.42 reuses the first one's files."""
    other = {name: tensor * 1.01 for name, tensor in tensors_of(TINY / "transformer").items()}
    files = [
        write_original(TINY / "transformer", tmp_path / "one.safetensors"),
        write_original(
            other, tmp_path / "two.safetensors", metadata={"config": (TINY / "transformer/config.json").read_text()}
        ),
    ]
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae")}
    wanted = [velocity(load(file, **parts)) for file in files]
    assert not same_bits(*wanted)
    swapped = [load(file, blocks_to_swap=8, offload_device="disk", **parts) for file in files]
    for _ in range(2):
        assert all(same_bits(velocity(model), velocities) for model, velocities in zip(swapped, wanted, strict=True))
    swapped[0].unload()
    assert same_bits(velocity(swapped[1]), wanted[1])
    assert same_bits(velocity(swapped[0]), wanted[0])
    for model in swapped:
        model.unload()
    assert not [file for file in (tmp_path / "lab").rglob("*") if file.is_file()]


def test_a_file_that_changes_while_its_blocks_wait_in_it_is_an_error(load: Callable[..., Model], tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "one.safetensors", dtype=torch.float32)
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae")}
    other = load(file, blocks_to_swap=8, offload_device="disk", **parts)
    velocity(other)
    file.write_bytes(file.read_bytes()[:-4096] + bytes(4096))
    with pytest.raises(ModelError, match=r"one\.safetensors.*changed"):
        velocity(other)


def test_weights_on_the_disk_are_not_in_memory(load: Callable[..., Model]) -> None:
    """What a block has while it waits is one number for each tensor."""
    other = load(blocks_to_swap=8, offload_device="disk", prefetch_blocks=0)
    velocity(other)
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for block in other.transformer.blocks
        for tensor in (*block.parameters(), *block.buffers())
    }
    block = sum(tensor.nbytes for tensor in load().transformer.blocks[0].parameters())
    assert sum(storages.values()) < block / 10


def test_another_placement_chosen_while_running_moves_the_weights(model: Model, load: Callable[..., Model]) -> None:
    """As placement auto does."""
    wanted = velocity(model)
    other = load()
    for count in (3, 8, 0, 1):
        other.place(other.settings.but({"blocks_to_swap": count}), tiled=False)
        assert same_bits(velocity(other), wanted)
        assert other.blocks_swapped == count
    other.place(other.settings.but({"blocks_to_swap": 2, "force_offload": True}), tiled=True)
    assert same_bits(velocity(other), wanted)
    assert (other.blocks_swapped, other.frames.tiled, other.id) == (2, True, model.id)


# --- Letting go ---


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quantization": "int8", "loras": [STYLE]},
        {"blocks_to_swap": 4, "loras": [STYLE], "offload_text_embedding": True},
        {"blocks_to_swap": 4, "offload_device": "disk", "force_offload": True},
        {"compile.backend": "eager", "blocks_to_swap": 2},
    ],
    ids=lambda settings: " ".join(settings) or "plain",
)
def test_after_unload_all_weights_are_gone_and_the_model_works_again(
    settings: dict[str, Any], load: Callable[..., Model]
) -> None:
    other = load("tiny-i2v", **settings) if not settings else load(**settings)
    first = velocity(other)
    latents = torch.zeros(1, 16, 1, 4, 4)
    frames, text = other.decode(latents), other.encode(PROMPT)
    modules = [other.transformer, other.transformer.blocks[4], other.vae, other.text_encoder]
    if other.checkpoint.image_to_video:
        other.encode_picture(np.zeros((8, 8, 3), np.float32))
        modules.append(other.image_encoder)
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    tensors += [slot.buffer for slot in other.swap._slots] if other.swap else []
    assert len(tensors) > 400
    masters = [one.master for one in other.swap._parked.values()] if other.swap else []
    watched = [weakref.ref(one) for one in (*modules, *masters, *tensors, other._loras)]
    del modules, masters, tensors
    other.unload()
    gc.collect()
    left = [type(one) for reference in watched if (one := reference()) is not None]
    assert not left
    assert same_bits(velocity(other), first)
    assert np.array_equal(other.decode(latents), frames)
    assert same_bits(other.encode(PROMPT), text)


def test_unload_without_anything_loaded_is_nothing(load: Callable[..., Model]) -> None:
    load().unload()


# --- Reports ---


@pytest.mark.parametrize("swapped", [{}, SWAP, {**SWAP, "offload_device": "disk"}], ids=["resident", "host", "disk"])
@pytest.mark.parametrize("stored", ["fp16", "scaled"])
@pytest.mark.parametrize("quantization", ["disabled", "fp8_e4m3fn_scaled"])
def test_the_quantization_report_works_wherever_the_weights_are(
    quantization: str, stored: str, swapped: dict[str, Any], load: Callable[..., Model], tmp_path: Path
) -> None:
    how: dict[str, Any] = {"dtype": "e4m3fn", "scale_key": "scale_weight"} if stored == "scaled" else {}
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", **how)
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae")}
    other = load(file, quantization=quantization, **parts, **swapped)
    table = other.quantization_report().table()
    quantized = quantization != "disabled" or stored == "scaled"
    assert len(table) == (8 * 10 if quantized else 0)
    if quantized:
        assert set(table.kind) == {"fp8_e4m3fn_scaled"}
        assert "blocks.0.attn1.to_q" in set(table.layer)
        assert table.error.isna().all() if stored == "scaled" else table.error.between(0.01, 0.05).all()
        layers = [one for one in load(file, quantization=quantization, **parts).transformer.modules()]
        assert table.bytes.sum() == sum(one.packed.nbytes for one in layers if isinstance(one, QuantizedLinear))


@pytest.mark.parametrize("swapped", [{}, {**SWAP, "offload_device": "disk"}], ids=["resident", "disk"])
def test_kinds_are_compared_on_the_weights_of_the_file(swapped: dict[str, Any], load: Callable[..., Model]) -> None:
    table = load(**swapped).quantization_report("fp8_e4m3fn", "int8").summary().set_index("kind")
    assert list(table.index) == ["fp8_e4m3fn", "int8"]
    assert table.error["int8"] < table.error["fp8_e4m3fn"]
    quantized = load(quantization="int8").quantization_report().summary().set_index("kind")
    assert quantized.error["int8"] == pytest.approx(table.error["int8"])


def test_kinds_cannot_be_compared_on_weights_that_are_quantized(load: Callable[..., Model], tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", dtype="e4m3fn")
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae")}
    with pytest.raises(ModelError, match=r"quantized already"):
        load(file, **parts).quantization_report("int8")


def test_attention_modes_are_listed_with_the_reason_why_not(load: Callable[..., Model]) -> None:
    found = load().attention_modes()
    assert "sdpa" in found.names
    table = found.table()
    assert (table.why_not[table.here == "no"] != "").all()


# --- The VAE ---


def diffusers_vae(dtype: torch.dtype = torch.float32) -> AutoencoderKLWan:
    vae = AutoencoderKLWan.from_pretrained(TINY / "vae", dtype=dtype).requires_grad_(False).eval()
    for tensor in (*vae.parameters(), *vae.buffers()):
        tensor.data = tensor.data.clone()
    return vae


def normal(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(one).view(1, -1, 1, 1, 1) for one in (vae.config.latents_mean, vae.config.latents_std))


def frames_of(clip: Tensor) -> np.ndarray:
    return ((clip[0].float().permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).round().byte().numpy()


def difference(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - two.astype(int)).max())


@torch.inference_mode()
def test_tiles_are_those_of_diffusers(load: Callable[..., Model]) -> None:
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    tiled, whole = load(vae_tiling=True, vae_tile=32, vae_tile_stride=24), load()
    vae = diffusers_vae()
    vae.enable_tiling(32, 32, 24, 24)
    mean, deviation = normal(vae)
    frames = tiled.decode(latents)
    assert difference(frames, frames_of(vae.decode(latents * deviation + mean).sample)) <= 1
    assert difference(frames, whole.decode(latents)) > 1  # there are seams
    video = frames.astype(np.float32) / 127.5 - 1
    encoded = vae.encode(torch.from_numpy(video).permute(3, 0, 1, 2)[None]).latent_dist.mode()
    torch.testing.assert_close(tiled.encode_video(video), (encoded - mean) / deviation, rtol=0, atol=1e-5)
    assert not torch.allclose(tiled.encode_video(video), whole.encode_video(video), atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_precision_of_the_vae_is_its_own(precision: str, load: Callable[..., Model]) -> None:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    other, whole = load(vae_precision=precision), load(base_precision=precision)
    latents = torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    vae = diffusers_vae(dtype)
    mean, deviation = normal(vae)
    assert other.vae.dtype == dtype
    assert whole.vae.dtype == torch.float32
    assert difference(other.decode(latents), frames_of(vae.decode((latents * deviation + mean).to(dtype)).sample)) <= 1
    assert np.array_equal(whole.decode(latents), load().decode(latents))


def test_an_interrupted_decode_leaves_nothing_behind(load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    other = load(vae_tiling=True, vae_tile=32, vae_tile_stride=24)
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    wanted = other.decode(latents)
    with monkeypatch.context() as broken:
        broken.setattr(other.vae.decoder.mid_block, "forward", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            other.decode(latents)
    assert np.array_equal(other.decode(latents), wanted)
