"""Parity of whole runs: epochs with a partial last batch, class weights, loss weights, names by rank."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from aipcore.errors import AipError
from aipcore.scenario import Sample, Scenario

X = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 3, 50)
WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.1", "--train.shuffle", "false",
    "--trainer.epochs", "2", "--train.batch_size", "16",
)  # fmt: skip


class Labels(Scenario):
    """A compiled scenario of three classes and four features."""

    weights: Any = None

    def train_data(self) -> Any:
        return (X, LABELS) if self.weights is None else (X, LABELS, self.weights)

    def val_data(self) -> Any:
        return X[:20], LABELS[:20]

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(3, activation="softmax", kernel_initializer="ones")(inputs)

    def losses(self) -> Any:
        return "crossentropy"

    def metrics(self) -> Any:
        return ["accuracy"]

    def weighted_metrics(self) -> Any:
        return ["acc"]


def fit(trainer: Any, **arguments: Any) -> tuple[dict[str, list[float]], list[Any]]:
    """Return the history and the final weights of `Model.fit` on the current model of a trainer."""
    scenario = trainer.scenario
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(
        keras.optimizers.SGD(0.1), loss=scenario.losses(), metrics=scenario.metrics(),
        weighted_metrics=scenario.weighted_metrics(), loss_weights=scenario.loss_weights(),
    )  # fmt: skip
    (x, y, *weights), validation = scenario.train_data(), scenario.val_data()
    history = model.fit(
        x, y, sample_weight=weights[0] if weights else None, batch_size=16, epochs=2, shuffle=False, verbose=0,
        validation_data=validation, validation_batch_size=16, **arguments,
    ).history  # fmt: skip
    return history, model.get_weights()


def same(trainer: Any, **arguments: Any) -> None:
    """Check that both epochs of a run have the logs and weights of `Model.fit` for 3 full batches and one of 2."""
    history, weights = fit(trainer, **arguments)
    result = trainer.fit().history
    for name, values in history.items():
        assert [logs[name] for logs in result] == pytest.approx(values, rel=1e-6), name
    for ours, theirs in zip(trainer.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_epochs(make_trainer: Any) -> None:
    """Names depend on the shape, and means weigh batches of unequal sizes."""
    same(make_trainer(Labels, *WORDS))


def test_sample_weights(make_trainer: Any) -> None:
    """A weight per sample counts in the loss and in the weighted metrics, not in the others."""

    class Weighted(Labels):
        weights = np.random.default_rng(2).uniform(0, 3, 50).astype("float32")

    same(make_trainer(Weighted, *WORDS))


def test_weights_of_samples(make_trainer: Any) -> None:
    """`Sample.weight` equals a third array."""
    weights = np.random.default_rng(2).uniform(0, 3, 50).astype("float32")
    arrays = type("Arrays", (Labels,), {"weights": weights})

    class Samples(Labels):
        def train_data(self) -> Any:
            rows = zip(X, LABELS, weights, strict=True)
            return [Sample(inputs=x, targets=y, weight=weight) for x, y, weight in rows]

    ours, theirs = (make_trainer(cls, *WORDS).fit().history for cls in (Samples, arrays))
    assert ours == theirs


def test_class_weights(make_trainer: Any) -> None:
    """`--train.class_weight` equals `fit(class_weight=...)`: only training is weighted."""
    same(make_trainer(Labels, *WORDS, "--train.class_weight", "0=1", "2=5"), class_weight={0: 1, 2: 5})


def test_balanced_class_weights(make_trainer: Any) -> None:
    """`balanced` gives each class the same total weight, by scikit-learn's formula."""
    counts = np.bincount(LABELS)
    expected = {label: 50 / (3 * count) for label, count in enumerate(counts)}
    same(make_trainer(Labels, *WORDS, "--train.class_weight", "balanced"), class_weight=expected)


def test_loss_weights(make_trainer: Any) -> None:
    """A factor counts in the total and in the gradient."""
    same(make_trainer(type("Half", (Labels,), {"loss_weights": lambda _: 0.5}), *WORDS))


class TwoLosses(Labels):
    """A scenario of two outputs with factors and one target each."""

    factors: ClassVar[Any] = {"label": 0.3, "size": 2.0}

    def train_data(self) -> Any:
        return X, {"label": LABELS, "size": X[:, 0]}

    def val_data(self) -> Any:
        return X[:32], {"label": LABELS[:32], "size": X[:32, 0]}

    def build(self, inputs: Any) -> Any:
        ones = {"kernel_initializer": "ones"}
        return {
            "label": keras.layers.Dense(3, "softmax", **ones)(inputs),
            "size": keras.layers.Dense(1, **ones)(inputs),
        }

    def losses(self) -> Any:
        return {"label": "sparse_categorical_crossentropy", "size": lambda t, o: keras.ops.square(t - o)}

    def loss_weights(self) -> Any:
        return self.factors

    def metrics(self) -> Any:
        return {"label": "accuracy", "size": ["mae", keras.metrics.RootMeanSquaredError()]}

    def weighted_metrics(self) -> Any:
        return []


def test_factors_by_output(make_trainer: Any) -> None:
    """Single losses are logged without factors. Batches are equal, since Keras ignores their sizes in the mean."""

    class Whole(TwoLosses):
        def train_data(self) -> Any:
            x = np.concatenate([X, X[:14]])
            return x, {"label": np.concatenate([LABELS, LABELS[:14]]), "size": x[:, 0]}

    same(make_trainer(Whole, *WORDS))


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"factors": {"label": 1.0}}, ()),
        ({"factors": {"lable": 1.0}}, ()),
        ({"factors": 2.0}, ()),
        ({"losses": lambda _: {"label": ["mse"], "size": "mse"}}, ()),
        ({"losses": lambda _: {"label": None, "size": None}, "factors": None}, ()),
        ({"losses": lambda _: {"size": keras.losses.MeanSquaredError(reduction=None)}, "factors": None}, ()),
        ({}, ("--train.class_weight", "balanced")),
        ({"train_data": lambda _: (X, {"label": LABELS, "size": X[:, 0]}, {"lable": np.ones(50)})}, ()),
    ],
)  # fmt: skip
def test_what_is_refused(make_trainer: Any, methods: dict[str, Any], words: tuple[str, ...], refused: Any) -> None:
    """An unsupported argument is refused in one sentence before the first epoch."""
    with refused(AipError):
        make_trainer(type("Wrong", (TwoLosses,), methods), *WORDS, *words)
