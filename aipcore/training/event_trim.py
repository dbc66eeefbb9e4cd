"""Event files of a run that goes on: points of epochs that will run again are taken out.

They are taken out of the files rather than marked as void, so that every reader, and one that goes by the names of
files after the clock was set back, sees one point for each epoch.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.util.event_pb2 import Event

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
