"""Joining the other workers of a run; to be done before TensorFlow computes anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from aipcore.devices.cluster import Cluster
from aipcore.devices.meeting import Tell, meet
from aipcore.devices.params import DeviceParams
from aipcore.devices.workers import Workers
from aipcore.errors import ParamsError


@contextmanager
def joined_workers(params: DeviceParams, cluster: Cluster | None, tell: Tell) -> Iterator[Workers]:
    """Meets the other workers, starts TensorFlow's strategy over all of their devices, and takes leave at the end.

    Args:
        params: the devices, selected already.
        cluster: all workers, or None if there are no others.
        tell: for messages.

    Raises:
        UsageError: not all workers came.
        ParamsError: the workers do not fit together.
    """
    if cluster is None:
        yield Workers()
        return
    if params.cpus > 1:
        raise ParamsError(
            f"--device.cpus {params.cpus} does not go with --device.strategy multi_worker: start more workers instead."
        )
    with meet(cluster, params.start_timeout, tell) as workers:
        if workers.count > 1:
            os.environ["TF_CONFIG"] = cluster.tf_config
            gpus = len(tf.config.list_physical_devices("GPU")) if params.gpus is None else len(set(params.gpus))
            workers.require_same({"the number of GPUs": gpus})
            workers.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        yield workers
