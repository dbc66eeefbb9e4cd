"""Each optimizer step by step against equations from the papers, in NumPy and float64.

The references use one array only and share no code with the optimizers. Rates, betas and decays of the float64 runs
are sums of few powers of two, since Keras keeps a rate in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

Array = npt.NDArray[np.float64]
Path = Iterator[Array]

STEPS = 100
RATE = 2.0**-7
DECAY = 2.0**-4
BETA_1, BETA_2 = 1 - 2.0**-3, 1 - 2.0**-9
SHAPES = {"tall": (6, 4), "wide": (4, 6), "bias": (5,)}


def adam(
    w: Array,
    gradients: Array,
    *,
    beta_1: float = BETA_1,
    beta_2: float = BETA_2,
    epsilon: float = 1e-7,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> Path:
    """Yield the steps of Kingma and Ba 2015, in the order at the end of section 2, and Loshchilov and Hutter 2019."""
    m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        largest = np.maximum(largest, v)
        rate = RATE * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - RATE * weight_decay * w - rate * m / (np.sqrt(largest if amsgrad else v) + epsilon)
        yield w


def adamax(w: Array, gradients: Array, *, weight_decay: float = 0.0) -> Path:
    """Yield the steps of Kingma and Ba 2015, algorithm 2."""
    m, u = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = BETA_1 * m + (1 - BETA_1) * g
        u = np.maximum(BETA_2 * u, abs(g))
        w = w - RATE * weight_decay * w - RATE / (1 - BETA_1**t) * m / (u + 1e-7)
        yield w


def nadam(w: Array, gradients: Array, *, weight_decay: float = 0.0) -> Path:
    """Yield the steps of Dozat 2016, algorithm 2, with the momentum of section 3: mu_t = beta_1 (1 - 0.96^t / 2)."""
    m, v, product = np.zeros_like(w), np.zeros_like(w), 1.0
    for t, g in enumerate(gradients, start=1):
        now, following = (BETA_1 * (1 - 0.5 * 0.96**s) for s in (t, t + 1))
        product = product * now
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g * g
        ahead = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
        w = w - RATE * weight_decay * w - RATE * ahead / (np.sqrt(v / (1 - BETA_2**t)) + 1e-7)
        yield w


def rmsprop(w: Array, gradients: Array, *, momentum: float = 0.0, centered: bool = False, rho: float = 0.875) -> Path:
    """Yield the steps of Hinton 2012, lecture 6e; centered as by Graves 2013, equations 38 to 41."""
    v, mean, velocity = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        v = rho * v + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        velocity = momentum * velocity + RATE * g / np.sqrt(v - (mean**2 if centered else 0) + 1e-7)
        w = w - velocity
        yield w


def sgd(
    w: Array, gradients: Array, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> Path:
    """Yield the steps of Sutskever et al. 2013, equations 1 to 4, the latter as in Bengio et al. 2013, equation 7."""
    velocity = np.zeros_like(w)
    for g in gradients:
        velocity = momentum * velocity - RATE * g
        w = w - RATE * weight_decay * w + (momentum * velocity - RATE * g if nesterov else velocity)
        yield w


def lamb(w: Array, gradients: Array, *, weight_decay: float = 0.0) -> Path:
    """Yield the steps of You et al. 2020, algorithm 2, with the identity for phi."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g * g
        r = m / (1 - BETA_1**t) / (np.sqrt(v / (1 - BETA_2**t)) + 1e-6)
        u = r + weight_decay * w
        w = w - RATE * np.linalg.norm(w) / np.linalg.norm(u) * u
        yield w


def lion(w: Array, gradients: Array, *, weight_decay: float = 0.0) -> Path:
    """Yield the steps of Chen et al. 2023, program 1."""
    m = np.zeros_like(w)
    for g in gradients:
        w = w - RATE * (np.sign(BETA_1 * m + (1 - BETA_1) * g) + weight_decay * w)
        m = BETA_2 * m + (1 - BETA_2) * g
        yield w


def muon(
    w: Array, gradients: Array, *, weight_decay: float = 0.0, nesterov: bool = True, as_adam: bool = False
) -> Path:
    """Yield the steps of Jordan et al. 2024, algorithm 2, with the update size of Liu et al. 2025, equation 4."""
    if w.ndim != 2 or as_adam:
        yield from adam(w, gradients, weight_decay=weight_decay)
        return
    m = np.zeros_like(w)
    for g in gradients:
        m = 0.875 * m + g
        x = g + 0.875 * m if nesterov else m
        x = x / np.linalg.norm(x)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        w = w - RATE * (weight_decay * w + 0.2 * np.sqrt(max(w.shape)) * x)
        yield w


BETAS = {"beta_1": BETA_1, "beta_2": BETA_2}
MUON = {"momentum": 0.875, "adam_beta_1": BETA_1, "adam_beta_2": BETA_2}
CASES: dict[str, tuple[str, dict[str, Any], Callable[..., Path], dict[str, Any]]] = {
    "Adam": ("Adam", BETAS, adam, {}),
    "Adam, amsgrad": ("Adam", {**BETAS, "amsgrad": True}, adam, {"amsgrad": True}),
    "Adam, large epsilon": ("Adam", {**BETAS, "epsilon": 0.125}, adam, {"epsilon": 0.125}),
    "Adam, no memory": ("Adam", {"beta_1": 0.0, "beta_2": 0.0}, adam, {"beta_1": 0.0, "beta_2": 0.0}),
    "Adam, decay": ("Adam", {**BETAS, "weight_decay": DECAY}, adam, {"weight_decay": DECAY}),
    "AdamW": ("AdamW", {**BETAS, "weight_decay": DECAY}, adam, {"weight_decay": DECAY}),
    "AdamW, amsgrad": (
        "AdamW", {**BETAS, "weight_decay": DECAY, "amsgrad": True}, adam, {"weight_decay": DECAY, "amsgrad": True},
    ),
    "Adamax": ("Adamax", BETAS, adamax, {}),
    "Adamax, decay": ("Adamax", {**BETAS, "weight_decay": DECAY}, adamax, {"weight_decay": DECAY}),
    "Nadam": ("Nadam", BETAS, nadam, {}),
    "Nadam, decay": ("Nadam", {**BETAS, "weight_decay": DECAY}, nadam, {"weight_decay": DECAY}),
    "RMSprop": ("RMSprop", {"rho": 0.875}, rmsprop, {}),
    "RMSprop, momentum": ("RMSprop", {"rho": 0.875, "momentum": 0.5}, rmsprop, {"momentum": 0.5}),
    "RMSprop, centered": ("RMSprop", {"rho": 0.875, "centered": True}, rmsprop, {"centered": True}),
    "RMSprop, no memory": ("RMSprop", {"rho": 0.0}, rmsprop, {"rho": 0.0}),
    "SGD": ("SGD", {}, sgd, {}),
    "SGD, momentum": ("SGD", {"momentum": 0.875}, sgd, {"momentum": 0.875}),
    "SGD, nesterov": ("SGD", {"momentum": 0.875, "nesterov": True}, sgd, {"momentum": 0.875, "nesterov": True}),
    "SGD, decay": (
        "SGD", {"momentum": 0.875, "weight_decay": DECAY}, sgd, {"momentum": 0.875, "weight_decay": DECAY},
    ),
    "LAMB": ("LAMB", BETAS, lamb, {}),
    "LAMB, decay": ("LAMB", {**BETAS, "weight_decay": DECAY}, lamb, {"weight_decay": DECAY}),
    "Lion": ("Lion", BETAS, lion, {}),
    "Lion, decay": ("Lion", {**BETAS, "weight_decay": DECAY}, lion, {"weight_decay": DECAY}),
    "Muon": ("Muon", MUON, muon, {}),
    "Muon, decay": ("Muon", {**MUON, "weight_decay": DECAY}, muon, {"weight_decay": DECAY}),
    "Muon, plain": ("Muon", {**MUON, "nesterov": False}, muon, {"nesterov": False}),
    "Muon, all by Adam": ("Muon", {**MUON, "adam_layers": ("^tall$", "wide")}, muon, {"as_adam": True}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str, dtype: str, make_optimizer: Any, make_variables: Any) -> None:
    """Each of 100 steps, on matrices and a vector, is equal to 1e-9 in float64, to rounding in float32."""
    name, options, reference, reference_options = CASES[case]
    if name == "Muon" and dtype == "float64":
        pytest.skip("Keras' Muon mixes in float32 scalars and takes no other dtype")
    if case == "Adam, no memory" and dtype == "float32":
        pytest.skip("moments that forget at once are differences of rounded numbers: small gradients lose all digits")
    random = np.random.default_rng(5)
    start = {key: random.normal(size=shape) for key, shape in SHAPES.items()}
    gradients = {key: random.normal(size=(STEPS, *shape)) for key, shape in SHAPES.items()}
    variables = make_variables(dtype, **start)
    optimizer = make_optimizer(name, RATE, **options)
    optimizer.build(variables)
    step = tf.function(lambda *given: optimizer.apply(list(given), variables), autograph=False)
    expected = [list(reference(start[key], gradients[key], **reference_options)) for key in SHAPES]
    tolerance = {"rtol": 1e-4, "atol": 2e-5}
    if dtype == "float64":
        # Keras' Nadam keeps its 0.96 in float32.
        tolerance = {"rtol": 1e-7, "atol": 1e-8} if name == "Nadam" else {"rtol": 1e-9, "atol": 1e-10}
    for number in range(STEPS):
        step(*[tf.constant(table[number], dtype) for table in gradients.values()])
        for key, variable, path in zip(SHAPES, variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), path[number], **tolerance, err_msg=f"{key}, step {number + 1}")


def test_lamb_without_weights_or_without_gradient(make_optimizer: Any, make_variables: Any) -> None:
    """If a norm is 0, the trust ratio is 1: zero weights move by Adam's step, and zero gradients move nothing."""
    variables = make_variables(zero=np.zeros(4), still=np.ones(4))
    optimizer = make_optimizer("LAMB", RATE, epsilon=1e-12)
    optimizer.apply([tf.constant([1.0, -2.0, 3.0, -4.0]), tf.zeros(4)], variables)
    np.testing.assert_allclose(variables[0].numpy(), RATE * np.array([-1, 1, -1, 1]), rtol=1e-5)
    np.testing.assert_array_equal(variables[1].numpy(), np.ones(4))


def test_lamb_steps_by_the_rate(make_optimizer: Any, make_variables: Any) -> None:
    """A step has the length rate * |w| for any weight decay, since the trust ratio includes the decay."""
    start = np.random.default_rng(6).normal(size=(7, 3))
    for decay in (1e-30, 0.1, 10.0):
        variables = make_variables(w=start)
        gradient = np.random.default_rng(7).normal(size=(7, 3))
        make_optimizer("LAMB", RATE, weight_decay=decay).apply([tf.constant(gradient, tf.float32)], variables)
        length = np.linalg.norm(variables[0].numpy() - start.astype(np.float32))
        assert length == pytest.approx(RATE * np.linalg.norm(start), rel=1e-4)


def test_muon_leaves_embeddings_to_adam(make_optimizer: Any) -> None:
    """An embedding table is a matrix, but has Adam's state of two moments; a kernel has one."""
    import keras

    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(5, 4, name="embedding")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    optimizer = make_optimizer("Muon", RATE)
    optimizer.build(model.trainable_variables)
    adams = [variable.path for variable in optimizer.variables if "velocity" in variable.path]
    assert len(adams) == 2
    assert any("embedding" in path for path in adams)
    assert any("head_bias" in path for path in adams)
