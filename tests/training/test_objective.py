"""Losses and metrics per output: several outputs, masks, regularisers, custom losses, and invalid combinations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import DataError, ScenarioError
from aipcore.scenario import Scenario

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
SGD = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.05", "--train.shuffle", "false",
    "--trainer.epochs", "1",
)  # fmt: skip


class TwoHeads(Scenario):
    """A scenario with a class and a size as outputs of one trunk, with a regularised kernel."""

    monitor = ("min", "size_mean_absolute_error")

    def train_data(self) -> Any:
        return {"x": X}, {"label": np.arange(8, dtype=np.int32) % 2, "size": X.sum(1, keepdims=True)}

    def val_data(self) -> Any:
        return self.train_data()

    def build(self, inputs: Any) -> Any:
        trunk = keras.layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1), name="trunk")(inputs["x"])
        return {"label": keras.layers.Dense(2, name="a")(trunk), "size": keras.layers.Dense(1, name="b")(trunk)}

    def losses(self) -> Any:
        return {
            "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "size": keras.losses.MeanSquaredError(),
        }

    def metrics(self) -> Any:
        return {"size": [keras.metrics.MeanAbsoluteError()]}


def test_several_outputs_equal_model_fit(make_trainer: Any) -> None:
    """Total and single losses, metrics and weights equal those of Model.fit, including regularisation."""
    trainer = make_trainer(TwoHeads, *SGD, "--train.batch_size", "4")
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(keras.optimizers.SGD(0.05), trainer.scenario.losses(), metrics={"size": ["mae"]})
    x, y = trainer.scenario.train_data()
    fit = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    logs = trainer.fit().history[0]
    assert logs["loss"] == pytest.approx(fit["loss"][0], rel=1e-5)
    assert logs["label_loss"] == pytest.approx(fit["label_loss"][0], rel=1e-5)
    assert logs["size_loss"] == pytest.approx(fit["size_loss"][0], rel=1e-5)
    assert logs["size_mean_absolute_error"] == pytest.approx(fit["size_mae"][0], rel=1e-5)
    for ours, theirs in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


class Masked(Scenario):
    """A scenario with outputs per step, 3 everywhere, whose steps with token 0 are masked."""

    def train_data(self) -> Any:
        tokens = np.array([[1, 2, 0, 0], [3, 1, 2, 4]], np.int32)
        return tokens, np.array([[1, 1, 99, 99], [1, 1, 1, 2]], np.float32)[..., None]

    def build(self, inputs: Any) -> Any:
        embedded = keras.layers.Embedding(5, 1, mask_zero=True)(inputs)
        three = keras.initializers.Constant(3.0)
        return keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=three)(embedded)

    def losses(self) -> Any:
        return "mean_squared_error"


class CustomLoss(TwoHeads):
    """A scenario with custom loss values, one per sample."""

    monitor = ("min", "loss")

    def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
        return {"energy": keras.ops.sum(keras.ops.square(outputs["size"]), -1) + 0 * inputs["x"][:, 0]}

    def metrics(self) -> Any:
        return {}


def test_own_loss_values(make_trainer: Any) -> None:
    """`loss_values` replaces `losses`; the regulariser still counts."""
    trainer = make_trainer(CustomLoss, *SGD, "--train.batch_size", "8")
    trunk, bias, *_ = trainer.model.get_weights()
    head = trainer.model.get_layer("b").get_weights()
    size = (X @ trunk + bias) @ head[0] + head[1]
    expected = float((size**2).sum(1).mean() + 0.1 * (trunk**2).sum())
    assert trainer.fit().history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def wrong(**methods: Any) -> type[Scenario]:
    """Return `TwoHeads` with some methods that return other values."""
    return type("Wrong", (TwoHeads,), {name: (lambda _self, *_, v=value: v) for name, value in methods.items()})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"losses": {"lable": "mse"}}, "losses.. names the output 'lable', but the model has 'label', 'size'"),
        ({"losses": "mse"}, "must be a mapping by output name, since the model has several outputs"),
        ({"metrics": {"x": ["mae"]}}, "metrics.. names the output 'x'"),
        ({"build": 3}, r"build\(\) \(.*\) returned a value of type int"),
        ({"train_data": ({"x": X}, {"label": np.zeros(8, np.int32), "other": X})}, "output 'size' has no target"),
        (
            {"train_data": ({"x": X}, {"label": np.zeros((8, 3)), "size": X})},
            "The target 'size' of sample 0 of .* has shape",
        ),
    ],
)
def test_wrong_scenarios_are_named(make_trainer: Any, methods: dict[str, Any], message: str) -> None:
    """A mismatch of the scenario's parts is reported in one sentence before training."""
    with pytest.raises((ScenarioError, DataError), match=message):
        make_trainer(wrong(**methods), *SGD)


def test_a_scenario_must_define_its_parts(make_trainer: Any, refused: Any) -> None:
    """A missing method is named."""
    with refused(ScenarioError):
        make_trainer(type("Empty", (Scenario,), {}))


def test_a_model_without_weights_is_refused(make_trainer: Any, refused: Any) -> None:
    """A model without weights has nothing to train and is refused."""

    class Still(TwoHeads):
        monitor = ("min", "loss")

        def build(self, inputs: Any) -> Any:
            total = keras.ops.sum(inputs["x"], -1, keepdims=True)
            return {"label": keras.ops.concatenate([total, total], -1), "size": total}

    with refused(ScenarioError):
        make_trainer(Still, *SGD)


def test_masked_steps_do_not_count(make_trainer: Any) -> None:
    """The loss is the mean over all unmasked steps, as in Keras: five steps have the error 4, one has 1."""
    history = make_trainer(Masked, *SGD, "--train.batch_size", "2").fit().history
    assert history[0]["loss"] == pytest.approx((5 * 4 + 1) / 6, rel=1e-6)
