"""Checks of optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aipcore.testing.checks.parameters import build_at_limits
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import CheckSkippedError, require
from aipcore.testing.subject import Subject

MADE = ("parameters_can_be_created",)
BUILT = ("builds",)
QUADRATIC_STEPS = 500
ROSENBROCK_STEPS = 10_000


@conformance_check("optimizer", needs=MADE)
def builds(subject: Subject) -> None:
    """`build` returns a new Keras optimizer on each call, for a number and for a schedule."""
    import keras

    from aipcore.testing.steps import TriedRate

    for rate in (0.01, TriedRate(10)):
        made = subject.build(subject.params(), rate)
        require(
            isinstance(made, keras.optimizers.Optimizer),
            f"build returned {type(made).__name__}: return a keras.optimizers.Optimizer",
        )
        require(made is not subject.build(subject.params(), rate), "build returned the same optimizer twice")


@conformance_check("optimizer", needs=BUILT)
def builds_at_its_limits(subject: Subject) -> None:
    """`build` accepts every value inside the limits of the parameters, the limits included."""
    build_at_limits(subject, lambda params: subject.build(params, 0.01))


@conformance_check("optimizer", needs=BUILT)
def uses_the_learning_rate(subject: Subject) -> None:
    """The optimizer uses the given learning rate: a rate of 0 changes nothing, and a schedule is followed."""
    from aipcore.testing.steps import TriedRate, fixed_gradients, make_variables, numbers, same_bits

    schedule = TriedRate(10)
    optimizer = subject.build(subject.params(), schedule)
    variables, gradients = make_variables(), fixed_gradients()
    before = numbers(variables)
    optimizer.apply(gradients(0), variables)
    require(same_bits(numbers(variables), before), "a learning rate of 0 changes the weights")
    schedule.rate.assign(0.01)
    # Some optimizers update the weights from slow weights, or only every few steps.
    for step in range(1, 8):
        optimizer.apply(gradients(step), variables)
    require(not same_bits(numbers(variables), before), "7 updates at a learning rate of 0.01 change no weight")


@conformance_check("optimizer", needs=BUILT)
def leaves_the_rest_to_the_loop(subject: Subject) -> None:
    """Gradient clipping, gradient accumulation and averaging of weights are left to the training loop."""
    from aipcore.testing.steps import fixed_gradients, make_optimizer, make_variables, numbers, same_bits

    results = []
    for clipping in ({}, {"clip_value": 1e-3, "clip_norm": 1e-3, "clip_global_norm": 1e-3}):
        optimizer = make_optimizer(subject, 0.01, **clipping)
        for attribute in ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps", "use_ema"):
            value = getattr(optimizer, attribute, None)
            require(not value, f"the optimizer has {attribute} = {value}: leave this to the training loop")
        variables, gradients = make_variables(), fixed_gradients()
        for step in range(3):
            optimizer.apply(gradients(step), variables)
        results.append(numbers(variables))
    require(same_bits(*results), "clip_value, clip_norm or clip_global_norm changes the steps of the optimizer")


@conformance_check("optimizer", needs=BUILT)
def golden_steps(subject: Subject) -> None:
    """The steps equal those of an independent computation, if the author declares one as `golden`."""
    import keras
    import numpy as np
    import tensorflow as tf

    from aipcore.hooks.references import import_reference
    from aipcore.testing.declaration import GoldenSteps
    from aipcore.testing.steps import make_optimizer

    if subject.declared.golden is None:
        raise CheckSkippedError("no golden steps are declared")
    golden = import_reference(subject.declared.golden)()
    require(isinstance(golden, GoldenSteps), f"{subject.declared.golden} returned {type(golden).__name__}")
    optimizer = make_optimizer(subject, golden.learning_rate, **golden.params)
    weights = keras.Variable(golden.start, dtype="float32", name="kernel")
    for step, (gradient, expected) in enumerate(zip(golden.gradients, golden.weights, strict=True), start=1):
        optimizer.apply([tf.constant(gradient, tf.float32)], [weights])
        error = float(np.max(np.abs(weights.numpy() - expected) / np.maximum(np.abs(expected), 1.0)))
        require(error <= golden.tolerance, f"after step {step} a weight differs from its golden value by {error:.1g}")


@conformance_check("optimizer", needs=BUILT)
def minimizes_a_quadratic(subject: Subject) -> None:
    """With one of the declared learning rates, a quadratic of a matrix and a vector is minimized to within 0.05."""
    import numpy as np
    import tensorflow as tf

    from aipcore.testing.steps import minimized

    targets = [np.array([[1.0, -1.0, 2.0], [0.5, 3.0, -2.0]]), np.array([1.0, -1.0, 1.0])]
    start = [np.array([[-1.0, 2.0, 0.5], [1.0, -1.0, 1.0]]), np.array([-1.0, 4.0, 1.0])]

    def gradients(variables: list[Any]) -> list[Any]:
        return [variable - tf.constant(goal, tf.float32) for variable, goal in zip(variables, targets, strict=True)]

    tried = (
        (max(float(np.max(np.abs(value - goal))) for value, goal in zip(values, targets, strict=True)), rate)
        for rate, values in minimized(subject, start, gradients, QUADRATIC_STEPS, "graph")
    )
    _one_arrives(tried, 0.05, QUADRATIC_STEPS)


@conformance_check("optimizer", needs=BUILT)
def descends_rosenbrock(subject: Subject) -> None:
    """With one of the declared rates, Rosenbrock's function is minimized from (-1, 1) to within 0.1 of (1, 1)."""
    import numpy as np
    import tensorflow as tf

    from aipcore.testing.steps import minimized

    def gradients(variables: list[Any]) -> list[Any]:
        x, y = variables[0][0, 0], variables[0][0, 1]
        return [tf.stack([[-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]])]

    mode = "xla" if subject.declared.xla else "graph"
    found = minimized(subject, [np.array([[-1.0, 1.0]])], gradients, ROSENBROCK_STEPS, mode)
    _one_arrives(((float(np.max(np.abs(point - 1))), rate) for rate, (point,) in found), 0.1, ROSENBROCK_STEPS)


def _one_arrives(tried: Iterable[tuple[float, float]], within: float, steps: int) -> None:
    """Fail if no distance is small enough. No rate after a suitable one is tried."""
    distances = []
    for distance, rate in tried:
        # Comparisons with NaN are false.
        if distance <= within:
            return
        distances.append((distance, rate))
    listed = ", ".join(f"{distance:.2g} at the rate {rate}" for distance, rate in distances)
    raise AssertionError(f"after {steps} steps the distance to the minimum is {listed}: declare suitable `rates`")


@conformance_check("optimizer", needs=BUILT)
def is_traced_once(subject: Subject) -> None:
    """A compiled loop is traced once, counts its updates, and does not create variables later."""
    from aipcore.testing.steps import STEPS, TriedRate, compiled_loop, fixed_gradients, make_variables

    optimizer = subject.build(subject.params(), TriedRate(100))
    loop = compiled_loop(optimizer, make_variables(), fixed_gradients(), STEPS)
    count = len(optimizer.variables)
    for _ in range(3):
        loop()
    traces = loop.experimental_get_tracing_count()
    require(traces == 1, f"the loop was traced {traces} times")
    done = int(optimizer.iterations)
    require(done == 3 * STEPS, f"after {3 * STEPS} updates, iterations is {done}")
    require(len(optimizer.variables) == count, "the optimizer created variables after build")


@conformance_check("optimizer", needs=BUILT)
def keeps_dtypes(subject: Subject) -> None:
    """Variables of each dtype in `dtypes` keep it, change, and stay finite."""
    import numpy as np

    from aipcore.testing.steps import STEPS, compiled_loop, fixed_gradients, make_variables, numbers

    for dtype in subject.declared.dtypes:
        variables = make_variables(dtype)
        before = numbers(variables)
        compiled_loop(subject.build(subject.params(), 0.01), variables, fixed_gradients(dtype), STEPS)()
        for variable, value in zip(variables, before, strict=True):
            now = variable.numpy()
            require(now.dtype == value.dtype, f"{dtype} becomes {now.dtype}")
            require(np.isfinite(now.astype(np.float64)).all(), f"weights of {dtype} are not finite after {STEPS} steps")
            require(now.tobytes() != value.tobytes(), f"weights of {dtype} do not change in {STEPS} steps")


@conformance_check("optimizer", needs=BUILT)
def resumes_at_every_step(subject: Subject) -> None:
    """From a copy of all variables after any step, a new optimizer makes a bit-identical next step."""
    import tensorflow as tf

    from aipcore.testing.steps import STEPS, fixed_gradients, make_variables, numbers, same_bits

    gradients = fixed_gradients()

    def fresh() -> tuple[list[Any], Any]:
        variables = make_variables()
        optimizer = subject.build(subject.params(), 0.01)
        optimizer.build(variables)
        step = tf.function(lambda number: optimizer.apply(gradients(number), variables), autograph=False)
        return [*variables, *optimizer.variables], step

    state, step = fresh()
    kept = [numbers(state)]
    for number in range(STEPS):
        step(tf.constant(number))
        kept.append(numbers(state))
    state, step = fresh()
    for number in reversed(range(STEPS)):
        for variable, value in zip(state, kept[number], strict=True):
            variable.assign(value)
        step(tf.constant(number))
        require(
            same_bits(numbers(state), kept[number + 1]),
            f"resumed after update {number}, the next one differs: keep all state in optimizer.variables",
        )


@conformance_check("optimizer", needs=BUILT)
def same_under_xla(subject: Subject) -> None:
    """A loop compiled by XLA gives the same results as a graph, within 1e-5."""
    import numpy as np

    from aipcore.testing.steps import STEPS, compiled_loop, fixed_gradients, make_variables, numbers

    if not subject.declared.xla:
        raise CheckSkippedError("declared with xla = False")
    results = []
    for mode in ("graph", "xla"):
        variables = make_variables()
        compiled_loop(subject.build(subject.params(), 0.01), variables, fixed_gradients(), STEPS, mode)()
        results.append(numbers(variables))
    error = max(float(np.max(np.abs(a - b))) for a, b in zip(*results, strict=True))
    require(error <= 1e-5, f"weights differ by {error:.1g} after {STEPS} steps")
