"""Event files that `tensorboard --logdir OUTPUT_DIR` reads, written point by point and trimmed at resume."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.util.event_pb2 import Event

from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

FIRST = "events.out.tfevents.0000000000.before-resume.v2"
"""Where what is kept goes. Readers take files in the order of their names, and all others begin with a later time."""

HEAD = struct.Struct("<QI")
"""What stands before a record: its length, and a checksum of that."""

FOOT_BYTES = 4
"""The length of the checksum behind a record."""

BY_UPDATE = "updates"
"""The part whose steps are optimizer updates; those of all others are epochs."""


def trim_events(folder: Path, epoch: int, updates: int = 0) -> None:
    """Leaves the points up to `epoch`, counted from 1, of each part in `folder`, joined into one file.

    Args:
        folder: holds a folder for each part.
        epoch: complete epochs of the run.
        updates: optimizer updates so far, to which the part `updates` is cut.

    A kill at any moment leaves files from which doing it again gives the same.

    Raises:
        OSError: the files cannot be written.
    """
    if not folder.is_dir():
        return
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(part.glob("events.out.tfevents.*"))
        last = updates if part.name == BY_UPDATE else epoch
        if files and last > 0:
            _join(files, last)
        for file in files:
            if last == 0 or file.name != FIRST:
                file.unlink()


def _join(files: Sequence[Path], last: int) -> None:
    kept: dict[bytes, None] = {}
    for file in files:
        # The same record in two files is what a kill before the old ones are gone leaves.
        kept.update(dict.fromkeys(_records(file)))
    fresh = files[0].with_name(".events.new")
    fresh.unlink(missing_ok=True)
    with tf.io.TFRecordWriter(str(fresh)) as writer:
        for number, record in enumerate(kept):
            try:
                event = Event.FromString(record)
            except DecodeError:
                continue
            first = number == 0 or not event.HasField("file_version")
            if first and (not event.HasField("summary") or event.step <= last):
                writer.write(record)
    with fresh.open("rb") as written:
        os.fsync(written.fileno())
    fresh.replace(fresh.with_name(FIRST))


def _count(file: Path) -> int:
    """How many records of a file are as long as they claim: TensorFlow would reserve memory for any length."""
    count, end = 0, file.stat().st_size
    with file.open("rb") as stream:
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            next_record = stream.tell() + HEAD.unpack(head)[0] + FOOT_BYTES
            if next_record > end:
                break
            stream.seek(next_record)
            count += 1
    return count


def _records(file: Path) -> Iterator[bytes]:
    """The records of a file up to its end, or to one that a kill cut short."""
    try:
        yield from tf.data.TFRecordDataset(str(file)).take(_count(file)).as_numpy_iterator()
    except tf.errors.DataLossError:
        return


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
