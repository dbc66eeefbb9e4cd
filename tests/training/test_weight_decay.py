"""Weight decay in a run: decoupled from the gradient, scaled with the schedule, and excluded by path."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.scenario import Scenario

LR, DECAY = 0.1, 0.5


class Still(Scenario):
    """A scenario with 12 samples and no gradient: only the decay moves a weight."""

    def train_data(self) -> Any:
        return np.ones((12, 2), np.float32), np.zeros((12, 1), np.float32)

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(3, kernel_initializer="ones", bias_initializer="ones", name="first")(inputs)
        return keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones", name="second")(hidden)

    def losses(self) -> Any:
        return lambda target, output: 0.0 * keras.ops.sum(output, -1)


def trained(make_trainer: Any, optimizer: str, *words: str) -> dict[str, float]:
    """Return the value of each weight by path; all elements of one are equal."""
    trainer = make_trainer(
        Still, "--optimizer", optimizer, "--optimizer.weight_decay", str(DECAY), "--learning_rate.lr", str(LR),
        "--train.batch_size", "4", *words,
    )  # fmt: skip
    trainer.fit()
    found = {}
    for variable in trainer.model.trainable_variables:
        values = np.unique(variable.numpy())
        np.testing.assert_allclose(values, values[0], rtol=1e-6)
        found[variable.path] = float(values[0])
    return found


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "AdaBelief"])
@pytest.mark.parametrize("jit", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_is_decoupled_and_follows_the_schedule(make_trainer: Any, optimizer: str, jit: str) -> None:
    """Each update multiplies every weight by 1 - rate * decay, with the rate of that update."""
    words = ("--learning_rate", "ExponentialDecay", "--learning_rate.decay", "0.25", "--trainer.jit_compile", jit)
    found = trained(make_trainer, optimizer, *words)
    expected = np.prod([1 - LR * 0.25 ** (update / 3) * DECAY for update in range(6)])
    assert len(found) == 4
    for path, value in found.items():
        assert value == pytest.approx(expected, rel=1e-5), path


def test_lamb_decays_within_its_update(make_trainer: Any) -> None:
    """LAMB's trust ratio also rescales the decay: without a gradient, each update has the size of the rate."""
    found = trained(make_trainer, "LAMB", "--learning_rate", "Constant")
    for path, value in found.items():
        assert value == pytest.approx((1 - LR) ** 6, rel=1e-5), path


@pytest.mark.parametrize(
    "optimizer", ["Adam", "AdaBelief", *(pytest.param(each, marks=pytest.mark.slow) for each in ("SGD", "LAMB"))]
)
def test_leaves_out_by_path(make_trainer: Any, optimizer: str) -> None:
    """Patterns match the whole path, so that one layer or all biases can be excluded."""
    words = ("--learning_rate", "Constant", "--optimizer.exclude_from_weight_decay")
    for patterns, spared in (
        (("bias",), {"first/bias", "second/bias"}),
        (("^first/",), {"first/kernel", "first/bias"}),
        (("first/kernel", "bias$"), {"first/kernel", "first/bias", "second/bias"}),
    ):
        found = trained(make_trainer, optimizer, *words, *patterns)
        assert {path for path, value in found.items() if value == 1.0} == spared


def test_accumulation_decays_once_an_update(make_trainer: Any) -> None:
    """Three batches as one update decay once."""
    words = ("--learning_rate", "Constant", "--trainer.accumulate_steps", "3", "--trainer.epochs", "2")
    for value in trained(make_trainer, "SGD", *words).values():
        assert value == pytest.approx((1 - LR * DECAY) ** 2, rel=1e-6)


def test_is_not_in_the_loss(make_trainer: Any) -> None:
    """The reported loss does not include decoupled decay."""
    trainer = make_trainer(Still, "--optimizer", "SGD", "--optimizer.weight_decay", "0.5")
    assert [logs["loss"] for logs in trainer.fit().history] == [0.0, 0.0]
