"""Cases outside of the parity tables: masks with weights, custom reductions, weights without gradients."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from aipcore.errors import AipError
from aipcore.scenario import Scenario

X = np.random.default_rng(0).normal(size=(10, 6, 4)).astype("float32")
for sample, length in enumerate([6, 2, 4, 1, 5] * 2):
    X[sample, length:] = 0
Y = np.random.default_rng(1).normal(size=(10, 6, 3)).astype("float32")
WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.1", "--train.shuffle", "false",
    "--trainer.epochs", "1", "--data.workers", "0",
)  # fmt: skip


class Masked(Scenario):
    """A scenario with values at the steps of sequences, some of them masked."""

    defaults: ClassVar[Any] = {"train.batch_size": 4}

    def train_data(self) -> Any:
        return X, Y

    def val_data(self) -> Any:
        return self.train_data()

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(3, kernel_initializer="ones")(keras.layers.Masking()(inputs))

    def losses(self) -> Any:
        return "mse"


def made(base: type[Any] = Masked, **methods: Any) -> type[Any]:
    """Return a scenario with some methods that return other values."""
    return type("Made", (base,), {name: (lambda *_, given=given: given()) for name, given in methods.items()})


def fit(trainer: Any, weights: Any = None) -> tuple[dict[str, list[float]], Any]:
    """Return the history of `Model.fit` and the trained model."""
    scenario = trainer.scenario
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(
        keras.optimizers.SGD(0.1), loss=scenario.losses(), metrics=scenario.metrics(),
        weighted_metrics=scenario.weighted_metrics(),
    )  # fmt: skip
    x, y, *_ = scenario.train_data()
    return model.fit(x, y, sample_weight=weights, batch_size=4, shuffle=False, verbose=0).history, model


def test_a_weight_per_sample_counts_for_all_steps(make_trainer: Any) -> None:
    """Masked losses and weighted metrics with weights [batch] equal Keras' with the same weights [batch, steps]."""
    weights = np.random.default_rng(2).uniform(0.2, 2, 10).astype("float32")
    chosen = made(train_data=lambda: (X, Y, weights), weighted_metrics=lambda: ["mae"])
    trainer = make_trainer(chosen, *WORDS)
    history, _ = fit(trainer, np.repeat(weights[:, None], 6, axis=1))
    logs = trainer.fit().history[0]
    assert logs["loss"] == pytest.approx(history["loss"][0], rel=1e-6)
    assert logs["mae"] == pytest.approx(history["mae"][0], rel=1e-6)


def test_one_number_for_a_masked_batch(make_trainer: Any) -> None:
    """A scalar loss ignores masks, as in Keras."""

    def scalar(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    trainer = make_trainer(made(losses=lambda: scalar), *WORDS)
    history, model = fit(trainer)
    assert trainer.fit().history[0]["loss"] == pytest.approx(history["loss"][0], rel=1e-6)
    np.testing.assert_allclose(trainer.model.get_weights()[0], model.get_weights()[0], rtol=1e-5)


class Dropping(keras.losses.MeanSquaredError):
    """A loss of only the targets above 0, so that the number of values differs between batches."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return (y_true - y_pred)[y_true > 0] ** 2


def test_a_subclass_of_keras_own_loss_in_groups(make_trainer: Any) -> None:
    """An overridden Keras loss is not treated as Keras' own: a group equals the large batch."""
    chosen = made(losses=Dropping)
    chosen.build = lambda _, inputs: keras.layers.Dense(3, kernel_initializer="ones")(inputs)
    large = make_trainer(chosen, *WORDS, "--train.batch_size", "8")
    small = make_trainer(chosen, *WORDS, "--trainer.accumulate_steps", "2")
    expected, found = (trainer.fit().history[0] for trainer in (large, small))
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    np.testing.assert_allclose(small.model.get_weights()[0], large.model.get_weights()[0], rtol=1e-5)


class Unused(Masked):
    """A layer that no loss depends on."""

    def build(self, inputs: Any) -> Any:
        return {"y": super().build(inputs), "other": keras.layers.Dense(2, name="idle")(inputs)}

    def losses(self) -> Any:
        return {"y": "mse"}


@pytest.mark.parametrize("group", ["1", "2"])
def test_weights_without_a_loss_do_not_decay(make_trainer: Any, caplog: Any, group: str) -> None:
    """Weights without a gradient are left unchanged, as in Keras, and named once."""
    words = ("--optimizer.weight_decay", "0.5", "--trainer.accumulate_steps", group)
    trainer = make_trainer(Unused, *WORDS, *words)
    before = trainer.model.get_layer("idle").get_weights()[0]
    trainer.fit()
    np.testing.assert_array_equal(trainer.model.get_layer("idle").get_weights()[0], before)
    assert "No loss depends on idle/kernel, idle/bias." in caplog.text


def test_penalties_that_are_vectors(make_trainer: Any) -> None:
    """Vectors in `add_loss` are summed, as in Keras."""

    class Added(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            self.add_loss(keras.ops.mean(inputs**2, axis=(1, 2)))
            return inputs

    chosen = made(build=lambda: None)
    chosen.build = lambda _, inputs: keras.layers.Dense(3, kernel_initializer="ones")(Added()(inputs))
    trainer = make_trainer(chosen, *WORDS)
    model = keras.Model(*(getattr(trainer.model, side) for side in ("inputs", "outputs")))
    x, y = trainer.scenario.train_data()
    model.compile(loss="mse")
    expected = model.evaluate(x, y, batch_size=10, verbose=0)
    trainer = make_trainer(chosen, *WORDS, "--train.batch_size", "10")
    assert trainer.fit().history[0]["loss"] == pytest.approx(expected, rel=1e-6)


class Counted(keras.layers.Layer):
    """A layer with a metric."""

    def __init__(self) -> None:
        super().__init__(name="counted")
        self.seen = keras.metrics.Mean(name="seen")

    def call(self, inputs: Any) -> Any:
        return inputs


class NoWeight(keras.metrics.Metric):
    """A metric without sample weights."""

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        pass

    def result(self) -> Any:
        return 0.0


class Nothing(NoWeight):
    """A metric without a result."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        pass

    def result(self) -> Any:
        return None


def _layer_with_metric(_: Any, inputs: Any) -> Any:
    return keras.layers.Dense(3)(Counted()(inputs))


def _own(*_: Any) -> Any:
    return {"own": keras.ops.zeros(4)}


@pytest.mark.parametrize(
    "methods",
    [
        {"build": _layer_with_metric},
        {"metrics": lambda _: [NoWeight()]},
        {"metrics": lambda _: [Nothing()]},
        {"losses": lambda _: "mse", "loss_values": _own},
        {"loss_values": _own, "loss_weights": lambda _: 2.0},
        {"loss_weights": lambda _: "2"},
        {"loss_values": lambda *_: 3.0},
    ],
)
def test_what_is_refused(make_trainer: Any, methods: dict[str, Any], refused: Any) -> None:
    """An unsupported scenario is refused in one sentence before the first epoch."""
    with refused(AipError):
        make_trainer(type("Wrong", (Masked,), methods), *WORDS)


def test_a_loss_without_a_gradient_is_refused(make_trainer: Any, refused: Any) -> None:
    """A loss without a gradient would train nothing and is refused."""
    chosen = made(losses=lambda: lambda t, o: keras.ops.cast(keras.ops.argmax(o, -1), "float32"))
    with refused(AipError):
        make_trainer(chosen, *WORDS).fit()


def test_weights_that_nothing_uses_are_refused(make_trainer: Any, refused: Any) -> None:
    """Unused weights would be ignored and are refused."""
    chosen = made(Unused, train_data=lambda: (X, {"y": Y}, {"other": np.ones(10)}))
    with refused(AipError):
        make_trainer(chosen, *WORDS)
