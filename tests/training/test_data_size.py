"""How much is trained and validated: samples_per_epoch, scale_epoch_size, val_every_n."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "samples"),
    [
        ((), 200),
        (("--trainer.samples_per_epoch", "-1"), 200),
        (("--trainer.samples_per_epoch", "50"), 50),
        (("--trainer.samples_per_epoch", "700"), 700),
        (("--trainer.scale_epoch_size", "0.25"), 50),
        (("--trainer.scale_epoch_size", "1.5"), 300),
        (("--trainer.samples_per_epoch", "60", "--trainer.scale_epoch_size", "0.5"), 30),
        (("--trainer.scale_epoch_size", "0.0001"), 1),
    ],
)
def test_samples_of_an_epoch(make_trainer: Any, blobs_class: Any, words: tuple[str, ...], samples: int) -> None:
    """The first says how many, the second scales that; at least one sample is left."""
    trainer = make_trainer(blobs_class, *words, "--train.batch_size", "32", "--trainer.epochs", "2")
    trainer.run()
    assert trainer.batching.samples == samples
    assert int(trainer.optimizer.iterations) == 2 * -(-samples // 32)


def test_short_epochs_go_through_all_data(make_trainer: Any, blobs_class: Any) -> None:
    """Epochs of 50 go on where the last one ended: four of them see every one of 200 samples once."""
    trainer = make_trainer(blobs_class, "--trainer.samples_per_epoch", "50", "--trainer.epochs", "4")
    seen = [int(i) for epoch in range(4) for i in trainer.data.feed.order.indices(epoch * 50, epoch * 50 + 50)]
    assert sorted(seen) == list(range(200))


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (3, 6, [3, 6]), (9, 4, [4])]
)
def test_val_every_n(make_trainer: Any, blobs_class: Any, every: int, epochs: int, expected: list[int]) -> None:
    """Every n epochs, and always in the last."""
    words = ("--trainer.val_every_n", str(every), "--trainer.epochs", str(epochs))
    history = make_trainer(blobs_class, *words).run().history
    assert [epoch for epoch, logs in enumerate(history, start=1) if "val_loss" in logs] == expected


def test_validation_does_not_change_training(make_trainer: Any, noisy_class: Any) -> None:
    """A run validated every epoch and one validated at its end have the same training losses, bit for bit."""
    losses = [
        [
            logs["loss"]
            for logs in make_trainer(noisy_class, "--trainer.val_every_n", n, "--trainer.epochs", "3").run().history
        ]
        for n in ("1", "3")
    ]
    assert losses[0] == losses[1]
