"""Passes of the model while a step is predicted: how many compute, and the seconds of each block in them.

Both are noted around the functions of blocks, since a hook inside a block is not seen by a compiled one; and a block only
writes, so that no graph depends on what was noted. Moments on a GPU are events that it stamps while it works: noting waits for
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wanlab.placement.copiers import Mark, mark, seconds
from wanlab.techniques.technique import patched


class Passes:
    """What was noted of the passes of a transformer: `calls`, and when its blocks began and ended."""

    def __init__(self, blocks: int) -> None:
        self.calls, self.computed = 0, False  # the second: whether blocks compute in the present pass
        self.traced = False  # whether blocks are part of a graph, which has no moments
        self.uses: list[list[tuple[Mark, Mark]]] = [[] for _ in range(blocks)]

    def block_seconds(self) -> tuple[float, ...]:
        """Seconds of each block, of all passes together, with the wait for its weights; 0 for one that was left out.

        Empty where the blocks are no functions of their own, as in a transformer that is compiled whole. On a GPU the passes
        must be over.
        """
        if self.traced:
            return ()
        return tuple(float(sum(seconds(began, ended) for began, ended in uses)) for uses in self.uses)


@contextlib.contextmanager
def noted(transformer: torch.nn.Module, device: torch.device) -> Iterator[Passes]:
    """Within, passes are counted in which blocks after the first one compute, and the times of blocks are noted.

    Such passes are what a step costs; one that a cache answers after a look at the first block is none. To be entered before
    techniques are attached: what they leave out then does not reach the noting.
    """
    blocks = list(transformer.blocks)  # type: ignore[arg-type]
    passes = Passes(len(blocks))

    def begin(*_: object) -> None:
        passes.computed = False

    def end(*_: object) -> None:
        passes.calls += passes.computed

    def noting(index: int, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        counts, uses = index > 0 or len(blocks) == 1, passes.uses[index]

        def compute(*args: Any, **kwargs: Any) -> Tensor:
            if counts:
                passes.computed = True
            if torch.compiler.is_compiling():
                passes.traced = True
                return forward(*args, **kwargs)
            began = mark(device)
            found = forward(*args, **kwargs)
            uses.append((began, mark(device)))
            return found

        return compute

    hooks = [transformer.register_forward_pre_hook(begin), transformer.register_forward_hook(end)]
    try:
        with patched(blocks, "forward", noting):
            yield passes
    finally:
        for hook in hooks:
            hook.remove()
