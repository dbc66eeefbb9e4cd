"""Early stopping: exact numbers of epochs, thresholds in both directions, and a state that is restored on resume."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.training.monitor import Monitor, stop_reason
from aipcore.training.params import EarlyStoppingParams


def stops_after(mode: Any, values: list[float | None], **params: Any) -> int | None:
    """Return the epoch, counted from 1, after which training stops."""
    monitor = Monitor(mode=mode, name="v")
    for epoch, value in enumerate(values, start=1):
        logs = {} if value is None else {"v": value}
        monitor.update(epoch, logs)
        if stop_reason(EarlyStoppingParams(**params), monitor, epoch, logs):
            return epoch
    return None


@pytest.mark.parametrize(
    ("mode", "values", "params", "expected"),
    [
        ("max", [1, 2, 3, 3, 3], {}, None),
        ("max", [1, 2, 2, 3], {"n_to_go": 1}, 3),
        ("max", [1, 2, 2, 2, 3], {"n_to_go": 2}, 4),
        ("max", [1, 2, 1, 3, 1, 1, 1], {"n_to_go": 3}, 7),
        ("min", [3, 2, 2, 1], {"n_to_go": 1}, 3),
        ("max", [1, 1, 1, 5, 5, 5], {"n_to_go": 1, "lower_threshold": 4}, 5),
        ("max", [1, 2, 9, 9], {"upper_threshold": 9}, 3),
        ("max", [1, 2, 9, 9], {"n_to_go": 5, "upper_threshold": 2}, 2),
        ("min", [9, 9, 9, 3, 3], {"n_to_go": 1, "upper_threshold": 4}, 5),
        ("min", [9, 5, 1, 1], {"lower_threshold": 1}, 3),
        ("max", [5, 1, 1, 1, 1, 1], {"n_to_go": 2, "frequency": 2}, 4),
        ("max", [5, 1, 1, 1, 1, 1], {"n_to_go": 3, "frequency": 3}, 6),
        ("max", [0.5, 0.6, 0.995, *[0.1] * 20], {"n_to_go": 9, "frequency": 2, "upper_threshold": 0.99}, 3),
        ("min", [0.5, 0.4, 0.005, *[0.9] * 20], {"n_to_go": 9, "frequency": 2, "lower_threshold": 0.01}, 3),
        ("max", [0.5, 0.6, 0.995, *[0.1] * 20], {"n_to_go": 9, "frequency": 2}, 12),
        ("max", [0.5, 0.6, 0.995, 0.1], {"frequency": 7, "upper_threshold": 0.99}, 3),
        ("max", [5, None, None, None, 4], {"n_to_go": 2}, 5),
        ("max", [float("nan")] * 3, {"n_to_go": 2}, 2),
    ],
)
def test_stops_when_it_should(mode: str, values: list[Any], params: dict[str, Any], expected: int | None) -> None:
    """Patience 1 stops at the first epoch without improvement; thresholds delay the stop or cause it immediately."""
    assert stops_after(mode, values, **params) == expected


def test_trap_early_stopping_was_off_by_one_and_n_to_go_1_disabled_it(make_trainer: Any, blobs_class: Any) -> None:
    """At a learning rate of almost 0, n_to_go 1 ends the run after the second epoch."""
    trainer = make_trainer(
        blobs_class, "--learning_rate.lr", "1e-30", "--early_stopping.n_to_go", "1", "--trainer.epochs", "9"
    )
    result = trainer.fit()
    assert (result.status, result.epochs) == ("stopped", 2)


def test_a_resumed_run_stops_in_the_same_epoch(make_trainer: Any, blobs_class: Any) -> None:
    """The epochs without improvement before a checkpoint count."""
    words = ("--learning_rate.lr", "1e-30", "--early_stopping.n_to_go", "3", "--trainer.epochs", "9",
             "--checkpoint.keep", "9")  # fmt: skip
    whole = make_trainer(blobs_class, *words, output="whole", exports=False)
    assert whole.fit().epochs == 4
    again = make_trainer(blobs_class, *words, output="again", exports=False)
    again.restore(sorted((whole.output_dir / "checkpoint").iterdir())[2])
    assert again.fit().epochs == 4


def test_extended_validation_runs_in_the_last_epoch_of_a_stopped_run(make_trainer: Any, blobs_class: Any) -> None:
    """The epoch in which training stops early counts as the last one."""
    trainer = make_trainer(
        blobs_class, "--early_stopping.upper_threshold", "0.0", "--trainer.lav_every_n", "5", "--trainer.epochs", "9"
    )
    history = trainer.fit().history
    assert len(history) == 1
    assert "lav_loss" in history[0]
