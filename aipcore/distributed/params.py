"""Parameters of devices. This module does not import TensorFlow, so that `--help` stays fast."""

from __future__ import annotations

from typing import Literal

from aipcore.params import above, at_least, between, field, params

Strategy = Literal["none", "mirror", "central_storage", "multi_worker"]


@params
class GpuParams:
    """GPUs and their memory."""

    gpus: tuple[int, ...] | None = field(
        None,
        help="GPUs to use, by index. Only GPUs in CUDA_VISIBLE_DEVICES are counted. none: all of them.",
        check=at_least(0),
    )
    memory_growth: bool = field(True, help="Allocate GPU memory as needed instead of at the start.")
    memory_limit_mib: int | None = field(
        None,
        help="Memory limit in MiB on each GPU. TensorFlow reserves this memory at the start. It needs memory_growth "
        "False. none: no limit.",
        check=at_least(1),
    )


@params
class DeviceParams(GpuParams):
    """Devices and the strategy that distributes the work over them."""

    strategy: Strategy = field(
        "none",
        help="Strategy that distributes a batch over several devices. none uses the first device. mirror splits each "
        "batch and keeps the weights on every device. central_storage splits each batch and keeps the weights on the "
        "CPU. multi_worker mirrors over the devices of several processes, which TF_CONFIG or Slurm defines.",
    )
    shard_optimizer: bool = field(
        False,
        help="Divide the optimizer's state among the processes. Each process updates its part of the weights and sends "
        "them to the others. The numbers are the same. Only multi_worker can use it.",
    )
    cpus: int = field(
        1,
        help="Number of logical CPU devices. Use several to try a strategy on a machine without GPUs.",
        check=at_least(1),
    )
    start_timeout: float = field(
        300.0,
        help="Seconds that workers wait for each other at the start. Only multi_worker uses it.",
        check=above(0),
    )
    slurm_port: int = field(
        8888,
        help="Port of the first worker on each host under Slurm. Further workers on a host use the next ports.",
        check=between(1, 65535),
    )
