"""All built-in optimizers times all checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

RATES = {
    # name: (rate for the quadratic, rate for Rosenbrock's function)
    "AdaBelief": (0.1, 0.002),
    "Adam": (0.1, 0.02),
    "AdamW": (0.1, 0.02),
    "Adamax": (0.1, 0.02),
    "LAMB": (0.02, 0.02),
    "Lion": (0.02, 0.01),
    "Muon": (0.1, 0.02),
    "Nadam": (0.1, 0.02),
    "RMSprop": (0.1, 0.01),
    "SGD": (0.1, 0.001),
}
STEPS = 12
SHAPES = {"tall": (6, 4), "wide": (4, 6), "bias": (5,)}


@pytest.fixture
def start() -> dict[str, Any]:
    """Return values of three variables."""
    random = np.random.default_rng(1)
    return {name: random.normal(size=shape) for name, shape in SHAPES.items()}


@pytest.fixture
def gradients() -> Callable[[Any], list[Any]]:
    """Return gradients of these variables for each of STEPS steps."""
    random = np.random.default_rng(2)
    tables = [tf.constant(random.normal(size=(STEPS, *shape)), tf.float32) for shape in SHAPES.values()]
    return lambda step: [table[step] for table in tables]


def values(variables: list[Any]) -> list[Any]:
    """Return the numbers in these variables."""
    return [variable.numpy() for variable in variables]


def test_finds_the_minimum_of_a_quadratic(
    name: str, make_optimizer: Any, make_schedule: Any, make_variables: Any, make_loop: Any
) -> None:
    """With a rate that decays to zero, a matrix and a vector reach their targets."""
    targets = [np.array([[1.0, -1.0, 2.0], [0.5, 3.0, -2.0]]), np.array([1.0, -1.0, 1.0])]
    variables = make_variables(matrix=[[-1.0, 2.0, 0.5], [1.0, -1.0, 1.0]], vector=[-1.0, 4.0, 1.0])
    schedule = make_schedule("CosineDecay", lr=RATES[name][0], updates_per_epoch=100, epochs=10)
    optimizer = make_optimizer(name, schedule, weight_decay=1e-9)

    def gradients(_: Any) -> list[Any]:
        return [variable - tf.constant(target, tf.float32) for variable, target in zip(variables, targets, strict=True)]

    make_loop(optimizer, variables, gradients, steps=1000, mode="graph")()
    for value, target in zip(values(variables), targets, strict=True):
        np.testing.assert_allclose(value, target, atol=0.01)


def test_descends_the_valley_of_rosenbrock(
    name: str, make_optimizer: Any, make_schedule: Any, make_variables: Any, make_loop: Any
) -> None:
    """Each optimizer descends from (-1, 1) around the bend to the minimum at (1, 1)."""
    variables = make_variables(point=[[-1.0, 1.0]])
    schedule = make_schedule("CosineDecay", lr=RATES[name][1], updates_per_epoch=1000, epochs=20)
    optimizer = make_optimizer(name, schedule, weight_decay=1e-9)

    def gradients(_: Any) -> list[Any]:
        x, y = variables[0][0, 0], variables[0][0, 1]
        return [tf.stack([[-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]])]

    make_loop(optimizer, variables, gradients, steps=20_000, mode="xla")()
    np.testing.assert_allclose(variables[0].numpy(), [[1.0, 1.0]], atol=0.05)


@pytest.mark.parametrize("mode", ["graph", pytest.param("xla", marks=pytest.mark.slow)])
def test_zero_gradient_moves_nothing(
    name: str, mode: str, make_optimizer: Any, make_variables: Any, make_loop: Any, start: Any
) -> None:
    """Without a gradient and without decay, no bit changes, and no state becomes NaN."""
    variables = make_variables(**start)
    before = values(variables)
    optimizer = make_optimizer(name, 0.1, weight_decay=1e-30)
    zeros = [tf.zeros(variable.shape) for variable in variables]
    make_loop(optimizer, variables, lambda _: zeros, steps=50, mode=mode)()
    for value, expected in zip(values(variables), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert all(np.isfinite(value).all() for value in values(optimizer.variables))


@pytest.mark.parametrize("mode", [pytest.param("graph", marks=pytest.mark.slow), "xla"])
def test_gradients_of_any_size_stay_finite(
    name: str, mode: str, make_optimizer: Any, make_variables: Any, make_loop: Any, start: Any, gradients: Any
) -> None:
    """Gradients range from denormal numbers, which XLA flushes to zero, to squares near the end of float32."""
    variables = make_variables(**start)
    optimizer = make_optimizer(name, 1e-3)
    size = tf.Variable(0.0)
    loop = make_loop(
        optimizer, variables, lambda step: [size * gradient for gradient in gradients(step)], steps=STEPS, mode=mode
    )
    state = [*variables, *optimizer.variables]
    before = values(state)
    for each in (1e-45, 1e-38, 1e-30, 1e-20, 1e-7, 1e7, 1e15):
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)
        size.assign(each)
        loop()
        assert all(np.isfinite(value).all() for value in values(state)), each


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_compiled_equals_uncompiled(
    name: str, mode: str, make_optimizer: Any, make_variables: Any, make_loop: Any, start: Any, gradients: Any
) -> None:
    """A loop step by step or through XLA gives the results of the compiled graph."""
    results = []
    for each in ("graph", mode):
        variables = make_variables(**start)
        make_loop(make_optimizer(name, 0.01, weight_decay=0.01), variables, gradients, steps=STEPS, mode=each)()
        results.append(values(variables))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["graph", pytest.param("xla", marks=pytest.mark.slow)])
def test_is_traced_once(
    name: str,
    mode: str,
    make_optimizer: Any,
    make_schedule: Any,
    make_variables: Any,
    make_loop: Any,
    start: Any,
    gradients: Any,
) -> None:
    """Further steps, also with another learning rate, cause no new trace and no new variables."""
    variables = make_variables(**start)
    schedule = make_schedule("ExponentialDecay", lr=0.01, decay=0.9, updates_per_epoch=5, epochs=10)
    optimizer = make_optimizer(name, schedule, weight_decay=0.01)
    loop = make_loop(optimizer, variables, gradients, steps=STEPS, mode=mode)
    count = len(optimizer.variables)
    for _ in range(3):
        loop()
    assert loop.experimental_get_tracing_count() == 1
    assert int(optimizer.iterations) == 3 * STEPS
    assert len(optimizer.variables) == count


def test_restores_at_every_step(
    name: str, make_optimizer: Any, make_schedule: Any, make_variables: Any, start: Any, gradients: Any
) -> None:
    """From the variables after any step, a new optimizer makes the next step bit-identically."""
    schedule = make_schedule("ExponentialDecay", lr=0.01, decay=0.9, updates_per_epoch=5, epochs=10)

    def fresh() -> tuple[list[Any], Any]:
        variables = make_variables(**start)
        optimizer = make_optimizer(name, schedule, weight_decay=0.01)
        optimizer.build(variables)
        step = tf.function(lambda number: optimizer.apply(gradients(number), variables), autograph=False)
        return [*variables, *optimizer.variables], step

    state, step = fresh()
    kept = [values(state)]
    for number in range(STEPS):
        step(tf.constant(number))
        kept.append(values(state))
    state, step = fresh()
    for number in reversed(range(STEPS)):
        for variable, value in zip(state, kept[number], strict=True):
            variable.assign(value)
        step(tf.constant(number))
        for value, expected in zip(values(state), kept[number + 1], strict=True):
            np.testing.assert_array_equal(value, expected)


def test_configuration_comes_back(
    name: str, make_optimizer: Any, make_schedule: Any, make_variables: Any, start: Any, gradients: Any
) -> None:
    """An optimizer restored from JSON, with its schedule and its exclusions, makes the same steps."""
    schedule = make_schedule("WarmupCosineDecay", lr=0.01, warmup_epochs=2.0, updates_per_epoch=2, epochs=10)
    first = make_optimizer(name, schedule, weight_decay=0.1, exclude_from_weight_decay=("bias", "^wide$"))
    text = json.dumps(keras.saving.serialize_keras_object(first))
    second = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(second) is type(first)
    assert second.get_config() == first.get_config()
    results = []
    for optimizer in (first, second, type(first).from_config(first.get_config())):
        variables = make_variables(**start)
        optimizer.build(variables)
        for number in range(3):
            optimizer.apply(gradients(number), variables)
        results.append(values(variables))
    for other in results[1:]:
        for expected, found in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_sparse_gradient_equals_dense(name: str, make_optimizer: Any, make_variables: Any) -> None:
    """A gradient of some rows equals that gradient with zeros in the other rows."""
    results = []
    for sparse in (False, True):
        random = np.random.default_rng(4)
        variables = make_variables(table=random.normal(size=(5, 3)))
        optimizer = make_optimizer(name, 0.01, weight_decay=0.01)
        for _ in range(3):
            slices = tf.IndexedSlices(
                tf.constant(random.normal(size=(2, 3)), tf.float32), tf.constant([0, 3]), tf.constant([5, 3])
            )
            optimizer.apply([slices if sparse else tf.convert_to_tensor(slices)], variables)
        results += values(variables)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6, atol=1e-7)


def two_layers() -> Any:
    """Return two layers whose weights have the same bare names."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="encoder", bias_initializer="ones")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head", bias_initializer="ones")(hidden))


def test_weight_decay_leaves_out_by_path(name: str, make_optimizer: Any) -> None:
    """A pattern distinguishes layers, not only kinds of weights; LAMB scales the decay to the weights' norm."""
    model = two_layers()
    weights = {weight.path: weight for weight in model.trainable_variables}
    before = dict(zip(weights, values(list(weights.values())), strict=True))
    optimizer = make_optimizer(
        name, 0.5, weight_decay=0.25, exclude_from_weight_decay=("^encoder/kernel$", r"head/b\w+$")
    )
    optimizer.apply([tf.zeros(weight.shape) for weight in weights.values()], list(weights.values()))
    kept = 1 - 0.5 if name == "LAMB" else 1 - 0.5 * 0.25
    decayed = {"encoder/bias", "head/kernel"}
    assert decayed < set(weights)
    for path, weight in weights.items():
        expected = before[path] * (kept if path in decayed else 1)
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6, err_msg=path)


def test_weight_decay_follows_the_schedule(
    name: str, make_optimizer: Any, make_schedule: Any, make_variables: Any, make_loop: Any, start: Any
) -> None:
    """Without gradients, the factor after five steps is the product of 1 - rate * decay."""
    variables = make_variables(**start)
    schedule = make_schedule("ExponentialDecay", lr=0.5, decay=0.25, updates_per_epoch=2, epochs=3)
    optimizer = make_optimizer(name, schedule, weight_decay=0.25)
    zeros = [tf.zeros(variable.shape) for variable in variables]
    make_loop(optimizer, variables, lambda _: zeros, steps=5, mode="graph")()
    rates = 0.5 * 0.25 ** (np.arange(5) / 2)
    left = np.prod(1 - rates * (1 if name == "LAMB" else 0.25))
    for value, before in zip(values(variables), start.values(), strict=True):
        np.testing.assert_allclose(value, before * left, rtol=1e-5)


def test_no_weight_decay_is_weight_decay_zero(
    name: str, make_optimizer: Any, make_variables: Any, start: Any, gradients: Any
) -> None:
    """weight_decay 0 turns decay off, even if it is on by default."""
    results = []
    for decay in (0.0, 1e-30):
        variables = make_variables(**start)
        optimizer = make_optimizer(name, 0.01, weight_decay=decay)
        optimizer.apply(gradients(0), variables)
        results.append(values(variables))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
