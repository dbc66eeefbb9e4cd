"""Event files for the HPARAMS tab of `tensorboard --logdir SWEEP_DIR`, written without TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from aip_plugins.commands.sweep.results import Row
from aip_plugins.commands.sweep.space import Dimension
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

FILE = "events.out.tfevents.0000000000.sweep.v2"
"""Its name sorts it before the other event files of a trial."""

STATUS = {"complete": api_pb2.STATUS_SUCCESS, "pruned": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


def write_experiment(folder: Path, dimensions: Sequence[Dimension], mode: str, monitor: str) -> None:
    """Says which parameters vary and which values are compared.

    Args:
        folder: the sweep's.
        dimensions: the parameters.
        mode: whether small (`min`) or large (`max`) values are good.
        monitor: the value's name.
    """
    infos = []
    for each in dimensions:
        info = api_pb2.HParamInfo(name=each.name, description=each.text)
        if each.choices and not each.numbers:
            info.type = api_pb2.DATA_TYPE_STRING
            for word in each.choices:
                info.domain_discrete.values.add().string_value = word
        elif each.choices:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            for word in each.choices:
                info.domain_discrete.values.add().number_value = float(word)
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            info.domain_interval.min_value, info.domain_interval.max_value = each.low, each.high
        infos.append(info)
    metrics = [_metric("", f"best/{monitor}", f"best {monitor} ({mode})"), _metric("tensorboard/train", "loss", "loss")]
    if monitor.startswith("val_"):
        metrics.append(_metric("tensorboard/validation", "loss", "val_loss"))
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics, time_created_secs=time.time())
    _write(
        folder / FILE,
        [(0, _summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)))],
    )


def write_session(folder: Path, row: Row, dimensions: Sequence[Dimension], monitor: str) -> None:
    """Says what a trial's parameters were and what came of it; replaces what was said before.

    Args:
        folder: the trial's.
        row: the trial.
        dimensions: the parameters that vary.
        monitor: the monitored value's name.
    """
    numbers = {each.name for each in dimensions if each.numbers}
    params = {name: float(value) if name in numbers else value for name, value in row.params.items()}
    now = time.time()
    start = hparams_pb(params, trial_id=f"trial {row.trial}", start_time_secs=now - row.seconds)
    end = plugin_data_pb2.SessionEndInfo(status=STATUS.get(row.state, api_pb2.STATUS_RUNNING), end_time_secs=now)
    summaries = [(0, start)]
    values = {monitor: row.value} | row.logs
    summaries += [
        (row.epoch or 0, scalar_pb(f"best/{name}", value)) for name, value in values.items() if value is not None
    ]
    summaries.append(
        (0, _summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)))
    )
    _write(folder / FILE, summaries)


def _metric(group: str, tag: str, shown: str) -> api_pb2.MetricInfo:
    return api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag), display_name=shown)


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    summary = Summary()
    summary.value.add(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR)
    return summary


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
