"""Files in the layouts of others, written from a part in diffusers' format: the inverse of what wanlab.weights reads.

Written apart from the package, as replacements of text in the order of Wan's converter, so that a mistake cannot be in
both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = Mapping[str, Tensor]
FP8 = {"e4m3fn": (torch.float8_e4m3fn, 448.0), "e5m2": (torch.float8_e5m2, 57344.0)}

_TRANSFORMER = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    (
        ".norm2.",
        ".norm_.",
    ),
    (".norm3.", ".norm2."),
    (".norm_.", ".norm3."),
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
)


def original_transformer(name: str) -> str:
    """Wan's own name of a transformer's tensor."""
    if not re.match(r"(vace_)?blocks\.", name):
        name = {"scale_shift_table": "head.modulation"}.get(name, re.sub(r"^proj_out\.", "head.head.", name))
        return _replaced(name, _TRANSFORMER[:10])
    name = re.sub(r"^(vace_blocks\.\d+)\.proj_in\.", r"\1.before_proj.", name)
    name = re.sub(r"^(vace_blocks\.\d+)\.proj_out\.", r"\1.after_proj.", name)
    return _replaced(name.replace("scale_shift_table", "modulation"), _TRANSFORMER[10:])


def original_umt5(name: str) -> str:
    """Wan's own name of a tensor of UMT5."""
    return _replaced(
        name,
        (
            ("shared.", "token_embedding."),
            ("encoder.final_layer_norm", "norm"),
            ("encoder.block.", "blocks."),
            ("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"),
            ("layer.0.SelfAttention", "attn"),
            ("layer.0.layer_norm", "norm1"),
            ("layer.1.layer_norm", "norm2"),
            ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"),
            ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
            ("layer.1.DenseReluDense.wo", "ffn.fc2"),
        ),
    )


def original_vae(name: str, resnets: int = 2) -> str:
    """The original name of a tensor of Wan2.1's VAE, with so many residual blocks a stage of the encoder."""
    name = _replaced(
        name,
        (
            ("post_quant_conv", "conv2"),
            ("quant_conv", "conv1"),
            ("coder.conv_in", "coder.conv1"),
            ("norm_out", "head.0"),
            ("conv_out", "head.2"),
            ("mid_block.resnets.0", "middle.0"),
            ("mid_block.attentions.0", "middle.1"),
            ("mid_block.resnets.1", "middle.2"),
            ("encoder.down_blocks", "encoder.downsamples"),
        ),
    )
    stage = resnets + 2  # residual blocks of a stage of the decoder, and the upsampler
    up = re.compile(r"decoder\.up_blocks\.(\d)\.(?:resnets\.(\d)|upsamplers\.0)")
    name = up.sub(lambda at: f"decoder.upsamples.{int(at[1]) * stage + int(at[2] or stage - 1)}", name)
    return _residual(name)


def original_vae22(name: str) -> str:
    """The original name of a tensor of Wan2.2's VAE, with two residual blocks a stage."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.downsamples.\1.downsamples.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsampler\.", r"encoder.downsamples.\1.downsamples.2.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", r"decoder.upsamples.\1.upsamples.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsampler\.", r"decoder.upsamples.\1.upsamples.3.", name)
    return original_vae(name)


def _residual(name: str) -> str:
    if not re.search(r"samples\.|middle\.", name):
        return name
    name = re.sub(r"(?<=\d\.)(norm1|conv1|norm2|conv2)\.", lambda at: f"residual.{_PLACES[at[1]]}.", name)
    return name.replace("conv_shortcut", "shortcut")


_PLACES = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 6}


def original_clip(tensors: Tensors) -> dict[str, Tensor]:
    """CLIP vision in Wan's own names: queries, keys and values stacked, and ones before the embeddings' shapes."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stacked = re.fullmatch(r"(.+self_attn\.)q_proj\.(weight|bias)", name)
        if stacked:
            three = torch.cat([tensors[f"{stacked[1]}{letter}_proj.{stacked[2]}"] for letter in "qkv"])
            found["visual." + _clip(f"{stacked[1]}to_qkv.{stacked[2]}")] = three
        elif not re.search(r"self_attn\.[kv]_proj\.", name):
            ones = {"embeddings.class_embedding": (1, 1), "embeddings.position_embedding.weight": (1,)}.get(name, ())
            found["visual." + _clip(name)] = tensor.reshape(*ones, *tensor.shape)
    return found


def _clip(name: str) -> str:
    return _replaced(
        name,
        (
            ("embeddings.class_embedding", "cls_embedding"),
            ("embeddings.position_embedding.weight", "pos_embedding"),
            ("embeddings.patch_embedding", "patch_embedding"),
            ("pre_layrnorm", "pre_norm"),
            ("post_layernorm", "post_norm"),
            ("encoder.layers", "transformer"),
            ("layer_norm1", "norm1"),
            ("layer_norm2", "norm2"),
            ("self_attn.out_proj", "attn.proj"),
            ("self_attn", "attn"),
            ("mlp.fc1", "mlp.0"),
            ("mlp.fc2", "mlp.2"),
        ),
    )


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return name


def tensors_of(source: Path | str | Tensors) -> dict[str, Tensor]:
    """The tensors of a part's folder, or of a state dict, each in memory of its own."""
    if isinstance(source, Mapping):
        return {name: tensor.detach().clone() for name, tensor in source.items()}
    (file,) = Path(source).glob("*.safetensors")
    return load_file(file)


def config_text(source: Path | str | Tensors) -> dict[str, str]:
    """The configuration beside a part's weights as metadata of a file; nothing for a state dict."""
    beside = None if isinstance(source, Mapping) else Path(source) / "config.json"
    return {"config": json.dumps(json.loads(beside.read_text()))} if beside and beside.exists() else {}


def write_original(
    source: Path | str | Tensors,
    path: Path,
    prefix: str = "",
    dtype: torch.dtype | str | None = None,
    *,
    scale_key: str = "",
    per_row: bool = False,
    rename: Callable[[str], str] = original_transformer,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a part (its folder, or a state dict) as one safetensors file in Wan's own names.

    `prefix` is put before all names. `dtype` is a torch dtype for all tensors, or "e4m3fn" or "e5m2" for the matrices
    of the blocks; these get a scale under `scale_key` ("scale_weight" or "weight_scale") if one is given, for the
    tensor or for each row. The configuration goes into the metadata, unless `metadata` is given: the tiny model's heads
    cannot be seen.
    """
    written: dict[str, Tensor] = {}
    for name, tensor in tensors_of(source).items():
        full = prefix + rename(name)
        if isinstance(dtype, torch.dtype):
            written[full] = tensor.to(dtype)
        elif dtype is not None and is_matrix(name, tensor):
            written[full], scale = to_fp8(tensor, dtype, scaled=bool(scale_key), per_row=per_row)
            if scale is not None:
                written[f"{full.removesuffix('.weight')}.{scale_key}"] = scale
        else:
            written[full] = tensor
    if scale_key == "scale_weight" and isinstance(dtype, str):
        written[f"{prefix}scaled_fp8"] = torch.zeros(2, dtype=FP8[dtype][0])
    remarks = config_text(source) if metadata is None else dict(metadata)
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, path, metadata=remarks)
    return path


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a matrix of a block, as quantized files have them in 8 bits."""
    return tensor.ndim == 2 and name.endswith(".weight") and re.search(r"blocks?\.\d", name) is not None


def to_fp8(tensor: Tensor, kind: str, *, scaled: bool, per_row: bool) -> tuple[Tensor, Tensor | None]:
    """A matrix in fp8, and its scale as ComfyUI's files have it."""
    dtype, most = FP8[kind]
    if not scaled:
        return tensor.to(dtype), None
    wide = tensor.float()
    scale = (wide.abs().amax(dim=1, keepdim=True) if per_row else wide.abs().amax()) / most
    return (wide / scale).to(dtype), scale


def write_gguf(source: Path | str | Tensors, path: Path, kind: str = "Q8_0", *, flatten: bool = True, prefix: str = "") -> Path:
    """Write a transformer as ComfyUI-GGUF does: its matrices in a ggml type, the patch embedding flattened, norms in F32."""
    import gguf

    quantized = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, "wan")
    for name, text in config_text(source).items():
        writer.add_string(name, text)
    for name, tensor in tensors_of(source).items():
        full, wide = prefix + original_transformer(name), tensor.float().numpy()
        kept = quantized if is_matrix(name, tensor) else gguf.GGMLQuantizationType.F32
        if wide.ndim == 5 and flatten:
            writer.add_array(f"comfy.gguf.orig_shape.{full}", list(wide.shape))
            wide, kept = wide.reshape(-1, 256), quantized
        writer.add_tensor(full, gguf.quants.quantize(wide, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_shards(
    source: Path | str | Tensors, folder: Path, count: int = 3, *, index: bool = True, stem: str = "model"
) -> Path:
    """Write a part as shards with, or without, their index, and its configuration beside them."""
    tensors = tensors_of(source)
    names, of = sorted(tensors), {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        save_file({name: tensors[name] for name in names[number::count]}, folder / file)
        of |= dict.fromkeys(names[number::count], file)
    if index:
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": of}))
    config: dict[str, Any] = json.loads(config_text(source).get("config", "{}"))
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder
