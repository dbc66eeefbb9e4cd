"""Telling callbacks how a run ended, whatever ended it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import attrs

from aipcore.training.reporter import TrainResult

logger = logging.getLogger("aipcore.training")


@attrs.frozen(kw_only=True, eq=False)
class RunEnd:
    """How a run ended, for the callbacks that have `on_run_end(end)`.

    Attributes:
        status: "finished" after its last epoch, "stopped" by early stopping or a callback, "interrupted" by a signal,
            "failed" with an error.
        epochs: epochs that are done.
        seconds: how long this process trained; None if it failed.
        best: the best monitored value, or None.
        best_epoch: its epoch, counted from 1, or None.
        error: what it failed with, or None.
    """

    status: Literal["finished", "stopped", "interrupted", "failed"]
    epochs: int
    seconds: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    error: BaseException | None = None


@attrs.define
class Ending:
    """Where a run leaves its result.

    Attributes:
        result: None as long as it has none.
        epochs: epochs that are done.
    """

    result: TrainResult | None = None
    epochs: int = 0


@contextmanager
def telling_callbacks(callbacks: Mapping[str, Any]) -> Iterator[Ending]:
    """A context around a run, behind which each callback with `on_run_end` is told once how it ended.

    Keras' `on_train_end` is not called when a run fails, and comes before the model is exported; this comes last. An
    error in it is logged, not raised: what the run gave is on the disk by then.
    """
    ending = Ending()
    try:
        yield ending
    except KeyboardInterrupt as error:
        _tell(callbacks, RunEnd(status="interrupted", epochs=ending.epochs, error=error))
        raise
    except BaseException as error:
        _tell(callbacks, RunEnd(status="failed", epochs=ending.epochs, error=error))
        raise
    result = ending.result
    assert result is not None
    end = RunEnd(
        status=result.status, epochs=result.epochs, seconds=result.seconds, best=result.best,
        best_epoch=result.best_epoch,
    )  # fmt: skip
    _tell(callbacks, end)


def _tell(callbacks: Mapping[str, Any], end: RunEnd) -> None:
    for name, callback in callbacks.items():
        if not hasattr(callback, "on_run_end"):
            continue
        try:
            callback.on_run_end(end)
        except Exception as error:
            logger.warning("The callback %s failed at the end of the run (%s: %s).", name, type(error).__name__, error)
