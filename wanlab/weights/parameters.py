"""From a configuration to the names and shapes of all parameters that the model's class has, and so to their numbers. No torch.

Written down once more beside diffusers and transformers, because plans and inspections must not load them: counting a
transformer of 14 billion parameters here takes a millisecond. The test builds every published configuration on torch's
meta device and compares all names and shapes. Names are those of `state_dict`; UMT5's embedding, which has two names
there, is `shared.weight`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

Config = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(kind: str, config: Config) -> Shapes:
    """Name -> shape of a "transformer", "text_encoder", "vae" or "image_encoder"."""
    return {
        "transformer": transformer_shapes,
        "text_encoder": umt5_shapes,
        "vae": vae_shapes,
        "image_encoder": clip_shapes,
    }[kind](config)


def parameter_count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers these parameters are."""
    return sum(map(math.prod, shapes.values()))


def block_parameters(config: Config) -> int:
    """How many numbers one block of a transformer has."""
    return parameter_count(_block("", _width(config), config))


def transformer_parameters(config: Config) -> int:
    """How many numbers a transformer has, in its blocks and outside."""
    return parameter_count(transformer_shapes(config))


def transformer_shapes(config: Config) -> Shapes:
    """Of WanTransformer3DModel, and of WanVACETransformer3DModel if the configuration has `vace_layers`."""
    width, patch = _width(config), tuple(config["patch_size"])
    shapes: Shapes = {"scale_shift_table": (1, 2, width)}
    shapes |= _layer("patch_embedding", width, config["in_channels"], *patch)
    embedder = "condition_embedder."
    shapes |= _layer(f"{embedder}time_embedder.linear_1", width, config["freq_dim"])
    shapes |= _layer(f"{embedder}time_embedder.linear_2", width, width)
    shapes |= _layer(f"{embedder}time_proj", 6 * width, width)
    shapes |= _layer(f"{embedder}text_embedder.linear_1", width, config["text_dim"])
    shapes |= _layer(f"{embedder}text_embedder.linear_2", width, width)
    image = config.get("image_dim")
    if image:
        shapes |= _layer(f"{embedder}image_embedder.norm1", image)
        shapes |= _layer(f"{embedder}image_embedder.ff.net.0.proj", image, image)
        shapes |= _layer(f"{embedder}image_embedder.ff.net.2", width, image)
        shapes |= _layer(f"{embedder}image_embedder.norm2", width)
        if config.get("pos_embed_seq_len"):
            shapes[f"{embedder}image_embedder.pos_embed"] = (1, config["pos_embed_seq_len"], image)
    for index in range(config["num_layers"]):
        shapes |= _block(f"blocks.{index}.", width, config)
    if config.get("vace_layers"):
        shapes |= _layer("vace_patch_embedding", width, config["vace_in_channels"], *patch)
    for index in range(len(config.get("vace_layers") or ())):
        shapes |= _block(f"vace_blocks.{index}.", width, config)
        shapes |= _layer(f"vace_blocks.{index}.proj_out", width, width)
        if index == 0:
            shapes |= _layer("vace_blocks.0.proj_in", width, width)
    return shapes | _layer("proj_out", math.prod(patch) * config["out_channels"], width)


def _width(config: Config) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def _block(place: str, width: int, config: Config) -> Shapes:
    shapes: Shapes = {f"{place}scale_shift_table": (1, 6, width)}
    for attention in ("attn1", "attn2"):
        for layer in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= _layer(f"{place}{attention}.{layer}", width, width)
        shapes |= {f"{place}{attention}.norm_{letter}.weight": (width,) for letter in "qk"}
    added = config.get("added_kv_proj_dim")
    if added:
        shapes |= _layer(f"{place}attn2.add_k_proj", width, added) | _layer(f"{place}attn2.add_v_proj", width, added)
        shapes[f"{place}attn2.norm_added_k.weight"] = (width,)
    if config.get("cross_attn_norm", True):
        shapes |= _layer(f"{place}norm2", width)
    return (
        shapes
        | _layer(f"{place}ffn.net.0.proj", config["ffn_dim"], width)
        | _layer(f"{place}ffn.net.2", width, config["ffn_dim"])
    )


def _layer(name: str, out: int, *others: int) -> Shapes:
    """Weight and bias of a linear layer, a convolution or a norm."""
    return {f"{name}.weight": (out, *others), f"{name}.bias": (out,)}


def umt5_shapes(config: Config) -> Shapes:
    """Of transformers' UMT5EncoderModel."""
    width, inner, hidden = config["d_model"], config["num_heads"] * config["d_kv"], config["d_ff"]
    buckets = config.get("relative_attention_num_buckets", 32)
    shapes: Shapes = {"shared.weight": (config["vocab_size"], width), "encoder.final_layer_norm.weight": (width,)}
    for index in range(config["num_layers"]):
        place = f"encoder.block.{index}.layer."
        shapes |= {f"{place}0.SelfAttention.{letter}.weight": (inner, width) for letter in "qkv"}
        shapes |= {
            f"{place}0.SelfAttention.o.weight": (width, inner),
            f"{place}0.SelfAttention.relative_attention_bias.weight": (buckets, config["num_heads"]),
            f"{place}0.layer_norm.weight": (width,),
            f"{place}1.DenseReluDense.wi_0.weight": (hidden, width),
            f"{place}1.DenseReluDense.wi_1.weight": (hidden, width),
            f"{place}1.DenseReluDense.wo.weight": (width, hidden),
            f"{place}1.layer_norm.weight": (width,),
        }
    return shapes


def clip_shapes(config: Config) -> Shapes:
    """Of transformers' CLIPVisionModel."""
    width, hidden, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    places = (config["image_size"] // patch) ** 2 + 1
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, config.get("num_channels", 3), patch, patch),
        "embeddings.position_embedding.weight": (places, width),
        **_layer("pre_layrnorm", width),  # transformers spells it so
        **_layer("post_layernorm", width),
    }
    for index in range(config["num_hidden_layers"]):
        place = f"encoder.layers.{index}."
        for layer in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
            shapes |= _layer(place + layer, width, width)
        shapes |= _layer(f"{place}mlp.fc1", hidden, width) | _layer(f"{place}mlp.fc2", width, hidden)
        shapes |= _layer(f"{place}layer_norm1", width) | _layer(f"{place}layer_norm2", width)
    return shapes


def vae_shapes(config: Config) -> Shapes:
    """Of diffusers' AutoencoderKLWan: Wan2.1's, and Wan2.2's if the configuration says `is_residual`."""
    z = config["z_dim"]
    return {
        **_layer("quant_conv", 2 * z, 2 * z, 1, 1, 1),
        **_layer("post_quant_conv", z, z, 1, 1, 1),
        **_encoder(config),
        **_decoder(config),
    }


def _encoder(config: Config) -> Shapes:
    widths = [config["base_dim"] * times for times in (1, *config["dim_mult"])]
    blocks, residual = config["num_res_blocks"], bool(config.get("is_residual"))
    shapes = _layer("encoder.conv_in", widths[0], config.get("in_channels", 3), 3, 3, 3)
    place = 0
    for stage, (before, width) in enumerate(itertools.pairwise(widths)):
        for index in range(blocks):
            name = f"encoder.down_blocks.{stage}.resnets.{index}" if residual else f"encoder.down_blocks.{place}"
            shapes |= _residual(name, before if index == 0 else width, width)
            place += 1
        if stage < len(widths) - 2:
            name = f"encoder.down_blocks.{stage}.downsampler" if residual else f"encoder.down_blocks.{place}"
            shapes |= _layer(f"{name}.resample.1", width, width, 3, 3)
            if config["temperal_downsample"][stage]:
                shapes |= _layer(f"{name}.time_conv", width, width, 3, 1, 1)
            place += 1
    return shapes | _middle("encoder", widths[-1]) | _ending("encoder", widths[-1], 2 * config["z_dim"])


def _decoder(config: Config) -> Shapes:
    base, mult = config.get("decoder_base_dim") or config["base_dim"], config["dim_mult"]
    widths = [base * times for times in (mult[-1], *reversed(mult))]
    residual, grows = bool(config.get("is_residual")), list(reversed(config["temperal_downsample"]))
    shapes = _layer("decoder.conv_in", widths[0], config["z_dim"], 3, 3, 3) | _middle("decoder", widths[0])
    for stage, (before, width) in enumerate(itertools.pairwise(widths)):
        if stage and not residual:
            before //= 2  # Wan2.1 halves the channels where it doubles the picture
        for index in range(config["num_res_blocks"] + 1):
            shapes |= _residual(f"decoder.up_blocks.{stage}.resnets.{index}", before if index == 0 else width, width)
        if stage < len(widths) - 2:
            name = f"decoder.up_blocks.{stage}." + ("upsampler" if residual else "upsamplers.0")
            shapes |= _layer(f"{name}.resample.1", width if residual else width // 2, width, 3, 3)
            if grows[stage]:
                shapes |= _layer(f"{name}.time_conv", 2 * width, width, 3, 1, 1)
    return shapes | _ending("decoder", widths[-1], config.get("out_channels", 3))


def _residual(name: str, before: int, width: int) -> Shapes:
    shapes: Shapes = {f"{name}.norm1.gamma": (before, 1, 1, 1), f"{name}.norm2.gamma": (width, 1, 1, 1)}
    shapes |= _layer(f"{name}.conv1", width, before, 3, 3, 3) | _layer(f"{name}.conv2", width, width, 3, 3, 3)
    return shapes | (_layer(f"{name}.conv_shortcut", width, before, 1, 1, 1) if before != width else {})


def _middle(half: str, width: int) -> Shapes:
    place = f"{half}.mid_block"
    return {
        **_residual(f"{place}.resnets.0", width, width),
        **_residual(f"{place}.resnets.1", width, width),
        f"{place}.attentions.0.norm.gamma": (width, 1, 1),
        **_layer(f"{place}.attentions.0.to_qkv", 3 * width, width, 1, 1),
        **_layer(f"{place}.attentions.0.proj", width, width, 1, 1),
    }


def _ending(half: str, width: int, channels: int) -> Shapes:
    return {f"{half}.norm_out.gamma": (width, 1, 1, 1), **_layer(f"{half}.conv_out", channels, width, 3, 3, 3)}


def count_of(pattern: str, names: Iterable[str]) -> int:
    """One more than the largest number that the pattern's group finds at the beginning of a name; 0 for none.

    Numbers above 999 are passed over: no model has so many blocks, but a file may say so.
    """
    found = (re.match(pattern, name) for name in names)
    return max((int(one[1]) + 1 for one in found if one and len(one[1]) <= 3), default=0)
