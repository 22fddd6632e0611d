"""Checkpoints: where a model's files are, what kind of model they hold, and who it is. No torch.

A checkpoint is a folder in diffusers' format: model_index.json beside transformer/, text_encoder/, tokenizer/, vae/.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError
from wanlab.names import digest
from wanlab.settings import ModelSettings
from wanlab.skips import Facts
from wanlab.tiny import tiny_path

_WHOLE = 64 * 2**20  # files up to this size are hashed whole
_SAMPLES, _SAMPLE = 256, 64 * 2**10

# Official settings by width of the transformer (heads x 128): Wan2.1's own defaults for text to video.
_OFFICIAL: dict[int, dict[str, Any]] = {
    1536: {"width": 832, "height": 480, "frames": 81, "steps": 50, "cfg": 6.0, "shift": 8.0},
    5120: {"width": 832, "height": 480, "frames": 81, "steps": 50, "cfg": 5.0, "shift": 5.0},
}

# What people use with Wan2.1, whose clips have 81 frames and whose blocks are 30 or 40.
_OFFICIAL_GROUPS: dict[str, dict[str, Any]] = {
    "context": {"frames": 81, "overlap": 16},
    "riflex": {"index": 6},
    "loop": {"shift": 6},
    "slg": {"blocks": "9"},
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights that was looked at and found usable."""

    folder: Path

    @cached_property
    def transformer(self) -> dict[str, Any]:
        """The transformer's configuration."""
        return _json(self.folder / "transformer" / "config.json")

    @cached_property
    def vae(self) -> dict[str, Any]:
        """The VAE's configuration."""
        return _json(self.folder / "vae" / "config.json")

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The settings that suit this model, where they differ from the declared ones (which suit the tiny Wan)."""
        width = self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"]
        suits = _OFFICIAL.get(width, {})
        if suits and self.transformer.get("pos_embed_seq_len"):
            return {**suits, "shift": 16.0}
        if suits and self.image_to_video:
            return {**suits, "steps": 40, "shift": 5.0 if "720" in self.folder.as_posix() else 3.0}
        return suits

    @property
    def group_defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of techniques that suit this model, where they differ from the declared ones, by group."""
        return {} if self.blocks < 20 else _OFFICIAL_GROUPS

    @property
    def blocks(self) -> int:
        """How many blocks the transformer has."""
        return int(self.transformer["num_layers"])

    @property
    def image_to_video(self) -> bool:
        """Whether the model makes a clip of a picture, which it is told in 20 more channels."""
        return int(self.transformer["in_channels"]) == 36

    @cached_property
    def fingerprint(self) -> str:
        """What velocities depend on: a hash of the transformer, the text encoder and the tokenizer.

        Of an image-to-video model also of the image encoder and of the VAE, which encodes the picture.
        """
        seeing = ("image_encoder", "image_processor", "vae") if self.image_to_video else ()
        return _fingerprint(self.folder, ("tokenizer", "text_encoder", "transformer", *seeing))

    @cached_property
    def vae_fingerprint(self) -> str:
        """A hash of the VAE."""
        return _fingerprint(self.folder, ("vae",))


def find(name: str) -> Checkpoint:
    """The checkpoint of this name: "tiny", "tiny-i2v", a folder, or a hub name (downloaded once). Raises ModelError."""
    if name in ("tiny", "tiny-i2v"):
        return _checked(Path(tiny_path(name)))
    if (Path(name).expanduser() / "model_index.json").exists():
        return _checked(Path(name).expanduser())
    if Path(name).expanduser().exists():
        raise ModelError(
            f"model is {name!r}; this folder has no model_index.json, so it is not a checkpoint in diffusers' format."
        )
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"model is {name!r}; there is no such folder. Give tiny, tiny-i2v, a folder, or a hub name such as "
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers."
        )
    return _checked(_download(name))


def facts_of(found: Checkpoint, settings: ModelSettings) -> Facts:
    """What planning knows of a model."""
    return Facts.of(model_id(found, settings), found.folder, found.transformer)


def model_id(found: Checkpoint, settings: ModelSettings) -> str:
    """Who a model is, for the names of steps: its weights and its precision, not the device it runs on."""
    return digest(found.fingerprint, settings.base_precision)


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


def _checked(folder: Path) -> Checkpoint:
    index = _json(folder / "model_index.json")
    missing = [part for part in ("transformer", "text_encoder", "tokenizer", "vae") if not (folder / part).is_dir()]
    if missing:
        raise ModelError(f"{folder} is not complete: {', '.join(missing)} missing.")
    checkpoint = Checkpoint(folder)
    kind = checkpoint.transformer.get("_class_name")
    channels = checkpoint.transformer.get("in_channels")
    if kind != "WanTransformer3DModel":
        raise ModelError(
            f"{folder} holds a {kind} ({index.get('_class_name')}); wanlab runs Wan2.1 models of the "
            "class WanTransformer3DModel."
        )
    if channels not in (16, 36):
        raise ModelError(
            f"{folder} takes {channels} input channels: a control model. wanlab runs text-to-video (16 channels) and "
            "image-to-video ones (36) so far."
        )
    lacking = [part for part in ("image_encoder", "image_processor") if channels == 36 and not (folder / part).is_dir()]
    if lacking:
        raise ModelError(f"{folder} is an image-to-video model that is not complete: {', '.join(lacking)} missing.")
    if index.get("boundary_ratio") is not None:
        raise ModelError(f"{folder} has two transformers (Wan2.2); wanlab runs Wan2.1 models so far.")
    return checkpoint


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = str(error)
    raise ModelError(f"{file} cannot be read: {reason}.")


def _fingerprint(folder: Path, parts: tuple[str, ...]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        for file in sorted((folder / part).iterdir()):
            if file.suffix == ".json" and file.name == "config.json":  # without the version and the path it was saved from
                content = {key: value for key, value in _json(file).items() if not key.startswith("_")}
                total.update(json.dumps(content, sort_keys=True).encode())
            elif file.suffix in (".json", ".model", ".safetensors", ".txt"):
                total.update(file.name.encode())
                _update(total, file)
    return total.hexdigest()


def _update(total: hashlib.blake2b, file: Path) -> None:
    """Add a file: whole if it is small, else its size and samples all over it (the first one holds the header)."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if size <= _WHOLE:
            total.update(content.read())
            return
        total.update(str(size).encode())
        for index in range(_SAMPLES):
            content.seek(index * (size - _SAMPLE) // (_SAMPLES - 1))
            total.update(content.read(_SAMPLE))
