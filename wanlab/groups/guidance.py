"""Settings of the techniques of guidance: SLG, NAG, CFG-Zero* and APG."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from wanlab.declare import knob
from wanlab.errors import SettingsError
from wanlab.groups.base import Group, PartSettings, end_knob, start_knob

if TYPE_CHECKING:
    from wanlab.settings import Settings


class SlgSettings(PartSettings):
    """Skip-layer guidance: the negative prediction is made without some blocks, so that guidance leads away
    from bad structure.
    """

    blocks: str = knob(
        "4",
        'Which blocks the negative pass skips, counted from 0: "4", or "9, 10". Usual are 9 or 10 for Wan 14B (of 40).',
        affects="result",
        scope="step",
        comfy="WanVideoSLG.blocks",
    )
    start_percent: float = start_knob(0.1, comfy="WanVideoSLG.start_percent")
    end_percent: float = end_knob(comfy="WanVideoSLG.end_percent")

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

    def check(self, blocks: int) -> None:
        """Raise SettingsError if a model with so many blocks does not have one that is to be skipped, or keeps none."""
        rule = ""
        if self.skipped[-1] >= blocks:
            rule = f"this model has the blocks 0 to {blocks - 1}."
        elif len(self.skipped) == blocks:
            rule = "these are all blocks of the model. Leave one at least."
        if rule:
            raise SettingsError(f"slg.blocks is {self.blocks!r}; {rule}")

    def acts(self, step: int, settings: Settings) -> bool:
        """Without a negative pass there is nothing to skip."""
        return settings.cfg != 1 and super().acts(step, settings)


class NagSettings(PartSettings):
    """Normalized attention guidance: the negative prompt works inside cross-attention, also at cfg 1 and
    without a second pass.
    """

    scale: float = knob(
        11.0,
        "How far cross-attention is pushed from the negative prompt to the prompt: g = scale z_pos - (scale - 1) z_neg.",
        affects="result",
        scope="step",
        low=1,
        high=100,
        step=0.5,
        comfy="WanVideoApplyNAG.nag_scale",
        usual=(1, 20),
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
        usual=(0.1, 10),
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
        usual=(0, 5),
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
    """Adaptive projected guidance: what guidance adds along the prediction is taken away, against
    oversaturation at large cfg.
    """

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
        usual=(1, 100),
    )
    momentum: float = knob(
        0.0,
        "How much of the differences of earlier steps is added; the authors use negative values, such as -0.5.",
        affects="result",
        scope="step",
        low=-0.99,
        high=0.99,
        step=0.05,
        usual=(-0.95, 0.95),
    )

    def acts(self, step: int, settings: Settings) -> bool:
        """Where there is guidance."""
        return settings.cfg != 1 and super().acts(step, settings)

    def remembers(self) -> bool:
        """With momentum."""
        return self.momentum != 0
