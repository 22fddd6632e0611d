"""The loop from noise to latents. It knows settings, a store, a solver and a model, and no feature by name.

Progress bar, log, preview and Stop are consumers of this generator: whoever stops iterating stops the run, and what was
computed is in the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, cast

from torch import Tensor

from wanlab import latents
from wanlab.inputs import Inputs
from wanlab.meter import clock
from wanlab.model.condition import Given, given
from wanlab.model.model import Model
from wanlab.names import earlier_round, step_names
from wanlab.outline import Outline
from wanlab.solver import Solver
from wanlab.start import first_noise, start_latents
from wanlab.store import StepStore, Stored
from wanlab.techniques import Moment, predicted
from wanlab.techniques.freeinit import fresh_noise, mixed
from wanlab.techniques.passes import noted
from wanlab.timeline import Timeline


@dataclass(frozen=True)
class Step:
    """One step of a run: latents before and after it (1, 16, t, h, w), and the velocity the model predicted between.

    `seconds` were measured when the velocity was computed, which for a `reused` one was in an earlier run, and so were
    `block_seconds`, one number for each block, all passes together (0 for a block that was left out, empty where it is not
    known, as of a transformer that is compiled whole), and the `notes` of techniques: numbers by name, such as FETA's mean
    factor. `calls` are the passes of the model that were made for this step now; the first step of a run with FreeInit counts
    those of the rounds before.
    """

    index: int
    sigma: float
    latents: Tensor
    velocity: Tensor
    after: Tensor
    reused: bool
    seconds: float
    notes: Mapping[str, float]
    block_seconds: tuple[float, ...]
    calls: int

    @property
    def clean(self) -> Tensor:
        """What the model believes the clip to be, seen from this step: x - sigma v (1, 16, t, h, w), float32."""
        return latents.clean(self.latents, self.velocity, self.sigma)


def denoise(
    model: Model,
    timeline: Timeline,
    store: StepStore,
    inputs: Inputs | None = None,
    *,
    fresh: bool = False,
    only_stored: bool = False,
) -> Iterator[Step]:
    """Yield the steps of a run, each taken from the store if it is there.

    `inputs` holds the pictures and clips that the settings name. `fresh` computes all steps; `only_stored` ends at the first
    one that is missing.
    """
    inputs = inputs or Inputs(store.folder.parent / "inputs")
    outline, names = Outline(timeline, model.facts), step_names(model.id, timeline)
    needed = outline.needed([fresh or (name not in store) for name in names])
    told = cache(partial(given, model, timeline.settings, inputs))  # encoded when the first step is computed
    began = _start(model, timeline, store, inputs, fresh=fresh, only_stored=only_stored)
    if began is None:
        return
    model.reset()
    solver, memory = Solver(timeline.settings), dict[str, Any]()
    x, calls = began[0].to(model.device), began[1]
    at_work = None  # the transformer that is
    with contextlib.ExitStack() as work:
        for index, name in enumerate(names):
            stored = None if needed[index] else store.get(name)
            if stored is None:
                if only_stored:
                    return
                if not needed[index]:  # damaged: what techniques remember of the steps before has to be computed too
                    store.discard(name)
                    yield from islice(denoise(model, timeline, store, inputs, fresh=fresh), index, None)
                    return
                moment = Moment(index, solver.timesteps[index], timeline.at(index), model, outline, memory)
                if at_work is not moment.transformer:
                    work.close()
                    at_work = work.enter_context(model.at_work(moment.timestep))
                stored, made = _computed(moment, x, told())
                calls += made
                store.put(name, stored)
            velocity = stored.velocity.to(model.device)
            after = solver.step(velocity, x)
            sigma = float(solver.grid.sigmas[index])
            measured = stored.seconds, stored.notes, stored.block_seconds
            yield Step(index, sigma, x, velocity, after, not needed[index], *measured, calls)
            x, calls = after, 0


def _computed(moment: Moment, latents: Tensor, told: Given) -> tuple[Stored, int]:
    """The velocity of a step, with what it took, and the calls of the model that were made for it."""
    model = moment.model
    began = clock(model.device)
    model.set_loras(moment.settings.first_step + moment.index, cast(float, moment.settings.lora_strength))
    with noted(moment.transformer, model.device) as passes:
        velocity = predicted(moment, latents, told)
    seconds = clock(model.device) - began
    blocks = tuple(round(one, 6) for one in passes.block_seconds())
    return Stored(velocity, seconds, moment.notes, blocks), passes.calls


def _start(model: Model, timeline: Timeline, store: StepStore, inputs: Inputs, **how: bool) -> tuple[Tensor, int] | None:
    """The latents that the run begins with, and the calls that this took; None if a step before is missing in the store."""
    settings, form = timeline.settings, model.facts.form
    noise = first_noise(settings, form)
    if settings.freeinit is None:
        return start_latents(model, settings, inputs, noise), 0
    calls, last = 0, None
    before = earlier_round(timeline)
    for last in denoise(model, before, store, inputs, **how):
        calls += last.calls
    if last is None or last.index + 1 < len(before):
        return None
    fresh = fresh_noise(settings, settings.freeinit.rounds, form)
    return mixed(last.after.cpu(), noise, fresh, settings.freeinit), calls
