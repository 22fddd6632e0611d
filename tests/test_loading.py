"""A model is the same by whatever route its weights come: folder, shards, single files of every layout and precision."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

import wanlab as wl
from foreign import (
    config_text,
    is_matrix,
    original_clip,
    original_transformer,
    original_umt5,
    original_vae,
    tensors_of,
    to_fp8,
    write_gguf,
    write_original,
    write_shards,
)
from wanlab.errors import ModelError, SettingsError
from wanlab.model import checkpoint, finding
from wanlab.model.model import Model
from wanlab.quantize.kinds import kept_in_fp32
from wanlab.settings import ModelSettings
from wanlab.tiny import tiny_path

TINY = Path(tiny_path("tiny"))
TINY_I2V = Path(tiny_path("tiny-i2v"))
PROMPT = "a red circle moves right on a blue background"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def vae_names(name: str) -> str:
    """The original names of the tiny VAE, which has one residual block a stage."""
    return original_vae(name, resnets=1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would be downloaded is a failure."""
    import huggingface_hub

    def refuse(*asked: Any, **_: Any) -> None:
        raise AssertionError(f"{asked} would be downloaded")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., wl.Lab]:
    """A lab around a single file of a transformer, with the other parts of the tiny Wan; they may be given too."""

    def make(model: Path | str, folder: Path = TINY, **settings: Any) -> wl.Lab:
        parts: dict[str, Any] = {} if Path(model).is_dir() else {"text_encoder": folder / "text_encoder", "vae": folder / "vae"}
        asked = {**parts, "load_device": "cpu", **settings}
        return wl.Lab(tmp_path / "lab", model=model, **{name: _text(value) for name, value in asked.items()})

    return make


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def velocity(model: Any, seed: int = 5) -> Tensor:
    """A velocity of a few tokens, of a model or of diffusers' own transformer."""
    seeded = torch.Generator().manual_seed(seed)
    latents, text = torch.randn(1, 16, 2, 4, 4, generator=seeded), torch.randn(1, 12, 128, generator=seeded)
    if isinstance(model, Model):
        return model.velocity(latents, torch.tensor([700.0]), text.to(model.dtype))
    dtype = model.patch_embedding.weight.dtype
    with torch.inference_mode():
        return model(latents.to(dtype), torch.tensor([700.0]), text.to(dtype), return_dict=False)[0]


def told_velocity(model: Model) -> Tensor:
    """A velocity of an image-to-video model."""
    seeded = torch.Generator().manual_seed(5)
    shapes = ((1, 16, 2, 4, 4), (1, 512, 128), (1, 20, 2, 4, 4), (1, 17, 96))
    latents, text, condition, image = (torch.randn(shape, generator=seeded) for shape in shapes)
    return model.velocity(latents, torch.tensor([700.0]), text.to(model.dtype), condition, image)


def by_hand(tensors: Mapping[str, Tensor]) -> Tensor:
    """The velocity of diffusers' own class with these weights in float32."""
    made = WanTransformer3DModel.from_config(json.loads((TINY / "transformer" / "config.json").read_text()))
    made.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return velocity(made.requires_grad_(False).eval())


def same_bits(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and torch.equal(one, two)


# --- Layouts ---


def whole_folder(folder: Path, source: Path = TINY, count: int = 3, **how: Any) -> Path:
    """The tiny Wan as a folder in diffusers' format whose transformer is in shards."""
    shutil.copytree(source, folder)
    shutil.rmtree(folder / "transformer")
    (folder / "transformer").mkdir()
    write_shards(source / "transformer", folder / "transformer", count, stem="diffusion_pytorch_model", **how)
    return folder


UNCHANGED: dict[str, Callable[[Path], Path]] = {
    "original": lambda folder: write_original(TINY / "transformer", folder / "model.safetensors"),
    "comfy": lambda folder: write_original(
        TINY / "transformer", folder / "model.safetensors", "model.diffusion_model.", torch.float16
    ),
    "comfy, short": lambda folder: write_original(TINY / "transformer", folder / "model.safetensors", "diffusion_model."),
    "diffusers": lambda folder: write_original(TINY / "transformer", folder / "model.safetensors", rename=str),
    "fp32": lambda folder: write_original(TINY / "transformer", folder / "model.safetensors", dtype=torch.float32),
    "shards": lambda folder: whole_folder(folder / "model"),
    "shards without index": lambda folder: whole_folder(folder / "model", index=False),
    "gguf in F16": lambda folder: write_gguf(TINY / "transformer", folder / "model.gguf", "F16", flatten=False),
}


@pytest.mark.parametrize("layout", UNCHANGED)
def test_every_layout_gives_the_velocity_of_the_folder(
    layout: str, lab: Callable[..., wl.Lab], model: Model, tmp_path: Path
) -> None:
    assert same_bits(velocity(lab(UNCHANGED[layout](tmp_path)).model), velocity(model))


def test_the_folder_gives_the_velocity_of_diffusers(model: Model) -> None:
    assert same_bits(velocity(model), by_hand(tensors_of(TINY / "transformer")))


def test_a_file_in_bf16_gives_the_velocity_of_its_rounded_weights(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", dtype=torch.bfloat16)
    rounded = {name: tensor.bfloat16() for name, tensor in tensors_of(TINY / "transformer").items()}
    assert same_bits(velocity(lab(file).model), by_hand(rounded))


def fp8(kind: str, *, scaled: bool, per_row: bool = False) -> Callable[[Tensor], Tensor]:
    def rounded(weight: Tensor) -> Tensor:
        stored, scale = to_fp8(weight, kind, scaled=scaled, per_row=per_row)
        return stored.float() if scale is None else stored.float() * scale

    return rounded


def ggml(kind: str) -> Callable[[Tensor], Tensor]:
    def rounded(weight: Tensor) -> Tensor:
        found = gguf.GGMLQuantizationType[kind]
        return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.float().numpy(), found), found))

    return rounded


# By name: how the file is written, what becomes of a matrix of a block, and the kind in which it is kept.
QUANTIZED: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor], str]] = {
    "fp8 e4m3fn": ({"dtype": "e4m3fn"}, fp8("e4m3fn", scaled=False), "fp8_e4m3fn"),
    "fp8 e5m2": ({"dtype": "e5m2"}, fp8("e5m2", scaled=False), "fp8_e5m2"),
    "scaled, ComfyUI's key": (
        {"dtype": "e4m3fn", "scale_key": "scale_weight", "prefix": "diffusion_model."},
        fp8("e4m3fn", scaled=True),
        "fp8_e4m3fn_scaled",
    ),
    "scaled, diffusers' key": (
        {"dtype": "e4m3fn", "scale_key": "weight_scale"},
        fp8("e4m3fn", scaled=True),
        "fp8_e4m3fn_scaled",
    ),
    "scaled e5m2": ({"dtype": "e5m2", "scale_key": "scale_weight"}, fp8("e5m2", scaled=True), "fp8_e5m2_scaled"),
    "scaled per row": (
        {"dtype": "e4m3fn", "scale_key": "weight_scale", "per_row": True},
        fp8("e4m3fn", scaled=True, per_row=True),
        "fp8_e4m3fn_scaled_channel",
    ),
    "gguf Q8_0": ({"kind": "Q8_0"}, ggml("Q8_0"), "gguf_q8_0"),
    "gguf Q4_0": ({"kind": "Q4_0"}, ggml("Q4_0"), "gguf_q4_0"),
    "gguf BF16": ({"kind": "BF16"}, lambda weight: weight.bfloat16(), ""),
}


def quantized_file(row: str, folder: Path) -> Path:
    how = QUANTIZED[row][0]
    if "kind" in how:
        return write_gguf(TINY / "transformer", folder / "model.gguf", flatten=False, **how)
    return write_original(TINY / "transformer", folder / "model.safetensors", **how)


@pytest.mark.parametrize("row", QUANTIZED)
def test_a_quantized_file_gives_the_velocity_of_its_weights_by_hand(
    row: str, lab: Callable[..., wl.Lab], tmp_path: Path
) -> None:
    _, rounded, kind = QUANTIZED[row]
    loaded = lab(quantized_file(row, tmp_path)).model
    tensors = tensors_of(TINY / "transformer")
    hand = {name: rounded(tensor) if is_matrix(name, tensor) else tensor for name, tensor in tensors.items()}
    assert same_bits(velocity(loaded), by_hand(hand))
    layer = loaded.transformer.blocks[3].ffn.net[2]
    assert getattr(layer, "kind", "") == kind


def test_quantized_when_loaded_is_quantized_in_the_file(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    """The same weights, rounded by wanlab or by whoever wrote the file."""
    file = lab(quantized_file("scaled per row", tmp_path)).model
    here = lab(TINY, quantization="fp8_e4m3fn_scaled_channel").model
    assert same_bits(velocity(file), velocity(here))


def test_a_flattened_patch_embedding_is_the_patch_embedding(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    file = write_gguf(TINY / "transformer", tmp_path / "model.gguf", "Q8_0")
    loaded = lab(file).model.transformer.patch_embedding.weight
    tensor = tensors_of(TINY / "transformer")["patch_embedding.weight"]
    assert same_bits(loaded, ggml("Q8_0")(tensor.reshape(-1, 256)).reshape(tensor.shape))


# --- The other parts, apart ---


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("rename", [original_umt5, str], ids=["original", "hf"])
def test_a_text_encoder_alone_gives_the_embedding_of_the_folder(
    rename: Callable[[str], str], dtype: Any, lab: Callable[..., wl.Lab], model: Model, tmp_path: Path
) -> None:
    file = write_original(TINY / "text_encoder", tmp_path / "umt5.safetensors", dtype=dtype, rename=rename)
    loaded = lab(UNCHANGED["original"](tmp_path), text_encoder=file, tokenizer=TINY / "tokenizer").model
    assert same_bits(loaded.encode(PROMPT), model.encode(PROMPT))


def test_a_scaled_text_encoder_gives_the_embedding_of_its_weights_by_hand(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    source = TINY / "text_encoder"
    how: dict[str, Any] = {"dtype": "e4m3fn", "scale_key": "scale_weight", "rename": str}
    scaled = write_original(source, tmp_path / "scaled.safetensors", **how)
    rounded = fp8("e4m3fn", scaled=True)
    tensors = {name: rounded(each) if is_matrix(name, each) else each for name, each in tensors_of(source).items()}
    save_file(tensors, tmp_path / "hand.safetensors", metadata=config_text(source))
    one, two = (
        lab(UNCHANGED["original"](tmp_path), text_encoder=file, tokenizer=TINY / "tokenizer").model
        for file in (scaled, tmp_path / "hand.safetensors")
    )
    assert same_bits(one.encode(PROMPT), two.encode(PROMPT))


@pytest.mark.parametrize("rename", [vae_names, str], ids=["original", "diffusers"])
def test_a_vae_alone_decodes_and_encodes_as_that_of_the_folder(
    rename: Callable[[str], str], lab: Callable[..., wl.Lab], model: Model, tmp_path: Path
) -> None:
    file = write_original(TINY / "vae", tmp_path / "vae.safetensors", rename=rename)
    loaded = lab(UNCHANGED["original"](tmp_path), vae=file).model
    latents = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    frames = model.decode(latents)
    assert np.array_equal(loaded.decode(latents), frames)
    video = frames.astype(np.float32) / 127.5 - 1
    assert same_bits(loaded.encode_video(video), model.encode_video(video))


def test_an_image_to_video_model_of_single_files_is_that_of_the_folder(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    file = write_original(TINY_I2V / "transformer", tmp_path / "model.safetensors", "model.diffusion_model.")
    clip = TINY_I2V / "image_encoder"
    save_file(original_clip(tensors_of(clip)), tmp_path / "clip.safetensors", metadata=config_text(clip))
    alone = lab(file, TINY_I2V, image_encoder=tmp_path / "clip.safetensors").model
    whole = wl.Lab(tmp_path / "whole", model="tiny-i2v", load_device="cpu").model
    assert same_bits(told_velocity(alone), told_velocity(whole))
    picture = np.linspace(-1, 1, 40 * 64 * 3, dtype=np.float32).reshape(40, 64, 3)
    assert same_bits(alone.encode_picture(picture), whole.encode_picture(picture))
    assert alone.checkpoint.image_to_video


def test_a_part_that_is_given_takes_the_place_of_the_folders(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    black = {name: torch.zeros_like(tensor) for name, tensor in tensors_of(TINY / "vae").items()}
    save_file(black, tmp_path / "vae.safetensors", metadata=config_text(TINY / "vae"))
    whole = whole_folder(tmp_path / "model")
    latents = torch.randn(1, 16, 1, 4, 4)
    assert np.ptp(lab(whole, vae=tmp_path / "vae.safetensors").model.decode(latents)) == 0
    assert np.ptp(lab(whole).model.decode(latents)) > 0


def test_a_run_of_single_files_has_the_latents_of_the_folders(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    """The whole way: text, steps and frames."""
    file = UNCHANGED["comfy"](tmp_path)
    small = {"width": 32, "height": 32, "frames": 5, "steps": 2, "seed": 3}
    alone = lab(file, vae=write_original(TINY / "vae", tmp_path / "vae.safetensors", rename=vae_names)).run(PROMPT, **small)
    whole = wl.Lab(tmp_path / "whole", load_device="cpu").run(PROMPT, **small)
    assert same_bits(alone.latents(2), whole.latents(2))
    assert np.array_equal(alone.clip.frames, whole.clip.frames)


# --- Precision does not depend on the route ---


ROUTES: dict[str, Callable[[Path], Path]] = {
    "folder": lambda folder: TINY,
    "shards": UNCHANGED["shards"],
    "original": UNCHANGED["original"],
    "diffusers": UNCHANGED["diffusers"],
    "comfy in fp32": lambda folder: write_original(
        TINY / "transformer", folder / "model.safetensors", "diffusion_model.", torch.float32
    ),
    "gguf": UNCHANGED["gguf in F16"],
}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("route", ROUTES)
def test_trap_number_formats_and_velocities_do_not_depend_on_the_route(
    route: str, precision: str, lab: Callable[..., wl.Lab], tmp_path: Path
) -> None:
    loaded = lab(ROUTES[route](tmp_path), base_precision=precision).model
    oracle = WanTransformer3DModel.from_pretrained(TINY / "transformer", dtype=DTYPES[precision]).requires_grad_(False)
    formats = {name: parameter.dtype for name, parameter in oracle.named_parameters()}
    assert {name: parameter.dtype for name, parameter in loaded.transformer.named_parameters()} == formats
    kept = {name for name, dtype in formats.items() if dtype == torch.float32}
    assert kept == {name for name in formats if kept_in_fp32(name)} != set()
    for name, parameter in oracle.named_parameters():
        parameter.data = parameter.data.clone()
        assert same_bits(loaded.transformer.get_parameter(name).data, parameter.data), name
    assert same_bits(velocity(loaded), velocity(oracle))


@pytest.mark.parametrize("swapped", [{}, {"blocks_to_swap": 3}, {"blocks_to_swap": 3, "offload_device": "disk"}])
@pytest.mark.parametrize("row", ["fp8 e4m3fn", "scaled per row", "gguf Q8_0"])
def test_what_is_kept_in_fp32_is_so_beside_quantized_weights_too(
    row: str, swapped: dict[str, Any], lab: Callable[..., wl.Lab], tmp_path: Path
) -> None:
    loaded = lab(quantized_file(row, tmp_path), base_precision="bf16", **swapped).model
    for name, parameter in loaded.transformer.named_parameters():
        assert parameter.dtype == (torch.float32 if kept_in_fp32(name) else torch.bfloat16), name
    assert velocity(loaded).dtype == torch.bfloat16


def test_sums_in_fp16_are_fp16_where_there_is_no_gpu(lab: Callable[..., wl.Lab]) -> None:
    one, two = (lab(TINY, base_precision=precision).model for precision in ("fp16", "fp16_fast"))
    before = torch.backends.cuda.matmul.allow_fp16_accumulation
    assert same_bits(velocity(one), velocity(two))
    assert torch.backends.cuda.matmul.allow_fp16_accumulation == before
    assert one.id != two.id


# --- Wrong files ---


def lora(folder: Path) -> Path:
    name = "diffusion_model.blocks.0.self_attn.q.lora"
    save_file(
        {f"{name}_down.weight": torch.zeros(4, 128), f"{name}_up.weight": torch.zeros(128, 4)}, folder / "lora.safetensors"
    )
    return folder / "lora.safetensors"


def lacking(folder: Path) -> Path:
    tensors = tensors_of(TINY / "transformer")
    del tensors["blocks.5.attn1.to_q.bias"]
    save_file(
        {original_transformer(name): tensor for name, tensor in tensors.items()},
        folder / "lacking.safetensors",
        metadata=config_text(TINY / "transformer"),
    )
    return folder / "lacking.safetensors"


def pickled(folder: Path) -> Path:
    (folder / "model.pth").write_bytes(pickle.dumps({}))
    return folder / "model.pth"


def image_to_video(folder: Path) -> Path:
    return write_original(TINY_I2V / "transformer", folder / "i2v.safetensors")


def vace(folder: Path) -> Path:
    config = json.loads((TINY / "transformer" / "config.json").read_text())
    config |= {"_class_name": "WanVACETransformer3DModel", "vace_layers": [0, 4], "vace_in_channels": 132}
    made = WanVACETransformer3DModel.from_config(config)
    return write_original(made.state_dict(), folder / "vace.safetensors", metadata={"config": json.dumps(config)})


def blind(folder: Path) -> Path:
    """Image to video without what reads CLIP's tokens."""
    seeing = ("image_embedder", "add_k_proj", "add_v_proj", "norm_added")
    tensors = {n: t for n, t in tensors_of(TINY_I2V / "transformer").items() if not any(part in n for part in seeing)}
    config = json.loads((TINY_I2V / "transformer" / "config.json").read_text()) | {"image_dim": None, "added_kv_proj_dim": None}
    return write_original(tensors, folder / "blind.safetensors", metadata={"config": json.dumps(config)})


def empty_folder(folder: Path) -> Path:
    (folder / "some").mkdir()
    return folder / "some"


WRONG: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "a LoRA": (lora, {}, r"model is '.*lora\.safetensors'; This is a LoRA .*loras=\[.*"),
    "a VAE": (
        lambda folder: write_original(TINY / "vae", folder / "vae.safetensors", rename=vae_names),
        {},
        r"model is '.*vae\.safetensors'; This is a VAE .*give it as vae= .*",
    ),
    "a text encoder": (
        lambda folder: write_original(TINY / "text_encoder", folder / "t5.safetensors", rename=original_umt5),
        {},
        r"model is '.*t5\.safetensors'; This is a text encoder .*give it as text_encoder= .*",
    ),
    "image to video without its encoder": (
        image_to_video,
        {},
        r"model is '.*i2v\.safetensors', a transformer alone; it also needs image_encoder: give image_encoder=\.\.\.",
    ),
    "no text encoder": (
        UNCHANGED["original"],
        {"text_encoder": ""},
        r"a transformer alone; it also needs text_encoder, tokenizer: give text_encoder=\.\.\., tokenizer=\.\.\., a file",
    ),
    "no tokenizer": (
        UNCHANGED["original"],
        {"text_encoder": TINY / "text_encoder" / "model.safetensors"},
        r"a transformer alone; it also needs tokenizer: give tokenizer=\.\.\., a file or folder",
    ),
    "a tokenizer that is not there": (UNCHANGED["original"], {"tokenizer": "none"}, r"tokenizer is 'none'; there is no such"),
    "no VAE": (
        UNCHANGED["original"],
        {"vae": ""},
        r"a transformer alone; it also needs vae: give vae=\.\.\., a file or folder",
    ),
    "a tensor that is missing": (lacking, {}, r"1 tensors are missing: blocks\.5\.attn1\.to_q\.bias"),
    "a pickle": (pickled, {}, r"model\.pth.*safetensors"),
    "a folder of something": (empty_folder, {}, r"this folder has no model_index\.json, so it is not a checkpoint"),
    "a part that is another": (
        UNCHANGED["original"],
        {"vae": TINY / "text_encoder"},
        r"vae is '.*text_encoder'; This is a text encoder .* Give the file or folder of a vae\.",
    ),
    "a part that is not there": (
        UNCHANGED["original"],
        {"vae": "none.safetensors"},
        r"vae is 'none\.safetensors'; there is no such",
    ),
    "a pickled part": (
        UNCHANGED["original"],
        {"text_encoder": "models_t5_umt5-xxl-enc-bf16.pth"},
        r"text_encoder is 'models_t5_umt5-xxl-enc-bf16\.pth'; there is no such file",
    ),
    "a file that is not there": (lambda folder: folder / "none.safetensors", {}, r"there is no such folder or file"),
    "a path from home": (lambda folder: "~/none/none.safetensors", {}, r"there is no such folder or file"),
    "a relative path": (lambda folder: "./none", {}, r"there is no such folder or file"),
    "a relative path of a file": (lambda folder: "models/wan.safetensors", {}, r"there is no such folder or file"),
    "a relative path of a GGUF file": (lambda folder: "models/wan.gguf", {}, r"there is no such folder or file"),
    "a name that is nearly right": (lambda folder: "Wan2.1-T2V-1.3", {}, r"did you mean Wan2\.1-T2V-1\.3B"),
    "Animate": (lambda folder: "Wan2.2-Animate-14B", {}, r"it is an Animate model, which needs the pose"),
    "a VACE file of another kind": (vace, {}, r"model is '.*vace\.safetensors'; it is a VACE model whose own blocks read 132"),
    "image to video of Wan2.2": (blind, {}, r"model is '.*blind\.safetensors', an image-to-video model without image"),
}


@pytest.mark.parametrize("row", WRONG)
def test_a_wrong_file_is_one_sentence_and_nothing_is_downloaded(row: str, lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    make, settings, sentence = WRONG[row]
    with pytest.raises(ModelError, match=f"(?s).*{sentence}") as caught:
        lab(make(tmp_path), **settings)
    assert "\n" not in str(caught.value)


def test_quantizing_what_is_quantized_otherwise_is_refused(lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    loaded = lab(quantized_file("scaled, ComfyUI's key", tmp_path), quantization="int8").model
    with pytest.raises(
        SettingsError, match=r"quantization is 'int8', but the file holds its weights as fp8_e4m3fn_scaled; take"
    ):
        loaded.transformer  # noqa: B018


@pytest.mark.parametrize("row", ["fp8 e4m3fn", "scaled per row", "gguf Q8_0"])
def test_asking_for_the_kind_of_the_file_is_taking_it_as_it_is(row: str, lab: Callable[..., wl.Lab], tmp_path: Path) -> None:
    file, kind = quantized_file(row, tmp_path), QUANTIZED[row][2]
    assert same_bits(velocity(lab(file).model), velocity(lab(file, quantization=kind).model))


def test_a_folder_and_its_copy_are_one_model_and_other_weights_another(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "copy")
    settings = ModelSettings(model=str(tmp_path / "copy"))
    ours = checkpoint.model_id(finding.find("tiny"), ModelSettings())
    assert checkpoint.model_id(finding.find(settings), settings) == ours
    file = tmp_path / "copy" / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = tensors_of(TINY / "transformer")
    tensors["proj_out.bias"] += 1
    save_file(tensors, file)
    assert checkpoint.model_id(finding.find(settings), settings) != ours
