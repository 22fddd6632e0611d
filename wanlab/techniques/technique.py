"""What a technique is: a change to how velocities are predicted, in one file. The loop knows none of them by name.

A step's velocity is predicted by functions that wrap each other, from the inside out:

    call        one pass of the model: a branch of guidance over some latent frames
    cache       may answer instead of the model
    context     splits the frames into windows and blends what comes back
    guidance    asks for the positive and the negative branch, and combines them
    loop, ...   sees the whole clip

Each is a `Predict`: it takes an `Ask` (which branch, which latent frames) and the latents of these frames, and returns their
velocity. `attach` changes the inside of the transformer for the time of one step, and undoes it whatever happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

from wanlab.errors import ModelError
from wanlab.model.model import Model
from wanlab.outline import BOTH, NEGATIVE, POSITIVE, Outline
from wanlab.settings import Settings

GUIDED = "guided"  # the branch that is asked of guidance: all branches combined

__all__ = ["BOTH", "GUIDED", "NEGATIVE", "POSITIVE", "Ask", "Moment", "Predict", "Technique", "attentions", "patched"]


@dataclass(frozen=True)
class Ask:
    """What is to be predicted: a branch (GUIDED, POSITIVE, NEGATIVE, BOTH) over some latent frames.

    `frames` are the numbers of the latent frames that the latents hold. `condition` says, for image-to-video models,
    the condition of which latent frame each of them gets; None: its own. `window` is the window whose prompt counts, if
    a prompt has sections: without a frame that was put in front.
    """

    branch: str
    frames: tuple[int, ...]
    condition: tuple[int, ...] | None = None
    window: tuple[int, ...] | None = None

    def of(self, branch: str) -> Ask:
        """The same frames of another branch."""
        return replace(self, branch=branch)


Predict = Callable[[Ask, Tensor], Tensor]  # latents (b, 16, t, h, w) float32 -> velocity of the same shape


@dataclass
class Moment:
    """One step of a run while it is predicted.

    `settings` are those in force. `memory` lives as long as the run is computed: techniques that remember keep there,
    under their name, what they saw on the steps before. `notes` are numbers that are stored with the step. `ask` is the
    call of the model that is being made, None between calls.
    """

    index: int
    timestep: Tensor
    settings: Settings
    model: Model
    outline: Outline
    memory: dict[str, Any]
    notes: dict[str, float] = field(default_factory=dict)
    ask: Ask | None = None

    @property
    def transformer(self) -> WanTransformer3DModel:
        """The transformer that predicts on this step."""
        return self.model.transformer_at(self.timestep)

    def remembered(self, technique: str, make: Callable[[], Any]) -> Any:
        """What a technique keeps from step to step: made anew where a stretch of steps begins on which it acts.

        Where another transformer takes over a stretch begins too.
        """
        begins = self.outline.begins(technique, self.index)
        kept = self.memory.get(technique)
        if kept is None or kept[0] != begins:
            kept = self.memory[technique] = (begins, make())
        return kept[1]


class Technique:
    """One technique on one step. `options` are the settings of its group, `moment` the step."""

    def __init__(self, options: Any, moment: Moment) -> None:
        self.options, self.moment = options, moment

    def attach(self, transformer: Any) -> contextlib.AbstractContextManager[None]:
        """A context in which the inside of the transformer is changed; after it all is as before."""
        return contextlib.nullcontext()

    def around(self, predict: Predict) -> Predict:
        """The prediction with this technique around it."""
        return predict

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor | None:
        """The guided velocity of two branches, for techniques that are a formula of guidance; None for all others."""
        return None


def attentions(transformer: WanTransformer3DModel, name: str, technique: str) -> list[Any]:
    """The attention "attn1" (self) or "attn2" (cross) of all blocks; ModelError if a block has none that we can change."""
    found = [getattr(block, name, None) for block in transformer.blocks]
    if not found or not all(isinstance(getattr(one, "processor", None), WanAttnProcessor) for one in found):
        kind = "self-attention" if name == "attn1" else "cross-attention"
        raise ModelError(
            f"{technique} finds blocks without diffusers' {kind} of Wan in this transformer; turn {technique} off."
        )
    return found


@contextlib.contextmanager
def patched(modules: Any, name: str, make: Callable[[int, Any], Any]) -> Iterator[None]:
    """Within, attribute `name` of the i-th module is `make(i, what it was)`; afterwards it is what it was.

    For `forward` of modules, and for other attributes of an instance.
    """
    undo: list[Callable[[], None]] = []
    try:
        for index, module in enumerate(modules):
            own = module.__dict__.get(name)
            setattr(module, name, make(index, getattr(module, name)))
            undo.append(partial(_restore, module, name, own))
        yield
    finally:
        for one in reversed(undo):
            one()


def _restore(module: Any, name: str, own: Any) -> None:
    """Give an instance back its own attribute; None: it had none, and the class's counts again."""
    if own is None:
        module.__dict__.pop(name, None)
    else:
        module.__dict__[name] = own
