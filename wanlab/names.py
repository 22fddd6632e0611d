"""Names of steps: a step is named by everything that led to it. No torch.

name[k] = digest(state[k], what is in force at step k)        the velocity that the model predicts there
state[k + 1] = digest(name[k], the solver's move)             where that velocity leads

state[0] holds the model, the sizes and the seed: all that makes the noise. So two runs share their steps exactly as long
as they agree, whatever else is different later on, and the store needs to know nothing about settings.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from wanlab.declare import switches
from wanlab.schedule import Grid, grid
from wanlab.settings import Settings, declared
from wanlab.timeline import Timeline

# Raise this number when the same settings give other velocities than before (the golden test tells).
ENGINE = 1

# These make the grid and the moves, which enter the names step by step.
GRID = ("steps", "shift", "solver")


def digest(*parts: Any) -> str:
    """A name for these parts: 32 hex digits of BLAKE2b over their JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def in_force(settings: Settings, step: int) -> dict[str, Any]:
    """The settings that change the velocity of this step, by dotted name, without those that have no effect there."""
    known, groups, acting = declared(), switches(Settings), settings.acting(step)

    def counts(name: str) -> bool:
        group, _, last = name.partition(".")
        if group in groups and (group not in acting or last in ("start_percent", "end_percent")):  # these only gate the rest
            return False
        if name == "negative_prompt" and settings.cfg == 1:  # no negative pass is made
            return False
        return known[name].affects == "result" and name not in GRID

    return {name: value for name, value in settings.flat().items() if counts(name)}


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
    settings = timeline.settings
    levels = grid(settings.solver, settings.steps, settings.shift)
    stochastic = settings.solver == "dpm++_sde"
    state = digest(ENGINE, model, settings.width, settings.height, settings.frames, settings.seed)
    names = []
    for step in range(settings.steps):
        where = [float(levels.sigmas[step]), float(levels.timesteps[step])]
        names.append(digest(state, where, in_force(timeline.at(step), step)))
        state = digest(names[-1], move(settings.solver, levels, step), step if stochastic else None)
    return names
