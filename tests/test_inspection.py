"""Each kind of file, right or wrong, gets its sentence from the header alone; a damaged one never more than an error."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from foreign import original_transformer, original_umt5, original_vae, tensors_of, write_gguf, write_original, write_shards
from wanlab.errors import ModelError
from wanlab.tiny import tiny_path
from wanlab.weights.headers import read_header
from wanlab.weights.inspection import Inspection, inspect_checkpoint
from wanlab.weights.parameters import parameter_shapes, transformer_shapes
from wanlab.weights.registry import facts, known

TINY = Path(tiny_path("tiny"))
TINY_I2V = Path(tiny_path("tiny-i2v"))
SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1}
Shapes = Mapping[str, tuple[int, ...]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def hollow(
    path: Path, shapes: Shapes, dtype: str | Callable[[str], str] = "BF16", remarks: Mapping[str, str] | None = None
) -> Path:
    """A safetensors file of true size that takes no room on the disk: a header, and a hole for the tensors."""
    described: dict[str, object] = {"__metadata__": dict(remarks)} if remarks else {}
    at = 0
    for name, shape in shapes.items():
        kind = dtype if isinstance(dtype, str) else dtype(name)
        size = SIZES[kind]
        for dimension in shape:
            size *= dimension
        described[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    content = json.dumps(described).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        file.truncate(8 + len(content) + at)
    return path


def original(name: str, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = transformer_shapes(known(name).transformer)
    return {prefix + original_transformer(one): shape for one, shape in shapes.items()}


def scaled(shapes: Shapes, key: str = "scale_weight") -> dict[str, tuple[int, ...]]:
    weights = [
        name for name, shape in shapes.items() if name.startswith("blocks.") and len(shape) == 2 and name.endswith(".weight")
    ]
    return {**shapes, **{f"{name.removesuffix('.weight')}.{key}": () for name in weights}, "scaled_fp8": (2,)}


def fp8(name: str) -> str:
    if name.endswith((".scale_weight", ".weight_scale")):
        return "F32"
    return "F8_E4M3" if re.match(r"blocks\.\d+\.\w+(\.\w+)?\.weight", name) and "norm" not in name else "BF16"


def sentence(path: Path) -> str:
    return inspect_checkpoint(path).summary


# What real files are


REAL = [
    ("Wan2.1-T2V-1.3B", "", "This is a T2V checkpoint (16 input channels, 1.3B, original layout, bf16); it needs no image."),
    (
        "Wan2.1-T2V-14B",
        "model.diffusion_model.",
        "This is a T2V checkpoint (16 input channels, 14B, ComfyUI's layout, bf16); it needs no image.",
    ),
    (
        "Wan2.1-I2V-14B-480P",
        "",
        "This is an I2V checkpoint (36 input channels, 14B, original layout, bf16); it needs an image.",
    ),
    (
        "Wan2.1-FLF2V-14B-720P",
        "",
        "This is an FLF2V checkpoint (36 input channels, 14B, original layout, bf16); it needs an image and an end image.",
    ),
    (
        "Wan2.2-I2V-A14B",
        "diffusion_model.",
        "This is an I2V checkpoint of Wan2.2 without image encoder (36 input channels, 14B, ComfyUI's layout, bf16); "
        "it needs an image.",
    ),
    (
        "Wan2.2-TI2V-5B",
        "",
        "This is a TI2V checkpoint of Wan2.2 (48 input channels, 5B, original layout, bf16); it takes an image or none, and "
        "needs the VAE of Wan2.2.",
    ),
]


@pytest.mark.parametrize(("name", "prefix", "told"), REAL, ids=[name for name, _, _ in REAL])
def test_a_real_transformer_is_told_in_one_sentence(name: str, prefix: str, told: str, tmp_path: Path) -> None:
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", original(name, prefix)))
    assert found.summary == told
    assert found.runs
    assert found.config == known(name).transformer
    assert found.parameters == known(name).transformer_parameters == found.bytes // 2


def test_the_sentence_of_a_scaled_image_to_video_model(tmp_path: Path) -> None:
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", scaled(original("Wan2.1-I2V-14B-720P")), fp8))
    assert found.summary == (
        "This is an I2V checkpoint (36 input channels, 14B, original layout, fp8_e4m3fn scaled); it needs an image."
    )
    assert found.scales == 480
    assert found.runs
    assert found.missing == found.unexpected == ()


def test_an_image_to_video_model_of_one_point_three_billion_is_fun_inp(tmp_path: Path) -> None:
    config = {**known("Wan2.1-T2V-1.3B").transformer, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 1536}
    shapes = {original_transformer(name): shape for name, shape in transformer_shapes(config).items()}
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes))
    assert (found.variant, found.size, found.runs) == ("fun_inp", "1.3B", True)


RELATIVES = {
    "animate": "face_adapter.fuser_blocks.0.k_norm.weight",
    "s2v": "casual_audio_encoder.encoder.final_linear.weight",
    "humo": "audio_proj.audio_proj_glob_1.layer.bias",
    "multitalk": "blocks.0.audio_cross_attn.proj.weight",
    "camera": "control_adapter.conv.weight",
    "recammaster": "blocks.0.cam_encoder.weight",
    "other": "blocks.0.wonder.weight",
}


@pytest.mark.parametrize(("variant", "layer"), RELATIVES.items(), ids=RELATIVES)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_relative_of_wan_is_named_and_not_run(variant: str, layer: str, prefix: str, tmp_path: Path) -> None:
    file = hollow(tmp_path / "model.safetensors", {**original("Wan2.1-T2V-14B", prefix), prefix + layer: (4,)})
    found = inspect_checkpoint(file)
    assert (found.variant, found.runs, found.unexpected) == (variant, False, (prefix + layer,))
    assert facts()["why_not"][variant] in found.summary


def test_a_control_model_is_told_by_its_channels(tmp_path: Path) -> None:
    config = {**known("Wan2.1-T2V-14B").transformer, "in_channels": 48}
    shapes = {original_transformer(name): shape for name, shape in transformer_shapes(config).items()}
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes))
    assert (found.variant, found.runs) == ("control", False)
    assert found.summary.startswith("This is a control model, which needs a control video (48 input channels")


def test_a_file_with_all_parts_in_one_is_read_as_its_transformer(tmp_path: Path) -> None:
    vae = {
        f"first_stage_model.{original_vae(name)}": shape
        for name, shape in parameter_shapes("vae", facts()["vae"]["2.1"]).items()
    }
    file = hollow(tmp_path / "all.safetensors", {**original("Wan2.1-T2V-14B", "model.diffusion_model."), **vae})
    found = inspect_checkpoint(file)
    assert (found.kind, found.variant, found.runs, len(found.unexpected)) == ("transformer", "t2v", True, len(vae))


def test_text_encoders_vaes_and_image_encoders_say_where_to_give_them(tmp_path: Path) -> None:
    umt5 = {original_umt5(name): shape for name, shape in parameter_shapes("text_encoder", facts()["text_encoder"]).items()}
    assert sentence(hollow(tmp_path / "umt5.safetensors", umt5)) == (
        "This is a text encoder (UMT5-XXL, original layout, bf16); give it as text_encoder= beside a transformer."
    )
    hf = {**parameter_shapes("text_encoder", facts()["text_encoder"]), "spiece_model": (4548313,)}
    kinds = {"spiece_model": "U8"}
    assert "UMT5-XXL, transformers' layout, fp16" in sentence(
        hollow(tmp_path / "hf.safetensors", hf, lambda name: kinds.get(name, "F16"))
    )
    vae = {original_vae(name): shape for name, shape in parameter_shapes("vae", facts()["vae"]["2.1"]).items()}
    assert sentence(hollow(tmp_path / "vae.safetensors", vae)) == (
        "This is a VAE (of Wan2.1, original layout, bf16); give it as vae= beside a transformer."
    )
    clip = {
        f"vision_model.{name}": shape for name, shape in parameter_shapes("image_encoder", facts()["image_encoder"]).items()
    }
    clip["visual_projection.weight"] = (1024, 1280)
    assert sentence(hollow(tmp_path / "clip.safetensors", clip, "F16")) == (
        "This is an image encoder (CLIP ViT-H, transformers' layout, fp16); give it as image_encoder= beside an I2V "
        "transformer."
    )


def test_a_lora_is_told_to_be_one(tmp_path: Path) -> None:
    names = {
        "diffusion_model.blocks.0.self_attn.q.lora_down.weight": (4, 8),
        "diffusion_model.blocks.0.self_attn.q.lora_up.weight": (8, 4),
    }
    found = inspect_checkpoint(hollow(tmp_path / "style.safetensors", names))
    assert found.summary == "This is a LoRA (2 tensors); give it as loras=['style.safetensors']."
    assert (found.kind, found.runs) == ("lora", True)


@pytest.mark.parametrize("folder", [TINY, TINY_I2V], ids=["tiny", "tiny-i2v"])
def test_a_whole_folder_lists_its_parts(folder: Path) -> None:
    found = inspect_checkpoint(folder)
    expected = ["transformer", "text_encoder", "vae", *(["image_encoder"] if folder == TINY_I2V else [])]
    assert list(found.parts) == expected
    assert all(part.runs for part in found.parts.values())
    assert (found.kind, found.runs) == ("pipeline", True)
    assert found.parameters == sum(sum(tensor.numel() for tensor in tensors_of(folder / part).values()) for part in expected)
    ending = (
        "I2V checkpoint (tiny, diffusers' format, fp16); it needs an image." if folder == TINY_I2V else "it needs no image."
    )
    assert found.summary.endswith(ending)


def test_a_folder_that_lacks_a_part_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_I2V, folder)
    shutil.rmtree(folder / "image_processor")
    assert inspect_checkpoint(folder).why_not == "it is not complete, image_processor missing"


def test_a_folder_of_which_a_part_is_damaged_still_tells_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    found = inspect_checkpoint(folder)
    assert found.parts["transformer"].runs
    assert found.why_not.startswith("its vae cannot be used (")


# The traps of diffusers' from_single_file (diffusers_notes.md section 1.3)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_trap_prefixes_are_read(prefix: str, tmp_path: Path) -> None:
    assert inspect_checkpoint(write_original(TINY / "transformer", tmp_path / "model.safetensors", prefix)).runs


def test_trap_a_missing_block_is_a_list_of_names(tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in original("Wan2.1-T2V-14B").items() if not name.startswith("blocks.39.")}
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes))
    assert len(found.missing) == 27
    assert all(name.startswith("blocks.39.") for name in found.missing)
    assert found.why_not.startswith("it is not complete, 27 tensors are missing: blocks.39.")


def test_trap_variants_are_not_taken_for_one_another(tmp_path: Path) -> None:
    names = (
        "Wan2.1-I2V-14B-480P",
        "Wan2.1-FLF2V-14B-720P",
        "Wan2.2-I2V-A14B",
        "Wan2.2-TI2V-5B",
        "Wan2.1-VACE-14B",
        "Wan2.1-T2V-14B",
    )
    found = [inspect_checkpoint(hollow(tmp_path / f"{name}.safetensors", original(name))).variant for name in names]
    assert found == ["i2v", "flf2v", "i2v_2.2", "ti2v", "vace", "t2v"]


@pytest.mark.parametrize("key", ["scale_weight", "weight_scale"])
def test_trap_scales_are_seen_under_both_names(key: str, tmp_path: Path) -> None:
    shapes = scaled(original("Wan2.1-T2V-1.3B"), key)
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes, fp8))
    assert (found.precision, found.scales, found.unexpected) == ("fp8_e4m3fn_scaled", 300, ())


def test_trap_nothing_is_fetched_and_no_torch_is_loaded(tmp_path: Path) -> None:
    write_original(TINY / "transformer", tmp_path / "model.safetensors")
    code = (
        "import sys, socket\n"
        "socket.socket.connect = None\n"
        "from wanlab.weights.inspection import inspect_checkpoint\n"
        "found = inspect_checkpoint(sys.argv[1]); repr(found); found._repr_html_()\n"
        "assert found.runs\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'safetensors', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.safetensors"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


# Wrong files


def test_a_pickle_is_refused_by_its_ending_and_by_its_content(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "new.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.gguf", _use_new_zipfile_serialization=False)
    (tmp_path / "any.pth").write_bytes(b"whatever is in it")
    with zipfile.ZipFile(tmp_path / "model.safetensors", "w") as file:
        file.writestr("data.pkl", b"")
    for name in ("new.safetensors", "old.gguf", "any.pth", "model.safetensors"):
        with pytest.raises(ModelError, match=r"is a pickle, which can run any program .* weights_only=True"):
            inspect_checkpoint(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="is a pickle"):
        inspect_checkpoint(tmp_path / "folder")


WRONG = {
    "missing": (None, "does not exist; give a .safetensors or .gguf file"),
    "empty": (b"", "it has only 0 bytes"),
    "page": (b"<!DOCTYPE html><html>Not found", "its header would have"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
    "no JSON": (struct.pack("<Q", 9) + b"{nothing}", "not legible"),
    "no object": (struct.pack("<Q", 2) + b"[]", "no list of tensors"),
    "deep": (struct.pack("<Q", 200_000) + b"[" * 200_000, "not legible"),
    "twice": (struct.pack("<Q", 15) + b'{"a":{},"a":{}}', "a name stands in it twice"),
    "unknown GGUF": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "it has version 1, and 2 and 3 are read"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "of the other byte order"),
    "short GGUF": (b"GGUF\3", "cut off at byte 5"),
    "claims": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "more than its size allows"),
}


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_gets_its_sentence(content: bytes | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(told)) as caught:
        inspect_checkpoint(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


ENTRIES = {
    "no dictionary": (3, "is not described"),
    "no place": ({"dtype": "F32", "shape": [2]}, "is not described"),
    "one offset": ({"dtype": "F32", "shape": [2], "data_offsets": [0]}, "is not described"),
    "negative": ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "is no list of numbers"),
    "truth": ({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, "is no list of numbers"),
    "fraction": ({"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}, "is no list of numbers"),
    "format": ({"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}, "has the format 'F4', which wanlab does not read"),
    "no format": ({"dtype": 4, "shape": [2], "data_offsets": [0, 8]}, "has the format 4"),
    "beyond": ({"dtype": "F32", "shape": [99], "data_offsets": [0, 396]}, "is cut off or damaged"),
    "backwards": ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "is cut off or damaged"),
    "size": ({"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}, "has 4 bytes, and 8 are given to it"),
    "huge": ({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}, "and 8 are given to it"),
}


@pytest.mark.parametrize(("entry", "told"), ENTRIES.values(), ids=ENTRIES)
def test_a_tensor_that_cannot_be_gets_its_sentence(entry: object, told: str, tmp_path: Path) -> None:
    content = json.dumps({"strange": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + bytes(16))
    with pytest.raises(ModelError, match=rf"strange.*{re.escape(told)}|{re.escape(told)}"):
        read_header(tmp_path / "a.safetensors")


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    one, two = ({"dtype": "F32", "shape": [2], "data_offsets": [at, at + 8]} for at in (0, 4))
    content = json.dumps({"one": one, "two": two}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + bytes(16))
    with pytest.raises(ModelError, match="the tensors one and two share bytes"):
        read_header(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_file_that_was_cut_off_says_so(kept: float, form: str, tmp_path: Path) -> None:
    file = tmp_path / f"model.{form}"
    if form == "gguf":
        pytest.importorskip("gguf")
        write_gguf(TINY / "transformer", file)
    else:
        write_original(TINY / "transformer", file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelError, match="is cut off"):
        inspect_checkpoint(file)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    for index in (True, False):
        folder = tmp_path / str(index)
        folder.mkdir()
        write_shards(TINY / "transformer", folder, index=index)
        (folder / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(ModelError, match=r"not complete: model-00002-of-00003.safetensors missing \(1 of 3 files\)"):
            inspect_checkpoint(folder)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "folder").mkdir()
    for file in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "model.bin"):
        (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(ModelError, match=r"only \.safetensors files beside it are read"):
            read_header(tmp_path / "folder")


def test_an_index_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    write_shards(TINY / "transformer", tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["blocks.8.attn1.to_q.weight"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"has no tensor blocks.8.attn1.to_q.weight, which"):
        read_header(tmp_path)


def test_a_folder_with_several_checkpoints_asks_which(tmp_path: Path) -> None:
    for name in ("high", "low"):
        save_file({"a": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match=r"more than one checkpoint \(high.safetensors, low.safetensors\)"):
        read_header(tmp_path)
    save_file({"b": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(read_header(tmp_path).tensors) == ["b"]


def test_an_empty_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        read_header(tmp_path)


def test_heads_that_cannot_be_seen_are_asked_for(tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors", metadata={})
    found = inspect_checkpoint(file)
    assert not found.runs
    assert "128 channels, which no published Wan has, so its number of heads cannot be seen" in found.summary
    shutil.copy(TINY / "transformer" / "config.json", tmp_path)
    assert inspect_checkpoint(file).config["num_attention_heads"] == 4


def test_a_configuration_of_another_model_is_refused_in_a_folder_and_passed_over_beside_a_file(tmp_path: Path) -> None:
    hollow(tmp_path / "model.safetensors", original("Wan2.1-T2V-1.3B"))
    (tmp_path / "config.json").write_text(json.dumps(dict(known("Wan2.1-T2V-14B").transformer)))
    assert inspect_checkpoint(tmp_path / "model.safetensors").config == known("Wan2.1-T2V-1.3B").transformer
    found = inspect_checkpoint(tmp_path)
    assert not found.runs
    assert (
        "its configuration says num_attention_heads 40, and its tensors 12" in found.why_not
        or "says ffn_dim 13824" in found.why_not
    )


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    shapes = {**original("Wan2.1-T2V-1.3B"), "blocks.7.self_attn.k.weight": (1536, 1535)}
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes))
    assert found.why_not == "blocks.7.attn1.to_k.weight has the shape (1536, 1535) and should have (1536, 1536)"


@pytest.mark.parametrize(("extra", "kind"), [("weight_scale_2", "nvfp4"), ("weight.absmax", "bitsandbytes")])
def test_packed_formats_of_others_are_named(extra: str, kind: str, tmp_path: Path) -> None:
    shapes = {**original("Wan2.1-T2V-1.3B"), f"blocks.0.self_attn.q.{extra}": ()}
    shapes["blocks.0.self_attn.q.weight"] = (1536, 768)
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", shapes))
    assert (found.precision, found.runs) == (kind, False)
    assert f"its weights are in {kind}, which wanlab does not read" in found.summary


def test_other_files_are_no_part_of_wan(tmp_path: Path) -> None:
    found = inspect_checkpoint(hollow(tmp_path / "flux.safetensors", {"double_blocks.0.img_attn.qkv.weight": (4, 4)}))
    assert found.summary == (
        "wanlab cannot use this file: it is no part of a Wan that wanlab knows (its tensors are called "
        "double_blocks.0.img_attn.qkv.weight)."
    )
    assert (found.kind, found.runs) == ("unknown", False)


def test_a_part_of_a_transformer_alone_says_what_it_lacks(tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in original("Wan2.1-VACE-14B").items() if name.startswith("vace")}
    found = inspect_checkpoint(hollow(tmp_path / "vace.safetensors", shapes))
    assert not found.runs
    assert "it has no patch_embedding.weight" in found.summary


def gguf_file(path: Path, kind: int, dims: tuple[int, ...], remarks: bytes = b"", count: int = 0) -> Path:
    """A GGUF file with one tensor, patch_embedding.weight, of ggml's type of that number."""
    name = b"patch_embedding.weight"
    described = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
    content = b"GGUF" + struct.pack("<IQQ", 3, 1, count) + remarks + described + struct.pack("<IQ", kind, 0)
    path.write_bytes(content + bytes(4096))
    return path


def test_a_gguf_file_of_a_type_that_is_not_read_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the tensor patch_embedding.weight has the type IQ2_XXS, and the types read are F32"):
        read_header(gguf_file(tmp_path / "a.gguf", 16, (256, 2)))
    with pytest.raises(ModelError, match="has rows of 40 numbers, and Q8_0 takes 32 together"):
        read_header(gguf_file(tmp_path / "a.gguf", 8, (40, 2)))


def test_a_flattened_tensor_has_its_own_shape(tmp_path: Path) -> None:
    def remark(*shape: int) -> bytes:
        key = b"comfy.gguf.orig_shape.patch_embedding.weight"
        return struct.pack("<Q", len(key)) + key + struct.pack(f"<IIQ{len(shape)}i", 9, 5, len(shape), *shape)

    shape = (2, 64, 1, 2, 2)
    found = read_header(gguf_file(tmp_path / "a.gguf", 0, (256, 2), remark(*shape), 1))
    assert found.tensors["patch_embedding.weight"].shape == shape
    for wrong in ((2, 64, 1, 2, 3), (-2, -64, 1, 2, 2)):
        with pytest.raises(ModelError, match=r"the remark on the shape of patch_embedding.weight says"):
            read_header(gguf_file(tmp_path / "a.gguf", 0, (256, 2), remark(*wrong), 1))


@pytest.mark.parametrize("told", [{"num_layers": 10**9}, {"num_attention_heads": "four"}, {"patch_size": 3}])
def test_a_configuration_that_cannot_be_is_refused_at_once(told: dict[str, object], tmp_path: Path) -> None:
    config = json.loads((TINY / "transformer" / "config.json").read_text()) | told
    file = write_original(TINY / "transformer", tmp_path / "a.safetensors", metadata={"config": json.dumps(config)})
    assert not inspect_checkpoint(file).runs


# How it is shown


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    evil = "</td><script>alert(1)</script>"
    found = inspect_checkpoint(hollow(tmp_path / "a.safetensors", {evil: (1,)}))
    assert evil not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()


def test_it_prints_as_a_few_lines(tmp_path: Path) -> None:
    found = inspect_checkpoint(hollow(tmp_path / "model.safetensors", scaled(original("Wan2.1-T2V-1.3B")), fp8))
    lines = repr(found).splitlines()
    assert lines[0] == found.summary
    assert "  parameters: 1,418,996,800" in lines
    assert "  scales: of 300 weights" in lines
    assert len(lines) <= 6


# Damage


def _mutated(content: bytes, header: int, rng: random.Random) -> bytes:
    """A file with one to three changes, most of them in its header."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(header if rng.random() < 0.9 else len(changed))
        way = rng.randrange(4)
        if way == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at] = rng.choice(b'0123456789{}[],:"-\x00\xff')
        elif way == 2:
            del changed[at : at + rng.randint(1, 8)]
        else:
            changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
    return bytes(changed)


@pytest.mark.parametrize("form", ["safetensors", "gguf", "config"])
def test_a_damaged_file_is_an_error_of_ours_or_a_valid_reading(form: str, tmp_path: Path) -> None:
    source = tmp_path / f"whole.{form}"
    small = {name: tensor for name, tensor in tensors_of(TINY / "transformer").items() if not re.match(r"blocks\.[2-7]", name)}
    told = {"config": json.dumps(json.loads((TINY / "transformer" / "config.json").read_text()) | {"num_layers": 2})}
    if form == "gguf":
        pytest.importorskip("gguf")
        write_gguf(small, source)
        header = source.read_bytes().index(bytes(64)) if bytes(64) in source.read_bytes() else 4000
    else:
        write_original(small, source, metadata=told)
        header = 8 + struct.unpack("<Q", source.read_bytes()[:8])[0]
    content, rng, file = source.read_bytes(), random.Random(form), tmp_path / "damaged.safetensors"
    if form == "config":  # the remark that holds the configuration stands first
        header = 700
    read = 0
    for _ in range(300):
        file.write_bytes(_mutated(content, header, rng))
        try:
            found = inspect_checkpoint(file)
        except ModelError:
            continue
        assert isinstance(found, Inspection)
        assert repr(found)
        for entry in read_header(file).tensors.values():
            assert entry.offset + entry.nbytes <= file.stat().st_size
        read += 1
    assert read > 3
