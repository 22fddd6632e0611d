"""Weights in every layout come back as they were, under diffusers' names; counts without torch are those of the classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from foreign import (
    config_text,
    original_clip,
    original_transformer,
    original_umt5,
    original_vae,
    original_vae22,
    tensors_of,
    to_fp8,
    write_gguf,
    write_original,
    write_shards,
)
from wanlab.errors import ModelError
from wanlab.quantize.formats import unpack
from wanlab.quantize.packed import Packed
from wanlab.tiny import tiny_path
from wanlab.weights.architecture import architecture_of
from wanlab.weights.entries import Header, TensorEntry
from wanlab.weights.headers import read_header
from wanlab.weights.layouts import Layout, translate
from wanlab.weights.parameters import (
    block_parameters,
    parameter_count,
    parameter_shapes,
    transformer_parameters,
    transformer_shapes,
)
from wanlab.weights.reader import Reader
from wanlab.weights.registry import Known, all_known, facts, known

TINY = Path(tiny_path("tiny"))
TINY_I2V = Path(tiny_path("tiny-i2v"))
COUNTED = [one for one in all_known() if one.variant != "animate"]  # Animate's motion encoder is not written down

# diffusers_notes.md section 9: MiB of a block in bf16 (published sizes), and parameters of all.
PUBLISHED = {
    "Wan2.1-T2V-1.3B": (46_440_704, 88.6, 1.419),
    "Wan2.1-T2V-14B": (351_394_304, 670.2, 14.288),
    "Wan2.1-I2V-14B-480P": (403_838_464, 770.3, 16.395),
    "Wan2.1-I2V-14B-720P": (403_838_464, 770.3, 16.395),
    "Wan2.1-FLF2V-14B-720P": (403_838_464, 770.3, 16.396),
    "Wan2.1-VACE-1.3B": (46_440_704, 88.6, 2.154),
    "Wan2.1-VACE-14B": (351_394_304, 670.2, 17.338),
    "Wan2.2-T2V-A14B": (351_394_304, 670.2, 14.288),
    "Wan2.2-I2V-A14B": (351_394_304, 670.2, 14.289),
    "Wan2.2-TI2V-5B": (163_656_704, 312.2, 5.000),
    "Wan2.2-Animate-14B": (403_838_464, 770.3, 17.275),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def header_of(names: dict[str, tuple[int, ...]], dtype: str = "F32") -> Header:
    """A header that no file stands behind: what is asked of names and shapes needs no bytes."""
    entries = {name: TensorEntry(name, dtype, shape, Path("none"), 0, 0) for name, shape in names.items()}
    return Header("safetensors", entries, {}, Path("none"))


def same_bits(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)


def assert_same(reader: Reader, tensors: dict[str, Tensor]) -> None:
    assert set(reader.names()) == set(tensors)
    for name, tensor in tensors.items():
        found = reader.read(name)
        assert isinstance(found, Tensor), name
        assert same_bits(found, tensor), name
        assert reader.shape(name) == tuple(tensor.shape)


# Counting without torch


def _module(kind: str, config: dict[str, Any]) -> torch.nn.Module:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
    from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        if kind == "text_encoder":
            return UMT5EncoderModel(UMT5Config(**config))
        if kind == "image_encoder":
            return CLIPVisionModel(CLIPVisionConfig(**config))
        if kind == "vae":
            return AutoencoderKLWan.from_config(config)
        return (WanVACETransformer3DModel if "vace_layers" in config else WanTransformer3DModel).from_config(config)


def _state_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if name != "encoder.embed_tokens.weight"}


@pytest.mark.parametrize("one", COUNTED, ids=lambda one: one.name)
def test_a_published_transformer_has_the_names_and_shapes_of_its_class(one: Known) -> None:
    module = _module("transformer", dict(one.transformer))
    assert transformer_shapes(one.transformer) == _state_shapes(module)
    assert one.transformer_parameters == sum(parameter.numel() for parameter in module.parameters())
    assert one.block_parameters == sum(parameter.numel() for parameter in module.blocks[0].parameters())


@pytest.mark.parametrize("one", all_known(), ids=lambda one: one.name)
def test_a_published_transformer_has_the_published_size(one: Known) -> None:
    block, mib, billions = PUBLISHED[one.name]
    assert block_parameters(one.transformer) == block
    assert block * 2 / 2**20 == pytest.approx(mib, rel=1e-3)
    assert one.transformer_parameters / 1e9 == pytest.approx(billions, rel=1e-3)


def test_animate_is_counted_as_its_class_has_it() -> None:
    from diffusers import WanAnimateTransformer3DModel

    one = known("Wan2.2-Animate-14B")
    with torch.device("meta"):
        module = WanAnimateTransformer3DModel.from_config(dict(one.transformer))
    assert one.transformer_parameters == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["text_encoder", "image_encoder", "vae 2.1", "vae 2.2"])
def test_a_published_part_has_the_names_and_shapes_of_its_class(kind: str) -> None:
    kind, _, version = kind.partition(" ")
    config = dict(facts()[kind][version] if version else facts()[kind])
    assert parameter_shapes(kind, config) == _state_shapes(_module(kind, config))


@pytest.mark.parametrize("folder", [TINY, TINY_I2V], ids=["tiny", "tiny-i2v"])
@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae", "image_encoder"])
def test_the_configuration_of_the_tiny_model_is_read_back_from_its_shapes(folder: Path, part: str) -> None:
    if not (folder / part).exists():
        pytest.skip("this model has no such part")
    told = json.loads((folder / part / "config.json").read_text())
    header = read_header(folder / part)
    found = architecture_of(header, translate(header))
    assert (found.kind, found.size, found.precision, found.missing, found.unexpected, found.wrong) == (
        part,
        "tiny",
        "fp16",
        (),
        (),
        (),
    )
    assert {name: value for name, value in found.config.items() if name in told} == {
        name: told[name] for name in found.config if name in told
    }
    assert found.parameters == sum(tensor.numel() for tensor in tensors_of(folder / part).values())


@pytest.mark.parametrize("one", COUNTED, ids=lambda one: one.name)
def test_the_configuration_of_a_published_transformer_is_read_back_from_its_shapes(one: Known) -> None:
    header = header_of(
        {original_transformer(name): shape for name, shape in transformer_shapes(one.transformer).items()}, "BF16"
    )
    found = architecture_of(header, translate(header))
    assert found.config == one.transformer
    assert (found.variant, found.size, found.precision) == (one.variant, one.size, "bf16")
    assert found.complete
    assert not found.unexpected


@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_the_configuration_of_a_published_vae_is_read_back_from_its_shapes(version: str) -> None:
    config = facts()["vae"][version]
    rename = original_vae if version == "2.1" else original_vae22
    header = header_of({rename(name): shape for name, shape in parameter_shapes("vae", config).items()})
    found = architecture_of(header, translate(header))
    assert found.config == {**config, "decoder_base_dim": config["decoder_base_dim"] or config["base_dim"]}
    assert (found.variant, found.complete, found.unexpected) == (version, True, ())


# Names


@pytest.mark.parametrize("one", COUNTED, ids=lambda one: one.name)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_names_of_a_transformer_become_those_of_diffusers_own_converter(one: Known, prefix: str) -> None:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    shapes = transformer_shapes(one.transformer)
    names = {prefix + original_transformer(name): shape for name, shape in shapes.items()}
    layout = translate(header_of(names))
    converted = set(convert_wan_transformer_to_diffusers(dict.fromkeys(names, 0)))
    lost = {"img_emb.emb_pos"} & converted  # diffusers 0.42 does not know it, though its own conversion script does
    assert set(layout.names) == set(shapes)
    assert converted - lost == set(layout.names) - {"condition_embedder.image_embedder.pos_embed"}
    assert bool(lost) == (one.variant == "flf2v")
    assert not layout.extra
    assert (layout.kind, layout.name, layout.prefix) == ("transformer", "comfy" if prefix else "original", prefix)


def test_the_two_norms_that_change_places_do() -> None:
    names = {"blocks.0.norm3.weight": (8,), "blocks.0.norm2.weight": (8,), "blocks.0.self_attn.q.weight": (8, 8)}
    layout = translate(header_of(names))
    assert layout.names["blocks.0.norm2.weight"] == "blocks.0.norm3.weight"
    assert layout.names["blocks.0.norm3.weight"] == "blocks.0.norm2.weight"


def test_names_of_a_vae_become_those_of_diffusers_own_converter() -> None:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    shapes = parameter_shapes("vae", facts()["vae"]["2.1"])
    names = {original_vae(name): shape for name, shape in shapes.items()}
    layout = translate(header_of(names))
    assert set(layout.names) == set(convert_wan_vae_to_diffusers(dict.fromkeys(names, 0))) == set(shapes)
    assert {name: original_vae(name) for name in shapes} == dict(layout.names)


def test_names_of_the_vae_of_wan22_come_back() -> None:
    shapes = parameter_shapes("vae", facts()["vae"]["2.2"])
    layout = translate(header_of({original_vae22(name): shape for name, shape in shapes.items()}))
    assert {name: original_vae22(name) for name in shapes} == dict(layout.names)
    # Places that Wan-Video/Wan2.2 wan/modules/vae2_2.py has: blocks of blocks, the sampler last in its stage.
    assert (
        layout.names["decoder.up_blocks.0.upsampler.resample.1.weight"] == "decoder.upsamples.0.upsamples.3.resample.1.weight"
    )
    assert (
        layout.names["encoder.down_blocks.1.downsampler.time_conv.bias"] == "encoder.downsamples.1.downsamples.2.time_conv.bias"
    )
    assert layout.names["encoder.mid_block.attentions.0.to_qkv.weight"] == "encoder.middle.1.to_qkv.weight"


LLAMA = (
    ("shared.weight", "token_embd.weight"),
    ("encoder.final_layer_norm", "enc.output_norm"),
    ("encoder.block.", "enc.blk."),
    ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
    ("layer.0.SelfAttention.", "attn_"),
    ("layer.0.layer_norm", "attn_norm"),
    ("layer.1.layer_norm", "ffn_norm"),
    ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("layer.1.DenseReluDense.wo", "ffn_down"),
)


def llama_umt5(name: str) -> str:
    for ours, theirs in LLAMA:
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("rename", [original_umt5, llama_umt5, str], ids=["original", "llama.cpp", "hf"])
def test_names_of_umt5_come_back(rename: Callable[[str], str]) -> None:
    shapes = parameter_shapes("text_encoder", facts()["text_encoder"])
    header = header_of({rename(name): shape for name, shape in shapes.items()})
    layout = translate(header)
    assert {name: rename(name) for name in shapes} == dict(layout.names)
    assert architecture_of(header, layout).config == facts()["text_encoder"]
    assert (layout.kind, layout.extra) == ("text_encoder", ())


def test_both_names_of_the_embedding_are_one_tensor() -> None:
    names = {"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}
    one = translate(header_of(names | {"encoder.embed_tokens.weight": (9, 8)}))
    both = translate(header_of(names | {"encoder.embed_tokens.weight": (9, 8), "shared.weight": (9, 8)}))
    assert one.names["shared.weight"] == "encoder.embed_tokens.weight"
    assert both.names["shared.weight"] == "shared.weight"
    assert both.ignored == ("encoder.embed_tokens.weight",)


@pytest.mark.parametrize(
    ("first", "second", "target"),
    [
        ("encoder.layers.0.mlp.fc1.weight", "vision_model.encoder.layers.0.mlp.fc1.weight", "encoder.layers.0.mlp.fc1.weight"),
        ("blocks.0.ffn.0.scale_weight", "blocks.0.ffn.0.weight_scale", "blocks.0.ffn.net.0.proj.weight"),
    ],
)
def test_two_tensors_that_would_be_one_are_refused_by_name(first: str, second: str, target: str) -> None:
    names = {
        first: (1,),
        second: (1,),
        **({"blocks.0.ffn.0.weight": (4, 4), "blocks.0.norm3.bias": (4,)} if "ffn" in first else {}),
    }
    names |= {"blocks.0.self_attn.q.bias": (1,)} if "ffn" in first else {}
    with pytest.raises(ModelError, match=f"{re.escape(first)} and {re.escape(second)} are both {re.escape(target)}"):
        translate(header_of(names))


def test_a_scale_without_its_weight_belongs_to_nothing() -> None:
    layout = translate(header_of({"blocks.0.self_attn.q.bias": (4,), "blocks.0.self_attn.q.scale_weight": ()}))
    assert layout.extra == ("blocks.0.self_attn.q.scale_weight",)
    assert not layout.scales


def test_names_of_comfys_umt5_and_clip_that_are_not_needed_are_known() -> None:
    text = translate(
        header_of({"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8), "spiece_model": (99,), "scaled_fp8": (0,)})
    )
    assert (text.kind, text.ignored, text.extra) == ("text_encoder", ("scaled_fp8", "spiece_model"), ())
    names = {"vision_model.encoder.layers.0.mlp.fc1.bias": (8,), "visual_projection.weight": (8, 8)}
    clip = translate(header_of(names | {"vision_model.embeddings.position_ids": (1, 9)}))
    assert (clip.kind, clip.extra, len(clip.names)) == ("image_encoder", (), 1)


# Reading


@pytest.mark.parametrize("folder", [TINY, TINY_I2V], ids=["tiny", "tiny-i2v"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_transformer_in_original_names_reads_back_bit_equal(folder: Path, prefix: str, tmp_path: Path) -> None:
    file = write_original(folder / "transformer", tmp_path / "model.safetensors", prefix)
    reader = Reader.of(file)
    assert_same(reader, tensors_of(folder / "transformer"))
    found = architecture_of(reader.header, reader.layout)
    own = read_header(folder / "transformer")
    assert found.config == architecture_of(own, translate(own)).config


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2])
def test_the_format_of_the_file_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", dtype=dtype)
    assert_same(Reader.of(file), {name: tensor.to(dtype) for name, tensor in tensors_of(TINY / "transformer").items()})


def test_a_text_encoder_a_vae_and_an_image_encoder_read_back_bit_equal(tmp_path: Path) -> None:
    def vae(name: str) -> str:
        return original_vae(name, resnets=1)

    for part, rename in (("text_encoder", original_umt5), ("text_encoder", llama_umt5), ("vae", vae)):
        file = write_original(TINY / part, tmp_path / f"{rename.__name__}.safetensors", rename=rename)
        reader = Reader.of(file)
        assert_same(reader, tensors_of(TINY / part))
        assert architecture_of(reader.header, reader.layout).complete
    tensors = tensors_of(TINY_I2V / "image_encoder")
    save_file(original_clip(tensors), tmp_path / "clip.safetensors", metadata=config_text(TINY_I2V / "image_encoder"))
    reader = Reader.of(tmp_path / "clip.safetensors")
    assert_same(reader, tensors)
    assert architecture_of(reader.header, reader.layout).complete


def test_the_bytes_of_a_stacked_tensor_are_where_its_entry_says(tmp_path: Path) -> None:
    tensors = tensors_of(TINY_I2V / "image_encoder")
    save_file(original_clip(tensors), tmp_path / "clip.safetensors")
    entry = Reader.of(tmp_path / "clip.safetensors").entry("encoder.layers.2.self_attn.v_proj.weight")
    content = entry.file.read_bytes()[entry.offset : entry.offset + entry.nbytes]
    assert content == tensors["encoder.layers.2.self_attn.v_proj.weight"].numpy().tobytes()


@pytest.mark.parametrize("index", [True, False])
def test_shards_read_back_bit_equal(index: bool, tmp_path: Path) -> None:
    write_shards(TINY / "transformer", tmp_path, index=index)
    assert_same(Reader.of(tmp_path), tensors_of(TINY / "transformer"))
    assert_same(Reader.of(tmp_path / "model-00002-of-00003.safetensors"), tensors_of(TINY / "transformer"))


@pytest.mark.parametrize("scale_key", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize(("dtype", "per_row"), [("e4m3fn", False), ("e4m3fn", True), ("e5m2", False)])
@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_scaled_fp8_comes_with_its_scale(scale_key: str, dtype: str, per_row: bool, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_original(TINY / "transformer", file, prefix, dtype, scale_key=scale_key, per_row=per_row)
    reader, tensors = Reader.of(file), tensors_of(TINY / "transformer")
    assert len(reader.layout.scales) == 80
    kind = f"fp8_{dtype}_scaled" + ("_channel" if per_row else "")
    for name, tensor in tensors.items():
        found = reader.read(name)
        if name not in reader.layout.scales:
            assert isinstance(found, Tensor)
            assert same_bits(found, tensor)
            continue
        assert isinstance(found, Packed)
        weight, scale = to_fp8(tensor, dtype, scaled=True, per_row=per_row)
        assert scale is not None
        assert (found.kind, found.shape) == (kind, tuple(tensor.shape))
        assert same_bits(found.parts["weight"].view(torch.uint8), weight.view(torch.uint8))
        assert same_bits(found.parts["scale"], scale)
        wide = unpack(found, torch.float32)
        assert torch.equal(wide, weight.float() * scale)
        assert (wide - tensor.float()).norm() < (0.06 if dtype == "e5m2" else 0.03) * tensor.float().norm()
    assert architecture_of(reader.header, reader.layout).precision == kind


def test_trap_a_scaled_fp8_file_is_no_garbage_as_it_would_be_without_its_scales(tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", dtype="e4m3fn", scale_key="scale_weight")
    reader = Reader.of(file)
    read = {name: reader.read(name) for name in reader.names()}
    right = {name: unpack(one, torch.float32) if isinstance(one, Packed) else one.float() for name, one in read.items()}
    garbage = {name: one.parts["weight"].float() if isinstance(one, Packed) else one.float() for name, one in read.items()}
    model = WanTransformer3DModel.from_pretrained(TINY / "transformer", torch_dtype=torch.float32)
    rng = torch.Generator().manual_seed(0)
    given = (torch.randn(1, 16, 2, 4, 4, generator=rng), torch.tensor([500]), torch.randn(1, 8, 128, generator=rng))
    with torch.no_grad():
        plain = model(*given).sample
        errors = []
        for weights in (right, garbage):
            model.load_state_dict(weights)
            errors.append(float((model(*given).sample - plain).norm() / plain.norm()))
    assert errors[0] < 0.1 < 0.3 < errors[1]


def test_int8_with_a_scale_is_packed_and_without_one_refused(tmp_path: Path) -> None:
    weight = torch.arange(-8, 8, dtype=torch.int8).reshape(4, 4)
    save_file(
        {"blocks.0.ffn.0.weight": weight, "blocks.0.ffn.0.weight_scale": torch.tensor(0.5)}, tmp_path / "scaled.safetensors"
    )
    save_file({"blocks.0.ffn.0.weight": weight, "blocks.0.self_attn.q.bias": torch.ones(4)}, tmp_path / "plain.safetensors")
    name = "blocks.0.ffn.net.0.proj.weight"
    header = read_header(tmp_path / "scaled.safetensors")
    layout = Layout("original", "transformer", {name: "blocks.0.ffn.0.weight"}, {name: "blocks.0.ffn.0.weight_scale"})
    found = Reader(layout, header).read(name)
    assert isinstance(found, Packed)
    assert torch.equal(unpack(found, torch.float32), weight.float() * 0.5)
    with pytest.raises(ModelError, match=r"int8 and has no scale"):
        Reader.of(tmp_path / "plain.safetensors").read(name)


@pytest.mark.parametrize("way", ["nvfp4", "mxfp8", "convrot"])
def test_a_way_to_quantize_that_is_not_understood_is_refused(way: str, tmp_path: Path) -> None:
    note = {"format": "int8_tensorwise", "convrot": True} if way == "convrot" else {"format": way}
    tensors = {
        "blocks.0.self_attn.q.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        "blocks.0.self_attn.q.weight_scale": torch.tensor(2.0),
        "blocks.0.self_attn.k.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
    }
    mark = torch.tensor(list(json.dumps(note).encode()), dtype=torch.uint8)
    save_file(tensors | {"blocks.0.self_attn.q.comfy_quant": mark}, tmp_path / "marked.safetensors")
    remark = {"_quantization_metadata": json.dumps({"layers": {"blocks.0.self_attn.q": note}})}
    save_file(tensors, tmp_path / "remark.safetensors", metadata=remark)
    for file in ("marked", "remark"):
        reader = Reader.of(tmp_path / f"{file}.safetensors")
        with pytest.raises(ModelError, match=r"blocks.0.self_attn.q.weight was quantized as"):
            reader.read("blocks.0.attn1.to_q.weight")
        assert isinstance(reader.read("blocks.0.attn1.to_k.weight"), Tensor)


def test_a_scale_for_blocks_is_refused(tmp_path: Path) -> None:
    weight = torch.ones(8, 8).to(torch.float8_e4m3fn)
    save_file(
        {"blocks.0.self_attn.q.weight": weight, "blocks.0.self_attn.q.weight_scale": torch.ones(2, 2)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(
        ModelError, match=r"has the shape \[2, 2\]; read are one scale for a tensor, or one for each of its 8 rows"
    ):
        Reader.of(tmp_path / "a.safetensors").read("blocks.0.attn1.to_q.weight")


@pytest.mark.parametrize("folder", [TINY, TINY_I2V], ids=["tiny", "tiny-i2v"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0", "BF16", "F16"])
def test_gguf_reads_as_the_package_gguf_does(folder: Path, kind: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    file = write_gguf(folder / "transformer", tmp_path / "model.gguf", kind)
    reader, tensors = Reader.of(file), tensors_of(folder / "transformer")
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    assert set(reader.names()) == set(tensors)
    for name in tensors:
        found = reader.read(name)
        wide = unpack(found, torch.float32) if isinstance(found, Packed) else found.float()
        other = theirs[original_transformer(name)]
        expected = torch.tensor(gguf.quants.dequantize(other.data, other.tensor_type))
        assert torch.equal(wide, expected.reshape(wide.shape)), name
        assert wide.shape == tensors[name].shape
    assert reader.shape("patch_embedding.weight") == tuple(tensors["patch_embedding.weight"].shape)
    found = architecture_of(reader.header, reader.layout)
    assert found.complete
    assert found.precision == {"BF16": "bf16", "F16": "fp16"}.get(kind, f"gguf_{kind.lower()}")


def test_weights_lie_at_aligned_addresses_wherever_they_are_in_the_file(tmp_path: Path) -> None:
    for length in range(1, 6):
        file = tmp_path / f"{length}.safetensors"
        save_file(
            {"blocks.0.attn1.to_q.weight": torch.ones(4, 4), "blocks.0.attn1.to_q.bias": torch.ones(3)},
            file,
            {"x": "y" * length},
        )
        reader = Reader.of(file)
        assert all(reader.read(name).data_ptr() % 64 == 0 for name in reader.names())


def test_a_file_that_is_cut_off_after_it_was_opened_is_an_error_and_no_crash(tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors")
    reader = Reader.of(file)
    with file.open("rb+") as opened:
        opened.truncate(file.stat().st_size // 2)
    last = max(reader.names(), key=lambda name: reader.entry(name).offset)
    with pytest.raises(ModelError, match=r"ends .* bytes too early; it has changed since it was opened"):
        reader.read(last)


def test_a_tensor_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"has no tensor blocks.99"):
        Reader.of(TINY / "transformer").read("blocks.99.attn1.to_q.weight")


def test_what_is_read_is_no_view_of_the_file() -> None:
    reader = Reader.of(TINY / "transformer")
    name = "blocks.0.attn1.to_q.weight"
    first = reader.read(name)
    assert isinstance(first, Tensor)
    first.zero_()
    assert bool(reader.read(name).any())


# The registry


@pytest.mark.parametrize(
    "name",
    [
        "Wan2.1-T2V-14B",
        "wan2.1-t2v-14b",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        "wan-ai/wan2.1-t2v-14b-diffusers",
        "Wan-AI/Wan2.1-T2V-14B",
    ],
)
def test_a_checkpoint_is_known_by_each_of_its_names(name: str) -> None:
    assert known(name).name == "Wan2.1-T2V-14B"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("wan2.1-t2v-13B", "Wan2.1-T2V-1.3B"), ("wan2.1-i2v-480p", "Wan2.1-I2V-14B-480P"), ("wan2.2-ti2v", "Wan2.2-TI2V-5B")],
)
def test_a_name_that_is_nearly_right_says_which_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ModelError, match=f"did you mean .*{re.escape(meant)}"):
        known(name)


def test_another_name_says_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"known are Wan2.1-T2V-1.3B, "):
        known("flux")


def test_sizes_are_those_of_the_downloads() -> None:
    # As seen in logs of downloads: the shards of the text encoder in both its formats, and the whole of VACE.
    assert known("Wan2.1-T2V-1.3B").parameters["text_encoder"] * 4 == pytest.approx(22_723_671_744, rel=1e-4)
    assert known("Wan2.2-T2V-A14B").parameters["text_encoder"] * 2 == pytest.approx(11_361_851_208, rel=1e-4)
    assert known("Wan2.1-VACE-1.3B").nbytes / 2**30 == pytest.approx(19.0, rel=0.01)
    assert known("Wan2.1-VACE-14B").nbytes / 2**30 == pytest.approx(75.1, rel=0.01)


@pytest.mark.parametrize("one", all_known(), ids=lambda one: one.name)
def test_presets_are_settings_that_wanlab_accepts(one: Known) -> None:
    from wanlab.settings import Settings

    for preset in one.presets.values():
        settings = Settings().but(dict(preset))
        assert settings.frames % 4 == 1
        assert settings.negative_prompt
    assert one.licence == "Apache-2.0"
    assert (one.boundary_ratio is not None) == (one.transformers == 2)


def test_official_defaults_are_those_of_the_workflow() -> None:
    rows = {one.name: next(iter(one.presets.values())) for one in all_known()}
    picked = {
        name: tuple(rows[name][key] for key in ("width", "height", "frames", "steps", "cfg", "shift"))
        for name in ("Wan2.1-T2V-1.3B", "Wan2.1-I2V-14B-480P", "Wan2.1-FLF2V-14B-720P", "Wan2.1-VACE-14B")
    }
    assert picked == {
        "Wan2.1-T2V-1.3B": (832, 480, 81, 50, 6.0, 8.0),
        "Wan2.1-I2V-14B-480P": (832, 480, 81, 40, 5.0, 3.0),
        "Wan2.1-FLF2V-14B-720P": (1280, 720, 81, 50, 5.0, 16.0),
        "Wan2.1-VACE-14B": (1280, 720, 81, 50, 5.0, 16.0),
    }
    assert rows["Wan2.1-I2V-14B-480P"]["negative_prompt"] == "镜头晃动\uff0c" + rows["Wan2.1-T2V-14B"]["negative_prompt"]


def test_counting_is_quick_and_complete() -> None:
    config = known("Wan2.1-I2V-14B-720P").transformer
    outside = transformer_parameters(config) - config["num_layers"] * block_parameters(config)
    assert outside == pytest.approx(241.3e6, rel=1e-3)
    assert parameter_count(parameter_shapes("text_encoder", facts()["text_encoder"])) == pytest.approx(5.681e9, rel=1e-4)
    assert parameter_count(parameter_shapes("image_encoder", facts()["image_encoder"])) == pytest.approx(630.8e6, rel=1e-3)
    assert parameter_count(parameter_shapes("vae", facts()["vae"]["2.1"])) == pytest.approx(126.9e6, rel=1e-3)
    assert parameter_count(parameter_shapes("vae", facts()["vae"]["2.2"])) == pytest.approx(704.7e6, rel=1e-3)
