"""Lookahead compared with a NumPy reference, eager and compiled."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from aip_plugin_lookahead.optimizer import Lookahead, build
from aip_plugin_lookahead.params import LookaheadParams

STEPS = 25
START = np.linspace(-1, 2, 12).reshape(3, 4)
GRADIENTS = np.random.default_rng(7).normal(size=(STEPS, 3, 4))


def reference(params: LookaheadParams, rate: float) -> np.ndarray:
    """Return the weights after all steps, in float64."""
    fast, slow = START.copy(), START.copy()
    average, square = np.zeros_like(fast), np.zeros_like(fast)
    for t, gradient in enumerate(GRADIENTS, start=1):
        average = params.beta_1 * average + (1 - params.beta_1) * gradient
        square = params.beta_2 * square + (1 - params.beta_2) * gradient**2
        scale = np.sqrt(1 - params.beta_2**t) / (1 - params.beta_1**t)
        fast = fast - rate * scale * average / (np.sqrt(square) + params.epsilon)
        if t % params.k == 0:
            slow = slow + params.alpha * (fast - slow)
            fast = slow.copy()
    return fast


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize(("k", "alpha"), [(6, 0.5), (1, 0.8), (5, 1.0), (4, 0.0)])
def test_matches_reference(k: int, alpha: float, jit_compile: bool | None) -> None:
    """25 steps give the reference weights: eager (None), in a graph, and compiled by XLA.

    Keras computes 1 - beta_2^t in float32, which has few significant digits at first: hence the tolerance.
    """
    params = LookaheadParams(k=k, alpha=alpha)
    optimizer = build(params, 0.05)
    # The weights change between building the optimizer and training, as in a warm start.
    weights = keras.Variable(np.zeros_like(START), dtype="float32")
    optimizer.build([weights])
    weights.assign(START)

    def step(gradient: tf.Tensor) -> None:
        optimizer.apply([gradient], [weights])

    run = step if jit_compile is None else tf.function(step, jit_compile=jit_compile)
    for gradient in GRADIENTS:
        run(tf.constant(gradient, tf.float32))
    np.testing.assert_allclose(weights.numpy(), reference(params, 0.05), rtol=1e-5, atol=1e-5)


def test_config_round_trip() -> None:
    """An optimizer made from the config of another has the same arguments."""
    made = Lookahead.from_config(Lookahead(0.01, k=3, alpha=0.25, beta_1=0.8).get_config())
    assert (made.k, made.alpha, made.beta_1) == (3, 0.25, 0.8)
