"""The schedule: which noise levels (sigmas) the steps visit. No torch.

Wan is a flow-matching model: at sigma the latents are (1 - sigma) clean + sigma noise, and the model is told the
timestep 1000 sigma. The shift moves the levels, sigma' = shift sigma / (1 + (shift - 1) sigma) (Esser et al. 2024, arXiv
2403.03206, eq. 23): a larger shift spends more steps at high noise, where layout and motion are decided.

Each solver has the grid that its best-known implementation uses:

- euler: the ideal one, the shift of n + 1 even levels from 1 to 0, as in Wan's own DPM++ and ComfyUI's "simple". (diffusers'
  FlowMatchEuler has another grid of its own, which ends at a wrong level for Wan; see docs/design.md.)
- unipc, dpm++, dpm++_sde: diffusers' flow sigmas, from 1 down to a thousandth before the shift, with whole timesteps, as
  `WanPipeline` has them. The first level is 1 - 1e-6 for every shift, so that the logarithms of these solvers stay finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAINING_LEVELS = 1000


def shifted(sigma: np.ndarray, shift: float) -> np.ndarray:
    """The shift of sigmas in 0..1. Shift a after shift b is shift a b; its inverse is the shift of 1/shift."""
    return shift * sigma / (1 + (shift - 1) * sigma)


@dataclass(frozen=True)
class Grid:
    """The noise levels of a run: `sigmas` (steps + 1,) float32, falling to 0, and the `timesteps` (steps,) for the model."""

    sigmas: np.ndarray
    timesteps: np.ndarray

    def __len__(self) -> int:
        return len(self.timesteps)


def grid(solver: str, steps: int, shift: float) -> Grid:
    """The grid that this solver uses for a number of steps and a shift.

    >>> grid("euler", 4, 5).sigmas.tolist()
    [1.0, 0.9375, 0.8333333134651184, 0.625, 0.0]
    """
    if solver == "euler":
        sigmas = shifted(np.linspace(1, 0, steps + 1), shift).astype(np.float32)
        return Grid(sigmas, sigmas[:-1] * np.float32(TRAINING_LEVELS))
    levels = shifted(np.linspace(1, 1 / TRAINING_LEVELS, steps + 1)[:-1], shift)
    levels[0] = min(levels[0], 1 - 1e-6)
    timesteps = (levels * TRAINING_LEVELS).astype(np.int64)
    return Grid(np.append(levels, 0).astype(np.float32), timesteps)
