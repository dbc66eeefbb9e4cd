"""The center line of a line of text."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def center_line(ink: Array, sigma: float) -> Array:
    r"""Return the height of the center line in each column, float64 [width].

    It is the vertical center of mass of the ink, smoothed along the line by a local linear fit with a Gaussian window G
    of standard deviation sigma. For the column x, the line a + b (u - x) has the least sum of squares over the ink
    w(y, u):

        (a, b) = argmin  sum_{y, u} G(u - x) w(y, u) (y - a - b (u - x))^2,      c(x) = a

    With the moments S_k = sum_u G(u - x) m(u) (u - x)^k of the mass m(u) = sum_y w(y, u), and
    T_k = sum_u G(u - x) q(u) (u - x)^k of q(u) = sum_y y w(y, u), this is

        c(x) = (S_2 T_0 - S_1 T_1) / (S_2 S_0 - S_1^2)

    The fit follows a slanted line exactly, also at its ends. Where there is no ink within the window, c is interpolated
    between its neighbors.

    Args:
        ink: weights of the pixels, 0 or more, [height, width].
        sigma: standard deviation of the window in pixels.

    References:
        W. S. Cleveland (1979), Robust locally weighted regression and smoothing scatterplots. J. Fan (1992),
        Design-adaptive nonparametric regression. For lines of text, the smoothed center line is used by T. M. Breuel et
        al. (2013), High-performance OCR for printed English and Fraktur using LSTM networks.
    """
    height, width = ink.shape
    mass = ink.sum(axis=0)
    torque = (np.arange(height)[:, None] * ink).sum(axis=0)
    reach = min(width - 1, int(np.ceil(4 * sigma)))
    u = np.arange(-reach, reach + 1)
    window = np.exp(-(u**2) / (2 * sigma**2))
    s0, s1, s2 = (_moment(mass, window * u**k, reach) for k in range(3))
    t0, t1 = (_moment(torque, window * u**k, reach) for k in range(2))
    determinant = s2 * s0 - s1**2
    total = mass.sum()
    fitted = determinant > 1e-9 * (s2.max() * s0.max())
    known = s0 > 1e-9 * total
    center = np.full(width, np.nan)
    center[known] = t0[known] / s0[known]
    both = known & fitted
    center[both] = (s2 * t0 - s1 * t1)[both] / determinant[both]
    x = np.arange(width)
    center = np.interp(x, x[known], center[known])
    # A line cannot have its center outside of the image, where a fit at its ends may put it.
    return np.clip(center, 0, height - 1)


def _moment(values: Array, window: Array, reach: int) -> Array:
    """Return sum_u window(u - x) values(u) for each x."""
    return np.correlate(np.pad(values, reach), window, mode="valid")
