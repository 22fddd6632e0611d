"""What groups of settings share: whether a group acts on a step, and the part of the steps that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo, field_validator

from wanlab.declare import Declared, knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


# Settings of a group that do not change what it does on a step: they decide on which steps it acts, or change only the start.
GATES = ("start_percent", "end_percent", "freenoise")


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


def start_knob(default: float = 0.0, comfy: str = "") -> Any:
    """Declare start_percent."""
    help = "Where it begins to act, as a fraction of the steps: at step i from i / steps >= start_percent on."
    return percent_knob(default, help, comfy)


def end_knob(default: float = 1.0, comfy: str = "") -> Any:
    """Declare end_percent."""
    return percent_knob(default, "Where it ends: step i is acted on while i / steps is at most end_percent.", comfy)


def percent_knob(default: float, help: str, comfy: str) -> Any:
    """Declare a part of the steps, 0 to 1."""
    return knob(default, help, affects="result", scope="step", low=0, high=1, step=0.05, comfy=comfy)


class PartSettings(Group):
    """What a technique acts on: a part of the steps."""

    start_percent: float = start_knob()
    end_percent: float = end_knob()

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


def latent(frames: int) -> int:
    """Latent frames of a clip: the first stands for one frame, each further one for four."""
    return (frames - 1) // 4 + 1


def check_frames(value: int) -> int:
    """The value, if it is a length that a clip can have; else ValueError."""
    if value % 4 != 1:
        below = max(1, (value - 1) // 4 * 4 + 1)
        raise ValueError(f"it must be 4n + 1, for example {below} or {below + 4}.")
    return value
