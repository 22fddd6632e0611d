"""Checkpoints: where the parts of a model are, what kind of model they make, and who it is. No torch.

A checkpoint is a folder in diffusers' format (model_index.json beside transformer/, text_encoder/, tokenizer/, vae/), or a
single file of a transformer together with files or folders of the other parts. A published model has a name, and can be planned
without its files.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from wanlab.errors import ModelError, SettingsError
from wanlab.names import digest
from wanlab.quantize.kinds import FILE_KINDS, KINDS
from wanlab.schedule import TRAINING_LEVELS
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.skips import LATENTS, Facts
from wanlab.tiny import lora_path, tiny_path
from wanlab.weights.headers import read_header
from wanlab.weights.inspection import Inspection, inspect_checkpoint
from wanlab.weights.registry import Known, all_known, find_known
from wanlab.weights.time_layers import read_time_embedding

_WHOLE = 64 * 2**20  # files up to this size are hashed whole
_SAMPLES, _SAMPLE = 256, 64 * 2**10

# What people use with Wan2.1, whose clips have 81 frames and whose blocks are 30 or 40.
_OFFICIAL_GROUPS: dict[str, dict[str, Any]] = {
    "context": {"frames": 81, "overlap": 16},
    "riflex": {"index": 6},
    "loop": {"shift": 6},
    "slg": {"blocks": "9"},
}
SPIECE = "spiece_model"  # the tensor of ComfyUI's text encoders that is a tokenizer
_SHAPE = ("num_attention_heads", "num_layers", "in_channels", "image_dim", "pos_embed_seq_len", "vace_layers")
_FILES = (".safetensors", ".gguf", ".pth", ".pt", ".ckpt", ".bin")  # endings of files, not of names on the hub
_NEEDED = ("transformer", "text_encoder", "tokenizer", "vae")
_CHANNELS = ((16, 16), (36, 16), (48, 48))  # that go in and come out
_CONTROL = 96  # channels that VACE's own blocks read: 2 x 16 of latents, 8 x 8 of a mask
_SEEING = ("image_encoder", "image_processor")


@dataclass(frozen=True)
class Checkpoint:
    """A model that was looked at and found usable: for each part ("transformer", "vae", ...) a folder or a file.

    `configs` are the parts' configurations, as diffusers and transformers have them. Of a known model without files there are
    only these.
    """

    name: str
    parts: Mapping[str, Path]
    configs: Mapping[str, Mapping[str, Any]] = field(compare=False)
    stored: str = ""  # the quantized kind in which the transformer's file holds its matrices
    boundary_ratio: float | None = None  # of two transformers: of the noise levels, where the second one takes over
    expand_timesteps: bool = False  # whether each token is told its own timestep (Wan2.2-TI2V-5B)

    @property
    def transformers(self) -> tuple[str, ...]:
        """The parts that predict: one, or of Wan2.2 A14B that of high noise and that of low noise."""
        return ("transformer",) if self.boundary_ratio is None else ("transformer", "transformer_2")

    @property
    def boundary(self) -> float:
        """The timestep below which the second transformer predicts; 0 if there is only one."""
        return 0.0 if self.boundary_ratio is None else self.boundary_ratio * TRAINING_LEVELS

    @property
    def transformer(self) -> Mapping[str, Any]:
        """The transformer's configuration."""
        return self.configs["transformer"]

    @property
    def vae(self) -> Mapping[str, Any]:
        """The VAE's configuration."""
        return self.configs["vae"]

    @property
    def form(self) -> tuple[int, int]:
        """What latents are: the number of channels, and the pixels of a latent cell in a row."""
        vae = self.configs.get("vae", {})
        return int(vae.get("z_dim") or LATENTS[0]), int(vae.get("scale_factor_spatial") or LATENTS[1])

    @property
    def beside(self) -> Path:
        """The folder in which files lie that belong to the whole model: caches.json, preview.safetensors."""
        return self.parts["transformer"].parent

    @property
    def official(self) -> Known | None:
        """The published checkpoint that this one is, or is a relative of: the one of its name, else of its shape."""
        named = find_known(self.name)
        if named is not None:
            return named
        alike = [
            one
            for one in all_known()
            if all(self.transformer.get(key) == one.transformer.get(key) for key in _SHAPE)
            and one.transformers == len(self.transformers)
        ]
        # The two image-to-video models have one shape; their names tell them apart.
        size = next((size for size in ("720", "480") if size in self.name), "")
        return next((one for one in alike if size and size in one.name), alike[0] if alike else None)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The settings that suit this model, where they differ from the declared ones (which suit the tiny Wan)."""
        return next(iter(self.official.presets.values())) if self.official else {}

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

    @property
    def vace(self) -> bool:
        """Whether it is a VACE model, whose own blocks read known frames and a mask; it takes an image or none."""
        return bool(self.transformer.get("vace_layers"))

    @cached_property
    def fingerprint(self) -> str:
        """What velocities depend on: a hash of the transformer, the text encoder and the tokenizer.

        Of an image-to-video model also of the image encoder and of the VAE, which encodes the picture, of a VACE model of the
        VAE; of two transformers of both, and of how they are told the noise level.
        """
        seeing = ("image_encoder", "image_processor", "vae") if self.image_to_video else ("vae",) if self.vace else ()
        found = _fingerprint(self.parts, ("tokenizer", "text_encoder", *self.transformers, *seeing))
        told = (self.boundary_ratio, self.expand_timesteps)
        return found if told == (None, False) else digest(found, *told)

    @cached_property
    def text_fingerprint(self) -> str:
        """A hash of the text encoder and the tokenizer."""
        return _fingerprint(self.parts, ("tokenizer", "text_encoder"))

    @cached_property
    def vae_fingerprint(self) -> str:
        """A hash of the VAE."""
        return _fingerprint(self.parts, ("vae",))


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


def facts_of(found: Checkpoint, settings: ModelSettings) -> Facts:
    """What planning knows of a model."""
    if not found.parts:
        facts = Facts.of(digest(found.name, settings.base_precision), found.name, found.transformer, boundary=found.boundary)
    else:
        facts = Facts.of(
            model_id(found, settings),
            found.name if found.beside.name != "transformer" else found.beside.as_posix(),
            found.transformer,
            beside=found.beside,
            read=lambda: read_time_embedding(found.parts["transformer"]),
            boundary=found.boundary,
        )
    return replace(facts, form=found.form)


def model_id(found: Checkpoint, settings: ModelSettings) -> str:
    """Who a model is, for the names of steps: all that its velocities depend on, not where it computes.

    What is as declared is left out, so that models are named as before a setting existed.
    """
    more: dict[str, Any] = {}
    for name in ("quantization", "attention_mode"):
        value = getattr(settings, name)
        if value != type(settings).model_fields[name].default:
            more[name] = value
    if settings.loras:
        more["loras"] = [
            [_content(lora_file(one.file)), one.strength, one.blocks, one.merge, *([one.expert] * (one.expert != "both"))]
            for one in settings.loras
        ]
    if found.image_to_video or found.vace:  # the VAE encodes what the model is told
        how = [settings.vae_precision, *([settings.vae_tile, settings.vae_tile_stride] if settings.vae_tiling else [])]
        more |= {"vae": how} if how != ["fp32"] else {}
    return digest(found.fingerprint, settings.base_precision, *([more] if more else []))


def lora_file(name: str) -> Path:
    """The file of a LoRA: one that ships with wanlab, by its name, or a path. Raises ModelError if there is none."""
    shipped = lora_path(name)
    if shipped:
        return Path(shipped)
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"loras has {name!r}; there is no such file. Give a .safetensors file, tiny-four-steps or tiny-style.")
    return path


@cache
def lora_defaults(name: str) -> Mapping[str, Any]:
    """The settings of a run that suit a LoRA, as its file says: {} if it says nothing that can be understood."""
    told = read_header(lora_file(name)).metadata.get("wanlab", "")
    with contextlib.suppress(ValueError):
        found = json.loads(told or "{}")
        known = {name: value for name, value in dict(found).items() if name in declared()}
        with contextlib.suppress(SettingsError):
            Settings().but(known)
            return known
    return {}


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


def _content(file: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    _update(total, file)
    return total.hexdigest()


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
    index = _json(folder / "model_index.json")
    ratio = index.get("boundary_ratio")
    needed = (*_NEEDED, *([] if ratio is None else ["transformer_2"]))
    parts = {part: folder / part for part in (*needed, *_SEEING) if (folder / part).is_dir()}
    missing = [part for part in needed if part not in parts]
    if missing:
        raise ModelError(f"{folder} is not complete: {', '.join(missing)} missing.")
    configs = {
        part: _json(path / "config.json") for part, path in parts.items() if part not in ("tokenizer", "image_processor")
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
    if any(second.get(key) != whole.transformer.get(key) for key in _SHAPE):
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


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = str(error)
    raise ModelError(f"{file} cannot be read: {reason}.")


def _fingerprint(parts: Mapping[str, Path], wanted: tuple[str, ...]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in wanted:
        path = parts.get(part)
        if path is None:
            continue
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix == ".json" and file.name == "config.json":  # without the version and the path it was saved from
                content = {key: value for key, value in _json(file).items() if not key.startswith("_")}
                total.update(json.dumps(content, sort_keys=True).encode())
            elif file.suffix in (".json", ".model", ".safetensors", ".txt", ".gguf"):
                if path.is_dir():  # of a single file the content counts, not its name
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
