"""From what a person asks for to a checkpoint: a name, a folder or files become parts that belong together. No torch.

A checkpoint is a folder in diffusers' format (model_index.json beside transformer/, text_encoder/, tokenizer/, vae/), or a
single file of a transformer together with files or folders of the other parts. A published model has a name, and can be planned
without its files.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError
from wanlab.model.checkpoint import SHAPE, SPIECE, Checkpoint
from wanlab.quantize.kinds import FILE_KINDS, KINDS
from wanlab.settings import ModelSettings
from wanlab.skips import LATENTS
from wanlab.tiny import tiny_path
from wanlab.weights.headers import read_header
from wanlab.weights.inspection import Inspection, inspect_checkpoint
from wanlab.weights.json_files import read_json
from wanlab.weights.registry import Known, all_known, find_known

_FILES = (".safetensors", ".gguf", ".pth", ".pt", ".ckpt", ".bin")  # endings of files, not of names on the hub
_NEEDED = ("transformer", "text_encoder", "tokenizer", "vae")
_CHANNELS = ((16, 16), (36, 16), (48, 48))  # that go in and come out
_CONTROL = 96  # channels that VACE's own blocks read: 2 x 16 of latents, 8 x 8 of a mask
_SEEING = ("image_encoder", "image_processor")


def find(asked: str | ModelSettings) -> Checkpoint:
    """The checkpoint that these settings, or this name, ask for; raises ModelError.

    "tiny", "tiny-i2v", a folder, the name of a known model or one of the hub (downloaded once), or a single file.
    """
    settings = ModelSettings(model=asked) if isinstance(asked, str) else asked
    name = settings.model
    if name in ("tiny", "tiny-i2v"):
        return _of_folder(Path(tiny_path(name)), name)
    path = Path(name).expanduser()
    if (path / "model_index.json").exists():
        return _with_parts(_of_folder(path, name), settings)
    if path.is_dir():
        raise ModelError(
            f"model is {name!r}; this folder has no model_index.json, so it is not a checkpoint in diffusers' format. For a "
            "single transformer give its .safetensors file."
        )
    if path.is_file():
        return _of_file(path, settings)
    listed = find_known(name)
    hub = listed.hub if listed else name
    if hub.count("/") != 1 or hub.startswith((".", "/", "~")) or path.suffix in _FILES:
        published = [one.name for one in all_known() if not _why_not(one)]
        near = difflib.get_close_matches(name, ["tiny", "tiny-i2v", *published], n=1)
        raise ModelError(
            f"model is {name!r}; there is no such folder or file{f', did you mean {near[0]}?' if near else '.'} Give tiny, "
            f"tiny-i2v, a folder, a .safetensors or .gguf file, one of {', '.join(published)}, or a hub name such as "
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers."
        )
    if listed and _why_not(listed):  # before it is downloaded
        raise ModelError(f"model is {name!r}; {_why_not(listed)}.")
    return _with_parts(_of_folder(_download(hub), name), settings)


def described(settings: ModelSettings) -> Checkpoint:
    """The checkpoint that these settings ask for, as far as it is known without its files: for plans. Nothing is downloaded."""
    listed = find_known(settings.model)
    if listed is None or Path(settings.model).expanduser().exists():
        return find(settings)
    parts = {"text_encoder": listed.text_encoder, "vae": listed.vae, "image_encoder": listed.image_encoder}
    configs = {"transformer": listed.transformer, **{name: config for name, config in parts.items() if config is not None}}
    how: dict[str, Any] = {"boundary_ratio": listed.boundary_ratio, "expand_timesteps": listed.expand_timesteps}
    return Checkpoint(listed.name, {}, configs, **how)


def _why_not(listed: Known) -> str:
    """Why wanlab cannot run a published checkpoint, "" if it can."""
    return f"it is {listed.why_not}" if listed.why_not else _not_run(listed.transformer)


def _not_run(transformer: Mapping[str, Any]) -> str:
    """Why wanlab cannot run a transformer with this configuration, "" if it can."""
    control = int(transformer.get("vace_in_channels") or _CONTROL)
    if transformer.get("vace_layers") and (control != _CONTROL or int(transformer["in_channels"]) != LATENTS[0]):
        return f"it is a VACE model whose own blocks read {control} channels, and wanlab runs those of Wan2.1, with {_CONTROL}"
    channels = int(transformer["in_channels"])
    if (channels, int(transformer.get("out_channels") or channels)) not in _CHANNELS:
        return (
            f"it takes {channels} input channels, and wanlab runs text-to-video (16, of Wan2.2-TI2V-5B 48) and image-to-video "
            "models (36) so far"
        )
    return ""


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["model_index.json", "*/*.json", "*/*.safetensors", "tokenizer/*"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise ModelError(
        f"model is {name!r}; it could not be fetched from the hub ({reason}). Check the name and the connection, or give a "
        "folder."
    )


def _of_folder(folder: Path, name: str) -> Checkpoint:
    """The checkpoint in this folder; ModelError if something is missing, or if it is of a kind that wanlab does not run."""
    index = read_json(folder / "model_index.json")
    ratio = index.get("boundary_ratio")
    needed = (*_NEEDED, *([] if ratio is None else ["transformer_2"]))
    parts = {part: folder / part for part in (*needed, *_SEEING) if (folder / part).is_dir()}
    missing = [part for part in needed if part not in parts]
    if missing:
        raise ModelError(f"{folder} is not complete: {', '.join(missing)} missing.")
    configs = {
        part: read_json(path / "config.json") for part, path in parts.items() if part not in ("tokenizer", "image_processor")
    }
    if _not_run(configs["transformer"]):
        raise ModelError(f"{folder} cannot be used: {_not_run(configs['transformer'])}.")
    kind, control = configs["transformer"].get("_class_name"), configs["transformer"].get("vace_layers")
    if kind != ("WanVACETransformer3DModel" if control else "WanTransformer3DModel"):
        raise ModelError(
            f"{folder} holds a {kind} ({index.get('_class_name')}); wanlab runs models of the class WanTransformer3DModel, and "
            "WanVACETransformer3DModel with vace_layers."
        )
    lacking = [part for part in _SEEING if configs["transformer"].get("image_dim") and part not in parts]
    if lacking:
        raise ModelError(f"{folder} is an image-to-video model that is not complete: {', '.join(lacking)} missing.")
    how: dict[str, Any] = {"boundary_ratio": ratio, "expand_timesteps": bool(index.get("expand_timesteps"))}
    return Checkpoint(folder.as_posix() if name == str(folder) else name, parts, configs, **how)


def _of_file(file: Path, settings: ModelSettings) -> Checkpoint:
    """The checkpoint around a single file of a transformer; the other parts have to be given."""
    found = inspect_checkpoint(file)
    if found.kind != "transformer" or not found.runs:
        raise ModelError(f"model is {str(file)!r}; {found.summary}")
    if _not_run(found.config):
        raise ModelError(f"model is {str(file)!r}; {_not_run(found.config)}.")
    whole = Checkpoint(
        file.as_posix(),
        {"transformer": file},
        {"transformer": found.config},
        _kind(found.precision),
        expand_timesteps=found.variant == "ti2v",
    )
    return _with_parts(whole, settings)


def _with_parts(whole: Checkpoint, settings: ModelSettings) -> Checkpoint:
    """The checkpoint with the parts that the settings name; ModelError if one is missing."""
    parts, configs = dict(whole.parts), dict(whole.configs)
    for part in ("transformer_2", "text_encoder", "vae", "image_encoder"):
        given = getattr(settings, part)
        if given:
            path = Path(given).expanduser()
            found = _part(part, path)
            parts[part], configs[part] = path, found.config
            beside = {"text_encoder": "tokenizer", "image_encoder": "image_processor"}.get(part, "")
            if beside and path.is_dir() and (path.parent / beside).is_dir():
                parts[beside] = path.parent / beside
    if settings.tokenizer:
        parts["tokenizer"] = Path(settings.tokenizer).expanduser()
        if not parts["tokenizer"].exists():
            raise ModelError(f"tokenizer is {settings.tokenizer!r}; there is no such folder.")
    elif "tokenizer" not in parts and "text_encoder" in parts and SPIECE in read_header(parts["text_encoder"]).tensors:
        parts["tokenizer"] = parts["text_encoder"]  # ComfyUI's files have it within
    seeing = _SEEING[:1] if whole.transformer.get("image_dim") else ()
    missing = [part for part in (*_NEEDED, *seeing) if part not in parts]
    if missing:
        raise ModelError(
            f"model is {whole.name!r}, a transformer alone; it also needs {', '.join(missing)}: give "
            f"{', '.join(f'{part}=...' for part in missing)}, a file or folder each."
        )
    ratio = whole.boundary_ratio
    if "transformer_2" in parts:
        ratio = settings.boundary_ratio or ratio or (0.9 if whole.image_to_video else 0.875)
    elif settings.boundary_ratio is not None:
        raise ModelError(f"boundary_ratio is {settings.boundary_ratio}, but {whole.name!r} has one transformer; leave it out.")
    return _fitting(replace(whole, parts=parts, configs=configs, boundary_ratio=ratio))


def _fitting(whole: Checkpoint) -> Checkpoint:
    """The checkpoint, if its parts belong together; else ModelError."""
    second = whole.configs.get("transformer_2", whole.transformer)
    if any(second.get(key) != whole.transformer.get(key) for key in SHAPE):
        raise ModelError(f"model is {whole.name!r}, whose two transformers have different shapes; give two that are a pair.")
    if whole.image_to_video and not whole.transformer.get("image_dim") and len(whole.transformers) == 1:
        raise ModelError(
            f"model is {whole.name!r}, an image-to-video model without image encoder: one of the two transformers of Wan2.2 "
            "A14B; give the one of low noise as transformer_2=... (the same file again, if it is a merge of both)."
        )
    predicts, has = int(whole.transformer.get("out_channels") or whole.transformer["in_channels"]), whole.form[0]
    if predicts != has:
        raise ModelError(
            f"model is {whole.name!r}, whose transformer predicts latents of {predicts} channels, and the VAE has {has}; give "
            f"vae=..., the one of {'Wan2.2' if predicts == 48 else 'Wan2.1'}."
        )
    return whole


def _kind(precision: str) -> str:
    """The quantized kind of this precision, "" for a number format."""
    return precision if precision in KINDS or precision in FILE_KINDS else ""


def _part(part: str, path: Path) -> Inspection:
    if not path.exists():
        raise ModelError(f"{part} is {str(path)!r}; there is no such file or folder.")
    found = inspect_checkpoint(path)
    if found.kind != part.removesuffix("_2"):
        raise ModelError(f"{part} is {str(path)!r}; {found.summary} Give the file or folder of a {part.replace('_', ' ')}.")
    return found
