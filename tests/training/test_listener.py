"""Listeners can stop a run after an epoch; such a run is not finished."""

from __future__ import annotations

from typing import Any

from aipcore.training.reporter import EpochReport, Reporter, Reporters


class Impatient(Reporter):
    """A listener that stops after a given epoch."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.epochs: list[int] = []
        self.heard: list[str] = []

    def epoch_ended(self, report: EpochReport) -> None:
        self.epochs.append(report.epoch)

    def stop_reason(self) -> str:
        return "Seen enough." if self.epochs[-1] == self.last else ""

    def message(self, text: str) -> None:
        self.heard.append(text)


def test_stops_and_can_be_resumed(make_trainer: Any, blobs_class: type[Any], tmp_path: Any) -> None:
    """The run ends as after early stopping, and resuming its checkpoint gives the same numbers."""
    words = ("--trainer.epochs", "4")
    whole = make_trainer(blobs_class, *words, output="whole", exports=False).fit()
    listener = Impatient(2)
    short = make_trainer(blobs_class, *words, output="short", reporter=Reporters(Reporter(), listener))
    result = short.fit()
    assert (result.status, result.epochs, listener.epochs) == ("stopped", 2, [1, 2])
    assert "Seen enough." in listener.heard
    again = make_trainer(blobs_class, *words, output="again", exports=False)
    again.restore(max((tmp_path / "short" / "checkpoint").glob("step-*")))
    assert again.state.stopped == ""
    rest = again.fit()
    assert (rest.status, rest.epochs) == ("finished", 4)
    assert [logs["val_loss"] for logs in rest.history] == [logs["val_loss"] for logs in whole.history]


def test_is_not_asked_at_the_end(make_trainer: Any, blobs_class: type[Any]) -> None:
    """A run that has trained all epochs is finished, even if a listener asks to stop."""
    assert make_trainer(blobs_class, reporter=Impatient(2)).fit().status == "finished"
