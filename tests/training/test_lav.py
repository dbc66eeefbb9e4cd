"""Extended validation during training: when it runs, on what, and with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.errors import ParamsError
from aipcore.scenario import Evaluator


class CountingEvaluator(Evaluator):
    """Counts samples and right answers."""

    def __init__(self) -> None:
        self.samples = 0
        self.right = 0

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        assert meta is None
        assert isinstance(outputs[""], np.ndarray)
        self.samples += len(targets[""])
        self.right += int((outputs[""].argmax(-1) == targets[""]).sum())

    def result(self) -> dict[str, float]:
        return {"samples": self.samples, "share": self.right / self.samples}


def evaluated(base: Any) -> Any:
    """A scenario with an evaluator."""

    class Evaluated(base):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return CountingEvaluator()

    return Evaluated


def with_lists(base: Any) -> Any:
    """A scenario with two lists of its own for LAV."""

    class Listed(evaluated(base)):  # type: ignore[misc]
        def lav_data(self) -> Any:
            x, y = self.val_data()
            return {"easy": (x[:10], y[:10]), "easy_too": (x[10:40], y[10:40])}

    return Listed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("--trainer.lav_every_n=1",), [1, 2, 3, 4, 5, 6, 7]),
        (("--trainer.lav_every_n", "3"), [1, 3, 6, 7]),
        (("--trainer.lav_every_n", "2", "--trainer.lav_min_epoch", "4"), [4, 6, 7]),
        (("--trainer.lav_every_n", "5", "--trainer.lav_min_epoch", "7"), [7]),
        (("--trainer.lav_every_n", "50"), [1, 7]),
    ],
)
def test_when_it_runs(make_trainer: Any, blobs_class: Any, words: tuple[str, ...], expected: list[int]) -> None:
    """Every n epochs, in the first and in the last, and never before the given one."""
    history = make_trainer(evaluated(blobs_class), "--trainer.epochs", "7", *words).run().history
    assert [epoch for epoch, logs in enumerate(history, start=1) if "lav_share" in logs] == expected


def test_an_epoch_after_the_last_is_refused(make_trainer: Any, blobs_class: Any) -> None:
    """LAV that would never run; without LAV the option does not matter."""
    words = ("--trainer.epochs", "7", "--trainer.lav_min_epoch", "8")
    make_trainer(blobs_class, *words).data.close()
    with pytest.raises(ParamsError, match=r"--trainer\.lav_min_epoch 8 is after the last epoch"):
        make_trainer(blobs_class, *words, "--trainer.lav_every_n", "1")


def test_evaluator_sees_every_sample_of_the_prediction_graph(make_trainer: Any, noisy_class: Any) -> None:
    """All 64 validation samples in batches of 20, without dropout: the share is the accuracy."""
    trainer = make_trainer(evaluated(noisy_class), "--trainer.lav_every_n", "1", "--lav.batch_size", "20")
    for logs in trainer.run().history:
        assert logs["lav_samples"] == 64
        assert logs["lav_share"] == pytest.approx(logs["lav_accuracy"])
        assert logs["lav_accuracy"] == pytest.approx(logs["val_accuracy"])
        assert logs["lav_loss"] == pytest.approx(logs["val_loss"], rel=1e-5)


def test_several_lists(make_trainer: Any, blobs_class: Any) -> None:
    """Each list has its own results, and its own curves in TensorBoard."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    trainer = make_trainer(with_lists(blobs_class), "--trainer.lav_every_n", "1", output="out")
    logs = trainer.run().history[-1]
    assert (logs["lav_easy_samples"], logs["lav_easy_too_samples"]) == (10, 30)
    events = EventMultiplexer().AddRunsFromDirectory(str(trainer.output_dir / "tensorboard"))
    events.Reload()
    found = {name: set(tags["tensors"]) for name, tags in events.Runs().items()}
    values = {"loss", "accuracy", "samples", "share"}
    assert found["lav_easy"] == found["lav_easy_too"] == values
    assert found["validation"] == {"loss", "accuracy"}
    assert found["train"] == {"loss", "accuracy", "learning_rate"}


def test_uses_the_averaged_weights(make_trainer: Any, blobs_class: Any) -> None:
    """With EMA, validation and LAV both see the average."""
    trainer = make_trainer(evaluated(blobs_class), "--trainer.lav_every_n", "1", "--trainer.calc_ema", "0.99")
    for logs in trainer.run().history:
        assert logs["lav_loss"] == pytest.approx(logs["val_loss"], rel=1e-5)
