"""Stored values and linear light: what is mixed is mixed as a lens would."""

from __future__ import annotations

import numpy as np


def to_linear(values: np.ndarray) -> np.ndarray:
    """sRGB in [0,1] -> linear light in [0,1] (IEC 61966-2-1)."""
    power = ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4
    return np.where(values <= 0.04045, values / 12.92, power)


def from_linear(values: np.ndarray) -> np.ndarray:
    """Linear light in [0,1] -> sRGB in [0,1]; the inverse of `to_linear`."""
    root = np.maximum(values, 0) ** (1 / 2.4)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * root - 0.055)
