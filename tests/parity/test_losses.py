"""Every loss of Keras in every meaningful combination, against `Model.fit` and `Model.evaluate` on the same model."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import parity_heads
import pytest
from parity_heads import CLASSES, SAMPLES, STEPS, Head, features, weights_of

# By function: the class, and the kind of targets: positive numbers, signs, one-hot vectors, class ids.
LOSSES = {
    "mean_squared_error": ("MeanSquaredError", "numbers"),
    "mean_absolute_error": ("MeanAbsoluteError", "numbers"),
    "mean_absolute_percentage_error": ("MeanAbsolutePercentageError", "numbers"),
    "mean_squared_logarithmic_error": ("MeanSquaredLogarithmicError", "numbers"),
    "huber": ("Huber", "numbers"),
    "log_cosh": ("LogCosh", "numbers"),
    "cosine_similarity": ("CosineSimilarity", "numbers"),
    "poisson": ("Poisson", "numbers"),
    "kl_divergence": ("KLDivergence", "numbers"),
    "hinge": ("Hinge", "signs"),
    "squared_hinge": ("SquaredHinge", "signs"),
    "binary_crossentropy": ("BinaryCrossentropy", "binary"),
    "binary_focal_crossentropy": ("BinaryFocalCrossentropy", "binary"),
    "categorical_hinge": ("CategoricalHinge", "one-hot"),
    "categorical_crossentropy": ("CategoricalCrossentropy", "one-hot"),
    "categorical_focal_crossentropy": ("CategoricalFocalCrossentropy", "one-hot"),
    "dice": ("Dice", "one-hot"),
    "tversky": ("Tversky", "one-hot"),
    "sparse_categorical_crossentropy": ("SparseCategoricalCrossentropy", "ids"),
    "categorical_generalized_cross_entropy": ("CategoricalGeneralizedCrossEntropy", "ids"),
    "ctc": ("CTC", "labels"),
    "circle": ("Circle", "classes"),
}
NAMES = keras.src.losses.ALL_OBJECTS_DICT
FORMS = ("name", "class", "function", "instance", "lambda")
FURTHER_FORMS = ("instance", "lambda")
"""Forms that Keras wraps as it does classes and functions, so that they are compared for vectors of floats only."""

DTYPES = ("int32", "float32")
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight")


def given(function: str, form: str, **options: Any) -> Any:
    """Return a loss in one of the forms that a user may give."""
    cls = getattr(keras.losses, LOSSES[function][0])
    if form == "name":
        # Keras registers a few losses only by their class.
        return function if function in NAMES else LOSSES[function][0]
    if form == "class":
        return cls
    if form == "instance":
        return cls(**options)
    made = getattr(keras.losses, function)
    if form == "function":
        return made

    def own(y_true: Any, y_pred: Any) -> Any:
        return made(y_true, y_pred)

    return own


def targets_of(kind: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Return targets of a kind for outputs of this shape."""
    draw = np.random.default_rng(3)
    ids = draw.integers(0, CLASSES, shape[:-1])
    if kind == "numbers":
        return (draw.integers(1, 4, shape) if dtype == "int32" else draw.uniform(0.1, 2, shape)).astype(dtype)
    if kind == "signs":
        return draw.choice([-1, 1], shape).astype(dtype)
    if kind == "binary":
        return draw.integers(0, 2, shape).astype(dtype)
    if kind == "one-hot":
        return np.eye(CLASSES)[ids].astype(dtype)
    return ids.astype(dtype)


def combinations() -> Iterator[Head]:
    """Yield all heads: function x form x output shape x rank x target dtype, if meaningful."""
    for (function, (_, kind)), form, dtype in itertools.product(LOSSES.items(), FORMS, DTYPES):
        if kind in ("labels", "classes"):
            continue
        for sequence, lower in itertools.product((False, True), (False, True)):
            if form in FURTHER_FORMS and (sequence or dtype != "float32"):
                continue
            lead = (SAMPLES, STEPS) if sequence else (SAMPLES,)
            many = kind in ("one-hot", "ids")
            if lower and kind == "one-hot":
                continue
            if not lower and function == "categorical_generalized_cross_entropy":
                # Keras broadcasts [batch, 1] against [batch, classes] to [batch, batch].
                continue
            # Lower rank: [batch] against [batch, 1], class ids against scores. Equal rank: ids as [batch, 1].
            units = CLASSES if many or not lower else 1
            target = targets_of(kind, (*lead, units), dtype)
            if kind == "ids" and not lower:
                target = target[..., None]
            elif lower and kind != "ids":
                target = target[..., 0]
            name = f"{function}-{form}-{dtype}-{'sequence' if sequence else 'vector'}-{'lower' if lower else 'equal'}"
            yield Head(
                name=name, loss=given(function, form), sequence=sequence, units=units,
                activation="softmax" if many else "sigmoid", target=target,
            )  # fmt: skip
    yield from special()


def special() -> Iterator[Head]:
    """Yield losses with options, and losses with special targets."""
    for reduction, (function, sequence) in itertools.product(
        REDUCTIONS, (("mean_squared_error", False), ("mean_absolute_error", True), ("dice", False))
    ):
        lead = (SAMPLES, STEPS) if sequence else (SAMPLES,)
        kind = LOSSES[function][1]
        target = targets_of(kind, (*lead, CLASSES), "float32")
        loss = given(function, "instance", reduction=reduction)
        yield Head(
            name=f"{function}-{reduction}", loss=loss, sequence=sequence, units=CLASSES, activation="sigmoid",
            target=target,
        )  # fmt: skip
    ids = targets_of("ids", (SAMPLES, STEPS, CLASSES), "int32")
    ids[:, 3:] = -1
    ids[0] = -1
    for reduction in REDUCTIONS:
        loss = given("sparse_categorical_crossentropy", "instance", ignore_class=-1, reduction=reduction)
        yield Head(
            name=f"ignore_class-{reduction}", loss=loss, sequence=True, units=CLASSES, activation="softmax", target=ids
        )
    numbers = targets_of("numbers", (SAMPLES, CLASSES), "float32")
    each = {"batch": None, "sample": (-1,), "position": ()}
    for what, axes in each.items():

        def own(y_true: Any, y_pred: Any, axes: Any = axes) -> Any:
            return (
                keras.ops.mean(keras.ops.square(y_true - y_pred), axis=axes) if axes != () else (y_true - y_pred) ** 2
            )

        yield Head(name=f"own-{what}", loss=own, sequence=False, units=CLASSES, activation="sigmoid", target=numbers)
    labels = np.random.default_rng(1).integers(1, CLASSES, (SAMPLES, 2)).astype("int32")
    for form in ("name", "class", "function"):
        yield Head(
            name=f"ctc-{form}",
            loss=given("ctc", form),
            sequence=True,
            units=CLASSES,
            activation="linear",
            target=labels,
        )
        yield Head(
            name=f"circle-{form}", loss=given("circle", form), sequence=False, units=CLASSES, activation="linear",
            target=targets_of("ids", (SAMPLES, CLASSES), "int32"),
        )  # fmt: skip
    for units, target in ((1, "binary"), (CLASSES, "one-hot"), (CLASSES, "ids")):
        yield Head(
            name=f"crossentropy-{target}", loss="crossentropy", sequence=False, units=units,
            activation="softmax" if units > 1 else "sigmoid", target=targets_of(target, (SAMPLES, units), "float32"),
        )  # fmt: skip


def accepted(head: Head, *, masked: bool, weights: Any) -> bool:
    """Return True if Keras computes the loss of a head without broadcasting and returns one number."""
    output = keras.ops.convert_to_tensor(np.full((6, *_shape(head)), 1 / 3, "float32"))
    if masked and head.sequence:
        keras.src.backend.set_keras_mask(output, keras.ops.any(features()[:6] != 0, axis=-1))
    try:
        loss = keras.src.trainers.compile_utils.get_loss(head.loss, head.target[:6], output)
        value = loss(head.target[:6], output, None if weights is None else weights[head.name][:6])
    except Exception:
        return False
    return np.ndim(value) == 0


def _shape(head: Head) -> tuple[int, ...]:
    return (STEPS, head.units) if head.sequence else (head.units,)


def compare(make_trainer: Any, heads: list[Head], *, masked: bool, weights: Any) -> int:
    """Compare the heads that Keras accepts, and return their number."""
    chosen = [head for head in heads if accepted(head, masked=masked, weights=weights)]
    parity_heads.compare(make_trainer, chosen, masked=masked, weights=weights)
    return len(chosen)


CONFIGURATIONS = pytest.mark.parametrize(
    ("masked", "weighted"), [(False, False), (True, False), (False, True), (True, True)],
    ids=["plain", "masked", "weighted", "masked and weighted"],
)  # fmt: skip


def test_losses(make_trainer: Any, capsys: Any) -> None:
    """Losses and weights after two steps equal those of Keras, in a random part of all combinations."""
    every = list(combinations())
    random.Random(0).shuffle(every)
    chosen = every[3::20]
    count = compare(make_trainer, chosen, masked=True, weights=weights_of(chosen))
    with capsys.disabled():
        print(f" [{count} of {len(every)} combinations]", end="")
    assert count > 20


@pytest.mark.slow
@CONFIGURATIONS
def test_all_losses(make_trainer: Any, masked: bool, weighted: bool, capsys: Any) -> None:
    """Every combination that Keras accepts gives the same results, and with only a mask or a weight every second."""
    every = list(combinations())
    if masked != weighted:
        every = every[masked::2]
    count = compare(make_trainer, every, masked=masked, weights=weights_of(every) if weighted else None)
    with capsys.disabled():
        print(f" [{count} of {len(every)} combinations]", end="")


def test_a_wrong_reduction_is_found(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite detects a wrong reduction: a mean over samples in place of values fails."""
    monkeypatch.setattr("aipcore.scenario.losses.tf.size", lambda values: values.shape[0])
    chosen = [head for head in combinations() if head.name.startswith("mean_squared_error-name-float32-sequence")]
    with pytest.raises(AssertionError):
        compare(make_trainer, chosen, masked=False, weights=None)
