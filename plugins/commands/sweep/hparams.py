"""The HPARAMS tab of `tensorboard --logdir SWEEP_DIR`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from aip_plugins.commands.sweep.dimension import Dimension
from aip_plugins.commands.sweep.results import Row
from aip_plugins.hparams import session_end, write_summaries
from tensorboard.plugins.hparams.summary_v2 import Discrete, HParam, Metric, RealInterval, hparams_config_pb, hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

FILE = "events.out.tfevents.0000000000.sweep.v2"
"""A file name that sorts before the other event files of a trial."""

STATUS = {"complete": "finished", "pruned": "stopped", "failed": "failed"}


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
    write_summaries(folder / FILE, [(0, hparams_config_pb(params, metrics, time_created_secs=time.time()))])


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
    values = [(name, value) for name, value in ({monitor: row.value} | row.logs).items() if value is not None]
    summaries = [
        (0, hparams_pb(params, trial_id=f"trial {row.trial}", start_time_secs=time.time() - row.seconds)),
        *((row.epoch or 0, scalar_pb(f"best/{name}", value)) for name, value in values),
        (0, session_end(STATUS.get(row.state, "running"))),
    ]
    write_summaries(folder / FILE, summaries)
