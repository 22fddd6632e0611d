"""What settings ask of a model that this one cannot do, and inputs that do not fit, told before anything is computed.

No torch.
"""

from __future__ import annotations

import numpy as np

from wanlab.errors import SettingsError
from wanlab.groups import latent
from wanlab.inputs import Inputs
from wanlab.model.checkpoint import Checkpoint
from wanlab.model_settings import ModelSettings
from wanlab.outline import Outline
from wanlab.placement.spread import spread
from wanlab.settings import Settings
from wanlab.skips import Facts
from wanlab.timeline import Timeline
from wanlab.windows import sections_without_window


def check(timeline: Timeline, checkpoint: Checkpoint, inputs: Inputs, facts: Facts, loader: ModelSettings) -> None:
    """Raise SettingsError, in one sentence, for what this model, loaded so, cannot do with these settings and inputs."""
    settings = timeline.settings
    _check_loader(loader, checkpoint)
    _check_loras(timeline, loader)
    _check_size(settings, checkpoint)
    _check_images(settings, checkpoint, inputs)
    _check_samples(settings, checkpoint, inputs)
    _check_sections(timeline)
    for start in (0, *(at for at, _ in timeline.forks)):
        _check_numbers(timeline.at(start), checkpoint)
    Outline(timeline, facts).rules  # noqa: B018 (a speed-up that cannot be reached)


def _check_loader(loader: ModelSettings, checkpoint: Checkpoint) -> None:
    spread(checkpoint.blocks, loader.blocks_to_swap)
    for index, lora in enumerate(loader.loras):
        if lora.expert != "both" and len(checkpoint.transformers) == 1:
            raise SettingsError(
                f"loras[{index}].expert is {lora.expert!r}, but this model has one transformer for all noise levels; leave it "
                "at both."
            )


def _check_loras(timeline: Timeline, loader: ModelSettings) -> None:
    settings = timeline.settings
    strange = [at.lora_strength for at in map(timeline.at, range(len(timeline))) if at.lora_strength != 1]
    if strange and all(lora.merge for lora in loader.loras):
        reason = "all LoRAs are merged into the weights" if loader.loras else "the model has no LoRA"
        raise SettingsError(
            f"lora_strength is {strange[0]}, but {reason}; give wl.Lab(loras=[...]) without merge, or leave it at 1."
        )
    for index, lora in enumerate(loader.loras):
        if isinstance(lora.strength, tuple) and len(lora.strength) != settings.steps:
            raise SettingsError(
                f"loras[{index}].strength has {len(lora.strength)} values, and the run has {settings.steps} steps; give a "
                "value for each step, or one for all."
            )


def _check_size(settings: Settings, checkpoint: Checkpoint) -> None:
    token = 2 * checkpoint.form[1]  # pixels in a row
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value % token:
            below = max(token, value // token * token)
            raise SettingsError(
                f"{name} is {value}; this model makes clips in multiples of {token} pixels, for example {below} or "
                f"{below + token}."
            )


def _check_images(settings: Settings, checkpoint: Checkpoint, inputs: Inputs) -> None:
    named = [name for name in ("image", "end_image") if getattr(settings, name)]
    if named and checkpoint.expand_timesteps:
        raise SettingsError(
            f"{named[0]} is given, and wanlab runs Wan2.2-TI2V-5B as a text-to-video model so far; leave the image out, or "
            "take an image-to-video model such as Wan2.2-I2V-A14B."
        )
    if settings.vace_strength != 1 and not checkpoint.vace:
        raise SettingsError(f"vace_strength is {settings.vace_strength}, but this is not a VACE model; leave it at 1.")
    if named and not checkpoint.image_to_video and not checkpoint.vace:
        raise SettingsError(
            f"{named[0]} is given, but this is a text-to-video model (16 input channels); take an image-to-video model, for "
            'example wl.Lab(model="tiny-i2v"), or leave the image out.'
        )
    if checkpoint.image_to_video and not named:
        raise SettingsError(
            "This is an image-to-video model (36 input channels); give it an image (image=...), or take a text-to-video model."
        )
    if checkpoint.transformer.get("pos_embed_seq_len") and len(named) == 1:
        missing = "end_image" if named == ["image"] else "image"
        raise SettingsError(f"This is a first-and-last-frame model; give it {missing} too.")
    if named and settings.clip_embed_strength != 1 and not checkpoint.transformer.get("image_dim"):
        raise SettingsError(
            f"clip_embed_strength is {settings.clip_embed_strength}, but this model has no image encoder "
            f"({'VACE' if checkpoint.vace else 'Wan2.2'}); leave it at 1."
        )
    known = [_frames(name, settings, inputs) for name in named]
    for name, frames in zip(named, known, strict=True):
        if name == "end_image" and len(frames) != 1:
            raise SettingsError(f"end_image holds {len(frames)} frames; it must be one picture.")
        if len(frames) % 4 != 1:
            fits = len(frames) // 4 * 4 + 1
            raise SettingsError(f"{name} holds {len(frames)} frames; it must be one picture or 4n + 1, for example {fits}.")
    if named and sum(map(len, known)) > settings.frames:
        raise SettingsError(
            f"image and end_image hold {sum(map(len, known))} frames, and the clip has {settings.frames}; raise frames."
        )


def _frames(name: str, settings: Settings, inputs: Inputs) -> np.ndarray:
    return inputs.read(name, getattr(settings, name))[1]


def _check_samples(settings: Settings, checkpoint: Checkpoint, inputs: Inputs) -> None:
    if not settings.samples:
        return
    kind, array = inputs.read("samples", settings.samples)
    if kind == "latents":
        channels, cell = checkpoint.form
        if array.shape[1] != channels:
            raise SettingsError(
                f"samples are latents of {array.shape[1]} channels, and those of this model have {channels}; give frames, or "
                "latents of this model."
            )
        frames, height, width = 4 * array.shape[2] - 3, cell * array.shape[3], cell * array.shape[4]
        if (frames, height, width) != (settings.frames, settings.height, settings.width):
            raise SettingsError(
                f"samples are latents of {frames} frames of {width} x {height}, and the run has {settings.frames} of "
                f"{settings.width} x {settings.height}; give frames={frames}, width={width}, height={height}."
            )
    elif len(array) != settings.frames:
        raise SettingsError(
            f"samples hold {len(array)} frames, and the run has {settings.frames}; give frames={4 * latent(len(array)) - 3}"
            f"{'' if len(array) % 4 == 1 else ' and as many frames of the clip'}."
        )


def _check_sections(timeline: Timeline) -> None:
    settings, context = timeline.settings, timeline.settings.context
    sections = settings.sections
    if context is None or len(sections) == 1:
        return
    windows = [context.windows(step, settings) for step in range(len(timeline))]
    lost = sections_without_window(windows, settings.latent_frames, len(sections))
    if lost:
        raise SettingsError(
            f"prompt has {len(sections)} sections, and no window has its centre in section {lost[0] + 1} "
            f"({sections[lost[0]]!r}); take shorter windows (context.frames), more overlap, or fewer sections."
        )


def _check_numbers(settings: Settings, checkpoint: Checkpoint) -> None:
    if settings.slg:
        settings.slg.check(checkpoint.blocks)
    if settings.riflex:
        settings.riflex.check(int(checkpoint.transformer["attention_head_dim"]))
