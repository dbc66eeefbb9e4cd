"""Event files for `tensorboard --logdir OUTPUT_DIR`, written point by point and trimmed on resume."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.framework import summary_pb2
from tensorflow.core.util.event_pb2 import Event

from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

FIRST = "events.out.tfevents.0000000000.before-resume.v2"
"""The file for kept records. Readers sort files by name, and the names of all others begin with a later time."""

HEAD = struct.Struct("<QI")
"""The bytes before a record: its length, and a checksum of the length."""

FOOT_BYTES = 4
"""Length of the checksum after a record."""

BY_UPDATE = "updates"
"""The part for callbacks whose steps are optimizer updates."""

TRAIN_STEPS, VALIDATION_STEPS = "train_steps", "validation_steps"
"""The parts of values logged within epochs. Their steps are optimizer updates, those of all other parts are epochs."""


def trim_events(folder: Path, epoch: int, by_step: Mapping[str, int] = MappingProxyType({})) -> None:
    """Keep only the points up to `epoch`, counted from 1, of each part in `folder`, joined into one file.

    A kill at any moment leaves files for which a repetition has the same result.

    Args:
        folder: contains a folder for each part.
        epoch: completed epochs of the run.
        by_step: for the parts whose steps are updates, the last one to keep.

    Raises:
        OSError: the files cannot be written.
    """
    if not folder.is_dir():
        return
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(part.glob("events.out.tfevents.*"))
        last = by_step.get(part.name, epoch)
        if files and last > 0:
            _join(files, last)
        for file in files:
            if last == 0 or file.name != FIRST:
                file.unlink()


def _join(files: Sequence[Path], last: int) -> None:
    kept: dict[bytes, None] = {}
    for file in files:
        # A kill before the old files are removed leaves the same record in two files.
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
    """Return the number of records that fit into the file: TensorFlow would reserve memory for any claimed length."""
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
    """Yield the records of a file up to its end, or up to a record truncated by a kill."""
    try:
        yield from tf.data.TFRecordDataset(str(file)).take(_count(file)).as_numpy_iterator()
    except tf.errors.DataLossError:
        return


MOST_IMAGES = 64
"""Maximum number of images in a grid."""

GRID_PIXELS = 480
"""Maximum size in pixels to which a grid of small images is enlarged."""

Array = npt.NDArray[Any]


class PointFile:
    """An event file for many points, which TensorFlow's own writer would take much longer to write.

    Args:
        folder: the folder of the part, created if its parent's parent exists.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        for each in (folder.parent, folder):
            # Never the run folder itself: it may have been moved.
            each.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():017.6f}.{os.getpid()}.v2"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        summary = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self._writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())

    def flush(self) -> None:
        """Pass all points to the system, for readers and in case the process is killed."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class EventWriter:
    """A writer for values of training, validation and LAV. The step is the epoch, counted from 1.

    Attributes:
        folder: the folder for new files. Open files stay in their place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}
        self._points: dict[str, PointFile] = {}

    def write_points(self, part: str, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Add points with their steps, such as optimizer updates, to the part's curves."""
        if part not in self._points:
            self._points[part] = PointFile(self.folder / part)
        for step, values in points:
            self._points[part].write(step, values)
        self._points[part].flush()

    def write(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point per value to the part's curves (`train`, `validation`, `lav`)."""
        with self._writer(part).as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writers[part].flush()

    def write_summaries(self, part: str, epoch: int, records: Iterable[Summary]) -> None:
        """Add images, histograms and PR curves, checked by `SampleSummaries`."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        with self._writer(part).as_default(step=epoch):
            for record in records:
                match record:
                    case Image():
                        tf.summary.image(record.name, record.pixels[None], description=record.text)
                    case ImageGrid():
                        tf.summary.image(record.name, tiled(record.images)[None], description=record.text)
                    case Histogram():
                        # NumPy counts in a fraction of the time of a few dozen small TensorFlow operations.
                        counted = histogram_pb(record.name, record.values, description=record.text)
                        tf.summary.experimental.write_raw_pb(counted.SerializeToString())
                    case PRCurve():
                        _write_curve(record)
        self._writers[part].flush()

    def close(self) -> None:
        """Close all files."""
        for writer in (*self._writers.values(), *self._points.values()):
            writer.close()
        self._writers.clear()
        self._points.clear()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        return self._writers[part]


def tiled(images: Array) -> Array:
    """Return images side by side, separated by mid-grey lines, in an approximately square grid.

    Args:
        images: uint8, shape [images, height, width, channels]; the first 64 are used.

    Returns:
        uint8, shape [rows * (height + 1) - 1, columns * (width + 1) - 1, channels], each pixel enlarged to a square if
        the result stays below 480 pixels.
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
    """Return counts at evenly spaced thresholds from 0 to 1.

    Args:
        labels: bool, any shape.
        scores: float64 from 0 to 1, the same shape; scores at or above the threshold are predicted positive.
        thresholds: number of thresholds.

    Returns:
        float64, shape [6, thresholds]: true positives, false positives, true negatives, false negatives, precision (1
        without predicted positives) and recall (0 without positive labels).
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
    # TensorBoard has a plugin that shows these curves, but its writer supports only TensorFlow 1. The plugin reads a
    # tensor with its metadata.
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR
    from tensorboard.plugins.pr_curve.metadata import create_summary_metadata

    metadata = create_summary_metadata(record.name, record.text, record.thresholds)
    metadata.data_class = DATA_CLASS_TENSOR
    counts = precision_and_recall(record.labels, record.scores, record.thresholds)
    tf.summary.write(record.name, counts.astype(np.float32), metadata=metadata.SerializeToString())
