"""Settings of context windows (techniques/context.py), and where the windows of a step lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import knob
from wanlab.groups.base import Group, check_frames, latent

if TYPE_CHECKING:
    from wanlab.settings import Settings


class ContextSettings(Group):
    """Context windows: a clip longer than the model knows is predicted in overlapping stretches that are blended."""

    schedule: Literal["static_standard", "uniform_standard", "uniform_looped", "batched"] = knob(
        "static_standard",
        "Where the windows lie. static_standard: the same on every step. uniform_standard: they move from step to step, so "
        "that no seam stays in one place. uniform_looped: they also run over the end into the beginning, for clips that "
        "repeat. batched: one behind the other, without overlap.",
        affects="result",
        comfy="WanVideoContextOptions.context_schedule",
    )
    frames: int = knob(
        17,
        "Length of a window: 4n + 1 frames, at best the length that the model was trained on (81 for Wan). A clip that is not "
        "longer is one window, which is the same as none.",
        affects="result",
        low=1,
        high=1025,
        step=4,
        unit="frames",
        comfy="WanVideoContextOptions.context_frames",
        usual=(5, 161),
        simple=True,
    )
    stride: int = knob(
        4,
        "The uniform schedules only: 4 makes windows of consecutive frames; 8 adds windows of every second latent frame, 12 "
        "also of every fourth. It is no sampling rate: a larger stride means more windows and more work.",
        affects="result",
        low=4,
        high=100,
        step=4,
        multiple_of=4,
        unit="frames",
        comfy="WanVideoContextOptions.context_stride",
        usual=(4, 16),
    )
    overlap: int = knob(
        8,
        "How many frames neighbouring windows share, a multiple of 4, less than context.frames. More hides the seams better "
        "and costs more windows.",
        affects="result",
        low=0,
        high=1020,
        step=4,
        multiple_of=4,
        unit="frames",
        comfy="WanVideoContextOptions.context_overlap",
        usual=(0, 40),
        simple=True,
    )
    fuse: Literal["partition", "linear", "pyramid", "flat", "relative"] = knob(
        "partition",
        "How windows are blended where they overlap. partition: ramps that add up to one. linear and pyramid: those of the "
        "ComfyUI nodes. flat: the mean. relative: a running average by how near a frame is to the middle of its window, for "
        "static_standard.",
        affects="result",
        comfy="WanVideoContextOptions.fuse_method",
    )
    freenoise: bool = knob(
        False,
        "FreeNoise: the noise behind the first window is the noise of the first window, shuffled, so that all windows see the "
        "same and the look stays; motion then repeats itself more.",
        affects="result",
        comfy="WanVideoContextOptions.freenoise",
    )
    closed_loop: bool = knob(
        True,
        "The uniform schedules only: lay windows so that the end meets the beginning.",
        affects="result",
    )
    anchor: Literal["none", "start", "causal"] = knob(
        "none",
        "What the first place of a later window holds; the model takes it for the single first frame of a clip. none: the "
        "window's own frame. start: with an image, the condition of the clip's first frame, so that every window "
        "returns to the image. causal: the frame before the window is put in front and thrown away again.",
        affects="result",
        comfy="ContextWindowsManual.causal_window_fix",
    )

    @field_validator("frames")
    @classmethod
    def _check_frames(cls, value: int) -> int:
        return check_frames(value)

    @field_validator("overlap")
    @classmethod
    def _check_overlap(cls, value: int, info: ValidationInfo) -> int:
        frames = info.data.get("frames")
        if frames and value // 4 >= latent(frames):
            fits = (latent(frames) - 1) * 4
            raise ValueError(f"it must be less than context.frames, which is {frames}: at most {fits}.")
        return value

    @property
    def length(self) -> int:
        """Latent frames of a window."""
        return latent(self.frames)

    def acts(self, step: int, settings: Settings) -> bool:
        """Only on clips that are longer than a window."""
        return settings.latent_frames > self.length

    def windows(self, step: int, settings: Settings) -> list[list[int]]:
        """The latent frames of each window of a step."""
        from wanlab.windows import windows

        where = settings.latent_frames, self.length, self.stride // 4, self.overlap // 4
        return windows(self.schedule, *where, settings.first_step + step, self.closed_loop)

    def depends(self, step: int, settings: Settings) -> dict[str, Any]:
        """The uniform schedules move with the number of the step."""
        return {"step": settings.first_step + step} if self.schedule.startswith("uniform") else {}

    def beginning(self, settings: Settings) -> dict[str, Any]:
        """FreeNoise is noise in another order."""
        acts = self.freenoise and self.acts(0, settings)
        return {"freenoise": [self.length, self.overlap // 4]} if acts else {}
