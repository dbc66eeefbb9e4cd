"""The compiled loop against Keras and against closed forms."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from small_scenarios import Weight


def keras_history(trainer: Any, cls: Any, optimizer: Any, epochs: int, batch_size: int) -> tuple[Any, Any]:
    """Train a copy of the trainer's untrained model with Model.fit, in the order of the data."""
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    scenario = cls(trainer.params)
    model.compile(optimizer, scenario.losses(), metrics=scenario.metrics())
    x, y = scenario.train_data()
    fit = model.fit(
        x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, validation_data=scenario.val_data()
    )
    return fit.history, model


@pytest.mark.parametrize("jit", ["off", "on"])
def test_equals_model_fit(make_trainer: Any, blobs_class: Any, jit: str) -> None:
    """In the same order, losses and metrics of every epoch and the final weights equal those of Model.fit."""
    trainer = make_trainer(
        blobs_class, "--train.shuffle", "false", "--learning_rate", "Constant", "--learning_rate.lr", "0.01",
        "--train.batch_size", "32", "--trainer.epochs", "3", "--trainer.jit_compile", jit,
    )  # fmt: skip
    history, model = keras_history(trainer, blobs_class, keras.optimizers.Adam(0.01), 3, 32)
    result = trainer.fit()
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose([logs[name] for logs in result.history], history[name], rtol=1e-4, err_msg=name)
    for ours, theirs in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_chunks_do_not_change_a_bit(make_trainer: Any, blobs_class: Any) -> None:
    """One batch per call or all in one call give the same bits."""
    weights = []
    for chunk in (1, 3, 100):
        trainer = make_trainer(blobs_class)
        compilation = trainer.compile()
        trainer.state.compilation = type(compilation)(mode="graph", chunk=chunk, reason="test")
        trainer.fit()
        weights.append(trainer.model.get_weights())
    for other in weights[1:]:
        for first, second in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_eager_equals_compiled(make_trainer: Any, blobs_class: Any) -> None:
    """trainer.force_eager gives the same results."""
    losses = [
        make_trainer(blobs_class, "--trainer.force_eager", eager, "--trainer.epochs", "1").fit().history[0]["loss"]
        for eager in ("true", "false")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_measuring_leaves_the_state_alone(make_trainer: Any, noisy_class: Any) -> None:
    """Choosing a compilation mode changes no bit of any variable, including dropout seeds and metrics."""
    trainer = make_trainer(noisy_class, "--trainer.jit_compile", "on")
    before = trainer.state.variables.read()
    trainer.compile()
    after = trainer.state.variables.read()
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_one_trace_for_a_whole_run(make_trainer: Any, blobs_class: Any) -> None:
    """Full blocks, a shorter last block and the partial last batch share one trace for any number of epochs."""
    trainer = make_trainer(blobs_class, "--trainer.epochs", "4", "--train.batch_size", "16")
    trainer.state.compilation = trainer.compile()
    trainer.state.compilation = type(trainer.state.compilation)(mode="graph", chunk=5, reason="test")
    trainer.fit()
    assert trainer.engine.loop.traces == 1


SGD = ("--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.01", "--train.shuffle", "false")


def weight(trainer: Any) -> float:
    """Return the only weight of `Weight`."""
    return float(trainer.model.get_weights()[0][0, 0])


def test_partial_last_batch_weighs_by_its_samples(make_trainer: Any) -> None:
    """Batches of 2, 2 and 1: each update is by the mean gradient of its own samples."""
    trainer = make_trainer(Weight, *SGD, "--train.batch_size", "2", "--trainer.epochs", "1")
    result = trainer.fit()
    w, total = 1.0, 0.0
    for batch in ([1, 2], [3, 4], [5]):
        total += sum((w * x) ** 2 for x in batch)
        w -= 0.01 * np.mean([2 * w * x * x for x in batch])
    assert weight(trainer) == pytest.approx(w, rel=1e-5)
    assert result.history[0]["loss"] == pytest.approx(total / 5, rel=1e-5)


def test_accumulation_equals_the_large_batch(make_trainer: Any) -> None:
    """Groups of 2 batches of 2 and a last group of 1 sample: the update is the mean over the group's samples."""
    trainer = make_trainer(
        Weight, *SGD, "--train.batch_size", "2", "--trainer.accumulate_steps", "2", "--trainer.epochs", "1"
    )
    trainer.fit()
    w = 1.0
    for group in ([1, 2, 3, 4], [5]):
        w -= 0.01 * np.mean([2 * w * x * x for x in group])
    assert weight(trainer) == pytest.approx(w, rel=1e-5)
    assert int(trainer.engine.optimizer.iterations) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--optimizer.clip_value", "0.5"), 0.5),
        (("--optimizer.clip_norm", "0.25"), 0.25),
        (("--optimizer.clip_global_norm", "0.125"), 0.125),
        (("--optimizer.clip_value", "0.5", "--optimizer.clip_norm", "0.25", "--optimizer.clip_global_norm", "3"), 0.25),
    ],
)
def test_clipping(make_trainer: Any, words: tuple[str, ...], expected: float) -> None:
    """The gradient, 22 without clipping, is brought down to the limit."""
    trainer = make_trainer(Weight, *SGD, *words, "--train.batch_size", "5", "--trainer.epochs", "1")
    trainer.fit()
    assert weight(trainer) == pytest.approx(1 - 0.01 * expected, rel=1e-5)


def test_samples_per_epoch(make_trainer: Any) -> None:
    """An epoch may be shorter or longer than the dataset; the next one continues where it ended."""
    trainer = make_trainer(
        Weight, *SGD, "--train.batch_size", "2", "--trainer.samples_per_epoch", "3", "--trainer.scale_epoch_size", "2"
    )
    assert trainer.data.batching.samples == 6
    assert trainer.data.horizon.updates_per_epoch == 3
    blocks = list(trainer.data.loader.blocks(1, chunk=1))
    assert [int(x) for block in blocks for x in block.inputs[""].ravel()] == [2, 3, 4, 5, 1, 2]
