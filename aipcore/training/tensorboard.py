"""Event files that `tensorboard --logdir OUTPUT_DIR` reads: one folder per list of data, one point per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


class EventWriter:
    """Writes scalars of training, validation and extended validation; the step is the epoch, counted from 1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Adds one point per value to the part's curves (`train`, `validation`, `lav`)."""
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))
        with self._writers[part].as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=epoch)
        self._writers[part].flush()

    def close(self) -> None:
        """Ends all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
