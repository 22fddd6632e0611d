"""The settings of techniques: groups that are off until one of their settings, or their switch, is given. No torch.

What a technique does is in `techniques/`, one file each. Here is what can be known of it without a model: its settings, on
which steps it acts, whether it remembers earlier steps, and what it cannot go together with (`conflicts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import Declared, knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


class Group(Declared):
    """The settings of one technique."""

    def acts(self, step: int, settings: Settings) -> bool:
        """Whether it changes how the velocity of this step is predicted, in a run with these settings."""
        return True

    def remembers(self) -> bool:
        """Whether what it does on a step depends on what the model predicted on the steps before it."""
        return False

    def depends(self, step: int, settings: Settings) -> dict[str, Any]:
        """What decides about this step beside the values of the group, for the step's name."""
        return {}

    def beginning(self, settings: Settings) -> dict[str, Any]:
        """What it changes of the latents that the run starts from, for the first name; nothing if it is empty."""
        return {}


# Settings of a group that do not change what it does on a step: they decide on which steps it acts, or change only the start.
GATES = ("start_percent", "end_percent", "freenoise")


def _percent(default: float, help: str, comfy: str) -> Any:
    return knob(default, help, affects="result", scope="step", low=0, high=1, step=0.05, comfy=comfy)


def _start(default: float = 0.0, comfy: str = "") -> Any:
    help = "Where it begins to act, as a fraction of the steps: at step i from i / steps >= start_percent on."
    return _percent(default, help, comfy)


def _end(default: float = 1.0, comfy: str = "") -> Any:
    return _percent(default, "Where it ends: step i is acted on while i / steps is at most end_percent.", comfy)


class PartSettings(Group):
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
        """Whether this step is in the part; a run that starts later in the schedule counts from the schedule's beginning."""
        return self.start_percent <= (settings.first_step + step) / settings.steps <= self.end_percent


class FetaSettings(PartSettings):
    """Enhance-A-Video: frames are made to look at each other more, for steadier clips with more detail."""

    start_percent: float = _start(comfy="WanVideoEnhanceAVideo.start_percent")
    end_percent: float = _end(comfy="WanVideoEnhanceAVideo.end_percent")
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


class ContextSettings(Group):
    """Context windows: a clip longer than the model knows is predicted in overlapping stretches that are blended."""

    schedule: Literal["static_standard", "uniform_standard", "uniform_looped", "batched"] = knob(
        "static_standard",
        "Where the windows lie. static_standard: the same on every step. uniform_standard: they move from step to step, so that "
        "no seam stays in one place. uniform_looped: they also run over the end into the beginning, for clips that "
        "repeat. batched: one behind the other, without overlap.",
        affects="result",
        comfy="WanVideoContextOptions.context_schedule",
    )
    frames: int = knob(
        17,
        "Length of a window: 4n + 1 frames, at best the length that the model was trained on (81 for Wan). A clip that is not longer "
        "is one window, which is the same as none.",
        affects="result",
        low=1,
        high=1025,
        step=4,
        unit="frames",
        comfy="WanVideoContextOptions.context_frames",
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
    )
    overlap: int = knob(
        8,
        "How many frames neighbouring windows share, a multiple of 4, less than context.frames. More hides the seams better and "
        "costs more windows.",
        affects="result",
        low=0,
        high=1020,
        step=4,
        multiple_of=4,
        unit="frames",
        comfy="WanVideoContextOptions.context_overlap",
    )
    fuse: Literal["partition", "linear", "pyramid", "flat", "relative"] = knob(
        "partition",
        "How windows are blended where they overlap. partition: ramps that add up to one. linear and pyramid: those of the ComfyUI "
        "nodes. flat: the mean. relative: a running average by how near a frame is to the middle of its window, for static_standard.",
        affects="result",
        comfy="WanVideoContextOptions.fuse_method",
    )
    freenoise: bool = knob(
        False,
        "FreeNoise: the noise behind the first window is the noise of the first window, shuffled, so that all windows see the same and "
        "the look stays; motion then repeats itself more.",
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


class CacheSettings(PartSettings):
    """Caches: where the prediction changes little from step to step, the last one is used again instead of a call."""

    kind: Literal["teacache", "magcache", "easycache", "firstblock", "taylorseer"] = knob(
        "teacache",
        "By what it is told that little changes. teacache: the embedded timestep; magcache: a table of the model; both are "
        "known before the run. easycache: what the latents and predictions did; firstblock: the first block's output; "
        "both are decided on the way. taylorseer: every few steps the model computes, between them it is extrapolated.",
        affects="result",
        comfy="WanVideoSampler.cache_args",
    )
    threshold: float | None = knob(
        None,
        "How much change is let pass before the model computes again: the sum of changes since it last did. 0 skips "
        "nothing. Not given: a value that suits the kind and the model. taylorseer has none.",
        affects="result",
        scope="step",
        low=0,
        high=100,
        step=0.01,
        comfy="WanVideoTeaCache.rel_l1_thresh",
    )
    speed_up: float | None = knob(
        None,
        "Instead of a threshold: how many times fewer calls are wished, for example 1.8. The threshold that comes nearest is "
        "solved for. For teacache, magcache and taylorseer, whose calls are known before the run.",
        affects="result",
        low=1,
        high=20,
        step=0.1,
        unit="times",
    )
    max_skip: int | None = knob(
        None,
        "magcache: at most so many steps in a row are skipped. Not given: what suits the model.",
        affects="result",
        scope="step",
        low=1,
        high=100,
        step=1,
        comfy="WanVideoMagCache.magcache_K",
    )
    interval: int = knob(
        2,
        "taylorseer: from one step that the model computes to the next: 2 computes every second one.",
        affects="result",
        scope="step",
        low=1,
        high=100,
        step=1,
    )
    start_percent: float = _start(0.1, comfy="WanVideoTeaCache.start_step")
    end_percent: float = _end(comfy="WanVideoTeaCache.end_step")

    @field_validator("threshold")
    @classmethod
    def _check_threshold(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("kind") == "taylorseer":
            raise ValueError("taylorseer has none; give cache.interval, or take another cache.kind.")
        return value

    @field_validator("speed_up")
    @classmethod
    def _check_speed_up(cls, value: float | None, info: ValidationInfo) -> float | None:
        kind = info.data.get("kind")
        if value is not None and kind in ("easycache", "firstblock"):
            raise ValueError(
                f"{kind} decides on the way, so no threshold can be solved for; give cache.threshold, or take teacache, "
                "magcache or taylorseer."
            )
        if value is not None and info.data.get("threshold") is not None:
            raise ValueError("cache.threshold is given too; give one of the two.")
        return value

    def remembers(self) -> bool:
        """What is used again comes from an earlier step."""
        return True

    def warms_up(self, step: int, settings: Settings) -> bool:
        """Whether this is one of the first two steps on which it acts, of which taylorseer makes its first line."""
        return step < 2 or not self.acts(step - 2, settings)

    def depends(self, step: int, settings: Settings) -> dict[str, Any]:
        """What its rule knows of the step beside its noise level; a speed-up is solved for on the whole grid."""
        place = settings.first_step + step
        if self.speed_up is not None:
            part = [self.start_percent, self.end_percent]
            return {"grid": [float(sigma) for sigma in settings.grid.sigmas], "part": part, "place": [place, settings.steps]}
        if self.kind == "magcache":  # its table is stretched over all steps
            return {"place": [place, settings.steps]}
        if self.kind == "taylorseer":
            return {"warm": self.warms_up(step, settings)}
        return {"last": place == settings.steps - 1}


class SlgSettings(PartSettings):
    """Skip-layer guidance: the negative prediction is made without some blocks, so that guidance leads away from bad structure."""

    blocks: str = knob(
        "4",
        'Which blocks the negative pass skips, counted from 0: "4", or "9, 10". Usual are 9 or 10 for Wan 14B (of 40).',
        affects="result",
        scope="step",
        comfy="WanVideoSLG.blocks",
    )
    start_percent: float = _start(0.1, comfy="WanVideoSLG.start_percent")
    end_percent: float = _end(comfy="WanVideoSLG.end_percent")

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, value: str) -> str:
        if not re.fullmatch(r"\s*\d{1,3}\s*(,\s*\d{1,3}\s*)*", value):
            raise ValueError('it must be block numbers with commas between them, for example "9, 10".')
        return value

    @property
    def skipped(self) -> tuple[int, ...]:
        """The numbers of the blocks, in order."""
        return tuple(sorted({int(block) for block in self.blocks.split(",")}))

    def acts(self, step: int, settings: Settings) -> bool:
        """Without a negative pass there is nothing to skip."""
        return settings.cfg != 1 and super().acts(step, settings)


class NagSettings(PartSettings):
    """Normalized attention guidance: the negative prompt works inside cross-attention, also at cfg 1 and without a second pass."""

    scale: float = knob(
        11.0,
        "How far cross-attention is pushed from the negative prompt to the prompt: g = scale z_pos - (scale - 1) z_neg.",
        affects="result",
        scope="step",
        low=1,
        high=100,
        step=0.5,
        comfy="WanVideoApplyNAG.nag_scale",
    )
    tau: float = knob(
        2.5,
        "How many times the norm of z_pos the result may have at most.",
        affects="result",
        scope="step",
        low=0.1,
        high=100,
        step=0.1,
        comfy="WanVideoApplyNAG.nag_tau",
    )
    alpha: float = knob(
        0.25,
        "How much of the result is taken: alpha g + (1 - alpha) z_pos.",
        affects="result",
        scope="step",
        low=0,
        high=1,
        step=0.05,
        comfy="WanVideoApplyNAG.nag_alpha",
    )


class CfgZeroSettings(Group):
    """CFG-Zero*: the negative prediction is scaled to fit the positive one, and the first steps may be left out."""

    zero_steps: int = knob(
        1,
        "So many first steps are not predicted but taken as zero, since the first predictions of guidance are the worst; they "
        "cost no call of the model. 0 leaves out none.",
        affects="result",
        low=0,
        high=100,
        step=1,
    )

    def zero(self, step: int, settings: Settings) -> bool:
        """Whether the velocity of this step is taken as zero."""
        return settings.first_step + step < self.zero_steps

    def acts(self, step: int, settings: Settings) -> bool:
        """Where there is guidance, and on the zero steps."""
        return settings.cfg != 1 or self.zero(step, settings)

    def depends(self, step: int, settings: Settings) -> dict[str, Any]:
        """Zero or not."""
        return {"zero": self.zero(step, settings)}


class ApgSettings(PartSettings):
    """Adaptive projected guidance: what guidance adds along the prediction is taken away, against oversaturation at large cfg."""

    eta: float = knob(
        0.0,
        "How much of the part along the positive prediction is kept; 1 is plain guidance, 0 the authors' choice.",
        affects="result",
        scope="step",
        low=0,
        high=2,
        step=0.1,
    )
    norm_threshold: float | None = knob(
        None,
        "The largest norm that the difference of the predictions may have, over all of its numbers; not given: any.",
        affects="result",
        scope="step",
        low=0.01,
        high=100000,
        step=1,
    )
    momentum: float = knob(
        0.0,
        "How much of the differences of earlier steps is added; the authors use negative values, such as -0.5.",
        affects="result",
        scope="step",
        low=-0.99,
        high=0.99,
        step=0.05,
    )

    def acts(self, step: int, settings: Settings) -> bool:
        """Where there is guidance."""
        return settings.cfg != 1 and super().acts(step, settings)

    def remembers(self) -> bool:
        """With momentum."""
        return self.momentum != 0


class RiflexSettings(Group):
    """RIFLEx: one frequency of the rotary embedding in time makes less than a turn in the clip, so that it does not start over."""

    index: int = knob(
        2,
        "Which of the temporal frequencies is set to 0.9 of a turn over the clip, counted from 1, the fastest. 6 is usual for "
        "Wan. For clips longer than its own turn, which it then makes slower; in short clips it is made faster.",
        affects="result",
        low=1,
        high=64,
        step=1,
        comfy="WanVideoSampler.riflex_freq_index",
    )

    def acts(self, step: int, settings: Settings) -> bool:
        """A single frame does not turn."""
        return settings.frames > 1


class LoopSettings(PartSettings):
    """A clip that repeats without a seam (Mobius): on every step the latents are rolled in time before the model sees them."""

    shift: int = knob(
        2,
        "By how many latent frames more the clip is rolled on each step. 6 is usual for Wan's 21.",
        affects="result",
        low=1,
        high=1000,
        step=1,
        unit="latent frames",
        comfy="WanVideoLoopArgs.shift_skip",
    )
    start_percent: float = _start(comfy="WanVideoLoopArgs.start_percent")
    end_percent: float = _end(comfy="WanVideoLoopArgs.end_percent")

    def rolled(self, step: int, settings: Settings) -> int:
        """By how many latent frames this step is rolled."""
        return (settings.first_step + step) * self.shift % settings.latent_frames

    def acts(self, step: int, settings: Settings) -> bool:
        """Where the roll is not a whole turn."""
        return self.rolled(step, settings) != 0 and super().acts(step, settings)

    def depends(self, step: int, settings: Settings) -> dict[str, Any]:
        """The roll of this step."""
        return {"roll": self.rolled(step, settings)}


class FreeInitSettings(Group):
    """FreeInit: the clip is made several times, each time from noise that keeps the low frequencies of the last result."""

    rounds: int = knob(2, "How often the clip is made; each round costs all steps.", affects="result", low=2, high=10, step=1)
    filter: Literal["butterworth", "gaussian", "ideal", "box"] = knob(
        "butterworth", "The form of the low-pass filter over time, height and width.", affects="result"
    )
    order: int = knob(4, "butterworth: how steep it falls.", affects="result", low=1, high=20, step=1)
    spatial_cutoff: float = knob(
        0.25,
        "Up to which frequency in height and width the last result is kept, as a fraction of the highest one.",
        affects="result",
        low=0,
        high=1,
        step=0.05,
    )
    temporal_cutoff: float = knob(0.25, "The same in time.", affects="result", low=0, high=1, step=0.05)

    def acts(self, step: int, settings: Settings) -> bool:
        """It changes only what the run starts from."""
        return False

    def beginning(self, settings: Settings) -> dict[str, Any]:
        """All of it."""
        return {"freeinit": self.model_dump()}


def latent(frames: int) -> int:
    """Latent frames of a clip: the first stands for one frame, each further one for four."""
    return (frames - 1) // 4 + 1


def check_frames(value: int) -> int:
    """The value, if it is a length that a clip can have; else ValueError."""
    if value % 4 != 1:
        below = max(1, (value - 1) // 4 * 4 + 1)
        raise ValueError(f"it must be 4n + 1, for example {below} or {below + 4}.")
    return value


def conflicts(settings: Settings) -> Iterator[str]:
    """A sentence for everything in these settings that cannot go together."""
    image = settings.image or settings.end_image
    if settings.cfg_zero and settings.apg:
        yield "cfg_zero and apg are two formulas for the same guidance; turn one of them off."
    if settings.batched_cfg and settings.slg:
        yield "slg skips blocks of the negative pass alone, which batched_cfg makes together with the positive one; turn one of them off."
    if settings.batched_cfg and settings.nag:
        yield "nag changes the positive pass alone, which batched_cfg makes together with the negative one; turn one of them off."
    if settings.loop and (settings.cache or (settings.apg and settings.apg.momentum)):
        yield (
            f"loop rolls the clip on every step, so what {'cache' if settings.cache else 'apg.momentum'} keeps from the step before lies at "
            "other frames; turn one of them off."
        )
    if settings.loop and image:
        yield "loop rolls the clip in time, so an image cannot stay at its frame; turn loop off or leave the image out."
    if settings.context and settings.context.anchor == "start" and not image:
        yield "context.anchor is 'start'; it repeats the condition of an image, so give image, or take causal or none."
    if settings.context and settings.context.fuse == "relative" and settings.context.schedule != "static_standard":
        yield "context.fuse is 'relative'; it is for context.schedule static_standard, so take that or another fuse."
    if settings.cache and settings.cache.kind in ("firstblock", "taylorseer"):
        if settings.context and settings.context.schedule.startswith("uniform"):
            yield (
                f"cache.kind is {settings.cache.kind!r}; it needs windows that stay in their place, so take context.schedule "
                "static_standard or another cache."
            )
        if settings.slg:
            yield f"cache.kind is {settings.cache.kind!r}, which works inside the blocks that slg skips; take another cache or turn slg off."
    if settings.freeinit and (settings.samples or settings.end_step):
        yield "freeinit makes the clip anew from its own result; it cannot start from samples or end at end_step."
