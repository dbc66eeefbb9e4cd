"""Clipping by value, by the norm of each variable and by the global norm, alone and combined, against NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aipcore.hooks.records import OptimizerParams
from aipcore.training.engine.clipping import clip

LIMITS = list(itertools.product((None, 0.5), (None, 2.0, 1e6), (None, 1.5, 1e6)))
SHAPES = ((300, 70), (17,), (5, 3), ())


Limit = float | None


def expected(gradients: list[Any], value: Limit, norm: Limit, joint: Limit) -> list[Any]:
    """Compute the definition in float64."""
    made = [g.astype(np.float64) for g in gradients]
    if value is not None:
        made = [np.clip(g, -value, value) for g in made]
    if norm is not None:
        made = [g * min(1, norm / max(1e-300, np.sqrt((g * g).sum()))) for g in made]
    if joint is not None:
        total = np.sqrt(sum((g * g).sum() for g in made))
        made = [g * min(1, joint / total) for g in made]
    return made


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("value", "norm", "joint"), LIMITS)
def test_equals_the_definition(value: Limit, norm: Limit, joint: Limit, jit: bool, sliced: bool) -> None:
    """Combinations are applied in the order value, norm, global norm. A limit that is not reached changes no bit."""
    random = np.random.default_rng(4)
    gradients = [random.normal(size=shape).astype(np.float32) for shape in SHAPES]
    params = OptimizerParams(clip_value=value, clip_norm=norm, clip_global_norm=joint)
    step = tf.function(lambda *given: clip(list(given), params, sliced=sliced), autograph=False, jit_compile=jit)
    made = [each.numpy() for each in step(*map(tf.constant, gradients))]
    for ours, truth, before in zip(made, expected(gradients, value, norm, joint), gradients, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-8)
        if value is None and norm in (None, 1e6) and joint in (None, 1e6):
            np.testing.assert_array_equal(ours, before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_keeps_the_dtype(dtype: str) -> None:
    """Norms of half-precision gradients are summed in float32, which does not overflow."""
    gradient = tf.cast(tf.fill((200, 200), 10.0), dtype)
    made = clip([gradient], OptimizerParams(clip_global_norm=1.0))[0]
    assert made.dtype == gradient.dtype
    np.testing.assert_allclose(tf.cast(made, tf.float32).numpy(), 1 / 200, rtol=1e-2)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_infinite_gradients_are_not_clipped(bad: float) -> None:
    """Gradients that are not finite are not clipped to finite values."""
    gradients = [tf.constant([1.0, 2.0]), tf.constant([bad, 1.0])]
    made = clip(gradients, OptimizerParams(clip_global_norm=1.0))
    assert np.isnan(made[0].numpy()).all()


def test_zero_gradients() -> None:
    """Zero gradients cause no division by zero."""
    made = clip([tf.zeros((3,))], OptimizerParams(clip_norm=1.0, clip_global_norm=1.0))
    np.testing.assert_array_equal(made[0], np.zeros(3))
