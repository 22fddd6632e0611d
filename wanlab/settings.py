"""The settings of a run, declared once.

From these declarations come the command line flags, the columns of the log, the names of the steps in the store,
`docs/settings.md`, the checks and their messages. Adding a setting means adding a field here (and the code that obeys
it), nothing else.
What a declaration says, its `affects` and `scope`, is in declare.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import Asked, Declared, Setting, declarations, flatten, knob, unknown
from wanlab.errors import SettingsError


class ClipSettings(Declared):
    """How a finished clip is written: the Video Combine of the workflow. None of these changes a velocity."""

    frame_rate: float = knob(
        16,
        "Frames per second in the file. Only the playing speed: no frame is added or dropped. Wan is trained at 16; a gif "
        "holds multiples of 10 ms a frame, at most 50 frames/s.",
        affects="clip",
        low=1,
        high=120,
        step=1,
        unit="frames/s",
        comfy="VHS_VideoCombine.frame_rate",
    )
    loop_count: int = knob(
        0,
        "gif and webp: how often the viewer repeats the clip, 0 for ever. mp4 and webm cannot loop by themselves: the clip "
        "is written this many extra times. png: no effect.",
        affects="clip",
        low=0,
        high=100,
        comfy="VHS_VideoCombine.loop_count",
    )
    filename_prefix: str = knob(
        "clip",
        "Beginning of the file name, with a counter and the ending after it. May hold folders and %date%; it cannot leave "
        "the run's folder.",
        affects="clip",
        comfy="VHS_VideoCombine.filename_prefix",
    )
    format: Literal["mp4", "webm", "gif", "webp", "png"] = knob(
        "mp4",
        "mp4 (h264), webm (VP9), gif, animated webp (lossless), or png (a folder with a picture for each frame).",
        affects="clip",
        comfy="VHS_VideoCombine.format",
    )
    pingpong: bool = knob(
        False,
        "Play forwards, then backwards without the first and the last frame: N frames become 2N - 2.",
        affects="clip",
        comfy="VHS_VideoCombine.pingpong",
    )
    save_output: bool = knob(
        True,
        "Write the clip into the run's folder when the run is done. Off: nothing is written until run.clip.save().",
        affects="clip",
        comfy="VHS_VideoCombine.save_output",
    )

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str, info: ValidationInfo) -> str:
        if value == "gif" and info.data.get("frame_rate", 0) > 50:
            raise ValueError(
                "a gif plays at most 50 frames/s (browsers play shorter frames at 10); lower clip.frame_rate or use webp."
            )
        return value

    @field_validator("filename_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        from wanlab.files import safe_prefix

        safe_prefix(value)
        return value


class Settings(Asked):
    """What is asked for. Frozen; `settings.but({"cfg": 3})` gives a changed copy."""

    prompt: str = knob(
        "a red circle moves right on a blue background",
        "What the clip shows.",
        affects="result",
        scope="step",
        comfy="WanVideoTextEncode.positive_prompt",
    )
    negative_prompt: str = knob(
        "",
        "What it should not show: the branch that cfg pushes away from. Unused at cfg 1.",
        affects="result",
        scope="step",
        comfy="WanVideoTextEncode.negative_prompt",
    )
    width: int = knob(
        64,
        "Width of the clip.",
        affects="result",
        low=16,
        high=4096,
        step=16,
        multiple_of=16,
        unit="pixels",
        comfy="WanVideoEmptyEmbeds.width",
    )
    height: int = knob(
        64,
        "Height of the clip.",
        affects="result",
        low=16,
        high=4096,
        step=16,
        multiple_of=16,
        unit="pixels",
        comfy="WanVideoEmptyEmbeds.height",
    )
    frames: int = knob(
        17,
        "Length of the clip: 4n + 1 frames, since a latent frame stands for four, the first one for a single frame. "
        "1 makes a picture.",
        affects="result",
        low=1,
        high=4097,
        step=4,
        unit="frames",
        comfy="WanVideoEmptyEmbeds.num_frames",
    )
    steps: int = knob(
        20,
        "Steps of the solver from noise to clip. Each costs one or, with cfg, two passes of the model.",
        affects="result",
        low=1,
        high=1000,
        step=1,
        comfy="WanVideoSampler.steps",
    )
    cfg: float = knob(
        3.0,
        "Classifier-free guidance: how far the prediction is pushed from the negative prompt to the prompt, "
        "v = v_neg + cfg (v_pos - v_neg). "
        "1 needs no negative pass and takes half the time.",
        affects="result",
        scope="step",
        low=0,
        high=30,
        step=0.5,
        comfy="WanVideoSampler.cfg",
    )
    shift: float = knob(
        3.0,
        "Which noise levels the steps visit: sigma' = shift sigma / (1 + (shift - 1) sigma). Larger spends more steps on "
        "layout and motion, fewer on detail. It has nothing to do with understanding the prompt.",
        affects="result",
        low=0.01,
        high=1000,
        step=0.5,
        comfy="WanVideoSampler.shift",
    )
    solver: Literal["unipc", "euler", "dpm++", "dpm++_sde"] = knob(
        "unipc",
        "How a velocity becomes a step: UniPC (order 2), Euler, DPM++ 2M, or its stochastic form DPM++ 2M SDE.",
        affects="result",
        comfy="WanVideoSampler.scheduler",
    )
    seed: int = knob(
        0,
        "Seed of the noise, drawn on the CPU, so that a seed means the same noise on every device. Another size or length "
        "is other noise.",
        affects="result",
        low=0,
        high=2**64 - 1,
        step=1,
        comfy="WanVideoSampler.seed",
    )
    clip: ClipSettings = ClipSettings()

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _check_text(cls, value: str) -> str:
        if "\0" in value or (not value.isascii() and value != value.encode("utf-8", "ignore").decode()):
            raise ValueError("it must be text that can be written as UTF-8, without NUL characters.")
        return value

    @field_validator("frames")
    @classmethod
    def _check_frames(cls, value: int) -> int:
        if value % 4 != 1:
            below = max(1, (value - 1) // 4 * 4 + 1)
            raise ValueError(f"it must be 4n + 1, for example {below} or {below + 4}.")
        return value

    def but(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with some settings changed, named with dots ("cfg", "clip.frame_rate"); raises SettingsError."""
        values = self.model_dump()
        for name, value in changes.items():
            check_name(name)
            *groups, last = name.split(".")
            place = values
            for group in groups:
                place = place[group]
            place[last] = value
        return Settings(**values)

    def flat(self) -> dict[str, Any]:
        """All values by dotted name, in the order of declaration."""
        return dict(flatten(self))

    @property
    def latent_frames(self) -> int:
        """Latent frames: the first stands for one frame, each further one for four."""
        return (self.frames - 1) // 4 + 1


class ModelSettings(Asked):
    """How the weights are loaded."""

    model: str = knob(
        "tiny",
        "The model: tiny, a folder in diffusers' format, or a hub name.",
        affects="result",
        comfy="WanVideoModelLoader.model",
    )
    base_precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32",
        "Number format of the transformer's and the text encoder's weights and arithmetic. The VAE is always in fp32.",
        affects="result",
        comfy="WanVideoModelLoader.base_precision",
    )
    device: str = knob(
        "cpu", "Where the model computes: cpu, cuda, cuda:1, mps.", affects="cost", comfy="WanVideoModelLoader.load_device"
    )

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", value):
            raise ValueError("it must be cpu, cuda, cuda:0 (1, 2 ...) or mps.")
        return value


def declared(model: type[Declared] = Settings) -> Mapping[str, Setting]:
    """Every setting by its dotted name, in the order of declaration."""
    return declarations(model)


def check_name(name: str) -> Setting:
    """The declaration of this setting, or a SettingsError that names the nearest ones."""
    known = declared()
    if name in known:
        return known[name]
    raise SettingsError(unknown(name, Settings))
