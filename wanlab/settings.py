"""The settings of a run, declared once.

From these declarations come the command line flags, the columns of the log, the names of the steps in the store,
`docs/settings.md`, the checks and their messages. Adding a setting means adding a field here (and the code that obeys
it), nothing else.

What a declaration says, its `affects` and `scope`, is in declare.py; the groups of techniques are in groups/, and the
settings of the finished clip and of the model in clip_settings.py and model_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import ValidationInfo, field_validator, model_validator

from wanlab import groups
from wanlab.clip_settings import ClipSettings
from wanlab.declare import (
    PER_STEP,
    SWITCH,
    Asked,
    Declared,
    Setting,
    declarations,
    in_bounds,
    knob,
    switches,
    unknown,
)
from wanlab.errors import SettingsError
from wanlab.model_settings import ModelSettings as ModelSettings

if TYPE_CHECKING:
    from wanlab.schedule import Grid

PER_STEP_SETTINGS = ("cfg", "lora_strength")  # these may be a list with a value for each step of the run
INPUTS = ("image", "end_image", "samples")  # these hold the name of a kept picture, clip or latents (inputs.py)


class Settings(Asked):
    """What is asked for. Frozen; `settings.but({"cfg": 3})` gives a changed copy."""

    prompt: str = knob(
        "a red circle moves right on a blue background",
        "What the clip shows.",
        affects="result",
        scope="step",
        comfy="WanVideoTextEncode.positive_prompt",
        simple=True,
        text="area",
    )
    negative_prompt: str = knob(
        "",
        "What it should not show: the branch that cfg pushes away from. Unused at cfg 1.",
        affects="result",
        scope="step",
        comfy="WanVideoTextEncode.negative_prompt",
        simple=True,
        text="area",
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
        usual=(64, 1280),
        simple=True,
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
        usual=(64, 1280),
        simple=True,
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
        usual=(1, 161),
        simple=True,
    )
    steps: int = knob(
        20,
        "Steps of the solver from noise to clip. Each costs one or, with cfg, two passes of the model.",
        affects="result",
        low=1,
        high=1000,
        step=1,
        comfy="WanVideoSampler.steps",
        usual=(1, 60),
        simple=True,
    )
    cfg: Annotated[float | tuple[float, ...], PER_STEP] = knob(
        3.0,
        "Classifier-free guidance: how far the prediction is pushed from the negative prompt to the prompt, "
        "v = v_neg + cfg (v_pos - v_neg). 1 needs no negative pass and takes half the time. A list has a value for each "
        "of the steps.",
        affects="result",
        scope="step",
        low=0,
        high=30,
        step=0.5,
        comfy="WanVideoSampler.cfg",
        listed=True,
        usual=(1, 10),
        simple=True,
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
        usual=(1, 16),
        simple=True,
    )
    schedule: Literal[
        "solver",
        "ideal",
        "wan_unipc",
        "wan_dpmpp",
        "diffusers_unipc",
        "simple",
        "normal",
        "sgm_uniform",
        "beta",
        "ddim_uniform",
        "linear_quadratic",
        "kl_optimal",
        "distilled",
    ] = knob(
        "solver",
        "The noise levels before the shift. solver: those that suit the solver. ideal: even levels. wan_unipc, wan_dpmpp: "
        "Wan's own code. diffusers_unipc: diffusers. simple to kl_optimal: ComfyUI's schedulers of these names. distilled: "
        "the four levels of the 4-step models (steps must be 4).",
        affects="result",
        comfy="KSampler.scheduler",
    )
    sigmas: Annotated[tuple[float, ...] | None, PER_STEP] = knob(
        None,
        "The noise levels themselves, falling, one for each of the steps; the shift is not applied to them. Not given: as "
        "schedule and shift say.",
        affects="result",
        low=0,
        high=1,
        step=0.01,
        comfy="WanVideoSampler.sigmas",
        listed=True,
    )
    solver: Literal["unipc", "euler", "dpm++", "dpm++_sde"] = knob(
        "unipc",
        "How a velocity becomes a step: UniPC (order 2), Euler, DPM++ 2M, or its stochastic form DPM++ 2M SDE.",
        affects="result",
        comfy="WanVideoSampler.scheduler",
        simple=True,
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
        simple=True,
    )
    batched_cfg: bool = knob(
        False,
        "Make the positive and the negative pass as one pass of two clips: more memory, on a GPU often less time. The last "
        "bits of the velocities differ.",
        affects="result",
        scope="step",
        comfy="WanVideoSampler.batched_cfg",
    )
    lora_strength: Annotated[float | tuple[float, ...], PER_STEP] = knob(
        1.0,
        "Factor on the strength of all LoRAs that are not merged into the weights. A list has a value for each of the steps.",
        affects="result",
        scope="step",
        low=-10,
        high=10,
        step=0.1,
        listed=True,
        usual=(0, 2),
    )
    start_step: int = knob(
        0,
        "The first step that is made; those before are left out. With samples that another run left at this step (its "
        "end_step) and add_noise off, the run goes on from there.",
        affects="result",
        low=0,
        high=999,
        step=1,
        comfy="WanVideoSampler.start_step",
        usual=(0, 60),
    )
    end_step: int = knob(
        0,
        "Stop before this step, with noise left; 0 makes all steps. The clip is then what the model believes it to be.",
        affects="result",
        low=0,
        high=1000,
        step=1,
        comfy="WanVideoSampler.end_step",
        usual=(0, 60),
    )
    start_sigma: float | None = knob(
        None,
        "Begin at the first noise level that is not above this one: denoise_strength for those who think in noise.",
        affects="result",
        low=0,
        high=1,
        step=0.05,
    )
    samples: str = knob(
        "",
        "A clip to start from: a run, frames, latents or a file. The run begins at a lower noise level (denoise_strength) with "
        "this clip behind the noise.",
        affects="result",
        comfy="WanVideoSampler.samples",
        text="file",
    )
    denoise_strength: float = knob(
        1.0,
        "With samples: which part of the steps is made, from the end. 1 forgets the clip, 0.5 makes the last half of the "
        "steps; the plan shows the noise level that this means.",
        affects="result",
        low=0,
        high=1,
        step=0.05,
        comfy="WanVideoSampler.denoise_strength",
    )
    add_noise: bool = knob(
        True,
        "Add noise of the first level to samples. Off: they have it already, as those that another run left at end_step.",
        affects="result",
        comfy="WanVideoSampler.add_noise_to_samples",
    )
    image: str = knob(
        "",
        "The picture that the clip begins with, for image-to-video and VACE models: a picture, frames or a file. Several "
        "frames (4n + 1) are all kept.",
        affects="result",
        comfy="WanVideoImageToVideoEncode.start_image",
        simple=True,
        text="file",
    )
    end_image: str = knob(
        "",
        "The picture that the clip ends with, for image-to-video and VACE models.",
        affects="result",
        comfy="WanVideoImageToVideoEncode.end_image",
        text="file",
    )
    noise_aug_strength: float = knob(
        0.0,
        "Noise on the pictures before they are encoded, as a multiple of half their range: more motion, less faithful.",
        affects="result",
        low=0,
        high=10,
        step=0.01,
        comfy="WanVideoImageToVideoEncode.noise_aug_strength",
        usual=(0, 1),
    )
    start_latent_strength: float = knob(
        1.0,
        "Factor on the first latent frames of the condition, those of image.",
        affects="result",
        low=0,
        high=10,
        step=0.05,
        comfy="WanVideoImageToVideoEncode.start_latent_strength",
        usual=(0, 2),
    )
    end_latent_strength: float = knob(
        1.0,
        "Factor on the last latent frame of the condition, that of end_image.",
        affects="result",
        low=0,
        high=10,
        step=0.05,
        comfy="WanVideoImageToVideoEncode.end_latent_strength",
        usual=(0, 2),
    )
    clip_embed_strength: float = knob(
        1.0,
        "Factor on what CLIP vision sees in the pictures.",
        affects="result",
        low=0,
        high=10,
        step=0.05,
        comfy="WanVideoClipVisionEncode.strength_1",
        usual=(0, 2),
    )
    vace_strength: float = knob(
        1.0,
        "Of VACE models: factor on what its own blocks, which read the known frames and the mask, say to the others.",
        affects="result",
        low=0,
        high=10,
        step=0.05,
        comfy="WanVideoVACEEncode.strength",
        usual=(0, 2),
    )
    clip: ClipSettings = ClipSettings()

    feta: Annotated[groups.FetaSettings | None, SWITCH] = None
    context: Annotated[groups.ContextSettings | None, SWITCH] = None
    cache: Annotated[groups.CacheSettings | None, SWITCH] = None
    slg: Annotated[groups.SlgSettings | None, SWITCH] = None
    nag: Annotated[groups.NagSettings | None, SWITCH] = None
    cfg_zero: Annotated[groups.CfgZeroSettings | None, SWITCH] = None
    apg: Annotated[groups.ApgSettings | None, SWITCH] = None
    riflex: Annotated[groups.RiflexSettings | None, SWITCH] = None
    loop: Annotated[groups.LoopSettings | None, SWITCH] = None
    freeinit: Annotated[groups.FreeInitSettings | None, SWITCH] = None

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _check_text(cls, value: str) -> str:
        if "\0" in value or (not value.isascii() and value != value.encode("utf-8", "ignore").decode()):
            raise ValueError("it must be text that can be written as UTF-8, without NUL characters.")
        return value

    @field_validator("frames")
    @classmethod
    def _check_frames(cls, value: int) -> int:
        return groups.check_frames(value)

    @field_validator(*PER_STEP_SETTINGS)
    @classmethod
    def _check_lists(cls, value: float | tuple[float, ...], info: ValidationInfo) -> float | tuple[float, ...]:
        if isinstance(value, tuple):
            wanted = info.data.get("steps", len(value))
            if len(value) != wanted:
                raise ValueError(f"a list has a value for each of the {wanted} steps, and this one has {len(value)}.")
        setting = declared()[str(info.field_name)]
        in_bounds(value, cast(float, setting.low), cast(float, setting.high))
        return value

    @field_validator("sigmas")
    @classmethod
    def _check_sigmas(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        in_bounds(value, 0, 1)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        for sentence in (*self._grid_conflicts(), *groups.conflicts(self)):
            raise ValueError(sentence)
        return self

    def _grid_conflicts(self) -> Iterator[str]:
        """A sentence for what is wrong with the noise levels and the part of them that is visited."""
        if self.sigmas is not None and self.schedule != "solver":
            yield "sigmas are the noise levels themselves, so schedule has no say; leave one of the two out."
        try:
            first = self._first()
        except ValueError as error:
            yield str(error)
            return
        begins = [self.start_step > 0, self.start_sigma is not None, self.denoise_strength < 1]
        if sum(begins) > 1:
            yield "start_step, start_sigma and denoise_strength each say where the run begins; give one of them."
        if self.denoise_strength < 1 and not self.samples:
            yield f"denoise_strength is {self.denoise_strength:g}; it needs samples, a clip to start from."
        if not self.add_noise and not self.samples:
            yield "add_noise is False; it needs samples, which have their noise already."
        stop = self.end_step or self.steps
        if stop > self.steps:
            yield f"end_step is {self.end_step}; it must be at most steps, which is {self.steps}."
        elif first >= stop:
            yield (
                f"of the {self.steps} steps none is left: the run would begin at step {first} and stop before step {stop}. "
                "Raise denoise_strength or steps, or lower start_step."
            )

    def levels(self) -> Grid:
        """All noise levels of the schedule, also those that the run leaves out; ValueError if there are none of this kind."""
        from wanlab.schedule import grid  # numpy, which the command line's help does without

        return grid(self.solver, self.steps, self.shift, self.schedule, self.sigmas)

    def _first(self) -> int:
        """The first step that is made; ValueError for noise levels that there are not, where these were asked for."""
        unusual = self.schedule != "solver" or self.sigmas is not None or self.start_sigma is not None or self.steps > 500
        levels = self.levels() if unusual else None
        if self.start_sigma is not None and levels is not None:
            return int((levels.sigmas[:-1] > self.start_sigma + 1e-9).sum())
        if self.denoise_strength < 1:
            return self.steps - int(self.steps * self.denoise_strength + 1e-9)
        return self.start_step

    @property
    def first_step(self) -> int:
        """How many steps of the schedule are left out at its beginning."""
        return self._span[0]

    @cached_property
    def _span(self) -> tuple[int, Grid]:
        from wanlab.schedule import Grid

        levels = self.levels()
        first, stop = self._first(), self.end_step or len(levels)
        return first, Grid(levels.sigmas[first : stop + 1], levels.timesteps[first:stop])

    @property
    def grid(self) -> Grid:
        """The noise levels that the run visits; `len(settings.grid)` is how many steps it makes."""
        return self._span[1]

    def at(self, step: int) -> Settings:
        """These settings with the values that lists have for this step of the run."""
        lists = {name: value for name in PER_STEP_SETTINGS if isinstance(value := getattr(self, name), tuple)}
        here = {name: values[self.first_step + step] for name, values in lists.items()}
        return self.model_copy(update=here) if here else self

    def acting(self, step: int) -> dict[str, groups.Group]:
        """The techniques that act on this step, by the names of their groups."""
        groups = {name: getattr(self, name) for name in switches(Settings)}
        return {name: group for name, group in groups.items() if group is not None and group.acts(step, self)}

    @property
    def sections(self) -> list[str]:
        """The prompt's sections, "a | b | c", of which each context window gets one; without windows all of it is one."""
        if self.context is None or not self.context.acts(0, self):
            return [self.prompt]
        return [part.strip() for part in self.prompt.split("|")]

    @property
    def latent_frames(self) -> int:
        """Latent frames: the first stands for one frame, each further one for four."""
        return groups.latent(self.frames)


def declared(model: type[Declared] = Settings) -> dict[str, Setting]:
    """Every setting by its dotted name, in the order of declaration."""
    return declarations(model)


def check_name(name: str) -> Setting:
    """The declaration of this setting, or of the group that it turns on or off; SettingsError names the nearest ones."""
    known = declared() | switches(Settings)
    if name in known:
        return known[name]
    raise SettingsError(unknown(name, Settings))
