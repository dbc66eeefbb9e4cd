"""Event files for the HPARAMS tab of TensorBoard, written without TensorFlow."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_RUNNING, STATUS_SUCCESS, STATUS_UNKNOWN
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from aipcore.files import no_follow

STATUS = {
    "finished": STATUS_SUCCESS,
    "stopped": STATUS_SUCCESS,
    "interrupted": STATUS_UNKNOWN,
    "failed": STATUS_FAILURE,
    "running": STATUS_RUNNING,
}
"""TensorBoard's status of a session by the status of a run."""


def session_end(status: str) -> Summary:
    """Return the end of a session.

    Args:
        status: a key of `STATUS`.
    """
    # TensorBoard's own function for this imports TensorFlow.
    info = SessionEndInfo(status=STATUS[status], end_time_secs=time.time())
    content = metadata.create_summary_metadata(HParamsPluginData(session_end_info=info))
    end = Summary()
    end.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR)
    return end


def write_summaries(path: Path, summaries: Sequence[tuple[int, Summary]]) -> None:
    """Replace an event file by one with these summaries and their steps.

    Raises:
        OSError: it cannot be written.
    """
    now, content = time.time(), io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for step, summary in summaries:
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(fresh, "wb", opener=no_follow) as file:
        file.write(content.getvalue())
    fresh.replace(path)
