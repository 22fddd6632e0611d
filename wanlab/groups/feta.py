"""Settings of Enhance-A-Video (techniques/feta.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wanlab.declare import knob
from wanlab.groups.base import PartSettings, end_knob, start_knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


class FetaSettings(PartSettings):
    """Enhance-A-Video: frames are made to look at each other more, for steadier clips with more detail."""

    start_percent: float = start_knob(comfy="WanVideoEnhanceAVideo.start_percent")
    end_percent: float = end_knob(comfy="WanVideoEnhanceAVideo.end_percent")
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
        usual=(0, 10),
        simple=True,
    )

    def acts(self, step: int, settings: Settings) -> bool:
        """As for all parts; a single frame has no other one to look at."""
        return settings.frames > 1 and super().acts(step, settings)
