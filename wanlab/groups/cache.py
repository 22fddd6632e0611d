"""Settings of the caches (techniques/cache.py); the rules by which they skip are in skips.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from wanlab.declare import knob
from wanlab.groups.base import PartSettings, end_knob, start_knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


class CacheSettings(PartSettings):
    """Caches: where the prediction changes little from step to step, the last one is used again instead of a call."""

    kind: Literal["teacache", "magcache", "easycache", "firstblock", "taylorseer"] = knob(
        "teacache",
        "By what it is told that little changes. teacache: the embedded timestep; magcache: a table of the model; both are "
        "known before the run. easycache: what the latents and predictions did; firstblock: the first block's output; "
        "both are decided on the way. taylorseer: every few steps the model computes, between them it is extrapolated.",
        affects="result",
        comfy="WanVideoSampler.cache_args",
        simple=True,
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
        usual=(0, 1),
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
        usual=(1, 4),
        simple=True,
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
        usual=(1, 10),
    )
    interval: int = knob(
        2,
        "taylorseer: from one step that the model computes to the next: 2 computes every second one.",
        affects="result",
        scope="step",
        low=1,
        high=100,
        step=1,
        usual=(1, 6),
    )
    start_percent: float = start_knob(0.1, comfy="WanVideoTeaCache.start_step")
    end_percent: float = end_knob(comfy="WanVideoTeaCache.end_step")

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
