"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): two predictions, and a step beyond the better one."""

from __future__ import annotations

from torch import Tensor


def cfg(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """v_negative + scale (v_positive - v_negative), in the dtype of the predictions."""
    return negative + scale * (positive - negative)
