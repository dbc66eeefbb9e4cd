"""EMA of the weights: its formula and its use, without a change of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_scenarios import Weight

from aipcore.training.engine.ema import averaging_rate


class Validated(Weight):
    """The same with two batches of two samples, and one sample for validation."""

    x = (1.0, 2.0, 3.0, 4.0)

    def val_data(self) -> Any:
        return np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)


SGD = ("--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.01", "--train.shuffle", "false")


@pytest.mark.parametrize("jit", ["off", "on"])
def test_formula_and_use(make_trainer: Any, jit: str) -> None:
    """The average follows the recursion, and the validation loss is that of the average."""
    trainer = make_trainer(
        Validated, *SGD, "--train.batch_size", "2", "--trainer.calc_ema", "0.8", "--trainer.epochs", "3",
        "--trainer.jit_compile", jit,
    )  # fmt: skip
    history = trainer.fit().history
    w = shadow = 1.0
    for epoch in range(3):
        for batch in ([1, 2], [3, 4]):
            w -= 0.01 * np.mean([2 * w * x * x for x in batch])
            shadow = 0.8 * shadow + 0.2 * w
        assert history[epoch]["val_loss"] == pytest.approx(shadow**2, rel=1e-5)
    assert float(trainer.engine.average.shadows[0][0, 0]) == pytest.approx(shadow, rel=1e-5)
    assert float(trainer.model.get_weights()[0][0, 0]) == pytest.approx(w, rel=1e-5)


def test_trap_ema_advances_on_real_optimizer_steps_only(make_trainer: Any) -> None:
    """Under accumulation, the average is updated once per group, not once per batch."""
    trainer = make_trainer(
        Validated, *SGD, "--train.batch_size", "1", "--trainer.accumulate_steps", "4", "--trainer.calc_ema", "0.5",
        "--trainer.epochs", "1",
    )  # fmt: skip
    trainer.fit()
    w = 1 - 0.01 * np.mean([2 * x * x for x in (1, 2, 3, 4)])
    assert float(trainer.engine.average.shadows[0][0, 0]) == pytest.approx(0.5 + 0.5 * w, rel=1e-5)


@pytest.mark.slow
def test_trap_swapping_is_bit_exact(make_trainer: Any, noisy_class: Any) -> None:
    """The raw weights of a run with EMA do not depend on the number of validations, bit for bit."""
    weights = []
    for every in ("1", "4"):
        trainer = make_trainer(
            noisy_class, "--trainer.calc_ema", "0.9", "--trainer.val_every_n", every, "--trainer.epochs", "4"
        )
        trainer.fit()
        weights.append(trainer.state.variables.read())
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name], err_msg=name)


def test_best_and_export_hold_the_average(make_trainer: Any) -> None:
    """The exported weight is the average; the checkpoint has both."""
    import tensorflow as tf

    from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

    trainer = make_trainer(Validated, *SGD, "--trainer.calc_ema", "0.8", "--trainer.epochs", "2", output="out")
    trainer.fit()
    shadow = trainer.engine.average.shadows[0].numpy()
    for name in ("best", "export"):
        serve = tf.saved_model.load(str(trainer.output_dir / name)).signatures["serving_default"]
        assert float(serve(inputs=tf.ones((1, 1)))["outputs"][0, 0]) == pytest.approx(float(shadow[0, 0]), rel=1e-6)
    arrays = read_checkpoint(newest_checkpoint(trainer.output_dir / "checkpoint")).arrays
    raw = trainer.model.get_weights()[0]
    np.testing.assert_array_equal(arrays["model/dense/kernel"], raw)
    np.testing.assert_array_equal(arrays["ema/dense/kernel"], shadow)
    assert raw != shadow


@pytest.mark.slow
def test_resumes_exactly(make_trainer: Any, noisy_class: Any) -> None:
    """A run with EMA and averaged batch-norm statistics resumes bit-identically from a checkpoint."""
    words = ("--trainer.calc_ema", "-1", "--trainer.ema_batch_norm", "--trainer.epochs", "3", "--checkpoint.keep", "3")
    whole = make_trainer(noisy_class, *words, output="whole")
    whole.fit()
    again = make_trainer(noisy_class, *words, output="again")
    again.restore(sorted((whole.output_dir / "checkpoint").iterdir())[0])
    again.fit()
    assert len(whole.engine.average.shadows) == 8
    for name, value in whole.state.variables.read().items():
        np.testing.assert_array_equal(value, again.state.variables.read()[name], err_msg=name)


@pytest.mark.parametrize(
    ("given", "updates", "expected"),
    [(0.99, 5, 0.99), (-1, 100, 0.99), (-1, 2, 0.9), (-1, 10**9, 0.9999), (0.5, 100, 0.5)],
)
def test_automatic_rate(given: float, updates: int, expected: float) -> None:
    """A negative rate averages over an epoch, within bounds."""
    assert averaging_rate(given, updates) == pytest.approx(expected)
