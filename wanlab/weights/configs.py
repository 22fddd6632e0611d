"""A configuration read off the shapes of tensors: as the class of diffusers or transformers takes it. No torch.

Nearly everything can be seen: widths, depths, channels, patches. What cannot be seen comes from where it is told: a
"config" in the file's metadata, the config.json beside it, or a published configuration of the same shapes. The number
of heads is the main such thing; every published Wan has heads of 128 channels, and a width that none of them has (the
tiny model's) is refused unless it is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wanlab.errors import ModelError
from wanlab.weights.parameters import count_of
from wanlab.weights.registry import facts

Shapes = Mapping[str, tuple[int, ...]]
Told = Mapping[str, Any]

_EMBEDDER = "condition_embedder."


def config_of(kind: str, shapes: Shapes, told: Told, where: str) -> dict[str, Any]:
    """The configuration of a "transformer", "text_encoder", "vae" or "image_encoder" with parameters of these shapes.

    `told` is what a configuration beside the weights says; `where` names the weights in messages. Raises ModelError.
    """
    see, unseen = {
        "transformer": (_transformer, _transformer_unseen),
        "text_encoder": (_umt5, _nothing),
        "vae": (_vae, _vae_unseen),
        "image_encoder": (_clip, _clip_unseen),
    }[kind]
    try:
        seen = see(shapes)
        published = _published(kind, seen)
        config = {**published, **{name: value for name, value in told.items() if name in published}, **seen}
        config |= unseen(config, told, where)
    except KeyError as error:
        raise ModelError(f"{where} is not complete: it has no {error.args[0]}, or it is of another shape.") from None
    except (TypeError, ValueError, IndexError, ArithmeticError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{where} is damaged: its configuration, or the shapes of its tensors, cannot be.") from None
    return {name: value for name, value in config.items() if not name.startswith("_")}


def contradiction(kind: str, shapes: Shapes, told: Told, where: str) -> str:
    """The first thing in which a configuration is not that of these shapes, as a sentence; "" if there is none."""
    for name, value in config_of(kind, shapes, told, where).items():
        said = told.get(name)
        if name in told and said is not None and _plain(said) != _plain(value):
            return f"its configuration says {name} {said}, and its tensors {value}"
    return ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _published(kind: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    """The published configuration that is nearest, for what shapes do not tell."""
    if kind == "vae":
        return dict(facts()["vae"]["2.2" if seen["is_residual"] else "2.1"])
    if kind == "transformer":
        return dict(facts()["transformer"]) | {"num_attention_heads": 0}
    return dict(facts()[kind])


def _nothing(config: Told, told: Told, where: str) -> dict[str, Any]:
    return {}


def _transformer(shapes: Shapes) -> dict[str, Any]:
    width, channels, *patch = _of(shapes, "patch_embedding.weight", 5)
    rows = _of(shapes, "proj_out.bias", 1)[0]
    image = shapes.get(f"{_EMBEDDER}image_embedder.norm1.weight", (None,))[0]
    position = shapes.get(f"{_EMBEDDER}image_embedder.pos_embed", (None, None, None))
    config = {
        "_width": width,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": rows // math.prod(patch),
        "text_dim": _any(shapes, f"{_EMBEDDER}text_embedder.linear_1.weight", 2)[1],
        "freq_dim": _any(shapes, f"{_EMBEDDER}time_embedder.linear_1.weight", 2)[1],
        "ffn_dim": _any(shapes, "ffn.net.0.proj.bias", 1)[0],
        "num_layers": count_of(r"blocks\.(\d+)\.", shapes),
        "cross_attn_norm": any(name.endswith(".norm2.weight") for name in shapes if name.startswith("blocks.")),
        "image_dim": image,
        "added_kv_proj_dim": width if any(".add_k_proj." in name for name in shapes) else None,
        "pos_embed_seq_len": position[1] if len(position) == 3 else None,
    }
    control = count_of(r"vace_blocks\.(\d+)\.", shapes)
    if control:
        config |= {"_control": control, "vace_in_channels": _of(shapes, "vace_patch_embedding.weight", 5)[1]}
    return config


def _transformer_unseen(config: Told, told: Told, where: str) -> dict[str, Any]:
    """Heads, depth and the places of VACE's blocks."""
    width, layers, control = config["_width"], config["num_layers"], config.get("_control", 0)
    heads, size = told.get("num_attention_heads"), told.get("attention_head_dim", config["attention_head_dim"])
    sizes = {one["num_attention_heads"] * 128: one for one in facts()["sizes"].values()}
    if width in sizes and (not heads or heads * size != width):
        heads, size = width // 128, 128
    if not heads or heads * size != width:
        raise ModelError(
            f"{where} has {width} channels, which no published Wan has, so its number of heads cannot be seen; put its "
            'config.json beside it, or the same text into its metadata under the name "config".'
        )
    # A file whose last blocks are lost is one of a published depth that is not complete.
    depth = told.get("num_layers") or (sizes[width]["num_layers"] if width in sizes else layers)
    found = {"num_attention_heads": heads, "attention_head_dim": size, "num_layers": max(depth, layers)}
    if found["num_layers"] > 999:
        raise ValueError("no model has so many blocks")
    if control:
        places = told.get("vace_layers") or range(0, found["num_layers"], max(1, found["num_layers"] // control))
        found["vace_layers"] = list(places) if len(places) == control else list(range(control))
    return found


def _umt5(shapes: Shapes) -> dict[str, Any]:
    vocabulary, width = _of(shapes, "shared.weight", 2)
    buckets, heads = _any(shapes, "relative_attention_bias.weight", 2)
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": _any(shapes, "SelfAttention.q.weight", 2)[0] // max(1, heads),
        "d_ff": _any(shapes, "DenseReluDense.wo.weight", 2)[1],
        "num_layers": count_of(r"encoder\.block\.(\d+)\.", shapes),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
    }


def _clip(shapes: Shapes) -> dict[str, Any]:
    width, channels, patch, _ = _of(shapes, "embeddings.patch_embedding.weight", 4)
    places = _of(shapes, "embeddings.position_embedding.weight", 2)[0]
    return {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": math.isqrt(max(0, places - 1)) * patch,
        "intermediate_size": _any(shapes, "mlp.fc1.bias", 1)[0],
        "num_hidden_layers": count_of(r"encoder\.layers\.(\d+)\.", shapes),
    }


def _clip_unseen(config: Told, told: Told, where: str) -> dict[str, Any]:
    if told.get("num_attention_heads") or config["hidden_size"] == facts()["image_encoder"]["hidden_size"]:
        return {}
    raise ModelError(
        f"{where} has {config['hidden_size']} channels, and Wan's CLIP has {facts()['image_encoder']['hidden_size']}, so its "
        "number of heads cannot be seen; put its config.json beside it."
    )


def _vae(shapes: Shapes) -> dict[str, Any]:
    base, channels = _of(shapes, "encoder.conv_in.weight", 5)[:2]
    latent = _of(shapes, "post_quant_conv.weight", 5)[0]
    out, last = _of(shapes, "decoder.conv_out.weight", 5)[:2]
    residual = any(name.startswith("encoder.down_blocks.0.resnets.") for name in shapes)
    widths, times = _stages(shapes, residual)
    mult = [width // max(1, base) for width in widths]
    return {
        "base_dim": base,
        "decoder_base_dim": last // max(1, mult[0]),
        "z_dim": latent,
        "dim_mult": mult,
        "num_res_blocks": max(1, count_of(r"decoder\.up_blocks\.0\.resnets\.(\d+)\.", shapes) - 1),
        "temperal_downsample": times,
        "is_residual": residual,
        "in_channels": channels,
        "out_channels": out,
    }


def _stages(shapes: Shapes, residual: bool) -> tuple[list[int], list[bool]]:
    """The channels of each stage of the encoder, and whether what follows it halves the frames too."""
    widths, times = [], []
    before = 0
    for index in range(count_of(r"encoder\.down_blocks\.(\d+)\.", shapes)):
        place = f"encoder.down_blocks.{index}."
        resample = place + "downsampler." if residual else place
        conv = shapes.get(place + ("resnets.0.conv1.weight" if residual else "conv1.weight"))
        if conv:
            before = conv[0]
        if f"{resample}resample.1.weight" in shapes:
            widths.append(before)
            times.append(f"{resample}time_conv.weight" in shapes)
    return [*widths, before], times


def _vae_unseen(config: Told, told: Told, where: str) -> dict[str, Any]:
    published = facts()["vae"]["2.2" if config["is_residual"] else "2.1"]
    if "latents_mean" not in told and (config["base_dim"], config["z_dim"]) != (published["base_dim"], published["z_dim"]):
        raise ModelError(
            f"{where} begins with {config['base_dim']} channels and has {config['z_dim']} latent ones, which no published VAE "
            "of Wan has, so the mean and spread of its latents cannot be known; put its config.json beside it."
        )
    patch = 2 if config["in_channels"] == 12 else None
    return {"patch_size": patch, "scale_factor_spatial": 2 ** (len(config["dim_mult"]) - 1) * (patch or 1)}


def _of(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there with so many dimensions."""
    if len(shapes.get(name, ())) != dimensions:
        raise KeyError(name)
    return shapes[name]


def _any(shapes: Shapes, ending: str, dimensions: int) -> tuple[int, ...]:
    """The shape of the first tensor whose name ends so: of blocks that are alike any will do."""
    for name, shape in shapes.items():
        if name.endswith(ending) and len(shape) == dimensions and not name.startswith("vace_"):
            return shape
    raise KeyError(ending)
