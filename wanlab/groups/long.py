"""Settings for clips that are long or repeat, and for what they start from: RIFLEx, loop and FreeInit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from wanlab.declare import knob
from wanlab.errors import SettingsError
from wanlab.groups.base import Group, PartSettings, end_knob, start_knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


class RiflexSettings(Group):
    """RIFLEx: one frequency of the rotary embedding in time makes less than a turn in the clip, so that
    it does not start over.
    """

    index: int = knob(
        2,
        "Which of the temporal frequencies is set to 0.9 of a turn over the clip, counted from 1, the fastest. 6 is usual for "
        "Wan, where it turns in 51 latent frames. It is made slower in longer clips, and faster in shorter ones.",
        affects="result",
        low=1,
        high=64,
        step=1,
        comfy="WanVideoSampler.riflex_freq_index",
        usual=(1, 22),
    )

    def check(self, head_dim: int) -> None:
        """Raise SettingsError if heads of this many numbers do not have the temporal frequency.

        Of a head's numbers, height and width have 2 (head_dim // 6) each, and time has the others, two for each frequency.
        """
        frequencies = head_dim // 2 - 2 * (head_dim // 6)
        if self.index > frequencies:
            raise SettingsError(f"riflex.index is {self.index}; this model has the temporal frequencies 1 to {frequencies}.")

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
        usual=(1, 20),
    )
    start_percent: float = start_knob(comfy="WanVideoLoopArgs.start_percent")
    end_percent: float = end_knob(comfy="WanVideoLoopArgs.end_percent")

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
