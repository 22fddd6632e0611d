"""What cannot go together, of the techniques and with what a run starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanlab.settings import Settings


def conflicts(settings: Settings) -> Iterator[str]:
    """A sentence for everything in these settings that cannot go together."""
    image = settings.image or settings.end_image
    if settings.cfg_zero and settings.apg:
        yield "cfg_zero and apg are two formulas for the same guidance; turn one of them off."
    if settings.batched_cfg and settings.slg:
        yield (
            "slg skips blocks of the negative pass alone, which batched_cfg makes together with the positive one; "
            "turn one of them off."
        )
    if settings.batched_cfg and settings.nag:
        yield (
            "nag changes the positive pass alone, which batched_cfg makes together with the negative one; turn one of them off."
        )
    if settings.loop and (settings.cache or (settings.apg and settings.apg.momentum)):
        yield (
            f"loop rolls the clip on every step, so what {'cache' if settings.cache else 'apg.momentum'} keeps from the step "
            "before lies at other frames; turn one of them off."
        )
    if settings.loop and image:
        yield "loop rolls the clip in time, so an image cannot stay at its frame; turn loop off or leave the image out."
    if settings.context and settings.context.anchor == "start" and not image:
        yield "context.anchor is 'start'; it repeats the condition of an image, so give image, or take causal or none."
    if settings.context and settings.context.fuse == "relative" and settings.context.schedule != "static_standard":
        yield "context.fuse is 'relative'; it is for context.schedule static_standard, so take that or another fuse."
    if settings.freeinit and (settings.samples or settings.end_step):
        yield "freeinit makes the clip anew from its own result; it cannot start from samples or end at end_step."
