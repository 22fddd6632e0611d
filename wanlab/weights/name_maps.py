"""How others name the tensors of Wan's parts, and diffusers' name for each. No torch.

Each map takes one name of a file and gives the target's name, or three of them where a file keeps what are three
tensors stacked in one, or none where the name means nothing to it. All maps are tables over names of layers, never
replacements of pieces of text: the original norm3 is diffusers' norm2 and the other way round, and text that is
replaced twice is how such names get lost.

Sources of the foreign names: Wan-Video/Wan2.1 and 2.2 (wan/modules: model, vace_model, t5, clip, vae, vae2_2),
transformers' UMT5 and CLIP, city96/ComfyUI-GGUF. The test holds them against diffusers' own converters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

NameMap = Callable[[str], tuple[str, ...]]

_EMBEDDER = "condition_embedder."

# The layers of the transformer outside its blocks.
TRANSFORMER = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "text_embedding.0": _EMBEDDER + "text_embedder.linear_1",
    "text_embedding.2": _EMBEDDER + "text_embedder.linear_2",
    "time_embedding.0": _EMBEDDER + "time_embedder.linear_1",
    "time_embedding.2": _EMBEDDER + "time_embedder.linear_2",
    "time_projection.1": _EMBEDDER + "time_proj",
    "img_emb.proj.0": _EMBEDDER + "image_embedder.norm1",
    "img_emb.proj.1": _EMBEDDER + "image_embedder.ff.net.0.proj",
    "img_emb.proj.3": _EMBEDDER + "image_embedder.ff.net.2",
    "img_emb.proj.4": _EMBEDDER + "image_embedder.norm2",
    "head.head": "proj_out",
}
TABLES = {"img_emb.emb_pos": _EMBEDDER + "image_embedder.pos_embed", "head.modulation": "scale_shift_table"}

# The layers of a block. The original counts its norms by kind, diffusers in the order of use: norm1, norm3, norm2 there.
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_IMAGE_ATTENTION = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
BLOCK = {
    **{f"self_attn.{theirs}": f"attn1.{ours}" for theirs, ours in _ATTENTION.items()},
    **{f"cross_attn.{theirs}": f"attn2.{ours}" for theirs, ours in (_ATTENTION | _IMAGE_ATTENTION).items()},
    "norm1": "norm1",
    "norm2": "norm3",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
}

_UMT5_BLOCK = {
    **{f"attn.{letter}": f"layer.0.SelfAttention.{letter}" for letter in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    "norm2": "layer.1.layer_norm",
}
_UMT5 = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}

# llama.cpp's names for the same layers, which umt5 in GGUF has.
_LLAMA_BLOCK = {
    **{f"attn_{letter}": f"layer.0.SelfAttention.{letter}" for letter in "qkvo"},
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_LLAMA = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}

_CLIP_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_CLIP = {
    "visual.cls_embedding": "embeddings.class_embedding",
    "visual.pos_embedding": "embeddings.position_embedding.weight",
    "visual.patch_embedding.weight": "embeddings.patch_embedding.weight",
    **{f"visual.pre_norm.{kind}": f"pre_layrnorm.{kind}" for kind in ("weight", "bias")},  # transformers spells it so
    **{f"visual.post_norm.{kind}": f"post_layernorm.{kind}" for kind in ("weight", "bias")},
}

_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_VAE = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    **{f"{half}.conv1": f"{half}.conv_in" for half in ("encoder", "decoder")},
    **{f"{half}.head.0": f"{half}.norm_out" for half in ("encoder", "decoder")},
    **{f"{half}.head.2": f"{half}.conv_out" for half in ("encoder", "decoder")},
    **{
        f"{half}.middle.{place}.{theirs}": f"{half}.mid_block.resnets.{index}.{ours}"
        for half in ("encoder", "decoder")
        for index, place in enumerate((0, 2))
        for theirs, ours in _RESIDUAL.items()
    },
    **{
        f"{half}.middle.1.{layer}": f"{half}.mid_block.attentions.0.{layer}"
        for half in ("encoder", "decoder")
        for layer in ("norm", "to_qkv", "proj")
    },
}


def same(name: str) -> tuple[str, ...]:
    """The name as it is."""
    return (name,)


def transformer(name: str) -> tuple[str, ...]:
    """The original names of a Wan transformer, as `blocks.0.self_attn.q.weight`."""
    if name in TABLES:
        return (TABLES[name],)
    found = re.fullmatch(r"((?:vace_)?blocks\.\d+)\.(.+)", name)
    if not found:
        return _with_kind(name, TRANSFORMER, "")
    if found[2] == "modulation":
        return (f"{found[1]}.scale_shift_table",)
    return _with_kind(found[2], BLOCK, f"{found[1]}.")


def umt5_original(name: str) -> tuple[str, ...]:
    """The names of Wan's own UMT5, as `blocks.0.attn.q.weight`."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if found:
        return _with_kind(found[2], _UMT5_BLOCK, f"encoder.block.{found[1]}.")
    return _with_kind(name, _UMT5, "")


def umt5_llama(name: str) -> tuple[str, ...]:
    """llama.cpp's names of UMT5, as `enc.blk.0.attn_q.weight`."""
    found = re.fullmatch(r"enc\.blk\.(\d+)\.(.+)", name)
    if found:
        return _with_kind(found[2], _LLAMA_BLOCK, f"encoder.block.{found[1]}.")
    return _with_kind(name, _LLAMA, "")


def umt5_hf(name: str) -> tuple[str, ...]:
    """transformers' names of UMT5: of the two for the embedding, which are one tensor, the first."""
    return ("shared.weight",) if name == "encoder.embed_tokens.weight" else (name,)


def clip_hf(name: str) -> tuple[str, ...]:
    """transformers' names of CLIP vision; files made before transformers 5 put `vision_model.` before them."""
    return (name.removeprefix("vision_model."),)


def clip_original(name: str) -> tuple[str, ...]:
    """The names of Wan's own CLIP (open-clip's ViT-H), whose queries, keys and values are one tensor."""
    if name in _CLIP:
        return (_CLIP[name],)
    found = re.fullmatch(r"visual\.transformer\.(\d+)\.(.+)", name)
    if not found:
        return ()
    layer = f"encoder.layers.{found[1]}."
    stacked = re.fullmatch(r"attn\.to_qkv\.(weight|bias)", found[2])
    if stacked:
        return tuple(f"{layer}self_attn.{letter}_proj.{stacked[1]}" for letter in "qkv")
    return _with_kind(found[2], _CLIP_LAYER, layer)


def vae_original(names: Collection[str]) -> NameMap:
    """The original names of the VAEs of Wan2.1 and 2.2; the stage of a layer depends on where the upsamplers stand."""
    ends = sorted({int(found[1]) for name in names if (found := re.match(r"decoder\.upsamples\.(\d{1,3})\.resample\.", name))})

    def vae(name: str) -> tuple[str, ...]:
        found = re.fullmatch(r"(encoder|decoder)\.(down|up)samples\.(\d{1,3})\.(?:\2samples\.(\d{1,3})\.)?(.+)", name)
        if not found:
            return _with_kind(name, _VAE, "")
        half, way, layer = found[1], found[2], found[5]
        stage, blocks = int(found[3]), f"{half}.{way}_blocks"
        resamples = layer.startswith(("resample.", "time_conv."))
        if found[4] is not None:  # Wan2.2: each stage is a list of its own
            return _vae_layer(layer, f"{blocks}.{stage}." + (f"{way}sampler." if resamples else f"resnets.{found[4]}."))
        if half == "encoder":  # Wan2.1: one list, in diffusers too
            return _vae_layer(layer, f"{blocks}.{stage}.")
        block = sum(end < stage for end in ends)
        first = ends[block - 1] + 1 if block else 0
        return _vae_layer(layer, f"{blocks}.{block}." + ("upsamplers.0." if resamples else f"resnets.{stage - first}."))

    return vae


def _vae_layer(layer: str, place: str) -> tuple[str, ...]:
    """A layer of a residual block, or of a resampler, whose names are the same."""
    if layer.startswith(("resample.", "time_conv.")):
        return (place + layer,)
    return _with_kind(layer, _RESIDUAL, place)


def _with_kind(name: str, layers: Mapping[str, str], before: str) -> tuple[str, ...]:
    """The target of `layer.weight`: the layer is looked up, weight, bias or gamma stays."""
    layer, _, kind = name.rpartition(".")
    return (f"{before}{layers[layer]}.{kind}",) if layer in layers and kind in ("weight", "bias", "gamma") else ()
