"""The schedule: which noise levels (sigmas) the steps visit. No torch.

Wan is a flow-matching model: at sigma the latents are (1 - sigma) clean + sigma noise, and the model is told the
timestep 1000 sigma. The shift moves the levels, sigma' = shift sigma / (1 + (shift - 1) sigma) (Esser et al. 2024, arXiv
2403.03206, eq. 23): a larger shift spends more steps at high noise, where layout and motion are decided.

Each solver has the levels that its best-known implementation uses, unless others are asked for by name or given one by one:

- euler: "ideal", the shift of n + 1 even levels from 1 to 0, as in Wan's own DPM++ and ComfyUI's "simple". (diffusers'
  FlowMatchEuler has another grid of its own, which ends at a wrong level for Wan; see docs/design.md.)
- unipc, dpm++, dpm++_sde: "diffusers_unipc", diffusers' flow sigmas, from 1 down to a thousandth before the shift. With
  whatever levels, these solvers take whole timesteps, as `WanPipeline` has them, and a first level of at most 1 - 1e-6, so
  that their logarithms stay finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wanlab.errors import SettingsError

TRAINING_LEVELS = 1000
BELOW_ONE = 1 - 1e-6  # the highest level that has a finite log(1 - sigma); the value is diffusers'


def shifted(sigma: np.ndarray, shift: float) -> np.ndarray:
    """The shift of sigmas in 0..1. Shift a after shift b is shift a b; its inverse is the shift of 1/shift."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def percent_to_sigma(percent: float, shift: float) -> float:
    """The sigma that ComfyUI means by a part of the sampling: the shift of 1 - percent, 1 before the start, 0 after the end.

    Only "ideal" levels reach it after that part of the steps.

    >>> percent_to_sigma(0.25, 5)
    0.9375
    """
    return float(shifted(np.clip(1.0 - percent, 0, 1), shift))


@dataclass(frozen=True)
class Grid:
    """The noise levels of a run: `sigmas` (steps + 1,) float32, falling to 0, and the `timesteps` (steps,) for the model."""

    sigmas: np.ndarray
    timesteps: np.ndarray

    def __len__(self) -> int:
        return len(self.timesteps)


def grid(
    solver: str, steps: int, shift: float, schedule: str = "solver", sigmas: Sequence[float] | np.ndarray | None = None
) -> Grid:
    """The grid of a run with this solver: its own levels, those of a schedule by its name, or `sigmas` as they are.

    `sigmas` fall from at most 1, one for each step, with or without the 0 at the end; shift and schedule have no say in them.
    SettingsError if there is another number of them or they do not fall.

    >>> grid("euler", 4, 5).sigmas.tolist()
    [1.0, 0.9375, 0.8333333134651184, 0.625, 0.0]
    """
    levels = _levels(solver, steps, shift, schedule) if sigmas is None else _given(sigmas, steps)
    if solver != "euler":
        levels[0] = min(levels[0], BELOW_ONE)
    exact = levels.astype(np.float32)
    flat = np.flatnonzero(np.diff(exact) >= 0)
    if len(flat):
        k = flat[0]
        raise SettingsError(
            f"sigmas must fall at every step, and in float32 step {k} goes from {exact[k]:.7g} to {exact[k + 1]:.7g}. Give "
            "levels further apart (the second one below 1 - 1e-6, but for euler), or use fewer steps or a smaller shift."
        )
    if solver == "euler":
        return Grid(exact, timesteps(exact[:-1], whole=False))
    return Grid(exact, timesteps(levels[:-1], whole=True))


def _levels(solver: str, steps: int, shift: float, schedule: str) -> np.ndarray:
    if schedule == "solver":
        schedule = "ideal" if solver == "euler" else "diffusers_unipc"
    return sigmas(steps, shift, schedule)


def _given(levels: Sequence[float] | np.ndarray, steps: int) -> np.ndarray:
    """Levels that somebody wrote, (steps + 1,) with the 0 at the end."""
    given = np.array(levels, dtype=np.float64)
    given = given[:-1] if len(given) and given[-1] == 0 else given
    if len(given) != steps:
        raise SettingsError(
            f"sigmas has {len(given)} levels (a 0 at the end does not count), and steps is {steps}; each step needs one."
        )
    if not ((given > 0) & (given <= 1)).all():
        raise SettingsError(f"sigmas must be above 0 and at most 1, but for a 0 at the end; {given.tolist()} is not.")
    return np.append(given, 0)


def low_noise(timesteps: np.ndarray | float, boundary: float) -> np.ndarray:
    """Which timesteps are those of the second transformer of a model with two: those below the boundary (0: none).

    Compared in float32, as `WanPipeline` does.
    """
    return np.asarray(np.asarray(timesteps, np.float32) < np.float32(boundary))


def timesteps(sigmas: np.ndarray, whole: bool) -> np.ndarray:
    """What the model is told at these levels: 1000 sigma in their dtype, or cut down to int64 if `whole`."""
    told = sigmas * TRAINING_LEVELS
    return told.astype(np.int64) if whole else told


def sigmas(steps: int, shift: float, schedule: str = "ideal") -> np.ndarray:
    """The levels of a schedule by its name, (steps + 1,) float64, falling from the first one to 0.

    - ideal: the shift of even levels from 1 to 0. wan_dpmpp, Wan's own DPM++, is the same.
    - wan_unipc: Wan's own UniPC, whose even levels begin at .999.
    - diffusers_unipc: even levels from 1 to .001 without the last, the first one below 1 after the shift.
    - distilled: the timesteps 1000, 750, 500, 250 of the 4-step models before the shift. `steps` must be 4.
    - ComfyUI's schedulers for its ModelSamplingSD3, which has a table of 1000 shifted levels, from the shift of .001 to 1:
      simple takes rows of the table at even distances from the top, ddim_uniform from the bottom up, so that it does not
      begin at 1; normal takes even levels from the top row to the bottom row and shifts them *again*, sgm_uniform too, but
      without the bottom row; beta takes more rows at both ends (Lee et al. 2024, arXiv 2407.12173); linear_quadratic falls
      to .975 in half of the steps and then ever faster, whatever the shift (Polyak et al. 2024, arXiv 2410.13720);
      kl_optimal is even in the arctangent of sigma (Sabour et al. 2024, arXiv 2404.14507), and only its end is shifted.

    SettingsError if a schedule has no such number of levels. ddim_uniform has as many as steps only if steps divides 1000 or
    999; for others ComfyUI makes more steps than it was asked for. beta drops levels that are the same, from some 130 steps.
    """
    if schedule not in _SCHEDULES:
        raise SettingsError(f"There is no schedule {schedule!r}; there are {', '.join(SCHEDULES)}.")
    levels = _SCHEDULES[schedule](steps, shift)
    if len(levels) != steps:
        raise SettingsError(
            f"The schedule {schedule} has {len(levels)} levels for {steps} steps{_WAY_OUT.get(schedule, '; use fewer steps')}."
        )
    return np.append(levels, 0)


_WAY_OUT = {
    "distilled": "; it is the list of the 4-step models, so steps must be 4",
    "ddim_uniform": ": ComfyUI would make one step for each. Use a number of steps that divides 1000 or 999, or give sigmas",
}


def _even(first: float, last: float) -> Callable[[int, float], np.ndarray]:
    """The shift of even levels from the first to the last, without the last."""
    return lambda steps, shift: shifted(np.linspace(first, last, steps + 1)[:-1], shift)


def _diffusers_unipc(steps: int, shift: float) -> np.ndarray:
    levels = _even(1, 1 / TRAINING_LEVELS)(steps, shift)
    levels[0] = min(levels[0], BELOW_ONE)
    return levels


def _distilled(steps: int, shift: float) -> np.ndarray:
    return shifted(np.array([1, 0.75, 0.5, 0.25]), shift)


def _of_table(rows: np.ndarray, shift: float) -> np.ndarray:
    """Levels of ComfyUI's table, whose row k is f((k + 1) / 1000)."""
    return shifted((rows + 1) / TRAINING_LEVELS, shift)


def _simple(steps: int, shift: float) -> np.ndarray:
    return _of_table(TRAINING_LEVELS - 1 - (np.arange(steps) * (TRAINING_LEVELS / steps)).astype(int), shift)


def _normal(steps: int, shift: float) -> np.ndarray:
    return shifted(np.linspace(1, _of_table(np.array(0), shift), steps), shift)


def _sgm_uniform(steps: int, shift: float) -> np.ndarray:
    return _normal(steps + 1, shift)[:-1]


def _ddim_uniform(steps: int, shift: float) -> np.ndarray:
    return _of_table(np.arange(1, TRAINING_LEVELS, max(TRAINING_LEVELS // steps, 1))[::-1], shift)


def _beta(steps: int, shift: float) -> np.ndarray:
    """The rows nearest to even quantiles of Beta(.6, .6) over the table; of the two at its middle, 499.5, the upper."""
    rows = np.floor(_beta_quantile(1 - np.arange(steps) / steps) * (TRAINING_LEVELS - 1) + 0.5 + 1e-6)
    return _of_table(np.unique(rows)[::-1], shift)


def _beta_quantile(parts: np.ndarray, a: float = 0.6) -> np.ndarray:
    """The quantiles of Beta(a, a), to some 1e-9.

    Its density is x^(a-1) (1-x)^(a-1), infinite at 0. With u = x^a the distribution up to 1/2 is the integral of
    (1 - u^(1/a))^(a-1) du, which is smooth; beyond 1/2 it is the same from the other side.
    """
    u = np.linspace(0, 0.5**a, 20_001)
    density = (1 - u ** (1 / a)) ** (a - 1)
    below = np.append(0, np.cumsum(density[1:] + density[:-1]))  # the trapezium rule
    x = np.interp(np.minimum(parts, 1 - parts), below / (2 * below[-1]), u) ** (1 / a)
    return np.where(parts > 0.5, 1 - x, x)


def _linear_quadratic(steps: int, shift: float) -> np.ndarray:
    """1 - .025 step / half, and after half of the steps less a square that ends at 0."""
    step, half = np.arange(steps), max(steps // 2, 1)
    curve = (1 - 0.025 * steps / half) / max(steps - half, 1) ** 2
    return 1 - 0.025 * step / half - curve * np.maximum(step - half, 0) ** 2


def _kl_optimal(steps: int, shift: float) -> np.ndarray:
    return np.tan(np.linspace(np.arctan(1), np.arctan(_of_table(np.array(0), shift)), steps))


_SCHEDULES = {
    "ideal": _even(1, 0),
    "wan_unipc": _even(1 - 1 / TRAINING_LEVELS, 0),
    "wan_dpmpp": _even(1, 0),
    "diffusers_unipc": _diffusers_unipc,
    "simple": _simple,
    "normal": _normal,
    "sgm_uniform": _sgm_uniform,
    "beta": _beta,
    "ddim_uniform": _ddim_uniform,
    "linear_quadratic": _linear_quadratic,
    "kl_optimal": _kl_optimal,
    "distilled": _distilled,
}
SCHEDULES = tuple(_SCHEDULES)
