"""The way back from settings to boxes that do not hold the same number. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from wanlab.comfy import readings
from wanlab.settings import ModelSettings, Settings

_ATTENTION = ("sdpa", "flash_attn_2", "flash_attn_3", "sageattn")
_QUANTIZATION = ("disabled", "fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fn_scaled", "fp8_e5m2_scaled")


class Asks(Protocol):
    """What is written: the settings of a run and of its model, and all their values by dotted name."""

    settings: Settings
    model: ModelSettings
    values: dict[str, Any]


def of_format(format: str) -> dict[str, Any]:
    """VideoHelperSuite's name of the format, with the boxes that this format has."""
    name = next(one for one, ours in readings.FORMATS.items() if ours == format)
    boxes: dict[str, dict[str, Any]] = {
        "mp4": {"pix_fmt": "yuv420p", "crf": 19},
        "webm": {"pix_fmt": "yuv420p", "crf": 20},
        "webp": {"lossless": True},
    }
    return {"format": name, **boxes.get(format, {})}


def _steps_of(percent: str, up: bool) -> Callable[[Asks], int | None]:
    """A part of the steps as a number of steps: the first or the last that lies in it."""

    def back(builder: Asks) -> int | None:
        value = builder.values.get(percent)
        if value is None:
            return None
        if percent.endswith("end_percent") and value == 1:
            return -1
        steps = builder.settings.steps
        inside = [i for i in range(steps + 1) if (i / steps >= value if up else i / steps <= value)]
        return (min if up else max)(inside)

    return back


def _among(setting: str, known: tuple[str, ...]) -> Callable[[Asks], Any]:
    return lambda builder: builder.values.get(setting) if builder.values.get(setting) in known else known[0]


# The way back of boxes that do not hold the setting as it is: by node and box, or by what the box becomes.
BACK: Mapping[tuple[str, str], Callable[[Asks], Any]] = {
    ("WanVideoSampler", "scheduler"): lambda builder: builder.settings.solver,
    ("WanVideoSampler", "riflex_freq_index"): lambda builder: builder.values.get("riflex.index", 0),
    ("WanVideoSampler", "end_step"): lambda builder: builder.settings.end_step or -1,
    ("WanVideoSampler", "add_noise_to_samples"): lambda builder: bool(builder.settings.samples and builder.settings.add_noise),
    ("WanVideoTextEncode", "positive_prompt"): lambda builder: builder.settings.prompt,
    ("WanVideoTextEncode", "device"): lambda builder: "cpu" if builder.model.text_encoder_device == "cpu" else "gpu",
    ("WanVideoModelLoader", "model"): lambda builder: builder.model.model,
    ("", "quantization"): _among("quantization", _QUANTIZATION),
    ("", "attention_mode"): _among("attention_mode", _ATTENTION),
    ("", "compile.backend"): _among("compile.backend", ("inductor", "cudagraphs")),
    ("", "compile.whole"): lambda builder: not builder.values.get("compile.whole"),
    ("", "cache.start_percent"): _steps_of("cache.start_percent", True),
    ("", "cache.end_percent"): _steps_of("cache.end_percent", False),
    ("", "context.fuse"): _among("context.fuse", ("linear", "pyramid")),
    ("", "context.schedule"): _among("context.schedule", ("static_standard", "uniform_standard", "uniform_looped")),
    ("", "freeinit.filter"): _among("freeinit.filter", ("butterworth", "ideal", "gaussian")),
    ("WanVideoDecode", "tile_y"): lambda builder: builder.model.vae_tile,
    ("WanVideoDecode", "tile_stride_y"): lambda builder: builder.model.vae_tile_stride,
    ("VHS_VideoCombine", "format"): lambda builder: None,
}
