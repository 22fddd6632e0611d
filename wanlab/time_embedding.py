"""The embedded timestep of a Wan transformer, known from four small tensors without the model. No torch.

Wan tells its blocks the time by e(t) = W2 silu(W1 s(t) + b1) + b2, where s(t) are cosines and sines of t at falling
frequencies. It depends on nothing but t, so what a cache decides by it (TeaCache) can be known before the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TimeEmbedding:
    """The layers of e(t), float32: `inner` (dim, frequencies) and `outer` (dim, dim), each with its bias (dim,)."""

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray

    def embed(self, timesteps: np.ndarray) -> np.ndarray:
        """e(t) of timesteps (n,) in 0..1000: (n, dim) float32."""
        half = self.inner.shape[1] // 2
        # In float32 as diffusers has them: at t near 1000 their last bits are seen in the sines.
        frequencies = np.exp(np.float32(-math.log(10000)) * np.arange(half, dtype=np.float32) / np.float32(half))
        angles = np.asarray(timesteps, dtype=np.float32)[:, None] * frequencies
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        hidden = waves @ self.inner.T + self.inner_bias
        return (hidden / (1 + np.exp(-hidden))) @ self.outer.T + self.outer_bias

    def changes(self, timesteps: np.ndarray) -> np.ndarray:
        """From each timestep to the next, mean |e' - e| / mean |e|: (n - 1,) float64."""
        embedded = self.embed(timesteps).astype(np.float64)
        return np.abs(np.diff(embedded, axis=0)).mean(1) / np.abs(embedded[:-1]).mean(1)
