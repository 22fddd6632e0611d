"""LoRA files: the names of every trainer, every form of a change, merged and live; oracles: diffusers and closed forms."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_musubi_wan_lora_to_diffusers,
    _convert_non_diffusers_wan_lora_to_diffusers,
)
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from wanlab.errors import ModelError, SettingsError
from wanlab.lora import keys
from wanlab.lora.apply import Lora, LoraSet
from wanlab.lora.deltas import LoraFile, lora_of, read
from wanlab.lora.forms import Difference, Dora, Loha, Lokr, LowRank, Product, fits
from wanlab.lora.live import LoraLinear
from wanlab.lora.report import measure
from wanlab.placement.masters import build_host_master
from wanlab.placement.swap import BlockSwap
from wanlab.quantize.formats import pack, unpack
from wanlab.quantize.linear import QuantizedLinear
from wanlab.tiny import tiny_path

CLOSE = {"rtol": 0, "atol": 3e-6}


@pytest.fixture(scope="module")
def transformer() -> WanTransformer3DModel:
    torch.set_num_threads(1)
    model = WanTransformer3DModel.from_pretrained(f"{tiny_path()}/transformer").requires_grad_(False).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model


@torch.inference_mode()
def velocity(model: Any) -> Tensor:
    seeded = torch.Generator().manual_seed(5)
    latents, text = torch.randn(1, 16, 2, 4, 4, generator=seeded), torch.randn(1, 12, 128, generator=seeded)
    told = {"timestep": torch.tensor([700]), "encoder_hidden_states": text.to(model.dtype)}
    return model(latents.to(model.dtype), **told, return_dict=False)[0]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def merged(model: Any, loras: LoraSet) -> Any:
    """A copy of the model whose weights have the LoRAs, as the loader makes it."""
    made = copy.deepcopy(model)
    for name, parameter in made.named_parameters():
        parameter.data = loras.merge(name, parameter.data)
    return made


def randn(*shape: int, seed: int = 0, size: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size


ORIGINAL = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def usual(
    model: nn.Module,
    name: Callable[[int, str], str] = lambda block, layer: f"diffusion_model.blocks.{block}.{ORIGINAL[layer]}",
    down: str = "lora_down",
    up: str = "lora_up",
    alpha: float | None = 2.0,
    rank: int = 4,
    layers: tuple[str, ...] = tuple(ORIGINAL),
    size: float = 0.05,
) -> dict[str, Tensor]:
    """A LoRA for the linear layers of all blocks, as trainers write it."""
    made = {}
    for block, module in enumerate(model.blocks):
        for place, layer in enumerate(layers):
            linear, seed = module.get_submodule(layer), 100 * block + place
            made[f"{name(block, layer)}.{down}.weight"] = randn(rank, linear.in_features, seed=seed, size=size)
            made[f"{name(block, layer)}.{up}.weight"] = randn(linear.out_features, rank, seed=seed + 50, size=size)
            if alpha is not None:
                made[f"{name(block, layer)}.alpha"] = torch.tensor(alpha)
    return made


def every_form() -> dict[str, Tensor]:
    """A file with every form of change, on matrices, norms, biases, tables and the convolution; of a tiny model."""
    at = "diffusion_model.blocks"
    pairs = {
        f"hada_w{n}_{part}": randn(*((128, 3) if part == "a" else (3, 128)), seed=n, size=0.3) for n in (1, 2) for part in "ab"
    }
    wide = {
        f"hada_w{n}_{part}": randn(*((128, 9) if part == "a" else (9, 128)), seed=n + 7, size=0.2)
        for n in (1, 2)
        for part in "ab"
    }
    return {
        f"{at}.0.self_attn.q.lora_down.weight": randn(4, 128, size=0.1),
        f"{at}.0.self_attn.q.lora_up.weight": randn(128, 4, seed=1, size=0.1),
        f"{at}.0.self_attn.q.alpha": torch.tensor(2.0),
        f"{at}.0.self_attn.q.diff_b": randn(128, seed=2, size=0.1),
        **{f"{at}.1.cross_attn.k.{name}": tensor for name, tensor in pairs.items()},
        f"{at}.1.cross_attn.k.alpha": torch.tensor(1.5),
        **{f"{at}.1.cross_attn.v.{name}": tensor for name, tensor in wide.items()},
        f"{at}.2.ffn.0.lokr_w1": randn(16, 8, seed=3, size=0.2),
        f"{at}.2.ffn.0.lokr_w2_a": randn(32, 2, seed=4, size=0.2),
        f"{at}.2.ffn.0.lokr_w2_b": randn(2, 16, seed=5, size=0.2),
        f"{at}.2.ffn.0.alpha": torch.tensor(1.0),
        f"{at}.3.ffn.2.diff": randn(128, 512, seed=6, size=0.01),
        f"{at}.4.self_attn.o.lora_down.weight": randn(4, 128, seed=7, size=0.1),
        f"{at}.4.self_attn.o.lora_up.weight": randn(128, 4, seed=8, size=0.1),
        f"{at}.4.self_attn.o.dora_scale": 1 + randn(128, 1, seed=9, size=0.1).abs(),
        f"{at}.5.self_attn.norm_q.diff": randn(128, seed=10, size=0.1),
        f"{at}.5.norm3.diff": randn(128, seed=11, size=0.1),
        f"{at}.5.norm3.diff_b": randn(128, seed=12, size=0.1),
        f"{at}.6.diff_m": randn(1, 6, 128, seed=13, size=0.1),
        "diffusion_model.head.modulation.diff": randn(1, 2, 128, seed=14, size=0.1),
        "diffusion_model.head.head.diff_b": randn(64, seed=15, size=0.1),
        "diffusion_model.patch_embedding.lora_down.weight": randn(2, 16, 1, 2, 2, seed=16, size=0.1),
        "diffusion_model.patch_embedding.lora_up.weight": randn(128, 2, 1, 1, 1, seed=17, size=0.1),
        "diffusion_model.patch_embedding.diff_b": randn(128, seed=18, size=0.1),
        "diffusion_model.text_embedding.0.diff_b": randn(128, seed=19, size=0.1),
        "diffusion_model.time_embedding.2.lora_down.weight": randn(2, 128, seed=20, size=0.1),
        "diffusion_model.time_embedding.2.lora_up.weight": randn(128, 2, seed=21, size=0.1),
    }


def one(file: LoraFile, strength: float | tuple[float, ...] = 1.0, blocks: str = "all", merge: bool = True) -> LoraSet:
    return LoraSet([Lora(file, strength, blocks, merge)])


# --- names


@pytest.mark.parametrize(
    ("name", "parameter", "role"),
    [
        ("diffusion_model.blocks.3.self_attn.q.lora_A.weight", "blocks.3.attn1.to_q.weight", "down"),
        ("model.diffusion_model.blocks.3.cross_attn.o.lora_up.weight", "blocks.3.attn2.to_out.0.weight", "up"),
        ("transformer.blocks.3.attn1.to_out.0.lora_B.weight", "blocks.3.attn1.to_out.0.weight", "up"),
        ("blocks.3.attn2.add_k_proj.lora_A.weight", "blocks.3.attn2.add_k_proj.weight", "down"),
        ("pipe.dit.blocks.3.ffn.2.lora_B.default.weight", "blocks.3.ffn.net.2.weight", "up"),
        ("base_model.model.blocks.3.ffn.0.lora_A.default.weight", "blocks.3.ffn.net.0.proj.weight", "down"),
        ("base_model.model.blocks.3.ffn.net.0.proj.lora_B.default.bias", "blocks.3.ffn.net.0.proj.weight", "up_bias"),
        ("lora_unet__blocks_3_cross_attn_k_img.lora_down.weight", "blocks.3.attn2.add_k_proj.weight", "down"),
        ("lora_unet_blocks_3_self_attn_o.alpha", "blocks.3.attn1.to_out.0.weight", "alpha"),
        ("lora_unet_blocks_29.self_attn.q.lora_down.weight", "blocks.29.attn1.to_q.weight", "down"),
        ("lora_unet__time_embedding_0.lora_up.weight", "condition_embedder.time_embedder.linear_1.weight", "up"),
        ("lora_unet__img_emb_proj_3.lora_up.weight", "condition_embedder.image_embedder.ff.net.2.weight", "up"),
        ("lycoris_blocks_3_attn1_to_q.lokr_w1", "blocks.3.attn1.to_q.weight", "lokr_w1"),
        ("lycoris_blocks_3_cross_attn_to_out_0.lokr_w2_a", "blocks.3.attn2.to_out.0.weight", "lokr_w2_a"),
        ("lycoris_blocks_3_ffn_net_0_proj.hada_w1_b", "blocks.3.ffn.net.0.proj.weight", "hada_w1_b"),
        ("diffusion_model.vace_blocks.2.before_proj.lora_A.weight", "vace_blocks.2.proj_in.weight", "down"),
        ("vace_blocks.2.self_attn.q.diff_b", "vace_blocks.2.attn1.to_q.bias", "diff"),
        ("diffusion_model.blocks.3.diff_m", "blocks.3.scale_shift_table", "diff"),
        ("diffusion_model.blocks.3.modulation.diff", "blocks.3.scale_shift_table", "diff"),
        ("transformer.blocks.3.scale_shift_table.diff", "blocks.3.scale_shift_table", "diff"),
        ("diffusion_model.head.modulation.diff", "scale_shift_table", "diff"),
        ("diffusion_model.head.diff_m", "scale_shift_table", "diff"),
        ("diffusion_model.head.head.lora_down.weight", "proj_out.weight", "down"),
        ("diffusion_model.img_emb.emb_pos.diff", "condition_embedder.image_embedder.pos_embed", "diff"),
        ("diffusion_model.patch_embedding.diff_b", "patch_embedding.bias", "diff"),
        ("blocks.3._orig_mod.attn1.to_v.lora_A.weight", "blocks.3.attn1.to_v.weight", "down"),
        ("transformer.blocks.3.attn1.to_q.lora_magnitude_vector.default.weight", "blocks.3.attn1.to_q.weight", "dora_scale"),
    ],
)
def test_every_form_of_a_name_leads_to_its_parameter(name: str, parameter: str, role: str) -> None:
    assert keys.parse([name]) == keys.Keys({parameter: {role: name}}, {})


@pytest.mark.parametrize("kind", ["t2v", "i2v", "flf2v", "vace"])
def test_the_name_of_every_parameter_leads_to_it_in_both_layouts_with_dots_and_with_underscores(kind: str) -> None:
    config: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "ffn_dim": 24,
        "num_layers": 11,
        "text_dim": 8,
    }
    image = {"image_dim": 8, "added_kv_proj_dim": 24}
    with torch.device("meta"):
        if kind == "vace":
            model: nn.Module = WanVACETransformer3DModel(**config, vace_layers=[0, 5])
        else:
            more = {} if kind == "t2v" else image if kind == "i2v" else {**image, "pos_embed_seq_len": 514}
            model = WanTransformer3DModel(**config, **more)
    from wanlab.weights import name_maps

    original = {name: name for name in model.state_dict()}
    assert original
    for parameter in original:
        layer, _, leaf = parameter.rpartition(".")
        ours = (
            f"transformer.{layer}.diff" + ("_b" if leaf == "bias" else "")
            if leaf in ("weight", "bias")
            else f"{parameter}.diff"
        )
        assert set(keys.parse([ours, "transformer.blocks.99.attn1.to_q.alpha"]).found) >= {parameter}, ours
        flat = "lycoris_" + re.sub(r"\.(?!diff)", "_", ours.removeprefix("transformer."))
        assert set(keys.parse([flat, "lycoris_blocks_99_attn1_to_q.alpha"]).found) >= {parameter}, flat
    theirs = [name for block in ORIGINAL.values() for name in [f"blocks.10.{block}"]]
    theirs += [*name_maps.TRANSFORMER, "blocks.10.norm3", "blocks.10.cross_attn.norm_q", "blocks.10.cross_attn.norm_k_img"]
    converted = convert_wan_transformer_to_diffusers({f"{name}.weight": torch.tensor(i) for i, name in enumerate(theirs)})
    by_number = {int(tensor): name for name, tensor in converted.items()}
    for number, name in enumerate(theirs):
        for written in (f"diffusion_model.{name}.lora_A.weight", f"lora_unet__{name.replace('.', '_')}.lora_down.weight"):
            witness = "lora_unet__blocks_99_self_attn_q.alpha"
            assert set(keys.parse([written, witness]).found) - {"blocks.99.attn1.to_q.weight"} == {by_number[number]}, written


def test_the_second_and_third_norm_are_told_apart_by_the_other_names() -> None:
    def changed(*names: str) -> set[str]:
        return set(keys.parse(names).found)

    assert changed("blocks.0.norm3.diff", "blocks.0.self_attn.q.alpha") >= {"blocks.0.norm2.weight"}
    assert changed("blocks.0.norm2.diff", "blocks.0.attn1.to_q.alpha") >= {"blocks.0.norm2.weight"}
    assert changed("blocks.0.norm2.diff", "blocks.0.self_attn.q.alpha") >= {"blocks.0.norm3.weight"}  # which has no weights
    assert changed("blocks.0.norm3.diff") == changed("blocks.0.norm2.diff") == {"blocks.0.norm2.weight"}


def test_names_that_mean_nothing_are_told_with_the_reason() -> None:
    names = {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": keys.TEXT_ENCODER,
        "text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight": keys.TEXT_ENCODER,
        "transformer_2.blocks.0.attn1.to_q.lora_A.weight": keys.SECOND,
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": keys.NO_LAYER,
        "blocks.0.self_attn.q.weight": keys.NO_ROLE,
        "step": keys.NO_ROLE,
    }
    assert keys.parse(names) == keys.Keys({}, dict(sorted(names.items())))
    twice = keys.parse(["diffusion_model.blocks.0.self_attn.q.alpha", "blocks.0.self_attn.q.alpha"])
    assert twice.unused == {"diffusion_model.blocks.0.self_attn.q.alpha": keys.TWICE}


@hypothesis.settings(max_examples=60)
@given(
    st.lists(st.text(max_size=40) | st.from_regex(r"(lora_unet_|blocks\.0\.|lora_A|alpha|\.|_|weight){1,8}", fullmatch=True))
)
def test_any_names_are_either_used_or_told(names: list[str]) -> None:
    found = keys.parse(names)
    used = [name for roles in found.found.values() for name in roles.values()]
    assert sorted([*used, *found.unused]) == sorted(set(names))


# --- diffusers' converters as oracle, and where they fail


def products(converted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The changes that diffusers' converter makes of a file."""
    found = {}
    for name, down in converted.items():
        if name.endswith(".lora_A.weight"):
            found[name.removeprefix("transformer.").replace(".lora_A", "")] = converted[name.replace("lora_A", "lora_B")] @ down
        if name.endswith(".lora_B.bias"):
            found[name.removeprefix("transformer.").replace("lora_B.", "")] = down
    return found


def assert_same(file: LoraFile, oracle: Mapping[str, Tensor]) -> None:
    assert set(file.deltas) == set(oracle)
    for name, delta in file.deltas.items():
        torch.testing.assert_close(delta.weight(), oracle[name], **CLOSE)


@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize(("down", "up"), [("lora_down", "lora_up"), ("lora_A", "lora_B")])
def test_comfy_files_mean_what_diffusers_makes_of_them(transformer: Any, down: str, up: str, alpha: float | None) -> None:
    tensors = usual(transformer, down=down, up=up, alpha=alpha)
    tensors |= {f"diffusion_model.blocks.{i}.cross_attn.o.diff_b": randn(128, seed=i) for i in range(8)}
    file = lora_of(tensors)
    assert not file.unused
    assert_same(file, products(_convert_non_diffusers_wan_lora_to_diffusers({k: v.clone() for k, v in tensors.items()})))


def kohya(block: int, layer: str) -> str:
    return f"lora_unet_blocks_{block}_{ORIGINAL[layer].replace('.', '_')}"


def test_kohya_files_mean_what_diffusers_makes_of_them(transformer: Any) -> None:
    tensors = usual(transformer, kohya)
    assert_same(lora_of(tensors), products(_convert_musubi_wan_lora_to_diffusers({k: v.clone() for k, v in tensors.items()})))


def test_kohya_files_of_attention_only_are_read_where_diffusers_raises(transformer: Any) -> None:
    some = usual(transformer, kohya, layers=("attn1.to_q", "attn2.to_v"))
    with pytest.raises(KeyError):
        _convert_musubi_wan_lora_to_diffusers({k: v.clone() for k, v in some.items()})
    every = lora_of(usual(transformer, kohya, layers=("attn1.to_q", "attn2.to_v"))).deltas
    assert len(every) == 16
    without_alpha = lora_of({name: tensor for name, tensor in some.items() if not name.endswith("alpha")})
    torch.testing.assert_close(
        without_alpha.deltas["blocks.0.attn1.to_q.weight"].weight(), 2 * every["blocks.0.attn1.to_q.weight"].weight(), **CLOSE
    )


@pytest.mark.parametrize(
    "prefix", ["", "transformer.", "base_model.model.", "diffusion_model.", "model.diffusion_model.", "pipe.dit.", "lycoris."]
)
@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_every_prefix_gives_the_same_changes(transformer: Any, prefix: str, layout: str) -> None:
    """Files of PEFT without prefix load into diffusers and do nothing; original names without prefix are refused there."""

    def name(block: int, layer: str) -> str:
        return f"{prefix}blocks.{block}.{ORIGINAL[layer] if layout == 'original' else layer}"

    file, oracle = lora_of(usual(transformer, name)), lora_of(usual(transformer))
    assert_same(file, {parameter: delta.weight() for parameter, delta in oracle.deltas.items()})
    one(file).check(shapes(transformer))


def test_differences_of_norms_and_of_the_patch_embedding_are_kept_where_diffusers_drops_them(transformer: Any) -> None:
    tensors = {
        "diffusion_model.blocks.0.self_attn.norm_q.diff": randn(128),
        "diffusion_model.blocks.0.norm3.diff": randn(128, seed=1),
        "diffusion_model.patch_embedding.diff": randn(128, 16, 1, 2, 2, seed=2),
    }
    assert not _convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    made = merged(transformer, one(lora_of(tensors), 0.5))
    for name, tensor in zip(("blocks.0.attn1.norm_q", "blocks.0.norm2", "patch_embedding"), tensors.values(), strict=True):
        changed, plain = made.get_submodule(name).weight, transformer.get_submodule(name).weight
        assert torch.equal(changed, plain + 0.5 * tensor)


def test_changes_that_diffusers_refuses_are_read() -> None:
    refused = [
        {
            "diffusion_model.patch_embedding.lora_down.weight": randn(2, 16, 1, 2, 2),
            **_up("diffusion_model.patch_embedding", 2),
        },
        {"diffusion_model.text_embedding.0.diff_b": randn(128)},
        {
            "diffusion_model.blocks.0.self_attn.q.lokr_w1": randn(8, 8),
            "diffusion_model.blocks.0.self_attn.q.lokr_w2": randn(16, 16),
        },
        {"diffusion_model.blocks.0.self_attn.q.hada_w1_a": randn(128, 2)},
    ]
    for tensors in refused:
        with_block = {**tensors, "diffusion_model.blocks.0.self_attn.v.diff_b": randn(128)}
        with pytest.raises((KeyError, ValueError)):
            _convert_non_diffusers_wan_lora_to_diffusers(dict(with_block))
    for tensors in refused[:3]:
        assert len(lora_of(tensors).deltas) == 1
    assert set(lora_of({"diffusion_model.head.head.diff_b": randn(64)}).deltas) == {"proj_out.bias"}


def _up(name: str, rank: int) -> dict[str, Tensor]:
    return {f"{name}.lora_up.weight": randn(128, rank, 1, 1, 1, seed=3)}


def test_the_tensors_of_a_file_are_never_changed(transformer: Any) -> None:
    """diffusers scales those of cross-attention and of the feed-forward in place."""
    theirs = usual(transformer)
    before = {name: tensor.clone() for name, tensor in theirs.items()}
    _convert_non_diffusers_wan_lora_to_diffusers(theirs)
    assert any(not torch.equal(before[name], theirs[name]) for name in before if name in theirs)
    ours = {name: tensor.clone() for name, tensor in (before | every_form()).items()}
    kept = {name: tensor.clone() for name, tensor in ours.items()}
    file = lora_of(ours)
    first = merged(transformer, one(file, 0.7))
    live = LoraSet([Lora(file, 0.7, merge=False)]).attach(copy.deepcopy(transformer))
    live.set_step(0, 0.3)
    live.remove()
    assert all(torch.equal(kept[name], ours[name]) for name in kept)
    second = merged(transformer, one(lora_of(ours), 0.7))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# --- forms


def test_low_rank_changes_of_convolutions_are_the_convolutions_one_after_the_other() -> None:
    down, mid, up = randn(3, 4, 1, 1, 1), randn(3, 3, 1, 2, 2, seed=1), randn(5, 3, 1, 1, 1, seed=2)
    picture = randn(1, 4, 2, 6, 6, seed=3)
    conv = torch.nn.functional.conv3d
    whole = LowRank(down, up, 6.0, mid)
    assert whole.shape == (5, 4, 1, 2, 2)
    torch.testing.assert_close(conv(picture, whole.weight()), 2 * conv(conv(conv(picture, down), mid), up), rtol=0, atol=1e-4)
    wide = randn(3, 4, 1, 2, 2, seed=4)
    torch.testing.assert_close(conv(picture, LowRank(wide, up).weight()), conv(conv(picture, wide), up), rtol=0, atol=1e-4)


def test_loha_and_lokr_are_their_formulas_element_by_element() -> None:
    b1, a1, b2, a2 = randn(4, 2), randn(2, 6, seed=1), randn(4, 2, seed=2), randn(2, 6, seed=3)
    loha = Loha(Product(b1, a1), Product(b2, a2), 3.0).weight()
    kron = Lokr(randn(2, 3), Product(b1, a1), 3.0)
    one_, two = kron.parts()
    for i in range(4):
        for j in range(6):
            assert loha[i, j].item() == pytest.approx(1.5 * (b1[i] @ a1[:, j]).item() * (b2[i] @ a2[:, j]).item(), abs=1e-5)
    for i in range(8):
        for j in range(18):
            assert kron.weight()[i, j].item() == pytest.approx((one_[i // 4, j // 6] * two[i % 4, j % 6]).item(), abs=1e-6)
    assert Lokr(randn(2, 3), randn(4, 6), 1e10).factor == 1  # of two whole tensors alpha means nothing, and is often 1e10


def test_products_with_a_core_are_sums_over_both_ranks() -> None:
    b, a, core = randn(2, 5), randn(3, 4, seed=1), randn(2, 3, 1, 2, seed=2)
    dense = Product(b, a, core).dense(None)
    assert dense.shape == Product(b, a, core).shape == (5, 4, 1, 2)
    by_hand = sum(core[i, j] * b[i, :, None, None, None] * a[j, :, None, None] for i in range(2) for j in range(3))
    torch.testing.assert_close(dense, by_hand, **CLOSE)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 4)])
def test_dora_gives_the_weights_the_lengths_that_were_learned(shape: tuple[int, ...]) -> None:
    base, lengths = randn(6, 4), randn(*shape, seed=1).abs() + 0.5
    change = LowRank(randn(2, 4, seed=2), randn(6, 2, seed=3), 1.0)
    new = base + Dora(change, lengths).weight(base)
    axis = 0 if shape == (1, 4) else 1
    torch.testing.assert_close(new.norm(dim=axis), lengths.flatten(), **CLOSE)
    direction = torch.nn.functional.normalize(base + change.weight(), dim=axis)
    torch.testing.assert_close(torch.nn.functional.normalize(new, dim=axis), direction, **CLOSE)


def test_without_alpha_the_factor_is_one_and_with_it_alpha_over_rank() -> None:
    down, up = randn(4, 8), randn(8, 4, seed=1)
    torch.testing.assert_close(LowRank(down, up).weight(), up @ down)
    torch.testing.assert_close(LowRank(down, up, 1.0).weight(), up @ down / 4)


# --- files


def saved(tmp_path: Path, tensors: Mapping[str, Tensor], name: str = "some.safetensors", **metadata: str) -> Path:
    save_file(dict(tensors), tmp_path / name, metadata)
    return tmp_path / name


def test_a_file_reads_as_its_tensors(tmp_path: Path) -> None:
    path = saved(tmp_path, every_form())
    file, oracle = read(path), lora_of(every_form())
    assert not file.unused
    assert {n: d.kind for n, d in file.deltas.items()} == {n: d.kind for n, d in oracle.deltas.items()}
    assert (
        read(path).hash
        == file.hash
        != read(saved(tmp_path, {**every_form(), "blocks.0.diff_m": randn(1)}, "b.safetensors")).hash
    )
    assert read(tmp_path / "some.safetensors").path == path


@pytest.mark.parametrize(("rs", "factor"), [(False, 16 / 4), (True, 16 / 2)])
def test_alpha_of_peft_is_read_from_beside_or_within_the_file(tmp_path: Path, rs: bool, factor: float) -> None:
    tensors = {
        f"base_model.model.blocks.{i}.attn1.to_q.lora_{m}.weight": randn(*s)
        for i in (0, 1)
        for m, s in (("A", (4, 8)), ("B", (8, 4)))
    }
    config = {"r": 4, "lora_alpha": 16, "use_rslora": rs, "alpha_pattern": {"blocks.1.attn1.to_q": 4}}
    folder = tmp_path / "peft"
    folder.mkdir()
    saved(folder, tensors, "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    within = saved(tmp_path, tensors, lora_adapter_metadata=json.dumps({f"transformer.{n}": v for n, v in config.items()}))
    for path in (folder, folder / "adapter_model.safetensors", within):
        deltas = read(path).deltas
        assert deltas["blocks.0.attn1.to_q.weight"].factor == factor
        assert deltas["blocks.1.attn1.to_q.weight"].factor == factor / 4
    assert read(saved(tmp_path, tensors, "plain.safetensors")).deltas["blocks.0.attn1.to_q.weight"].factor == 1


def test_the_bias_of_a_product_is_scaled_with_it_and_a_difference_is_not() -> None:
    at = "base_model.model.blocks.0.attn1.to_q"
    made = lora_of(
        {
            f"{at}.lora_A.weight": randn(4, 8),
            f"{at}.lora_B.weight": randn(8, 4),
            f"{at}.lora_B.bias": torch.ones(8),
            f"{at}.alpha": torch.tensor(2.0),
        }
    )
    assert made.deltas["blocks.0.attn1.to_q.bias"].weight().tolist() == [0.5] * 8


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    pickle = tmp_path / "old.pt"
    torch.save({"a": torch.ones(1)}, pickle)
    with pytest.raises(ModelError, match=r"pickle.*safetensors"):
        read(pickle)
    whole = saved(tmp_path, every_form()).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-10])
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        read(cut)
    with pytest.raises(ModelError, match="does not exist"):
        read(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelError, match=r"blocks\.0\.diff_m holds values that are not finite"):
        read(saved(tmp_path, {"blocks.0.diff_m": torch.tensor([1.0, math.nan])}))


def test_changes_whose_tensors_are_missing_or_do_not_go_together_are_told() -> None:
    file = lora_of(
        {
            "blocks.0.self_attn.q.lora_down.weight": randn(4, 8),
            "blocks.0.self_attn.k.lora_down.weight": randn(4, 8),
            "blocks.0.self_attn.k.lora_up.weight": randn(8, 5),
            "blocks.0.self_attn.v.hada_w1_a": randn(4, 8),
            "blocks.0.self_attn.o.lokr_w1": randn(4, 8),
            "blocks.0.self_attn.o.alpha": torch.tensor(1.0),
        }
    )
    assert not file.deltas
    assert len(file.unmatched) == 6
    assert {why for name, why in file.unused.items() if "_attn.k." in name} == {"the shapes of its tensors do not go together"}
    assert {why for name, why in file.unused.items() if "_attn.k." not in name} == {"other tensors of this change are missing"}


# --- what a model takes


def test_the_report_names_what_is_used_and_what_is_not(transformer: Any) -> None:
    tensors = usual(transformer, layers=("attn1.to_q",), rank=3) | {
        "diffusion_model.blocks.0.cross_attn.k_img.diff_b": randn(128),
        "lora_te1_layer.alpha": torch.tensor(1.0),
        "diffusion_model.blocks.0.self_attn.v.diff": randn(64, 128),
    }
    report = one(lora_of(tensors, "style.safetensors"), 0.5).check(shapes(transformer))
    assert len(report.matched) == 24
    assert report.unmatched == ("diffusion_model.blocks.0.cross_attn.k_img.diff_b", "lora_te1_layer.alpha")
    assert report.wrong_shape == ("diffusion_model.blocks.0.self_attn.v.diff",)
    [warning] = report.warnings
    assert "89%" in warning
    [row] = report.summary().to_dict("records")
    assert (row["lora"], row["used"], row["ranks"], row["alphas"], row["kinds"]) == (
        "style.safetensors",
        24,
        "3",
        "2",
        "low rank",
    )
    table = report.table()
    assert sorted(key for names in table["names"] for key in names.split(", ")) == sorted(tensors)
    assert "(64, 128), and the parameter has (128, 128)" in "".join(table["not used"])
    assert not one(lora_of(usual(transformer))).check(shapes(transformer)).warnings


def test_a_file_that_changes_nothing_is_an_error_that_names_both_sides(transformer: Any) -> None:
    flux = lora_of({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": randn(1, 1)}, "flux.safetensors")
    with pytest.raises(ModelError, match=r"flux.*single_transformer_blocks\.0\.attn\.to_q.*blocks\.0\.attn1"):
        one(flux).check(shapes(transformer))
    large = lora_of(
        {"blocks.0.self_attn.q.lora_A.weight": randn(2, 5120), "blocks.0.self_attn.q.lora_B.weight": randn(5120, 2)}
    )
    with pytest.raises(ModelError, match=r"another size.*\(5120, 5120\), and the parameter has \(128, 128\)"):
        one(large).check(shapes(transformer))
    with pytest.raises(ModelError, match="changes nothing"):
        one(lora_of({})).check(shapes(transformer))


def test_a_lora_for_text_to_video_fits_image_to_video_and_the_other_way_round_the_rest_is_told(transformer: Any) -> None:
    with torch.device("meta"):
        seeing = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(f"{tiny_path('tiny-i2v')}/transformer"))
    plain = lora_of(usual(transformer))
    assert not one(plain).check(shapes(seeing)).unmatched
    more = usual(transformer) | {
        f"diffusion_model.blocks.{i}.cross_attn.{name}.diff_b": randn(128) for i in range(8) for name in ("k_img", "v_img")
    }
    report = one(lora_of(more)).check(shapes(transformer))
    assert len(report.unmatched) == 16
    assert all("_img" in name for name in report.unmatched)
    assert not one(lora_of(more)).check(shapes(seeing)).unmatched


def test_settings_that_make_no_sense_are_refused(transformer: Any) -> None:
    file = lora_of(usual(transformer), "a.safetensors")
    with pytest.raises(SettingsError, match="merge is on"):
        Lora(file, (1.0, 0.5), merge=True)
    with pytest.raises(SettingsError, match=r"blocks is '3-'; it must"):
        Lora(file, blocks="3-")
    with pytest.raises(SettingsError, match="blocks 0 to 7"):
        one(file, blocks="0-8").check(shapes(transformer))
    only = lora_of({"blocks.1.self_attn.q.diff_b": randn(128)})
    with pytest.raises(SettingsError, match="changes nothing"):
        one(only, blocks="0").check(shapes(transformer))
    listed = LoraSet([Lora(file, (1.0, 0.5, 0.0), merge=False)])
    listed.check_steps(3)
    with pytest.raises(SettingsError, match="3 values and the run has 4"):
        listed.check_steps(4)


# --- merged


def test_merged_weights_are_the_sum_by_hand(transformer: Any) -> None:
    tensors = usual(transformer)
    by_hand = copy.deepcopy(transformer)
    for block, module in enumerate(by_hand.blocks):
        for layer, theirs in ORIGINAL.items():
            at = f"diffusion_model.blocks.{block}.{theirs}"
            module.get_submodule(layer).weight += (
                -0.6 * 2 / 4 * tensors[f"{at}.lora_up.weight"] @ tensors[f"{at}.lora_down.weight"]
            )
    torch.testing.assert_close(velocity(merged(transformer, one(lora_of(tensors), -0.6))), velocity(by_hand), **CLOSE)
    assert not torch.allclose(velocity(by_hand), velocity(transformer), atol=1e-2)


def test_the_order_of_a_chain_means_nothing_and_halves_make_a_whole(transformer: Any) -> None:
    a, b = lora_of(usual(transformer)), lora_of(every_form())
    pairs = [[Lora(a, 0.8), Lora(b, -0.5)], [Lora(b, -0.5), Lora(a, 0.8)], [Lora(a, 0.4), Lora(b, -0.5), Lora(a, 0.4)]]
    clips = [velocity(merged(transformer, LoraSet(loras))) for loras in pairs]
    for other in clips[1:]:
        torch.testing.assert_close(clips[0], other, rtol=0, atol=1e-5)


def test_merging_rounds_to_the_nearest_number_and_leaves_other_weights_alone() -> None:
    file = lora_of({"blocks.0.self_attn.q.diff": randn(8, 8, size=0.01)})
    weight = randn(8, 8, seed=1).bfloat16()
    made = one(file).merge("blocks.0.attn1.to_q.weight", weight)
    exact = weight.double() + file.deltas["blocks.0.attn1.to_q.weight"].weight().double()
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, exact.bfloat16())
    assert one(file).merge("blocks.0.attn1.to_k.weight", weight) is weight
    assert one(file, 0.0).merge("blocks.0.attn1.to_q.weight", weight) is weight
    assert one(file, merge=False).merge("blocks.0.attn1.to_q.weight", weight) is weight
    assert one(file).touches("blocks.0.attn1.to_q.weight")
    assert not one(file, merge=False).touches("blocks.0.attn1.to_q.weight")


def test_a_filter_of_blocks_changes_these_blocks_only(transformer: Any) -> None:
    made = merged(transformer, one(lora_of(usual(transformer) | every_form()), blocks="1-2,5"))
    changed = {
        keys.block_of(name)
        for name, weight in made.named_parameters()
        if not torch.equal(weight, transformer.get_parameter(name))
    }
    assert changed == {("blocks", 1), ("blocks", 2), ("blocks", 5)}


# --- live


@pytest.mark.parametrize("strength", [1.0, -0.7, 0.3])
def test_live_equals_merged_for_every_form(transformer: Any, strength: float) -> None:
    file = lora_of(every_form())
    assert {delta.kind for delta in file.deltas.values()} == {"low rank", "LoHa", "LoKr", "difference", "DoRA"}
    oracle = velocity(merged(transformer, one(file, strength)))
    model = copy.deepcopy(transformer)
    live = LoraSet([Lora(file, strength, merge=False)]).attach(model)
    torch.testing.assert_close(velocity(model), oracle, rtol=0, atol=1e-5)
    live.remove()
    assert not torch.allclose(velocity(model), oracle, atol=1e-2)


@pytest.mark.parametrize("name", sorted(lora_of(every_form()).deltas))
def test_live_equals_merged_for_each_change_alone(transformer: Any, name: str) -> None:
    whole = lora_of(every_form())
    file = LoraFile(whole.path, {name: whole.deltas[name]}, {name: whole.names[name]}, {}, "")
    oracle = velocity(merged(transformer, one(file, 1.3)))
    model = copy.deepcopy(transformer)
    LoraSet([Lora(file, 1.3, merge=False)]).attach(model)
    torch.testing.assert_close(velocity(model), oracle, **CLOSE)
    assert not torch.allclose(velocity(transformer), oracle, atol=1e-4)


def test_a_live_change_at_strength_zero_is_absent_to_the_bit(transformer: Any) -> None:
    model, plain = copy.deepcopy(transformer), velocity(transformer)
    live = LoraSet([Lora(lora_of(every_form()), (0.0, 1.0), merge=False)]).attach(model)
    assert torch.equal(velocity(model), plain)
    live.set_step(1)
    assert not torch.equal(velocity(model), plain)
    live.set_step(1, factor=0.0)
    assert torch.equal(velocity(model), plain)


def test_strengths_follow_the_list_and_the_factor(transformer: Any) -> None:
    file, model = lora_of(usual(transformer)), copy.deepcopy(transformer)
    loras = LoraSet([Lora(file, (1.0, 0.25), merge=False), Lora(file, 0.5, merge=True), Lora(file, -1.0, "0-3", merge=False)])
    with torch.inference_mode():  # as the model does, and settings change outside of it
        live = loras.attach(model)
    assert live.strengths[0] == 1.0
    live.set_step(1, factor=2.0)
    assert live.strengths[::2] == (0.5, -2.0)
    assert math.isnan(live.strengths[1])
    oracle = merged(transformer, LoraSet([Lora(file, 0.5), Lora(file, -2.0, "0-3")]))
    torch.testing.assert_close(velocity(model), velocity(oracle), rtol=0, atol=1e-5)


def test_removing_leaves_the_very_bits_the_classes_and_no_trace(transformer: Any) -> None:
    model = copy.deepcopy(transformer)
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.named_parameters()}
    classes = {name: type(module) for name, module in model.named_modules()}
    live = LoraSet([Lora(lora_of(every_form()), merge=False)]).attach(model)
    velocity(model)
    live.remove()
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert {name: tensor.data_ptr() for name, tensor in model.named_parameters()} == {
        n: where for n, (where, _) in before.items()
    }
    assert all(torch.equal(tensor, before[name][1]) for name, tensor in model.named_parameters())
    assert torch.equal(velocity(model), velocity(transformer))
    live.remove()


def test_an_attached_transformer_has_the_same_parameters_under_the_same_names(transformer: Any) -> None:
    model = copy.deepcopy(transformer)
    file = lora_of(every_form())
    LoraSet([Lora(file, merge=False)]).attach(model)
    assert list(model.state_dict()) == list(transformer.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in transformer.named_parameters()]
    layer = model.blocks[4].attn1.to_out[0]
    assert isinstance(layer, nn.Linear)
    assert isinstance(layer, LoraLinear)
    assert (layer.in_features, layer.out_features) == (128, 128)
    assert torch.equal(layer.weight, transformer.blocks[4].attn1.to_out[0].weight)
    with pytest.raises(SettingsError, match="attached"):
        LoraSet([Lora(file, merge=False)]).attach(model)
    assert torch.equal(velocity(model), velocity(model))


def test_matrices_are_buffers_of_their_block_and_strengths_of_none(transformer: Any) -> None:
    model = copy.deepcopy(transformer)
    live = LoraSet([Lora(lora_of(every_form()), merge=False)]).attach(model)
    own = {strength.value.data_ptr() for strength in live._strengths}
    moved = {tensor.data_ptr() for block in model.blocks for tensor in (*block.parameters(), *block.buffers())}
    assert not own & moved
    assert {tuple(tensor.shape) for _, tensor in model.blocks[0].named_buffers()} == {(4, 128), (128, 4), (128,)}


def test_swapped_blocks_take_live_changes_along(transformer: Any) -> None:
    file, model = lora_of(every_form() | usual(transformer)), copy.deepcopy(transformer)
    live = LoraSet([Lora(file, (0.5, 1.0), merge=False)]).attach(model)
    velocities = []
    for step in (0, 1):
        live.set_step(step)
        velocities.append(velocity(model))
    masters = {index: build_host_master(model.blocks[index], pin=False) for index in (1, 4, 6)}
    swap = BlockSwap(model.blocks, masters, torch.device("cpu"))
    for step in (1, 0, 1):  # blocks are fetched before the step at whose strength they are computed is known
        live.set_step(step)
        assert torch.equal(velocity(model), velocities[step])
    swap.remove()
    live.remove()
    assert torch.equal(velocity(model), velocity(transformer))


@pytest.mark.parametrize("kind", ["fp8_e4m3fn", "int8"])
def test_live_changes_go_beside_weights_that_are_stored_in_few_bits(transformer: Any, kind: str) -> None:
    file, model = lora_of(every_form() | usual(transformer, layers=("attn1.to_q", "ffn.net.2"))), copy.deepcopy(transformer)
    for block in model.blocks:
        for layer in ORIGINAL:
            parent, leaf = block.get_submodule(layer.rpartition(".")[0]), layer.rpartition(".")[2]
            linear = parent.get_submodule(leaf)
            parent.add_module(leaf, QuantizedLinear.of(pack(kind, linear.weight), linear.bias))
    unpacked = copy.deepcopy(transformer)
    for old, new in zip(unpacked.blocks.modules(), model.blocks.modules(), strict=True):
        if isinstance(new, QuantizedLinear):
            old.weight.data = unpack(new.packed, torch.float32)
    LoraSet([Lora(file, 0.8, merge=False)]).attach(model)
    assert isinstance(model.blocks[4].attn1.to_out[0], QuantizedLinear)
    torch.testing.assert_close(velocity(model), velocity(merged(unpacked, one(file, 0.8))), rtol=0, atol=2e-5)


def test_in_bf16_live_keeps_what_merging_rounds_away(transformer: Any) -> None:
    file, plain = lora_of(usual(transformer, size=0.01)), copy.deepcopy(transformer)
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16().float()  # numbers of bf16, so that only the change can be rounded
    live, rounded = copy.deepcopy(plain), copy.deepcopy(plain)
    for name, parameter in rounded.named_parameters():
        parameter.data = one(file).merge(name, parameter.data.bfloat16()).float()
    LoraSet([Lora(file, merge=False)]).attach(live)
    exact = velocity(merged(plain, one(file))) - velocity(plain)
    errors = [((velocity(model) - velocity(plain) - exact).norm() / exact.norm()).item() for model in (live, rounded)]
    assert errors[0] < 0.01 < 0.1 < errors[1]


def test_live_changes_take_the_format_of_their_layer() -> None:
    half = WanTransformer3DModel.from_pretrained(f"{tiny_path()}/transformer", torch_dtype=torch.bfloat16).requires_grad_(False)
    file = lora_of(every_form())
    oracle = velocity(merged(half, one(file, 0.5)))
    LoraSet([Lora(file, 0.5, merge=False)]).attach(half)
    made = velocity(half)
    assert made.dtype == oracle.dtype == torch.bfloat16
    assert (made - oracle).float().norm() < 0.02 * oracle.float().norm()
    assert half.blocks[0].attn1.to_q.lora_paths[0].down.dtype == torch.bfloat16
    assert half.condition_embedder.time_embedder.linear_2.lora_paths[0].down.dtype == torch.float32  # stays in fp32
    assert half.blocks[6].scale_shift_table.dtype == torch.float32
    assert half.blocks[5].attn1.norm_q.weight.dtype == torch.bfloat16


def test_a_new_strength_compiles_nothing_and_a_lora_adds_no_graph_for_its_number_of_blocks(transformer: Any) -> None:
    graphs: list[int] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(1)
        return graph.forward

    def count(model: Any) -> int:
        torch._dynamo.reset()
        graphs.clear()
        model.blocks = model.blocks[:3]
        for block in model.blocks:
            block.forward = torch.compile(block.forward, backend=counted, fullgraph=True)
        velocity(model)
        return len(graphs)

    plain = count(copy.deepcopy(transformer))
    model = copy.deepcopy(transformer)
    tensors = usual(transformer) | {f"diffusion_model.blocks.{i}.diff_m": randn(1, 6, 128, size=0.1) for i in range(8)}
    live = LoraSet([Lora(lora_of(tensors), (0.2, 1.0, -1.0, 0.0), merge=False)]).attach(model)
    eager = copy.deepcopy(transformer)
    eager.blocks = eager.blocks[:3]
    again = LoraSet([Lora(lora_of(tensors), (0.2, 1.0, -1.0, 0.0), merge=False)]).attach(eager)
    assert count(model) == plain
    for step in (1, 2, 3, 0):
        live.set_step(step)
        again.set_step(step)
        torch.testing.assert_close(velocity(model), velocity(eager), **CLOSE)
    assert len(graphs) == plain
    torch._dynamo.reset()


# --- sizes


def test_sizes_are_relative_norms_by_block(transformer: Any) -> None:
    tensors = {
        "blocks.1.self_attn.q.diff": randn(128, 128),
        "head.head.diff_b": randn(64),
        "blocks.1.self_attn.k.diff_b": randn(128),
    }
    loras = LoraSet([Lora(lora_of(tensors, "a<b>.safetensors"), (0.5, -2.0), merge=False), Lora(lora_of(tensors), 0.1, "1")])
    sizes = measure(loras, lambda name: transformer.get_parameter(name))
    rows = {(row["lora"][0], row["block"]): row["relative"] for row in sizes.table().to_dict("records")}
    weight, bias = transformer.blocks[1].attn1.to_q.weight, transformer.blocks[1].attn1.to_k.bias
    changes = math.hypot(
        *(tensors[name].norm().item() for name in ("blocks.1.self_attn.q.diff", "blocks.1.self_attn.k.diff_b"))
    )
    relative = changes / math.hypot(weight.norm().item(), bias.norm().item())
    outside = (tensors["head.head.diff_b"].norm() / transformer.proj_out.bias.norm()).item()
    assert rows == {
        ("1", "blocks.1"): pytest.approx(2 * relative),
        ("1", "outside"): pytest.approx(2 * outside),
        ("2", "blocks.1"): pytest.approx(0.1 * relative),
    }
    assert sorted(round(bar.get_height(), 6) for bar in sizes.show().axes[0].patches) == sorted(
        round(v, 6) for v in rows.values()
    )
    html = sizes._repr_html_() + loras.check(shapes(transformer))._repr_html_()
    assert "a&lt;b&gt;" in html
    assert "a<b>" not in html


@pytest.mark.parametrize(
    ("change", "weight", "agree"),
    [
        ((6, 8), (1, 6, 8), True),
        ((8, 64), (8, 16, 1, 2, 2), True),
        ((8,), (8,), True),
        ((8, 16), (16, 8), False),
        ((128,), (8, 16), False),
    ],
)
def test_a_change_fits_a_parameter_of_the_same_shape(change: tuple[int, ...], weight: tuple[int, ...], agree: bool) -> None:
    assert fits(change, weight) == agree


def test_a_difference_is_a_new_tensor() -> None:
    change = randn(3)
    Difference(change).weight().zero_()
    assert change.abs().sum() > 0
