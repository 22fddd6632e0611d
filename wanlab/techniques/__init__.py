"""Techniques: changes to how velocities are predicted, one file each. The loop knows none of them by name.

A technique acts on a step when its settings say so (`settings.feta.acts(step, settings)`). Then `attach` changes the inside
of the transformer for the calls of that step and undoes it, whatever happens. What it measured it leaves in `notes`, which are
stored with the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from diffusers import WanTransformer3DModel

from wanlab.settings import Settings
from wanlab.techniques import feta

Notes = dict[str, float]
Attach = Callable[[Any, WanTransformer3DModel, Notes], contextlib.AbstractContextManager[None]]

# By the name of the group of settings: attach(settings of the group, transformer, notes).
TECHNIQUES: dict[str, Attach] = {"feta": feta.attach}


@contextlib.contextmanager
def attached(settings: Settings, step: int, transformer: WanTransformer3DModel) -> Iterator[Notes]:
    """Within, the transformer does what all techniques that act on this step ask for; yields their notes."""
    notes: Notes = {}
    with contextlib.ExitStack() as stack:
        for name, group in settings.acting(step).items():
            stack.enter_context(TECHNIQUES[name](group, transformer, notes))
        yield notes
