"""How the values of the nodes of ComfyUI itself and of KJNodes become settings, where it is not the same number. No torch."""

from __future__ import annotations

from typing import Any

from wanlab.comfy.kinds import At, Many, Refused
from wanlab.comfy.readings import fraction, skipped
from wanlab.settings import declared

# ComfyUI's own samplers as solvers, those first that are written.
SAMPLERS = {
    "euler": "euler",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    "dpmpp_2m": "dpm++",
    "dpmpp_2m_sde": "dpm++_sde",
    "dpmpp_2m_sde_gpu": "dpm++_sde",
}
SCHEDULERS = ("simple", "normal", "sgm_uniform", "beta", "ddim_uniform", "linear_quadratic", "kl_optimal")
_MOST_STEPS = int(declared()["steps"].high or 0)


def sampler(value: Any, at: At) -> Any:
    """ComfyUI's sampler_name."""
    found = SAMPLERS.get(value) if isinstance(value, str) else None
    if found is None:
        raise Refused(f"wanlab has no solver of this name, so solver stays; there are {', '.join(SAMPLERS)}.")
    if found == "dpm++_sde":
        at.note("Its noise is another one than ComfyUI's, so the clip differs though the settings are alike.")
    elif found == "unipc":
        at.note("It is UniPC of order 2 as in diffusers; ComfyUI's own drops the level before the last.")
    return found


def schedule(value: Any, at: At) -> Any:
    """ComfyUI's scheduler."""
    if value not in SCHEDULERS:
        raise Refused(f"wanlab has no schedule of this name, so schedule stays; there are {', '.join(SCHEDULERS)}.")
    return value


def denoise(value: Any, at: At) -> Any:
    """ComfyUI's denoise, which makes `steps` steps of a longer schedule."""
    if value == 1:
        return Many()
    steps = at.asked("steps")
    if not isinstance(value, int | float) or not 0 < value < 1 or not isinstance(steps, int):
        raise Refused("It must be more than 0 and at most 1.")
    longer = int(min(steps / value, _MOST_STEPS + 1))
    if longer > _MOST_STEPS:
        raise Refused(f"It means a schedule of more than {_MOST_STEPS} steps.")
    at.note(f"ComfyUI makes the last {steps} of {longer} steps; here steps says {longer}, of which this part is made.")
    return Many(steps=longer, denoise_strength=steps / longer)


def saved_as(format: str) -> Any:
    """The frame rate of a node that writes one format only."""

    def read(value: Any, at: At) -> Any:
        return Many({"clip.frame_rate": fraction(value, at), "clip.format": format})

    return read


def zero_init(value: Any, at: At) -> Any:
    """KJNodes' CFG-Zero*, which is on because the node is there."""
    last = at.value("zero_init_steps")
    return Many({"cfg_zero": True, "cfg_zero.zero_steps": last + 1 if value is True and isinstance(last, int) else 0})


def native_tile(value: Any, at: At) -> Any:
    """ComfyUI's own tiled decoding: a side and an overlap."""
    overlap = at.value("overlap")
    stride = value - overlap if isinstance(value, int) and isinstance(overlap, int) else None
    return Many(vae_tiling=True, vae_tile=value, **({} if stride is None else {"vae_tile_stride": stride}))


def sage(value: Any, at: At) -> Any:
    """KJNodes' choice of SageAttention."""
    if value in ("disabled", False):
        return Many()
    if value != "auto":
        at.note("Which of its kernels is used, SageAttention chooses itself.")
    return "sageattn"


def skipped_in_third(value: Any, at: At) -> Any:
    """The blocks that ComfyUI skips in a pass of its own."""
    at.note("ComfyUI makes a third pass without these blocks; here the negative pass leaves them out.")
    return skipped(value, at)


def zero_star(value: Any, at: At) -> Any:
    """ComfyUI's CFG-Zero*, which leaves out no step."""
    return Many({"cfg_zero": True, "cfg_zero.zero_steps": 0})


def zeros(value: Any, at: At) -> Any:
    """Zeros as negative prompt mean nothing where there is no negative pass."""
    if at.asked("cfg") == 1:
        return Many()
    raise Refused("Zeros in place of a text are not made; negative_prompt is empty text.")


def native_overlap(value: Any, at: At) -> Any:
    """Frames that windows share: ComfyUI's count is 4n + 1 like a clip's, wanlab's 4n."""
    if isinstance(value, int) and not isinstance(value, bool):
        frames = max((value - 1) // 4 + 1, 0) * 4
        if frames != value:
            at.note(f"ComfyUI makes {frames // 4} latent frames of {value}, which are {frames} frames here.")
        return frames
    return value


def native_stride(value: Any, at: At) -> Any:
    """The stride in latent frames as one in frames."""
    return value * 4 if isinstance(value, int) and not isinstance(value, bool) else value


NATIVE_SCHEDULES = {
    "standard_static": "static_standard",
    "standard_uniform": "uniform_standard",
    "looped_uniform": "uniform_looped",
    "batched": "batched",
}
NATIVE_FUSES = {"pyramid": "pyramid", "relative": "relative", "flat": "flat", "overlap-linear": "linear"}


def native_schedule(value: Any, at: At) -> Any:
    """ComfyUI's name for where windows lie."""
    return NATIVE_SCHEDULES.get(value, value) if isinstance(value, str) else value


def native_fuse(value: Any, at: At) -> Any:
    """ComfyUI's name for how they are blended."""
    return NATIVE_FUSES.get(value, value) if isinstance(value, str) else value


def native_format(value: Any, at: At) -> Any:
    """The container of ComfyUI's own SaveVideo."""
    return "mp4" if value in ("auto", "mp4") else value


def as_pictures(value: Any, at: At) -> Any:
    """Pictures one by one."""
    return Many({"clip.format": "png"})
