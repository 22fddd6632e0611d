"""Names of steps: a step is named by everything that led to it. No torch.

name[k] = digest(state[k], what is in force at step k)        the velocity that the model predicts there
state[k + 1] = digest(name[k], the solver's move)             where that velocity leads

state[0] holds the model, the sizes and the seed: all that makes the noise. So two runs share their steps exactly as long
as they agree, whatever else is different later on, and the store needs to know nothing about settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from wanlab.declare import switches
from wanlab.files import content_of
from wanlab.groups import GATES, Group
from wanlab.schedule import Grid
from wanlab.settings import INPUTS, Settings, declared
from wanlab.timeline import Timeline

# Raise this number when the same settings give other velocities than before (the golden test tells).
ENGINE = 1

# These make the grid and the moves, which enter the names step by step.
GRID = ("steps", "shift", "solver", "schedule", "sigmas", "start_step", "end_step", "start_sigma", "denoise_strength")
# These make the latents that a run starts from, as width, height, frames and seed do.
START = ("samples", "add_noise")
IMAGE = ("noise_aug_strength", "start_latent_strength", "end_latent_strength", "clip_embed_strength")
# Behind the name of a group: what its technique makes of a step in particular.
HERE = ", here"


def digest(*parts: Any) -> str:
    """A name for these parts: 32 hex digits of BLAKE2b over their JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def in_force(settings: Settings, step: int) -> dict[str, Any]:
    """The settings that change the velocity of this step, by dotted name, without those that have no effect there."""
    acting = settings.acting(step)
    return _counting(settings, acting) | _here(settings, step, acting)


def _here(settings: Settings, step: int, acting: Mapping[str, Group]) -> dict[str, Any]:
    """What the techniques that act on a step make of it in particular, such as its windows."""
    depends = {name: group.depends(step, settings) for name, group in acting.items()}
    return {f"{name}{HERE}": how for name, how in depends.items() if how}


def _counting(settings: Settings, acting: Collection[str]) -> dict[str, Any]:
    """The settings that count wherever just these techniques act."""
    known, techniques = declared(), switches(Settings)
    guided = settings.cfg != 1
    useless = {
        *GRID,
        *START,
        *(() if guided or "nag" in acting else ("negative_prompt",)),  # no negative pass is made
        *(() if guided else ("batched_cfg",)),
        *(() if settings.image or settings.end_image else IMAGE),
    }
    absent = _absent(settings)

    def counts(name: str) -> bool:
        group, _, last = name.partition(".")
        if group in techniques and (group not in acting or last in GATES):
            return False
        return known[name].affects == "result" and name not in useless and name not in absent

    values = {name: value for name, value in settings.flat().items() if counts(name)}
    for name in INPUTS:
        if name in values:
            values[name] = content_of(values[name])
    return values


def _absent(settings: Settings) -> set[str]:
    """The settings with a default that means that nothing is there: a run without them is named as before they existed."""
    absent = {name for name in ("image", "end_image", "batched_cfg") if not getattr(settings, name)}
    return absent | {name for name in ("lora_strength", "vace_strength") if getattr(settings, name) == 1}


def start_of(settings: Settings) -> dict[str, Any]:
    """What is in the latents that a run starts from, beside the noise of its seed and size."""
    found: dict[str, Any] = {}
    if settings.samples:
        found["samples"] = [content_of(settings.samples), float(settings.grid.sigmas[0]) if settings.add_noise else None]
    for name in switches(Settings):
        group = getattr(settings, name)
        if group is not None:
            found |= group.beginning(settings)
    return found


def move(solver: str, grid: Grid, step: int) -> tuple[Any, ...]:
    """All that decides what the solver does with the velocity of this step, apart from the steps before it."""
    left = len(grid) - step
    sigmas = grid.sigmas[step : step + 2].tolist()
    if solver == "unipc":  # the order falls at the end: min(2, steps left)
        return (solver, *sigmas, min(left, 2))
    if solver in ("dpm++", "dpm++_sde"):  # the last step is of first order, and the one before in runs of under 15 steps
        return (solver, *sigmas, min(left, 2), len(grid) < 15 and left <= 2)
    return (solver, *sigmas)


def step_names(model: str, timeline: Timeline) -> list[str]:
    """The names of all velocities of a run of the model with this id."""
    settings, levels = timeline.settings, timeline.settings.grid
    stochastic = settings.solver == "dpm++_sde"
    start = start_of(settings)
    if "freeinit" in start:  # each round starts from the end of the one before
        start["rounds"] = step_names(model, earlier_round(timeline))[-1]
    state = digest(ENGINE, model, settings.width, settings.height, settings.frames, settings.seed, *([start] if start else []))
    names = []
    counting = dict[tuple[int | str, ...], dict[str, Any]]()  # the same for most steps, and the slow part
    for step in range(len(levels)):
        where = [float(levels.sigmas[step]), float(levels.timesteps[step])]
        here = timeline.at(step)
        acting = here.acting(step)
        known: tuple[int | str, ...] = (id(here), *acting)
        if known not in counting:
            counting[known] = _counting(here, acting)
        names.append(digest(state, where, counting[known] | _here(here, step, acting)))
        state = digest(names[-1], move(settings.solver, levels, step), step if stochastic else None)
    return names


def earlier_round(timeline: Timeline) -> Timeline:
    """The round before of a run with FreeInit: the same run with a round less; with one round, without FreeInit."""
    group = timeline.settings.freeinit
    if group is None:
        raise ValueError("a run without freeinit has no rounds")
    change: dict[str, Any] = {"freeinit.rounds": group.rounds - 1} if group.rounds > 2 else {"freeinit": False}
    return Timeline(timeline.settings.but(change), timeline.forks)
