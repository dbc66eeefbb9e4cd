"""The monitored value chosen by an option, and `min_delta` of early stopping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.errors import ParamsError
from aipcore.training.monitor import Monitor, stop_reason
from aipcore.training.params import EarlyStoppingParams


class Stopped:
    """Stands for a model of which Keras' callback only sets `stop_training`."""

    stop_training = False


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("seed", range(20))
def test_min_delta_is_that_of_keras(mode: Any, seed: int) -> None:
    """Training stops in the epoch in which Keras' EarlyStopping stops, also with slow progress and equal steps."""
    import keras

    rng = np.random.default_rng(seed)
    steps = rng.choice([-0.25, -0.125, 0.0, 0.125, 0.25], 40)
    values = np.cumsum(steps)
    patience, delta = int(rng.integers(1, 5)), float(rng.choice([0.0, 0.125, 0.3]))
    theirs = keras.callbacks.EarlyStopping(monitor="v", mode=mode, patience=patience, min_delta=delta)
    theirs.set_model(Stopped())
    theirs.on_train_begin()
    ours = Monitor(mode=mode, name="v", min_delta=delta)
    params = EarlyStoppingParams(n_to_go=patience, min_delta=delta)
    for epoch, value in enumerate(values.tolist()):
        theirs.on_epoch_end(epoch, {"v": value})
        ours.update(epoch + 1, {"v": value})
        reason = stop_reason(params, ours, epoch + 1, {"v": value})
        assert bool(reason) == theirs.model.stop_training, epoch
        if reason:
            break
    # The best epoch does not depend on min_delta.
    assert ours.best == (values[: epoch + 1].min() if mode == "min" else values[: epoch + 1].max())


def test_state_of_earlier_checkpoints() -> None:
    """A state without a reference continues with the best value; one of another monitor is discarded."""
    monitor = Monitor(mode="max", name="v")
    monitor.restore({"best": 2.0, "best_epoch": 3})
    assert (monitor.reference, monitor.reference_epoch) == (2.0, 3)
    state = monitor.state()
    other = Monitor(mode="min", name="v")
    other.restore(state)
    assert (other.best, other.best_epoch, other.reference_epoch) == (None, None, None)
    monitor.update(4, {"v": 5.0})
    monitor.restore(state)
    assert monitor.state() == state


def test_the_option_chooses_the_value(make_trainer: Any, blobs_class: Any) -> None:
    """Best model, early stopping, callbacks and plan follow the option; the value is that of the validation."""
    words = ("--trainer.monitor", "min:loss", "--early_stopping.min_delta", "50", "--early_stopping.n_to_go", "2")
    trainer = make_trainer(blobs_class, *words, "--trainer.epochs", "5")
    result = trainer.fit()
    assert (result.monitor, result.epochs, result.status) == ("val_loss", 3, "stopped")
    losses = [logs["val_loss"] for logs in result.history]
    assert (result.best, result.best_epoch) == (min(losses), int(np.argmin(losses)) + 1)
    assert trainer.state.stopped == "Early stopping: val_loss has not improved by more than 50 for 2 epochs"
    assert dict(trainer.plan())["best"] == "the model of the epoch with the lowest val_loss"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("max:loss", "lower values of loss are better for a loss. Write min:loss"),
        ("min:accuracy", r"higher values of accuracy are better according to Blobs\.monitor. Write max:accuracy"),
        ("min:val_accuracy", "Write max:accuracy"),
        ("max:acuracy", r"acuracy is not a loss or a metric. Did you mean accuracy\?"),
        ("accuracy", "must be min:NAME or max:NAME"),
        ("best:accuracy", "must be min:NAME or max:NAME"),
        ("max:", "must be min:NAME or max:NAME"),
    ],
)
def test_contradictions(make_trainer: Any, blobs_class: Any, given: str, text: str) -> None:
    """An unknown value, and a direction that cannot be meant, are refused before training."""
    with pytest.raises(ParamsError, match=text):
        make_trainer(blobs_class, "--trainer.monitor", given)


def test_directions_of_keras(make_trainer: Any, blobs_class: Any) -> None:
    """The direction of a metric is Keras' own, if the scenario monitors another value."""

    class Loss(blobs_class):  # type: ignore[misc]
        monitor = ("min", "loss")

    with pytest.raises(ParamsError, match="higher values of accuracy are better according to Keras"):
        make_trainer(Loss, "--trainer.monitor", "min:accuracy")
    assert make_trainer(Loss, "--trainer.monitor", "max:val_accuracy").engine.monitor.name == "val_accuracy"


def test_another_monitor_on_resume(make_trainer: Any, blobs_class: Any) -> None:
    """The best value of another monitor does not count; the first epoch of the resumed run is the best so far."""
    few = ("--learning_rate.lr", "1e-30", "--trainer.epochs")
    first = make_trainer(blobs_class, *few, "1", output="first", exports=False)
    assert first.fit().monitor == "val_accuracy"
    again = make_trainer(blobs_class, *few, "3", "--trainer.monitor", "min:loss", output="again", exports=False)
    again.restore(sorted((first.output_dir / "checkpoint").iterdir())[-1])
    result = again.fit()
    assert (result.monitor, result.best_epoch) == ("val_loss", 2)
