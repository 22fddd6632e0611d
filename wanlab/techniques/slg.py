"""Skip-layer guidance: the negative prediction is made by a model with some blocks missing, so guidance leads away from that.

Guidance pushes from the negative prediction to the positive one. A model that lacks a block in the middle still draws the
scene, but with worse bodies and worse motion; as the negative prediction it tells guidance what bad structure is. A block
that is skipped passes its input through.

From Stability AI's code for Stable Diffusion 3.5 (2024), and as Spatiotemporal Skip Guidance for video by Hyung et al. 2024
(arXiv 2411.18664). There the weakened model makes a third prediction, with the prompt, that is pushed away from beside the
usual negative one. For Wan another form is in use, that of WanVideoWrapper and Wan2GP, and it is the one here: the negative
pass itself is weakened. It costs no third pass, but one prediction, the strength of cfg, has to serve for both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from diffusers import WanTransformer3DModel
from torch import Tensor

from wanlab.techniques.technique import NEGATIVE, Technique, patched


class Slg(Technique):
    """The blocks in `options.skipped` are left out of calls for the negative branch."""

    @contextlib.contextmanager
    def attach(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Within, those blocks ask which branch a call is for."""
        self.options.check(len(transformer.blocks))
        with patched([transformer.blocks[block] for block in self.options.skipped], "forward", self._skipping):
            yield

    def _skipping(self, _: int, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def skipping(hidden_states: Tensor, *rest: Any, **more: Any) -> Tensor:
            if self.moment.ask is not None and self.moment.ask.branch == NEGATIVE:
                return hidden_states
            return forward(hidden_states, *rest, **more)

        return skipping
