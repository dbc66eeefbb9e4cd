"""A callback that records the learning rate of every optimizer update."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from aip_plugins.callbacks.observe_params import LearningRateMonitorParams

from aipcore.files import no_follow
from aipcore.training.callbacks.context import RunContext
from aipcore.training.tensorboard.events import BY_UPDATE, PointFile

logger = logging.getLogger("aipcore.callbacks")

HEAD = b"update,learning_rate\n"


class LearningRateMonitor(keras.callbacks.Callback):
    """The learning rates of the updates of a chunk, written at its end.

    They are computed from the schedule, the factor set by callbacks, and the optimizer's count of updates, which is
    much cheaper than a stop after each update. A skipped update, as in float16, is counted by neither.
    """

    accepts_chunks = True

    def __init__(self, params: LearningRateMonitorParams, context: RunContext) -> None:
        super().__init__()
        self.monitor = params
        self.context = context
        self._scale = 1.0
        self._first = 0
        self._bytes: int | None = None
        self._events: Any = None
        self._csv: Any = None
        self._failed = False
        signature = [tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64)]
        self._rates = tf.function(self._computed, autograph=False, input_signature=signature)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the first update of the chunk and the factor."""
        self._first = self.context.updates()
        self._scale = float(tf.convert_to_tensor(self.context.learning_rate.scale))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the updates of the chunk."""
        every, last = self.monitor.every_n_updates, self.context.updates()
        first = -(-self._first // every) * every
        if not self.context.is_chief or self._failed or first >= last:
            return
        rates = self._rates(tf.constant(first, tf.int64), tf.constant(last, tf.int64)).numpy() * np.float32(self._scale)
        try:
            self._write(np.arange(first, last, every) + 1, rates)
        except (OSError, tf.errors.OpError) as error:
            self._failed = True
            reason = getattr(error, "message", None) or str(error)
            logger.warning(
                "The learning rates cannot be written (%s). Recording stops, and training continues.", reason
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Flush the files for readers."""
        self._flush()

    def on_run_end(self, end: Any) -> None:
        """Close the files."""
        del end
        if self._csv is not None:
            self._bytes = self._csv.tell()
        for file in (self._events, self._csv):
            if file is not None:
                file.close()
        self._events = self._csv = None

    def get_state(self) -> dict[str, Any]:
        """Return the size of the CSV file; the event files are truncated by their steps.

        Until a resumed run writes its first row, this is the size from the earlier state.
        """
        self._flush()
        return {"bytes": self._bytes if self._csv is None else self._csv.tell()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue after the rows of a checkpoint."""
        length = state["bytes"]
        if length is not None and (type(length) is not int or not len(HEAD) <= length):
            raise ValueError(f"{length!r} is not a length of learning_rate.csv")
        self._bytes = length
        if self._bytes is None:
            self._csv_path.unlink(missing_ok=True)

    @property
    def _csv_path(self) -> Path:
        return self.context.output_dir / "learning_rate.csv"

    def _computed(self, first: Any, last: Any) -> Any:
        steps = tf.range(first, last, self.monitor.every_n_updates, tf.int64)
        # One by one, as in training: a plugin's schedule may not accept vectors.
        schedule = self.context.learning_rate.schedule
        return tf.map_fn(lambda step: tf.cast(schedule(step), tf.float32), steps, fn_output_signature=tf.float32)

    def _write(self, updates: npt.NDArray[np.int64], rates: npt.NDArray[np.float32]) -> None:
        if self.monitor.tensorboard:
            if self._events is None:
                self._events = PointFile(self.context.output_dir / "tensorboard" / BY_UPDATE)
            for update, rate in zip(updates.tolist(), rates.tolist(), strict=True):
                self._events.write(update, {"learning_rate": rate})
        if self.monitor.csv:
            if self._csv is None:
                self._csv = self._csv_file()
            self._csv.write(b"".join(b"%d,%.9g\n" % row for row in zip(updates.tolist(), rates.tolist(), strict=True)))

    def _csv_file(self) -> Any:
        if self._bytes is None:
            file = open(self._csv_path, "wb", opener=no_follow)  # noqa: SIM115 - open as long as the run
            file.write(HEAD)
            return file
        file = open(self._csv_path, "r+b", opener=no_follow)  # noqa: SIM115 - see above
        # A file shorter than recorded in the checkpoint is not extended.
        file.truncate(min(self._bytes, os.fstat(file.fileno()).st_size))
        file.seek(0, os.SEEK_END)
        return file

    def _flush(self) -> None:
        for file in (self._events, self._csv):
            if file is not None:
                file.flush()


def build(params: LearningRateMonitorParams, context: RunContext) -> LearningRateMonitor:
    """Return the callback."""
    return LearningRateMonitor(params, context)
