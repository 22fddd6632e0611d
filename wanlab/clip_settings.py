"""How a finished clip is written. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import Declared, knob


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
        usual=(8, 30),
        simple=True,
    )
    loop_count: int = knob(
        0,
        "gif and webp: how often the viewer repeats the clip, 0 for ever. mp4 and webm cannot loop by themselves: the clip "
        "is written this many extra times. png: no effect.",
        affects="clip",
        low=0,
        high=100,
        comfy="VHS_VideoCombine.loop_count",
        usual=(0, 10),
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
        simple=True,
    )
    pingpong: bool = knob(
        False,
        "Play forwards, then backwards without the first and the last frame: N frames become 2N - 2.",
        affects="clip",
        comfy="VHS_VideoCombine.pingpong",
        simple=True,
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
