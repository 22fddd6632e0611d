"""Solvers: how a velocity becomes the next latents. diffusers' schedulers do the arithmetic, on our grid.

A solver is made for one run and thrown away, so no state is left from another one.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from wanlab.schedule import TRAINING_LEVELS, Grid
from wanlab.settings import Settings


def _scheduler(settings: Settings, levels: Grid) -> Any:
    """diffusers' scheduler, set to our grid."""
    flow = {
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": settings.shift,
        "num_train_timesteps": TRAINING_LEVELS,
    }
    if settings.solver == "euler":
        scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAINING_LEVELS, shift=1.0)
        scheduler.set_timesteps(sigmas=levels.sigmas[:-1].tolist())
    elif settings.solver == "unipc":
        scheduler = UniPCMultistepScheduler(**flow)
        scheduler.set_timesteps(len(levels))
    else:
        kind = "sde-dpmsolver++" if settings.solver == "dpm++_sde" else "dpmsolver++"
        scheduler = DPMSolverMultistepScheduler(algorithm_type=kind, **flow)
        scheduler.set_timesteps(len(levels))
    scheduler.sigmas = torch.from_numpy(levels.sigmas)
    scheduler.timesteps = torch.from_numpy(levels.timesteps)
    scheduler.set_begin_index(0)
    return scheduler


class Solver:
    """One run's solver: `latents = solver.step(velocity, latents)`, once per step in order."""

    def __init__(self, settings: Settings) -> None:
        self.grid = settings.grid
        self.timesteps = torch.from_numpy(self.grid.timesteps)
        self._scheduler = _scheduler(settings, self.grid)
        self._seed = settings.seed
        self._stochastic = settings.solver == "dpm++_sde"
        self._next = 0

    def step(self, velocity: Tensor, latents: Tensor) -> Tensor:
        """The latents (b, 16, t, h, w) float32 at the next noise level; `velocity` of any float type, on any device."""
        time = self.timesteps[self._next]
        extra = {"variance_noise": self._noise(latents)} if self._stochastic else {}
        self._next += 1
        return self._scheduler.step(velocity.float(), time, latents, return_dict=False, **extra)[0]

    def _noise(self, latents: Tensor) -> Tensor:
        # Each step has a generator of its own, so that a replay draws the same noise from any step on.
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + self._next + 1) % 2**63)
        return torch.randn(latents.shape, generator=generator)
