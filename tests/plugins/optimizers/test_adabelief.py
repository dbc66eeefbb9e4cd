"""AdaBelief against the paper's equations and against a published implementation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

Array = npt.NDArray[np.float64]

STEPS = 100
RATE = 2.0**-7
DECAYS = (0.0, 2.0**-4)
COMBINATIONS = [
    pytest.param(decay, rectify, amsgrad, id=f"decay {decay}, rectify {rectify}, amsgrad {amsgrad}")
    for decay, rectify, amsgrad in itertools.product(DECAYS, (False, True), (False, True))
]


def adabelief(
    w: Array,
    gradients: Array,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-14,
    weight_decay: float = 0.0,
    rectify: bool = True,
    amsgrad: bool = False,
) -> Iterator[Array]:
    """Yield the weights of Zhuang et al. 2020, algorithm 2, with the rectification of Liu et al. 2020, algorithm 2.

    Details that the papers leave open are as in the authors' packages: the decay is decoupled and scaled by the rate,
    and the belief is trusted from 5 gradients on.
    """
    m, s, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    rho_inf = 2 / (1 - beta_2) - 1
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        s = beta_2 * s + (1 - beta_2) * (g - m) ** 2 + epsilon
        largest = np.maximum(largest, s)
        m_hat = m / (1 - beta_1**t)
        adaptive = m_hat / (np.sqrt((largest if amsgrad else s) / (1 - beta_2**t)) + epsilon)
        if rectify:
            rho = rho_inf - 2 * t * beta_2**t / (1 - beta_2**t)
            if rho < 5:
                adaptive = m_hat
            else:
                adaptive *= np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        w = w - RATE * weight_decay * w - RATE * adaptive
        yield w


def problem(seed: int = 8) -> tuple[Array, Array]:
    """Return a matrix, and for each step a gradient with a constant direction and noise, as in training."""
    random = np.random.default_rng(seed)
    return random.normal(size=(6, 4)), random.normal(size=(6, 4)) + 0.5 * random.normal(size=(STEPS, 6, 4))


@pytest.fixture
def follow(make_optimizer: Any, make_variables: Any) -> Any:
    """Run AdaBelief in one dtype over given gradients and return the variable after each step."""

    def follow(start: Array, gradients: Array, *, dtype: str, jit_compile: bool = False, **options: Any) -> Array:
        variables = make_variables(dtype, w=start)
        optimizer = make_optimizer("AdaBelief", RATE, **options)
        optimizer.build(variables)
        step = tf.function(lambda given: optimizer.apply([given], variables), autograph=False, jit_compile=jit_compile)
        path = []
        for gradient in gradients:
            step(tf.constant(gradient, dtype))
            path.append(variables[0].numpy())
        return np.array(path)

    return follow


@pytest.mark.parametrize(("decay", "rectify", "amsgrad"), COMBINATIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equals_reference(dtype: str, decay: float, rectify: bool, amsgrad: bool, follow: Any) -> None:
    """Each of 100 steps with the default betas and epsilon is equal to 1e-10 in float64, to rounding in float32."""
    options = {"weight_decay": decay, "rectify": rectify, "amsgrad": amsgrad}
    start, gradients = problem()
    expected = np.array(list(adabelief(start, gradients, **options)))
    found = follow(start, gradients, dtype=dtype, **options)
    tolerance = {"rtol": 1e-10, "atol": 1e-11} if dtype == "float64" else {"rtol": 1e-4, "atol": 2e-5}
    np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.parametrize(("decay", "rectify", "amsgrad"), COMBINATIONS)
def test_other_betas_and_epsilon(decay: float, rectify: bool, amsgrad: bool, follow: Any) -> None:
    """A large epsilon shows both its places; betas that are sums of powers of two are exact in every dtype."""
    options: dict[str, Any] = {
        "beta_1": 0.75, "beta_2": 0.96875, "epsilon": 2.0**-4,
        "weight_decay": decay, "rectify": rectify, "amsgrad": amsgrad,
    }  # fmt: skip
    start, gradients = problem()
    expected = np.array(list(adabelief(start, gradients, **options)))
    np.testing.assert_allclose(follow(start, gradients, dtype="float64", **options), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("beta_2", [0.0, 0.25, 0.5, 0.59375, 0.625, 0.75])
def test_short_memory_is_never_rectified(beta_2: float, follow: Any) -> None:
    """A window shorter than 5 gradients gives momentum steps for ever, without division by zero."""
    start, gradients = problem()
    expected = np.array(list(adabelief(start, gradients, beta_2=beta_2)))
    found = follow(start, gradients, dtype="float64", beta_2=beta_2)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


def test_plain_steps_come_first(follow: Any) -> None:
    """With rectification, the first five steps are those of momentum alone, and the sixth is not."""
    start, gradients = problem()
    found = np.diff(np.concatenate([[start], follow(start, gradients[:6], dtype="float64")]), axis=0)
    m = np.zeros_like(start)
    for t, (g, step) in enumerate(zip(gradients, found, strict=False), start=1):
        m = 0.9 * m + 0.1 * g
        assert np.allclose(step, -RATE * m / (1 - 0.9**t), rtol=1e-6) == (t <= 5)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_certain_gradients(rectify: bool, jit_compile: bool, follow: Any) -> None:
    """A constant gradient is fully believed: steps grow beyond the rate and stay finite in float32."""
    gradients = np.broadcast_to(np.array([1.0, -1e-3, 1e-8, 1e-30, 0.0]), (STEPS, 5))
    found = follow(
        np.zeros(5), gradients, dtype="float32", jit_compile=jit_compile, rectify=rectify, beta_2=0.9, epsilon=1e-14
    )
    assert np.isfinite(found).all()
    assert abs(found[-1] - found[-2])[0] > 10 * RATE
    assert found[-1][4] == 0


def test_belief_is_never_below_epsilon(make_optimizer: Any, make_variables: Any) -> None:
    """If squares underflow, the belief is epsilon, so that no root is of zero."""
    variables = make_variables(w=np.ones(3))
    optimizer = make_optimizer("AdaBelief", RATE)
    step = tf.function(lambda given: optimizer.apply([given], variables), autograph=False, jit_compile=True)
    optimizer.build(variables)
    for _ in range(STEPS):
        step(tf.constant([1e-40, 1e-25, 0.0]))
    (belief,) = [variable.numpy() for variable in optimizer.variables if variable.path.endswith("_belief")]
    assert (belief >= 1e-14 * 0.99).all()


@pytest.fixture
def optax_float64() -> Iterator[Any]:
    """Yield optax, computing in float64 during the test."""
    jax = pytest.importorskip("jax", reason="optax, the published second implementation, is in the extra [test]")
    optax = pytest.importorskip("optax", reason="optax, the published second implementation, is in the extra [test]")
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", False)


def follow_optax(transformation: Any, start: Array, gradients: Array) -> Array:
    """Return the parameters after each step of an optax transformation."""
    w, state, path = start, transformation.init(start), []
    for gradient in gradients:
        update, state = transformation.update(gradient, state, w)
        w = w + np.asarray(update)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("decay", DECAYS)
def test_equals_optax(decay: float, optax_float64: Any, follow: Any) -> None:
    """Without rectification, which optax lacks, 100 steps are equal."""
    optax = optax_float64
    start, gradients = problem()
    peer = optax.chain(
        optax.scale_by_belief(b1=0.9, b2=0.999, eps=1e-14, eps_root=1e-14),
        optax.add_decayed_weights(decay),
        optax.scale(-RATE),
    )
    expected = follow_optax(peer, start, gradients)
    found = follow(start, gradients, dtype="float64", rectify=False, weight_decay=decay)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_rectification_equals_optax(optax_float64: Any, follow: Any) -> None:
    """The rectification factor of optax's RAdam on Adam's steps equals that of AdaBelief."""
    optax = optax_float64
    start, gradients = problem()
    zero = np.zeros_like(start)
    radam, adam, plain = (
        np.diff(np.concatenate([[zero], follow_optax(transformation, zero, gradients)]), axis=0)
        for transformation in (
            optax.scale_by_radam(b1=0.9, b2=0.999, eps=1e-30, threshold=5.0),
            optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-30),
            optax.scale_by_belief(b1=0.9, b2=0.999, eps=1e-14, eps_root=1e-14),
        )
    )
    steps = np.where(np.arange(STEPS)[:, None, None] < 5, radam, radam / adam * plain)
    expected = start - RATE * np.cumsum(steps, axis=0)
    np.testing.assert_allclose(follow(start, gradients, dtype="float64"), expected, rtol=1e-8, atol=1e-9)
