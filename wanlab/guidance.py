"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): two predictions, and a step beyond the better one."""

from __future__ import annotations

from torch import Tensor

from wanlab.model.model import Model
from wanlab.settings import Settings


def guided(model: Model, settings: Settings, latents: Tensor, timestep: Tensor) -> Tensor:
    """v_negative + cfg (v_positive - v_negative), in the model's dtype; at cfg 1 that is v_positive, in one pass."""
    positive = model.velocity(latents, timestep, model.encode(settings.prompt))
    if settings.cfg == 1:
        return positive
    negative = model.velocity(latents, timestep, model.encode(settings.negative_prompt))
    return negative + settings.cfg * (positive - negative)
