"""Event files for the HPARAMS tab of `tensorboard --logdir SWEEP_DIR`, written without TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from aip_plugins.commands.sweep.dimension import Dimension
from aip_plugins.commands.sweep.results import Row
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_RUNNING, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import Discrete, HParam, Metric, RealInterval, hparams_config_pb, hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

FILE = "events.out.tfevents.0000000000.sweep.v2"
"""A file name that sorts before the other event files of a trial."""

STATUS = {"complete": STATUS_SUCCESS, "pruned": STATUS_SUCCESS, "failed": STATUS_FAILURE}


def write_experiment(folder: Path, dimensions: Sequence[Dimension], mode: str, monitor: str) -> None:
    """Write the hyperparameters and the monitored value of a sweep.

    Args:
        folder: the folder of the sweep.
        dimensions: the hyperparameters.
        mode: `min` if small values are better, `max` if large ones are.
        monitor: the name of the monitored value.
    """
    params = []
    for each in dimensions:
        words = [float(word) if each.numbers else word for word in each.choices]
        domain = Discrete(words) if words else RealInterval(float(each.low), float(each.high))
        params.append(HParam(each.name, domain, description=each.text))
    metrics = [
        Metric(f"best/{monitor}", display_name=f"best {monitor} ({mode})"),
        Metric("loss", group="tensorboard/train", display_name="loss"),
    ]
    if monitor.startswith("val_"):
        metrics.append(Metric("loss", group="tensorboard/validation", display_name="val_loss"))
    _write(folder / FILE, [(0, hparams_config_pb(params, metrics, time_created_secs=time.time()))])


def write_session(folder: Path, row: Row, dimensions: Sequence[Dimension], monitor: str) -> None:
    """Write a trial's hyperparameters and results, replacing earlier ones.

    Args:
        folder: the folder of the trial.
        row: the trial.
        dimensions: the hyperparameters.
        monitor: the name of the monitored value.
    """
    numbers = {each.name for each in dimensions if each.numbers}
    params = {name: float(value) if name in numbers else value for name, value in row.params.items()}
    now = time.time()
    # TensorBoard's own function for this imports TensorFlow.
    info = SessionEndInfo(status=STATUS.get(row.state, STATUS_RUNNING), end_time_secs=now)
    content = metadata.create_summary_metadata(HParamsPluginData(session_end_info=info))
    end = Summary()
    end.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR)
    values = [(name, value) for name, value in ({monitor: row.value} | row.logs).items() if value is not None]
    _write(
        folder / FILE,
        [
            (0, hparams_pb(params, trial_id=f"trial {row.trial}", start_time_secs=now - row.seconds)),
            *((row.epoch or 0, scalar_pb(f"best/{name}", value)) for name, value in values),
            (0, end),
        ],
    )


def _write(path: Path, summaries: Sequence[tuple[int, Summary]]) -> None:
    fresh = path.with_name(f".sweep.{os.getpid()}")
    now = time.time()
    with fresh.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for step, summary in summaries:
            writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
        writer.flush()
    fresh.replace(path)
