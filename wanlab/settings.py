"""The settings of a run, declared once.

From these declarations come the command line flags, the columns of the log, the names of the steps in the store,
`docs/settings.md`, the checks and their messages. Adding a setting means adding a field here (and the code that obeys
it), nothing else.
What a declaration says, its `affects` and `scope`, is in declare.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import SWITCH, Asked, Declared, Setting, declarations, flatten, knob, switches, unknown
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


def _percent(default: float, help: str, comfy: str) -> Any:
    return knob(default, help, affects="result", scope="step", low=0, high=1, step=0.05, comfy=comfy)


def _start(comfy: str = "") -> Any:
    help = "Where it begins to act, as a fraction of the steps: at step i from i / steps >= start_percent on."
    return _percent(0.0, help, comfy)


def _end(comfy: str = "") -> Any:
    return _percent(1.0, "Where it ends: step i is acted on while i / steps is at most end_percent.", comfy)


class PartSettings(Declared):
    """What a technique acts on: a part of the steps."""

    start_percent: float = _start()
    end_percent: float = _end()

    @field_validator("end_percent")
    @classmethod
    def _check_part(cls, value: float, info: ValidationInfo) -> float:
        start = info.data.get("start_percent", 0.0)
        if value < start:
            raise ValueError(f"it must not be less than start_percent, which is {start}.")
        return value

    def acts(self, step: int, settings: Settings) -> bool:
        """Whether it acts on this step of a run with these settings."""
        return self.start_percent <= step / settings.steps <= self.end_percent


class FetaSettings(PartSettings):
    """Enhance-A-Video: frames are made to look at each other more, for steadier clips with more detail."""

    start_percent: float = _start("WanVideoEnhanceAVideo.start_percent")
    end_percent: float = _end("WanVideoEnhanceAVideo.end_percent")
    weight: float = knob(
        2.0,
        "How much the attention between frames is enhanced: in every block the output of self-attention is multiplied by "
        "max(1, (frames + weight) times the mean attention between different frames), in latent frames. The authors use 4 "
        "for Wan.",
        affects="result",
        scope="step",
        low=0,
        high=100,
        step=0.5,
        comfy="WanVideoEnhanceAVideo.weight",
    )

    def acts(self, step: int, settings: Settings) -> bool:
        """As for all parts; a single frame has no other one to look at."""
        return settings.frames > 1 and super().acts(step, settings)


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

    feta: Annotated[FetaSettings | None, SWITCH] = None

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
        for name, value in sorted(changes.items(), key=lambda change: change[0].count(".")):  # switches before their settings
            check_name(name)
            *groups, last = name.split(".")
            place = values
            for group in groups:
                if not isinstance(place[group], dict):  # a group that is off is turned on
                    place[group] = {}
                place = place[group]
            if value is not True or not isinstance(place.get(last), dict):  # a group that is on stays as it is
                place[last] = value
        return Settings(**values)

    def flat(self) -> dict[str, Any]:
        """All values by dotted name, in the order of declaration."""
        return dict(flatten(self))

    def acting(self, step: int) -> dict[str, PartSettings]:
        """The techniques that act on this step, by the names of their groups."""
        groups = {name: getattr(self, name) for name in switches(Settings)}
        return {name: group for name, group in groups.items() if group is not None and group.acts(step, self)}

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


def declared(model: type[Declared] = Settings) -> dict[str, Setting]:
    """Every setting by its dotted name, in the order of declaration."""
    return declarations(model)


def check_name(name: str) -> Setting:
    """The declaration of this setting, or of the group that it turns on or off; SettingsError names the nearest ones."""
    known = declared() | switches(Settings)
    if name in known:
        return known[name]
    raise SettingsError(unknown(name, Settings))
