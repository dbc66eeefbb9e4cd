"""Mixed precision: compute dtypes and loss scaling."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.training.engine.loss_scaling import FIRST_SCALE, LossScale


@pytest.mark.parametrize(
    ("precision", "jit"),
    [("float16", "off"), *(pytest.param(*each, marks=pytest.mark.slow) for each in (
        ("bfloat16", "off"), ("bfloat16", "on"), ("float16", "on"),
    ))],
)  # fmt: skip
def test_learns_in_mixed_precision(make_trainer: Any, blobs_class: Any, precision: str, jit: str) -> None:
    """Layers compute in the given dtype, weights and losses stay float32, and the result is close to float32's."""
    words = ("--trainer.epochs", "6", "--learning_rate.lr", "0.01", "--trainer.jit_compile", jit)
    trainer = make_trainer(blobs_class, *words, "--trainer.precision", precision)
    assert trainer.model.layers[-1].compute_dtype == precision
    assert {weight.dtype for weight in trainer.model.trainable_variables} == {"float32"}
    ours = trainer.fit().history[-1]
    plain = make_trainer(blobs_class, *words).fit().history[-1]
    assert keras.config.dtype_policy().name == "float32"
    assert ours["loss"] == pytest.approx(plain["loss"], rel=0.1)
    assert ours["val_accuracy"] == pytest.approx(plain["val_accuracy"], abs=0.1)


def test_float16_resumes_exactly(make_trainer: Any, noisy_class: Any) -> None:
    """A run resumes bit-identically, since the loss scale is part of the state."""
    words = ("--trainer.precision", "float16", "--trainer.epochs", "3", "--checkpoint.keep", "3")
    whole = make_trainer(noisy_class, *words, output="whole", exports=False)
    whole.fit()
    again = make_trainer(noisy_class, *words, output="again", exports=False)
    again.restore(sorted((whole.output_dir / "checkpoint").iterdir())[0])
    again.fit()
    for name, value in whole.state.variables.read().items():
        np.testing.assert_array_equal(value, again.state.variables.read()[name], err_msg=name)


def test_loss_scale_leaves_out_overflows_and_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An infinite gradient is not applied and halves the scale; enough finite ones double it."""
    monkeypatch.setattr("aipcore.training.engine.loss_scaling.GROW_AFTER", 3)
    scale = LossScale()
    made = tf.Variable(0)

    def update() -> None:
        made.assign_add(1)

    @tf.function(autograph=False)
    def step(gradient: Any) -> None:
        scale.guarded(tf.reduce_all(tf.math.is_finite(gradient)), update)

    step(tf.constant([1.0, np.inf]))
    assert (int(made), float(scale.scale)) == (0, FIRST_SCALE / 2)
    for _ in range(3):
        step(tf.constant([1.0, 2.0]))
    assert (int(made), float(scale.scale)) == (3, FIRST_SCALE)
    step(tf.constant([np.nan, 2.0]))
    assert (int(made), float(scale.scale), int(scale.good)) == (3, FIRST_SCALE / 2, 0)


def test_scaling_loses_nothing() -> None:
    """Scaling the loss and unscaling its gradient restores the same bits."""
    scale = LossScale()
    gradient = tf.constant([1.1e-3, -7.7], tf.float32)
    np.testing.assert_array_equal(scale.unscaled([gradient * scale.scale])[0], gradient)
