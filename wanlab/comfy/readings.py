"""How the value of a box becomes a setting, where it is not the same number. No torch."""

from __future__ import annotations

import math
import re
from typing import Any

from wanlab.comfy.kinds import At, Instead, Many, Refused, as_number

# WanVideoWrapper's schedulers as solver and schedule; its own noise levels are Wan's.
WRAPPER_SOLVERS = {
    "unipc": ("unipc", "wan_unipc"),
    "unipc/beta": ("unipc", "beta"),
    "dpm++": ("dpm++", "wan_dpmpp"),
    "dpm++/beta": ("dpm++", "beta"),
    "dpm++_sde": ("dpm++_sde", "wan_dpmpp"),
    "dpm++_sde/beta": ("dpm++_sde", "beta"),
    "euler": ("euler", "ideal"),
    "euler/beta": ("euler", "beta"),
    "flowmatch_distill": ("euler", "distilled"),
}
FORMATS = {  # those first that are written
    "video/h264-mp4": "mp4",
    "video/webm": "webm",
    "image/gif": "gif",
    "image/webp": "webp",
    "video/8bit-png": "png",
    "video/h265-mp4": "mp4",
    "video/nvenc_h264-mp4": "mp4",
    "video/nvenc_hevc-mp4": "mp4",
    "video/nvenc_av1-mp4": "mp4",
    "video/av1-webm": "webm",
    "video/ffmpeg-gif": "gif",
    "video/gifski": "gif",
    "video/16bit-png": "png",
}
EXACT_FORMATS = ("video/h264-mp4", "video/webm", "image/gif", "video/ffmpeg-gif", "image/webp", "video/8bit-png")
QUANTIZATIONS = {
    "fp8_e4m3fn_fast": "fp8_e4m3fn",
    "fp8_e4m3fn_fast_no_ffn": "fp8_e4m3fn",
    "fp8_e5m2_fast": "fp8_e5m2",
    "fp8_e4m3fn_scaled_fast": "fp8_e4m3fn_scaled",
    "fp8_e5m2_scaled_fast": "fp8_e5m2_scaled",
    "default": "disabled",
}
_WEIGHTED = re.compile(r"\([^()]*:\s*-?\d+(\.\d+)?\s*\)")


def listed(value: Any) -> Any:
    """A list of numbers in a file is a tuple in settings; a whole number where a fraction may be is one."""
    if isinstance(value, list):
        return tuple(float(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in value)
    return value


def fraction(value: Any, at: At) -> Any:
    """A number."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def whole(value: Any, at: At) -> Any:
    """A whole number."""
    return as_number(value)


def text(value: Any, at: At) -> Any:
    """A prompt; by its role it is the positive or the negative one, or that of NAG."""
    if not isinstance(value, str):
        raise Refused(f"It is {type(value).__name__}, not text.")
    if _WEIGHTED.search(value):
        at.note("(word:1.3) weights it in ComfyUI; in wanlab the brackets and the number are text like any other.")
    if at.role == "negative":
        return Many(negative_prompt=value)
    if at.role != "nag":
        return Many(prompt=value)
    before = at.asked("negative_prompt")
    if before in (None, "", value) or at.asked("cfg") == 1:
        return Instead(negative_prompt=value)
    raise Refused("NAG takes negative_prompt here, which is another text for the negative pass.")


def negative(value: Any, at: At) -> Any:
    """The negative prompt beside a positive one in the same node."""
    if at.role == "nag":
        return Many()
    return Many(negative_prompt=value)


def solver(value: Any, at: At) -> Any:
    """WanVideoWrapper's scheduler."""
    if not isinstance(value, str) or value not in WRAPPER_SOLVERS:
        raise Refused(f"wanlab has no solver of this name, so solver stays; there are {', '.join(WRAPPER_SOLVERS)}.")
    name, schedule = WRAPPER_SOLVERS[value]
    if at.linked("sigmas"):
        return Many(solver=name)
    if value.endswith("/beta"):
        at.note("The beta levels are those of ComfyUI's scheduler of this name; WanVideoWrapper's lie a little elsewhere.")
    elif name == "euler" and schedule == "ideal":
        at.note(
            "wanlab's levels are the shift of even ones, as in ComfyUI's simple; WanVideoWrapper's euler starts lower and "
            "ends close to no noise."
        )
    elif name == "euler":
        at.note("WanVideoWrapper's own distilled stepping is Euler's on the four levels.")
    return Many(solver=name, schedule=schedule)


def end_step(value: Any, at: At) -> Any:
    """The step before which to stop: -1, or one behind the last, is all of them, which is 0 here."""
    steps, value = at.asked("steps"), as_number(value)
    if isinstance(value, int) and not isinstance(value, bool) and (value < 0 or (isinstance(steps, int) and value >= steps)):
        return 0
    return value


def strength(value: Any, at: At) -> Any:
    """WanVideoWrapper's denoise_strength."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        at.note("WanVideoWrapper makes one step more than this part of the steps.")
    return fraction(value, at)


def riflex(value: Any, at: At) -> Any:
    """0 is off."""
    return Many() if value == 0 else Many({"riflex.index": as_number(value)})


def start_of_cache(value: Any, at: At) -> Any:
    """The first step that may be skipped, as a part of all steps."""
    return _part(value, at)


def end_of_cache(value: Any, at: At) -> Any:
    """The last step that may be skipped; -1 is the last of all."""
    return 1.0 if value == -1 else _part(value, at)


def _part(value: Any, at: At) -> float:
    steps = at.asked("steps")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(steps, int) or steps < 1:
        raise Refused("It counts steps, and how many there are is not known.")
    return min(1.0, value / steps)


def cached(kind: str, threshold: str) -> Any:
    """The threshold of a kind of cache."""

    def read(value: Any, at: At) -> Any:
        if kind == "teacache" and (at.value("use_coefficients") is False or at.value("coefficients") == "disabled"):
            at.note("Without its coefficients the threshold means another change; wanlab's always has them.")
        if kind == "easycache":
            at.note("wanlab follows its authors; the node measures the change in another way, so try values around it.")
        return Many({"cache.kind": kind, threshold: fraction(value, at)})

    return read


def blocks_only(value: Any, at: At) -> Any:
    """Compile each block, or else the whole transformer."""
    return not value if isinstance(value, bool) else value


def quantization(value: Any, at: At) -> Any:
    """How weights are stored: the fast kinds are the same storage."""
    if isinstance(value, str) and value.endswith(("_fast", "_fast_no_ffn")):
        at.note("It is stored alike; wanlab multiplies in base_precision, slower and more exact than the fast kernels.")
    return QUANTIZATIONS.get(value, value) if isinstance(value, str) else value


def clip_format(value: Any, at: At) -> Any:
    """The file's format."""
    if not isinstance(value, str) or value not in FORMATS:
        raise Refused(f"wanlab writes mp4, webm, gif, webp and png, not {value}.")
    if value not in EXACT_FORMATS:
        at.note(f"wanlab's {FORMATS[value]} has another encoder than {value.partition('/')[2]}.")
    return FORMATS[value]


def model_file(value: Any, at: At) -> Any:
    """The transformer's file; which model it is, and of two which is which, is found out when all is read."""
    if not isinstance(value, str) or not value:
        raise Refused("It names no file.")
    return Many(transformers=value)


def vace_file(value: Any, at: At) -> Any:
    """The part of VACE beside a text-to-video model; both are one model in wanlab."""
    if not isinstance(value, str) or not value:
        raise Refused("It names no file.")
    return Many(vace=value)


def part_file(value: Any, at: At) -> Any:
    """The file of a text encoder, a VAE or CLIP vision."""
    if not isinstance(value, str) or not value:
        raise Refused("It names no file.")
    return Many() if at.hint("standard") == value else value


def picture(value: Any, at: At) -> Any:
    """The file of a picture or video, by what it is for."""
    if not isinstance(value, str) or not value:
        raise Refused("It names no file.")
    targets = {"image": "image", "end_image": "end_image", "samples": "samples"}
    if at.role == "seen":
        if value in (at.asked("image"), at.asked("end_image")):
            return Many()
        raise Refused("CLIP vision sees image and end_image themselves here; another picture for it alone cannot be given.")
    if at.role not in targets:
        raise Refused("A picture for this has no place in wanlab.")
    before = at.asked(targets[at.role])
    if before not in (None, value):
        raise Refused(f"{targets[at.role]} is one file, {before}.")
    at.note("The file is ComfyUI's, from its folder input; wanlab looks for it from the folder in which Python runs.")
    return Many({targets[at.role]: value})


def zero_steps(value: Any, at: At) -> Any:
    """CFG-Zero*: off, or on with so many steps that are left out."""
    if value is not True:
        return Many()
    zero = at.value("use_zero_init") is True
    last = at.value("zero_star_steps")
    count = last + 1 if zero and isinstance(last, int) else 1
    return Many({"cfg_zero": True, "cfg_zero.zero_steps": count if zero else 0})


def freeinit(value: Any, at: At) -> Any:
    """How often; nothing where the filter is none."""
    return Many() if at.value("freeinit_method") == "none" else Many({"freeinit": True, "freeinit.rounds": as_number(value)})


def of_freeinit(setting: str) -> Any:
    """Another setting of FreeInit, of which there is none without a filter."""

    def read(value: Any, at: At) -> Any:
        if at.value("freeinit_method") == "none":
            return Many()
        return Many({setting: value if isinstance(value, str) else fraction(value, at) if "cutoff" in setting else value})

    return read


def tile(value: Any, at: At) -> Any:
    """The side of a tile, which must be square."""
    return _square(value, at, "tile_x", "tile_y", "vae_tile")


def tile_stride(value: Any, at: At) -> Any:
    """From one tile to the next, which must be alike in both directions."""
    return _square(value, at, "tile_stride_x", "tile_stride_y", "vae_tile_stride")


def _square(value: Any, at: At, across: str, down: str, setting: str) -> Any:
    if at.value("enable_vae_tiling") is not True:
        return Many()
    if at.value(down) != value:
        at.note(f"wanlab's tiles are square: {across} is taken for both, and {down} ({at.value(down)}) is not.")
    return Many({setting: value})


def skipped(value: Any, at: At) -> Any:
    """The blocks that the negative pass skips: "9, 10"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def sigmas(value: Any, at: At) -> Any:
    """Noise levels given one by one; they say how many steps there are."""
    numbers = value
    if isinstance(value, str):
        try:
            numbers = [float(part) for part in re.split(r"[,\s]+", value.strip().strip("[]")) if part]
        except ValueError:
            raise Refused("It is no list of numbers.") from None
    if not isinstance(numbers, list) or not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
        raise Refused("It is no list of numbers.")
    levels = tuple(float(one) for one in numbers)
    if len(levels) < 2:
        raise Refused("It has no step.")
    inner = levels[:-1] if levels[-1] == 0 else levels
    return Many(steps=len(inner), sigmas=inner)
