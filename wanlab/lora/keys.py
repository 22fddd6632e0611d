"""The names in LoRA files, and which parameter of the transformer each is about. No torch.

A LoRA is a file of small tensors, and its only structure is in their names. There is no standard: every trainer writes its
own, and a name that a program does not know is mostly dropped without a word, so that a LoRA "loads" and does nothing. A name
has three parts:

    diffusion_model.            blocks.0.self_attn.q   .lora_down.weight      Wan's own names (ComfyUI, lightx2v)
    transformer.                blocks.0.attn1.to_q    .lora_A.weight         diffusers' names
    base_model.model.           blocks.0.self_attn.q   .lora_A.default.weight PEFT
    lora_unet__                 blocks_0_self_attn_q   .alpha                 kohya, musubi: all dots are underscores
    lycoris_                    blocks_0_attn1_to_q    .lokr_w1               LyCORIS
    (the program)               (the layer)            (the role of the tensor)

Since dots become underscores, names are compared without the difference: every layer is in one table, under Wan's name, under
diffusers' name and under mixtures of both, with "_" between all words. diffusers' attn1 is self-attention (some programs take
it for cross-attention). Both count a block's norms, in different orders: the one norm that has weights is norm3 for Wan and
norm2 for diffusers; which is meant is seen from the other names of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wanlab.weights.name_maps import BLOCK, TABLES, TRANSFORMER

TEXT_ENCODER = "for the text encoder, which stays as it is"
SECOND = "for the second transformer of Wan2.2"
NO_ROLE = "its ending is none of a LoRA"
NO_LAYER = "names no layer of a Wan transformer"
TWICE = "another name of the file says the same"

# What a tensor is, by the ending of its name. An ending may be followed by an adapter's name and by .weight.
_ROLES = {
    **dict.fromkeys(("lora_A", "lora_down", "lora.down", "lora_linear_layer.down"), "down"),
    **dict.fromkeys(("lora_B", "lora_up", "lora.up", "lora_linear_layer.up"), "up"),
    "lora_mid": "mid",
    "alpha": "alpha",
    **dict.fromkeys(("dora_scale", "lora_magnitude_vector"), "dora_scale"),
    **dict.fromkeys(("diff", "diff_m", "w_norm"), "diff"),
    **dict.fromkeys(("diff_b", "b_norm"), "diff_b"),
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
}
_NAME = re.compile(
    rf"(?P<path>.+?)[._](?P<role>{'|'.join(map(re.escape, _ROLES))})(?:\.(?!weight$|bias$)[\w-]+)?(?:\.(?P<leaf>weight|bias))?"
)
_PROGRAM = re.compile(
    r"(?:(?:model\.)?diffusion_model\.|base_model\.model\.|(?:pipe\.)?dit\.|pipe\.|unet\.|transformer\.|module\.|model\."
    r"|lora_unet_+|lycoris[._]+)+"
)
_COMPILED = "_orig_mod."  # torch.compile puts it in the middle of names
_TEXT = re.compile(r"(?:lora_)?(?:te\d?|text_encoders?(?:_\d)?|text_model|t5xxl|umt5|clip_[lgh])[._]")
_SECOND = re.compile(r"(?:lora_)?transformer_2[._]")
_IN_BLOCK = re.compile(r"(?P<vace>vace_)?blocks_(?P<number>\d+)(?:_(?P<layer>.+))?")
_NORMS = ("norm2", "norm3")


def _flat(name: str) -> str:
    return re.sub(r"[._]+", "_", name).strip("_")


def _both(layers: Mapping[str, str]) -> dict[str, str]:
    """Layers by their original and by diffusers' name, and by diffusers' name in the original attention."""
    mixed = {ours.replace("attn1", "self_attn").replace("attn2", "cross_attn"): ours for ours in layers.values()}
    every = {**mixed, **{ours: ours for ours in layers.values()}, **layers}
    return {_flat(name): ours for name, ours in every.items() if name not in _NORMS}


_LAYERS = {**_both(BLOCK), "modulation": "scale_shift_table", "scale_shift_table": "scale_shift_table"}
_OUTSIDE = {**_both(TRANSFORMER), **_both(TABLES), "head": "scale_shift_table"}  # "head.diff_m" is the head's modulation
_ORIGINAL = re.compile(
    r"self_attn|cross_attn|ffn_[02]$|ffn_[02]_|modulation|time_embedding|text_embedding|time_projection|head"
)
_DIFFUSERS = re.compile(r"attn[12]_|to_[qkv]|to_out|ffn_net|condition_embedder|scale_shift_table|proj_out")


@dataclass(frozen=True)
class Keys:
    """The names of a LoRA file, sorted.

    `found`: for each parameter of the transformer, under diffusers' name, the tensors that change it: their role and their
    name in the file. Roles are down, up, mid, up_bias, alpha, diff, dora_scale, and LyCORIS' own hada_... and lokr_....
    `unused`: the other names, and why each is not used.
    """

    found: Mapping[str, Mapping[str, str]]
    unused: Mapping[str, str]


def parse(names: Iterable[str]) -> Keys:
    """Which parameter each name of a LoRA file is about, and in which role.

    >>> parse(["lora_unet__blocks_7_cross_attn_k_img.lora_down.weight"]).found
    {'blocks.7.attn2.add_k_proj.weight': {'down': 'lora_unet__blocks_7_cross_attn_k_img.lora_down.weight'}}
    """
    names = sorted(set(names))
    layout = _layout(names)
    found: dict[str, dict[str, str]] = {}
    unused: dict[str, str] = {}
    for name in names:
        target = _target(name, layout)
        if isinstance(target, str):
            unused[name] = target
        elif target[1] in found.setdefault(target[0], {}):
            unused[name] = TWICE
        else:
            found[target[0]][target[1]] = name
    return Keys(found, unused)


def module_of(parameter: str) -> str:
    """The layer that a parameter belongs to.

    >>> module_of("blocks.0.attn1.to_q.weight"), module_of("blocks.0.scale_shift_table")
    ('blocks.0.attn1.to_q', 'blocks.0')
    """
    return parameter.rpartition(".")[0]


def block_of(parameter: str) -> tuple[str, int] | None:
    """The list of blocks and the number of the block that a parameter is in; None outside of them."""
    inside = re.match(r"((?:vace_)?blocks)\.(\d+)\.", parameter)
    return (inside[1], int(inside[2])) if inside else None


def _layout(names: Iterable[str]) -> str:
    """Whose names a file has: "original", "diffusers", or "" if they do not tell, or contradict each other."""
    flat = [_flat(name) for name in names]
    original, diffusers = (any(map(style.search, flat)) for style in (_ORIGINAL, _DIFFUSERS))
    return "" if original == diffusers else "original" if original else "diffusers"


def _target(name: str, layout: str) -> tuple[str, str] | str:
    """The parameter and the role, or why there is none."""
    if _TEXT.match(name):
        return TEXT_ENCODER
    if _SECOND.match(name):
        return SECOND
    parts = _NAME.fullmatch(name.replace(_COMPILED, ""))
    if not parts:
        return NO_ROLE
    role = _ROLES[parts["role"]]
    if parts["leaf"] == "bias":
        if role != "up":
            return NO_ROLE
        role = "up_bias"
    layer = _layer(parts["path"], layout)
    if layer is None:
        return NO_LAYER
    if layer.endswith(("scale_shift_table", "pos_embed")):  # a parameter itself, and not a layer that has some
        return (layer, role) if role in ("diff", "alpha") else NO_ROLE
    return (f"{layer}.bias", "diff") if role == "diff_b" else (f"{layer}.weight", role)


def _layer(path: str, layout: str) -> str | None:
    """diffusers' name of the layer, or of the table, that a path means."""
    program = _PROGRAM.match(path)
    flat = _flat(path[program.end() :] if program else path)
    block = _IN_BLOCK.fullmatch(flat)
    if not block:
        return _OUTSIDE.get(flat)
    layer = block["layer"] or "modulation"  # "blocks.0.diff_m" is the block's modulation
    found = _norm(layer, layout) if layer in _NORMS else _LAYERS.get(layer)
    return found and f"{block['vace'] or ''}blocks.{block['number']}.{found}"


def _norm(name: str, layout: str) -> str:
    """diffusers' name of a block's second or third norm. A file that has no other names means the one that has weights."""
    if layout:
        return name if layout == "diffusers" else BLOCK[name]
    return "norm2"
