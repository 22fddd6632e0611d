"""The loop from noise to latents. It knows settings, a store, a solver and a model, and no feature by name.

Progress bar, log, preview and Stop are consumers of this generator: whoever stops iterating stops the run, and what was
computed is in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from wanlab import latents
from wanlab.guidance import guided
from wanlab.meter import clock
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.solver import Solver
from wanlab.store import StepStore, Stored
from wanlab.techniques import attached
from wanlab.timeline import Timeline


@dataclass(frozen=True)
class Step:
    """One step of a run: latents before and after it (1, 16, t, h, w), and the velocity the model predicted between.

    `seconds` were measured when the velocity was computed, which for a `reused` one was in an earlier run, and so were the
    `notes` of techniques: numbers by name, such as FETA's mean factor.
    """

    index: int
    sigma: float
    latents: Tensor
    velocity: Tensor
    after: Tensor
    reused: bool
    seconds: float
    notes: Mapping[str, float]

    @property
    def clean(self) -> Tensor:
        """What the model believes the clip to be, seen from this step: x - sigma v (1, 16, t, h, w), float32."""
        return latents.clean(self.latents, self.velocity, self.sigma)


def denoise(
    model: Model, timeline: Timeline, store: StepStore, *, fresh: bool = False, only_stored: bool = False
) -> Iterator[Step]:
    """Yield the steps of a run, each taken from the store if it is there.

    `fresh` computes all of them; `only_stored` ends at the first one that is missing.
    """
    model.reset()
    solver = Solver(timeline.settings)
    x = latents.noise(timeline.settings).to(model.device)
    for index, name in enumerate(step_names(model.id, timeline)):
        stored = None if fresh else store.get(name)
        reused = stored is not None
        if stored is None:
            if only_stored:
                return
            began, settings = clock(model.device), timeline.at(index)
            with attached(settings, index, model.transformer) as notes:
                velocity = guided(model, settings, x, solver.timesteps[index])
            stored = Stored(velocity, clock(model.device) - began, notes)
            store.put(name, stored)
        velocity = stored.velocity.to(model.device)
        after = solver.step(velocity, x)
        yield Step(index, float(solver.grid.sigmas[index]), x, velocity, after, reused, stored.seconds, stored.notes)
        x = after
