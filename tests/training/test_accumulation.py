"""Gradient accumulation equals a large batch, together with all options that act on an update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize(
    "optimizer", ["SGD", *(pytest.param(each, marks=pytest.mark.slow) for each in ("AdaBelief", "Adam", "LAMB"))]
)
def test_equals_the_large_batch(make_trainer: Any, blobs_class: Any, optimizer: str) -> None:
    """An update of 4 batches of 12 equals a batch of 48, also for the partial last group of 200 samples."""
    words = (
        "--optimizer", optimizer, "--optimizer.weight_decay", "0.01", "--optimizer.clip_global_norm", "0.5",
        "--optimizer.clip_value", "0.2", "--learning_rate", "WarmupCosineDecay", "--learning_rate.lr", "0.01",
        "--trainer.calc_ema", "0.9", "--trainer.epochs", "3",
    )  # fmt: skip
    large = make_trainer(blobs_class, *words, "--train.batch_size", "48")
    small = make_trainer(blobs_class, *words, "--train.batch_size", "12", "--trainer.accumulate_steps", "4")
    expected, got = large.fit(), small.fit()
    assert int(large.engine.optimizer.iterations) == int(small.engine.optimizer.iterations) == 15
    for name, value in large.state.variables.read().items():
        if name.startswith(("model/", "optimizer/", "ema/")):
            np.testing.assert_allclose(small.state.variables.read()[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    for ours, theirs in zip(got.history, expected.history, strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)


def test_trap_schedules_count_updates_not_batches(make_trainer: Any, blobs_class: Any) -> None:
    """An epoch of 10 batches in groups of 4 has 3 updates and moves the schedule by one epoch."""
    trainer = make_trainer(
        blobs_class, "--train.batch_size", "20", "--trainer.accumulate_steps", "4", "--learning_rate.decay", "0.5",
        "--trainer.epochs", "2",
    )  # fmt: skip
    rates = [logs["learning_rate"] for logs in trainer.fit().history]
    assert int(trainer.engine.optimizer.iterations) == 6
    np.testing.assert_allclose(rates, [0.001 * 0.5 ** (2 / 3), 0.001 * 0.5 ** (5 / 3)], rtol=1e-6)
