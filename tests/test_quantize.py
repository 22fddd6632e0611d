"""Storing weights in fewer bits: against all numbers of a format, ggml's package, published errors, and laws of the model."""

from __future__ import annotations

import copy
import json
import math
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wanlab.errors import ModelError, SettingsError
from wanlab.quantize import ggml
from wanlab.quantize.formats import apply_library, pack, unavailable, unpack
from wanlab.quantize.kinds import FILE_KINDS, GGML, KINDS, is_quantized, kept_in_fp32, stored_bytes
from wanlab.quantize.linear import QuantizedLinear, quantize_linears
from wanlab.quantize.packed import Packed
from wanlab.quantize.report import compare_kinds, quantization_report
from wanlab.tiny import tiny_path

PACKED = [name for name, kind in KINDS.items() if kind.packed]
SCALED = [name for name in PACKED if KINDS[name].per in ("tensor", "row")]
LIBRARY = ["torchao_int8", "torchao_fp8", "bnb_int8", "bnb_nf4"]


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    from diffusers import WanTransformer3DModel

    torch.set_num_threads(1)
    return WanTransformer3DModel.from_pretrained(Path(tiny_path()) / "transformer", dtype=torch.float32).eval()


def normal(rows: int, columns: int, std: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * std


def bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def error(kind: str, weight: Tensor) -> float:
    return float((unpack(pack(kind, weight), torch.float32) - weight).norm() / weight.norm())


# Which weights, and how many bytes


@pytest.mark.parametrize("shape", [(1, 32), (7, 96), (33, 64), (128, 512)])
@pytest.mark.parametrize("kind", PACKED)
def test_stored_bytes_are_those_of_the_packed_tensors(kind: str, shape: tuple[int, int]) -> None:
    assert stored_bytes(kind, shape) == pack(kind, normal(*shape)).nbytes
    assert stored_bytes(kind, (4096, 4096)) == pytest.approx(4096**2 * KINDS[kind].bytes_per_weight, rel=0.002)


@pytest.mark.parametrize("kind", [kind for kind in PACKED if KINDS[kind].group != "gguf"])
def test_kinds_without_blocks_store_rows_of_any_length(kind: str) -> None:
    assert stored_bytes(kind, (3, 5)) == pack(kind, normal(3, 5)).nbytes


@pytest.mark.parametrize("kind", [kind for kind in PACKED if KINDS[kind].group == "gguf"])
def test_a_row_that_does_not_divide_into_blocks_is_not_quantized(kind: str) -> None:
    name = "blocks.0.ffn.net.2.weight"
    assert is_quantized(name, (8, 64), kind)
    assert not is_quantized(name, (8, 48), kind)
    with pytest.raises(SettingsError, match="row of 48"):
        stored_bytes(kind, (8, 48))
    with pytest.raises(SettingsError, match="row of 48"):
        pack(kind, normal(8, 48))


@pytest.mark.parametrize("variant", ["tiny", "tiny-i2v", "vace"])
def test_quantized_are_the_linears_of_attention_and_feed_forward_in_blocks(variant: str) -> None:
    """And no parameter that kijai/ComfyUI-WanVideoWrapper keeps (wan_workflow.md, 1.1, in diffusers' names)."""
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    folder = tiny_path("tiny" if variant == "vace" else variant)
    config = json.loads((Path(folder) / "transformer" / "config.json").read_text())
    with torch.device("meta"):
        if variant == "vace":
            made = WanVACETransformer3DModel.from_config({**config, "vace_layers": [0, 4]})
        else:
            made = WanTransformer3DModel.from_config(config)
    linears = {name for name, module in made.named_modules() if isinstance(module, nn.Linear)}
    inside = [name for name in linears if "blocks." in name]
    expected = {f"{name}.weight" for name in inside if name.split("blocks.")[1].split(".")[1] in ("attn1", "attn2", "ffn")}
    chosen = {name for name, tensor in made.named_parameters() if is_quantized(name, tuple(tensor.shape))}
    assert chosen == expected
    assert len(chosen) == {"tiny": 8 * 10, "tiny-i2v": 8 * 12, "vace": 10 * 10}[variant]
    kept = ("norm", "bias", "proj_out", "condition_embedder", "patch_embedding", "scale_shift_table", "proj_in")
    assert not [name for name in chosen if any(word in name for word in kept)]


def test_kept_in_fp32_is_what_diffusers_keeps_when_it_loads() -> None:
    from diffusers import WanAnimateTransformer3DModel, WanTransformer3DModel, WanVACETransformer3DModel

    loaded = WanTransformer3DModel.from_pretrained(Path(tiny_path("tiny-i2v")) / "transformer", dtype=torch.bfloat16)
    kept = {name: tensor.dtype == torch.float32 for name, tensor in loaded.named_parameters()}
    assert {name: kept_in_fp32(name) for name in kept} == kept
    assert any(kept.values())
    for family in (WanTransformer3DModel, WanVACETransformer3DModel, WanAnimateTransformer3DModel):
        assert all(kept_in_fp32(f"blocks.0.{name}.weight") for name in family._keep_in_fp32_modules)


def test_sizes_of_blocks_are_those_of_the_package_gguf() -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    sizes = {kind.name.lower(): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {name: sizes[name] for name in GGML} == dict(GGML)


# Numbers


def numbers_of(kind: str) -> Tensor:
    """All numbers that a stored number of this kind can be, in float64."""
    if kind == "int8":
        return torch.arange(-127.0, 128.0, dtype=torch.float64)
    every = torch.arange(256, dtype=torch.int16).to(torch.uint8)
    values = every.view(torch.float8_e4m3fn if "e4m3fn" in kind else torch.float8_e5m2).double()
    return values[values.isfinite()]


@pytest.mark.parametrize("std", [1e-3, 0.02, 1.0, 300.0, 1e5])
@pytest.mark.parametrize("kind", [kind for kind in PACKED if KINDS[kind].group != "gguf"])
def test_every_weight_becomes_the_nearest_number_of_its_kind(kind: str, std: float) -> None:
    """Over all numbers of the kind, one by one; the largest for what is beyond it."""
    weight = normal(9, 33, std)
    packed = pack(kind, weight)
    scale = packed.parts.get("scale", torch.ones(())).double().view(-1, 1, 1)
    nearest = (weight.double()[:, :, None] - scale * numbers_of(kind)).abs().amin(2)
    found = (weight.double() - unpack(packed, torch.float32).double()).abs()
    assert (found - nearest <= 1e-6 * weight.abs()).all()  # a product with a scale is rounded to fp32


@pytest.mark.parametrize(
    ("kind", "std", "published"),
    [
        ("fp8_e4m3fn", 0.01, 0.057),
        ("fp8_e4m3fn", 0.02, 0.033),
        ("fp8_e4m3fn", 0.1, 0.026),
        *[("fp8_e4m3fn_scaled", std, 0.026) for std in (0.01, 0.02, 0.1)],
        *[(kind, std, 0.053) for kind in ("fp8_e5m2", "fp8_e5m2_scaled") for std in (0.01, 0.02, 0.1)],
        ("int8", 0.02, 0.008),
    ],
)
def test_errors_of_normal_weights_are_the_published_ones(kind: str, std: float, published: float) -> None:
    """diffusers_notes.md, 3; its last figure is rounded."""
    assert error(kind, normal(512, 512, std)) == pytest.approx(published, abs=0.0011)


@pytest.mark.parametrize("kind", PACKED)
def test_an_unpacked_weight_packs_to_the_same_bits(kind: str) -> None:
    for std in (1e-3, 0.02, 1.0):
        packed = pack(kind, normal(17, 64, std))
        again = pack(kind, unpack(packed, torch.float32))
        for part, tensor in packed.parts.items():
            assert torch.equal(bits(tensor), bits(again.parts[part])), part


@pytest.mark.parametrize("power", [-20, -1, 3, 40])
@pytest.mark.parametrize("kind", SCALED)
def test_scaled_kinds_do_not_see_a_power_of_two(kind: str, power: int) -> None:
    packed, scaled = pack(kind, normal(17, 64)), pack(kind, normal(17, 64) * 2.0**power)
    assert torch.equal(bits(packed.parts["weight"]), bits(scaled.parts["weight"]))
    assert torch.equal(packed.parts["scale"] * 2.0**power, scaled.parts["scale"])


@pytest.mark.parametrize("kind", PACKED)
def test_zeros_stay_zeros_beside_other_rows_and_alone(kind: str) -> None:
    weight = normal(4, 64)
    weight[1] = 0
    assert not unpack(pack(kind, weight), torch.float32)[1].any()
    assert not unpack(pack(kind, torch.zeros(4, 64)), torch.float32).any()


@pytest.mark.parametrize("value", [0.013, -7.7])
@pytest.mark.parametrize("kind", [kind for kind in PACKED if KINDS[kind].per])
def test_a_constant_weight_is_kept_up_to_the_rounding_of_its_scale(kind: str, value: float) -> None:
    unpacked = unpack(pack(kind, torch.full((3, 32), value)), torch.float32)
    torch.testing.assert_close(unpacked, torch.full((3, 32), value), rtol=2.0**-10, atol=0)


def test_a_large_row_spoils_a_scale_of_the_tensor_and_not_one_of_its_own() -> None:
    weight = normal(8, 64)
    weight[0] *= 1e5
    small = [float((unpack(pack(kind, weight), torch.float32) - weight)[1:].norm() / weight[1:].norm()) for kind in SCALED]
    by_kind = dict(zip(SCALED, small, strict=True))
    assert by_kind["fp8_e4m3fn_scaled"] > 0.1
    assert by_kind["fp8_e4m3fn_scaled_channel"] < 0.03
    assert by_kind["int8"] < 0.01


def test_plain_kinds_saturate_and_scaled_ones_reach_the_largest_floats() -> None:
    weight = torch.tensor([[1e30, -1e30, 500.0, 7e4, -3e38, 1.0]])
    assert unpack(pack("fp8_e4m3fn", weight), torch.float32).tolist() == [[448.0, -448.0, 448.0, 448.0, -448.0, 1.0]]
    assert unpack(pack("fp8_e5m2", weight), torch.float32).tolist() == [[57344.0, -57344.0, 512.0, 57344.0, -57344.0, 1.0]]
    for kind in SCALED:
        for size in (3e38, 1e-30):
            unpacked = unpack(pack(kind, torch.tensor([[size, -size]])), torch.float32)
            torch.testing.assert_close(unpacked, torch.tensor([[size, -size]]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["fp8_e4m3fn", "int8", "gguf_q8_0"])
def test_a_weight_with_nan_or_infinity_is_refused(kind: str, bad: float) -> None:
    weight = normal(4, 32)
    weight[2, 3] = bad
    with pytest.raises(ModelError, match="NaN or infinity"):
        pack(kind, weight)


def test_a_kind_that_is_unknown_or_made_elsewhere_is_refused() -> None:
    with pytest.raises(SettingsError, match="no such kind"):
        pack("fp7", normal(4, 32))
    with pytest.raises(SettingsError, match="torchao stores in its own way"):
        pack("torchao_int8", normal(4, 32))
    with pytest.raises(SettingsError, match="reads from files"):
        pack("gguf_q4_k", normal(4, 256))
    with pytest.raises(ModelError, match="too large for gguf_q8_0"):
        pack("gguf_q8_0", normal(4, 32, 1e8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", PACKED)
def test_unpacking_rounds_once(kind: str, dtype: torch.dtype) -> None:
    packed = pack(kind, normal(17, 64, 0.02))
    assert torch.equal(unpack(packed, dtype), unpack(packed, torch.float32).to(dtype))


# ggml's formats


def read_block(name: str, block: bytes) -> list[float]:
    """The 32 weights of a block, as ggml-quants.c reads them, in plain Python."""
    (scale,) = struct.unpack("<e", block[:2])
    rest, low = block[2:], 0.0
    if name == "q8_0":
        return [scale * number for number in struct.unpack("32b", rest)]
    if name.endswith("_1"):
        (low,), rest = struct.unpack("<e", rest[:2]), rest[2:]
    high, rest = (int.from_bytes(rest[:4], "little"), rest[4:]) if name.startswith("q5") else (0, rest)
    offset = {"q4_0": 8, "q5_0": 16}.get(name, 0)
    fours = [byte & 15 for byte in rest] + [byte >> 4 for byte in rest]
    return [scale * ((four | (high >> place & 1) << 4) - offset) + low for place, four in enumerate(fours)]


def random_blocks(name: str, rows: int) -> Tensor:
    """Any bytes, with scales that are finite numbers of a usual size."""
    block, size = GGML[name]
    blocks = torch.randint(0, 256, (rows, 2, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(len(name)))
    halves = {"q4_1": (0, 2), "q5_1": (0, 2), "q2_k": (80, 82), "q4_k": (0, 2), "q5_k": (0, 2), "q3_k": (108,), "q6_k": (208,)}
    for at in halves.get(name, range(0, size, 2) if block == 1 else (0,)):
        blocks[:, :, at + 1] = blocks[:, :, at + 1] % 64  # the exponent's top bits: below 2
    return blocks.flatten(1)


@pytest.mark.parametrize("name", ["q8_0", "q5_0", "q4_0", "q4_1", "q5_1"])
def test_blocks_are_read_as_their_definition_says(name: str) -> None:
    blocks = random_blocks(name, 5)
    expected = [[value for at in (0, 1) for value in read_block(name, bytes(row.view(2, -1)[at].tolist()))] for row in blocks]
    torch.testing.assert_close(ggml.unpack_rows(name, blocks, torch.float32), torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["gguf_q8_0", "gguf_q5_0", "gguf_q4_0"])
def test_packing_makes_the_bytes_of_the_package_gguf(kind: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    for std in (0.0, 1e-3, 0.02, 30.0):
        weight = torch.cat([normal(23, 96, std), normal(4, 96, std).round(decimals=2), torch.full((1, 96), std)])
        expected = gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType[kind[5:].upper()])
        assert torch.equal(pack(kind, weight).parts["blocks"], torch.from_numpy(expected))


@pytest.mark.parametrize("name", [name for name in GGML if name != "f32"])
def test_unpacking_gives_the_weights_of_the_package_gguf(name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    blocks = random_blocks(name, 6)
    expected = torch.from_numpy(gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[name.upper()]))
    found = unpack(Packed(f"gguf_{name}", (6, expected.shape[1]), {"blocks": blocks}), torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_files_may_hold_every_type_that_can_be_unpacked() -> None:
    assert {*FILE_KINDS, *KINDS} >= {f"gguf_{name}" for name in GGML}
    assert stored_bytes("gguf_q4_k", (3, 512)) == 3 * 2 * 144
    assert stored_bytes("gguf_bf16", (3, 5)) == 30


# The layer


def make_layer(kind: str, bias: bool = True) -> QuantizedLinear:
    torch.manual_seed(0)
    linear = nn.Linear(64, 24, bias=bias)
    return QuantizedLinear.of(pack(kind, linear.weight), linear.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_multiplies_with_its_unpacked_weight(kind: str, dtype: torch.dtype) -> None:
    x = normal(10, 64).view(2, 5, 64).to(dtype)
    layer = make_layer(kind)
    assert layer.bias is not None
    expected = functional.linear(x, unpack(layer.packed, dtype), layer.bias.to(dtype))
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)
        assert torch.equal(make_layer(kind, bias=False)(x), functional.linear(x, unpack(layer.packed, dtype)))
    assert torch.equal(layer.weight, unpack(layer.packed, torch.float32))
    assert (layer.out_features, layer.in_features, layer.kind) == (24, 64, kind)


@pytest.mark.parametrize("change", ["to_bf16", "half", "double", "float", "to_meta"])
@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_keeps_its_stored_weight_whatever_format_it_is_asked_for(kind: str, change: str) -> None:
    layer = make_layer(kind)
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in layer.named_buffers()}
    arguments = {"to_bf16": [torch.bfloat16], "to_meta": ["meta"]}.get(change, [])
    moved = getattr(nn.Sequential(layer), change.split("_")[0])(*arguments)
    assert moved[0] is layer
    for name, tensor in layer.named_buffers():
        assert tensor.dtype == before[name][0]
        assert tensor.is_meta or torch.equal(bits(tensor), bits(before[name][1]))
        assert tensor.is_meta == (change == "to_meta")
    expected = {"to_bf16": torch.bfloat16, "half": torch.float16, "double": torch.float64}.get(change, torch.float32)
    assert layer.bias is not None
    assert layer.bias.dtype == expected


@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_survives_a_state_dict_and_a_copy(kind: str) -> None:
    x, layer = normal(3, 64), make_layer(kind)
    other = QuantizedLinear.of(pack(kind, torch.zeros(24, 64)), torch.zeros(24))
    other.load_state_dict(layer.state_dict())
    twin = copy.deepcopy(layer)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(twin(x), layer(x))
    assert not {tensor.data_ptr() for tensor in twin.state_dict().values()} & {
        tensor.data_ptr() for tensor in layer.state_dict().values()
    }


def move_into_bytes(module: nn.Module) -> Tensor:
    """As block swap does it: every tensor becomes a view of one flat buffer of bytes."""
    tensors = [*module.parameters(), *module.buffers()]
    flat = torch.zeros(sum(-(-tensor.nbytes // 256) * 256 for tensor in tensors), dtype=torch.uint8)
    at = 0
    for tensor in tensors:
        view = flat[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        view.copy_(tensor)
        tensor.data = view
        at += -(-tensor.nbytes // 256) * 256
    return flat


@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_can_live_in_views_of_a_flat_buffer(kind: str) -> None:
    x, layer = normal(3, 64), make_layer(kind)
    expected = layer(x)
    flat = move_into_bytes(layer)
    assert torch.equal(layer(x), expected)
    flat.zero_()
    assert not layer(x).any()  # nothing of it is anywhere else


@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_compiles_into_one_graph(kind: str) -> None:
    torch.compiler.reset()
    x, layer = normal(6, 64).to(torch.bfloat16), make_layer(kind)
    expected = layer(x)
    with torch.inference_mode():
        assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), expected)


def test_a_layer_of_a_k_type_compiles_into_one_graph() -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    torch.compiler.reset()
    layer = QuantizedLinear.of(Packed("gguf_q4_k", (6, 512), {"blocks": random_blocks("q4_k", 6)}))
    x = normal(3, 512)
    with torch.inference_mode():
        assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x))


def test_linears_of_a_block_are_replaced_and_nothing_else(transformer: nn.Module) -> None:
    block = copy.deepcopy(transformer.get_submodule("blocks.3"))
    before = {name: type(module) for name, module in block.named_modules()}
    assert quantize_linears(block, "int8", "blocks.3.") is block
    changed = {name for name, module in block.named_modules() if before.get(name) is not type(module)}
    assert len(changed) == 10
    assert all(is_quantized(f"blocks.3.{name}.weight", (2, 2)) for name in changed)


# The model


def velocity(transformer: nn.Module) -> Tensor:
    """What the model predicts at three noise levels, (3, 1, 16, 3, 8, 8)."""
    drawn = torch.Generator().manual_seed(0)
    seen = []
    with torch.inference_mode():
        for timestep in (900.0, 500.0, 200.0):
            latents = torch.randn(1, 16, 3, 8, 8, generator=drawn)
            text = torch.randn(1, 12, 128, generator=drawn)
            seen.append(transformer(latents, torch.tensor([timestep]), text, return_dict=False)[0])
    return torch.stack(seen)


@pytest.fixture(scope="module")
def quantized(transformer: nn.Module) -> dict[str, nn.Module]:
    return {kind: quantize_linears(copy.deepcopy(transformer), kind) for kind in PACKED}


def test_fewer_bits_move_the_velocity_more(transformer: nn.Module, quantized: dict[str, nn.Module]) -> None:
    plain = velocity(transformer)
    lost = {kind: float((velocity(made) - plain).norm() / plain.norm()) for kind, made in quantized.items()}
    e4m3 = [lost[kind] for kind in PACKED if "e4m3" in kind]
    e5m2 = [lost[kind] for kind in PACKED if "e5m2" in kind]
    assert 0 < lost["gguf_q8_0"] < lost["int8"] < min(e4m3) <= max(e4m3) < min(e5m2) <= max(e5m2) < 0.2
    assert lost["gguf_q8_0"] < lost["gguf_q5_0"] < lost["gguf_q4_0"] < 0.3


@pytest.mark.parametrize("kind", PACKED)
def test_blocks_hold_exactly_the_bytes_that_were_foretold(
    transformer: nn.Module, quantized: dict[str, nn.Module], kind: str
) -> None:
    foretold = 0
    for name, tensor in transformer.get_submodule("blocks").named_parameters():
        shape = tuple(tensor.shape)
        foretold += stored_bytes(kind, shape) if is_quantized(f"blocks.{name}", shape, kind) else tensor.nbytes
    blocks = quantized[kind].get_submodule("blocks")
    assert sum(tensor.nbytes for tensor in (*blocks.parameters(), *blocks.buffers())) == foretold


# The libraries


def inner_bytes(linear: nn.Linear) -> int:
    """Bytes of the tensors that a library keeps for a weight."""
    weight: Any = linear.weight
    if hasattr(weight, "__tensor_flatten__"):
        parts = [getattr(weight, name) for name in weight.__tensor_flatten__()[0]]
        return sum(part.nbytes for part in parts if isinstance(part, Tensor))
    if getattr(weight, "quant_state", None) is not None:
        return int(weight.nbytes + weight.quant_state.absmax.nbytes + weight.quant_state.code.nbytes)
    return int(weight.nbytes + weight.SCB.nbytes)


@pytest.mark.parametrize("kind", LIBRARY)
def test_a_library_quantizes_the_same_layers_in_the_bytes_foretold(transformer: nn.Module, kind: str) -> None:
    package = KINDS[kind].package
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    made = copy.deepcopy(transformer)
    apply_library(kind, made, "cpu")
    layers = {name: module for name, module in made.named_modules() if isinstance(module, nn.Linear)}
    shapes = {name: (module.out_features, module.in_features) for name, module in layers.items()}
    for name, layer in layers.items():
        touched = type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter
        assert touched == is_quantized(f"{name}.weight", shapes[name]), name
        if touched:
            assert inner_bytes(layer) == stored_bytes(kind, shapes[name])
    plain = velocity(transformer)
    lost = float((velocity(made) - plain).norm() / plain.norm())
    assert 0 < lost < {"torchao_int8": 0.04, "torchao_fp8": 0.1, "bnb_int8": 0.06, "bnb_nf4": 0.25}[kind]


def test_what_a_kind_lacks_is_said() -> None:
    assert [unavailable(kind, "cpu") for kind in PACKED] == [""] * len(PACKED)
    assert unavailable("torchao_fp8dq", "cpu").startswith("needs ")
    if not torch.backends.mps.is_available():
        assert unavailable("fp8_e4m3fn", "mps").startswith("needs numbers of fp8, which mps has not here (")
    for kind in ("torchao_int8", "bnb_nf4", "gguf_q4_k"):
        package = {"torchao_int8": "torchao", "bnb_nf4": "bitsandbytes"}.get(kind, "gguf")
        assert unavailable(kind, "cpu") == ("" if find_spec(package) else f"needs the package {package}")


@pytest.mark.parametrize("capability", [None, (8, 0), (8, 9), (9, 0)])
def test_a_gpu_that_is_too_old_or_missing_is_said(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None) -> None:
    from wanlab.quantize import formats

    monkeypatch.setattr(formats, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    reason = unavailable("torchao_fp8dq")
    assert bool(reason) == (capability in (None, (8, 0)))
    assert bool(unavailable("torchao_int4")) == (capability is None)
    if reason:
        assert "capability 8.9" in reason
        with pytest.raises(SettingsError, match="quantization is torchao_fp8dq, which needs a CUDA GPU"):
            apply_library("torchao_fp8dq", nn.Linear(2, 2), "cuda")


# The report


@pytest.fixture(scope="module")
def weights(transformer: nn.Module) -> dict[str, Tensor]:
    """The weights of two blocks at the size that Wan's have; the tiny model's are 50 times as large."""
    named = transformer.named_parameters()
    return {
        name: tensor.detach() * 0.02
        for name, tensor in named
        if name[:8] in ("blocks.0", "blocks.1") and is_quantized(name, tensor.shape)
    }


def test_a_comparison_shows_why_a_scale_helps(weights: dict[str, Tensor]) -> None:
    report = compare_kinds(weights, ["fp8_e4m3fn", "fp8_e4m3fn_scaled", "int8"])
    summary = report.summary().set_index("kind")
    assert summary.loc["fp8_e4m3fn_scaled", "error"] < 0.027 < 0.03 < summary.loc["fp8_e4m3fn", "error"]
    assert summary.loc["fp8_e4m3fn", "below_normal"] > 0.5
    assert summary.loc["fp8_e4m3fn_scaled", "below_normal"] < 0.01
    whole = torch.cat([weight.flatten() for weight in weights.values()])
    stored = torch.cat([unpack(pack("int8", weight), torch.float32).flatten() for weight in weights.values()])
    assert summary.loc["int8", "error"] == pytest.approx(float((stored - whole).norm() / whole.norm()), rel=1e-4)
    assert len(report.table()) == 3 * len(weights)


def test_shares_are_those_of_a_weight_made_by_hand() -> None:
    weight = torch.tensor([[0.0, 2.0**-11, 2.0**-8, 0.5, 449.0, -465.0, 1e4, 1.0]])
    (layer,) = compare_kinds({"blocks.0.ffn.net.2.weight": weight}, ["fp8_e4m3fn"]).layers
    assert (layer.layer, layer.weights, layer.bytes) == ("blocks.0.ffn.net.2", 8, 8)
    assert (layer.below_normal, layer.to_zero, layer.saturated) == (2 / 8, 1 / 8, 2 / 8)
    assert (layer.max_weight, layer.max_stored) == (1e4, 1e4)
    (layer,) = compare_kinds({"blocks.0.ffn.net.2.weight": weight}, ["int8"]).layers
    assert math.isnan(layer.below_normal)
    assert math.isnan(layer.saturated)


def test_a_comparison_leaves_the_model_as_it_was(transformer: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    compare_kinds(transformer, ["fp8_e5m2"])
    after = transformer.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_report_of_a_quantized_model_equals_the_comparison(transformer: nn.Module, quantized: dict[str, nn.Module]) -> None:
    made = quantized["fp8_e4m3fn_scaled_channel"]
    report = quantization_report(made, transformer.get_parameter)
    assert report == compare_kinds(transformer, ["fp8_e4m3fn_scaled_channel"])
    assert report.bytes == sum(layer.packed.nbytes for layer in made.modules() if isinstance(layer, QuantizedLinear))
    with pytest.raises(ModelError, match="quantized already"):
        compare_kinds(made, ["int8"])


def test_without_the_weights_before_errors_are_unknown(quantized: dict[str, nn.Module]) -> None:
    report = quantization_report(quantized["fp8_e5m2_scaled"])
    assert report.table()[["error", "to_zero", "saturated", "below_normal"]].isna().all(axis=None)
    assert report.table()["max_stored"].to_numpy() == pytest.approx(57344)
    assert "not known" in report.show().axes[0].texts[0].get_text()


def test_drawings_tell_layers_of_one_kind_and_kinds_from_each_other(weights: dict[str, Tensor]) -> None:
    def drawn(*kinds: str) -> Any:
        return compare_kinds(weights, kinds).show()

    def legend(figure: Any) -> list[str]:
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert legend(drawn("fp8_e4m3fn"))[:2] == ["attn1.to_q", "attn1.to_k"]
    assert legend(drawn("fp8_e4m3fn", "int8", "gguf_q4_0")) == ["fp8_e4m3fn", "int8", "gguf_q4_0"]
    assert "e5m2" in drawn("fp8_e5m2").axes[1].texts[0].get_text()
    assert "2^{-6}" in drawn("fp8_e4m3fn", "fp8_e5m2").axes[1].texts[0].get_text()


def test_a_report_shows_itself_as_a_picture_and_a_table(weights: dict[str, Tensor]) -> None:
    page = compare_kinds(weights, ["int8"])._repr_html_()
    assert page.startswith("<svg")
    assert "bits_per_weight" in page
