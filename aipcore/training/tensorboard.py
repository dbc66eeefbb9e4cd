"""Event files that `tensorboard --logdir OUTPUT_DIR` reads: one folder per list of data, one point per epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

MOST_IMAGES = 64
"""Most images in a grid."""

GRID_PIXELS = 480
"""What a grid of small images is enlarged to, at most."""

Array = npt.NDArray[Any]


class EventWriter:
    """Writes scalars of training, validation and extended validation; the step is the epoch, counted from 1.

    Attributes:
        folder: where files are made. Those that are open stay where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Adds one point per value to the part's curves (`train`, `validation`, `lav`)."""
        with self._writer(part).as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writers[part].flush()

    def write_summaries(self, part: str, epoch: int, records: Iterable[Summary]) -> None:
        """Adds images, histograms and PR curves, checked by `SampleSummaries`."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        with self._writer(part).as_default(step=epoch):
            for record in records:
                match record:
                    case Image():
                        tf.summary.image(record.name, record.pixels[None], description=record.text)
                    case ImageGrid():
                        tf.summary.image(record.name, tiled(record.images)[None], description=record.text)
                    case Histogram():
                        # Counted by NumPy in a fraction of the time of a few dozen small TensorFlow operations.
                        counted = histogram_pb(record.name, record.values, description=record.text)
                        tf.summary.experimental.write_raw_pb(counted.SerializeToString())
                    case PRCurve():
                        _write_curve(record)
        self._writers[part].flush()

    def close(self) -> None:
        """Ends all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        return self._writers[part]


def tiled(images: Array) -> Array:
    """Images side by side, with lines of mid-grey between them, in a grid about as wide as high.

    Args:
        images: uint8, shape [images, height, width, channels]; the first 64 are used.

    Returns:
        uint8, shape [rows * (height + 1) - 1, columns * (width + 1) - 1, channels], each pixel enlarged to a square if
        that stays below 480 pixels.
    """
    images = images[:MOST_IMAGES]
    count, height, width, channels = images.shape
    columns = min(count, max(1, round((count * height / width) ** 0.5)))
    rows = -(-count // columns)
    zoom = max(1, GRID_PIXELS // max(rows * (height + 1), columns * (width + 1)))
    height, width = height * zoom + 1, width * zoom + 1
    grid = np.full((rows * height, columns * width, channels), 128, np.uint8)
    for number, image in enumerate(images.repeat(zoom, axis=1).repeat(zoom, axis=2)):
        top, left = number // columns * height, number % columns * width
        grid[top : top + height - 1, left : left + width - 1] = image
    return grid[:-1, :-1]


def precision_and_recall(labels: Array, scores: Array, thresholds: int) -> Array:
    """Counts at evenly spaced thresholds from 0 to 1.

    Args:
        labels: bool, any shape.
        scores: float64 from 0 to 1, the same shape; at least the threshold means yes.
        thresholds: how many.

    Returns:
        float64, shape [6, thresholds]: true positives, false positives, true negatives, false negatives, precision
        (1 where nothing is taken for true) and recall (0 where nothing is true).
    """
    limits = np.linspace(0, 1, thresholds)
    yes, no = np.sort(scores[labels]), np.sort(scores[~labels])
    false_negatives, true_negatives = np.searchsorted(yes, limits), np.searchsorted(no, limits)
    true_positives, false_positives = len(yes) - false_negatives, len(no) - true_negatives
    taken = true_positives + false_positives
    precision = np.where(taken > 0, true_positives / np.maximum(taken, 1), 1.0)
    recall = true_positives / max(len(yes), 1)
    return np.stack([true_positives, false_positives, true_negatives, false_negatives, precision, recall])


def _write_curve(record: PRCurve) -> None:
    # TensorBoard has a plugin that shows these curves, but writes them for TensorFlow 1 only: what the plugin reads is
    # a tensor with its metadata.
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR
    from tensorboard.plugins.pr_curve.metadata import create_summary_metadata

    metadata = create_summary_metadata(record.name, record.text, record.thresholds)
    metadata.data_class = DATA_CLASS_TENSOR
    counts = precision_and_recall(record.labels, record.scores, record.thresholds)
    tf.summary.write(record.name, counts.astype(np.float32), metadata=metadata.SerializeToString())
