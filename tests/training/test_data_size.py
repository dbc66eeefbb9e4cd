"""Amounts of training and validation data: limits, samples_per_epoch, scale_epoch_size, drop_remainder, val_every_n."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.errors import ParamsError
from aipcore.scenario import Sample
from aipcore.training.plan import describe_data


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
    """samples_per_epoch sets the size, scale_epoch_size scales it, and at least one sample is left."""
    trainer = make_trainer(blobs_class, *words, "--train.batch_size", "32", "--trainer.epochs", "2")
    trainer.fit()
    assert trainer.data.batching.samples == samples
    assert int(trainer.engine.optimizer.iterations) == 2 * -(-samples // 32)


def test_short_epochs_go_through_all_data(make_trainer: Any, blobs_class: Any) -> None:
    """Epochs of 50 samples continue where the last one ended: four of them use each of 200 samples once."""
    trainer = make_trainer(blobs_class, "--trainer.samples_per_epoch", "50", "--trainer.epochs", "4")
    seen = [int(i) for epoch in range(4) for i in trainer.data.loader.order.indices(epoch * 50, epoch * 50 + 50)]
    assert sorted(seen) == list(range(200))


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [
        (2, 5, [2, 4, 5]),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, 3, [1, 2, 3]), (3, 6, [3, 6]), (9, 4, [4]))),
    ],
)
def test_val_every_n(make_trainer: Any, blobs_class: Any, every: int, epochs: int, expected: list[int]) -> None:
    """Validation runs every n epochs and always in the last."""
    words = ("--trainer.val_every_n", str(every), "--trainer.epochs", str(epochs), "--trainer.force_eager", "True")
    history = make_trainer(blobs_class, *words).fit().history
    assert [epoch for epoch, logs in enumerate(history, start=1) if "val_loss" in logs] == expected


def test_validation_does_not_change_training(make_trainer: Any, noisy_class: Any) -> None:
    """Validation in every epoch or only at the end gives bit-identical training losses."""
    losses = [
        [
            logs["loss"]
            for logs in make_trainer(noisy_class, "--trainer.val_every_n", n, "--trainer.epochs", "3").fit().history
        ]
        for n in ("1", "3")
    ]
    assert losses[0] == losses[1]


class Limited:
    """A scenario with two LAV lists besides the validation data."""

    def lav_data(self) -> Any:
        x, y = self.val_data()  # type: ignore[attr-defined]
        return {"a": (x, y), "b": [Sample(inputs=row, targets=label) for row, label in zip(x[:9], y[:9], strict=True)]}


def test_limits(make_trainer: Any, blobs_class: Any) -> None:
    """Limits apply to training, validation and each LAV list, and the plan shows them."""
    limits = ("--train.limit", "100", "--val.limit", "30", "--trainer.lav_every_n", "1")
    trainer = make_trainer(blobs_class, *limits)
    assert (len(trainer.data.train), len(trainer.data.val), len(trainer.data.lav[""])) == (100, 30, 30)
    assert trainer.data.lav[""] is trainer.data.val
    assert describe_data(trainer.data, trainer.params) == (
        "100 training samples (limit 100) in 7 batches of 16; 30 validation samples (limit 30)"
    )
    trainer = make_trainer(blobs_class, *limits, "--lav.limit", "20")
    assert (len(trainer.data.val), len(trainer.data.lav[""])) == (30, 20)
    listed = type("Listed", (Limited, blobs_class), {})
    trainer = make_trainer(listed, *limits, "--lav.limit", "20")
    assert {name: len(data) for name, data in trainer.data.lav.items()} == {"a": 20, "b": 9}
    assert describe_data(trainer.data, trainer.params).endswith("30 validation samples (limit 30); LAV (limit 20)")


@pytest.mark.parametrize("part", ["train", "val", "lav"])
@pytest.mark.parametrize("limit", ["0", "-1"])
def test_limits_that_leave_nothing_are_refused(
    make_trainer: Any, blobs_class: Any, part: str, limit: str, refused: Any
) -> None:
    """Limits below 1 are refused: omitting the option selects all samples."""
    with refused(ParamsError):
        make_trainer(blobs_class, f"--{part}.limit", limit)


def test_drop_remainder(make_trainer: Any, blobs_class: Any) -> None:
    """200 samples are 6 batches of 32 and 8 remaining samples. Schedules count only the batches."""
    words = ("--train.batch_size", "32", "--train.batch_drop_remainder", "True", "--trainer.epochs", "2")
    trainer = make_trainer(blobs_class, *words)
    assert describe_data(trainer.data, trainer.params) == (
        "200 training samples in 6 batches of 32 without the last 8 samples; 64 validation samples"
    )
    assert trainer.data.horizon.updates_per_epoch == 6
    trainer.fit()
    assert int(trainer.engine.optimizer.iterations) == 12
