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
        help="Numbers of the GPUs to use, among those that CUDA_VISIBLE_DEVICES leaves; by default all of them.",
        check=at_least(0),
    )
    memory_growth: bool = field(True, help="Take GPU memory as it is needed instead of all at once.")
    memory_limit_mib: int | None = field(
        None,
        help="MiB of memory that TensorFlow reserves at once on each GPU, and never exceeds; needs memory_growth off.",
        check=at_least(1),
    )


@params
class DeviceParams(GpuParams):
    """Devices and the strategy that distributes the work over them."""

    strategy: Strategy = field(
        "none",
        help="How several devices share the work: none uses the first one; mirror splits each batch and keeps the "
        "weights on every device; central_storage splits each batch and keeps the weights on the CPU; multi_worker "
        "mirrors over the devices of several processes, which TF_CONFIG or Slurm names.",
    )
    cpus: int = field(
        1,
        help="Devices that the CPU counts as, to try a strategy out on a machine without GPUs.",
        check=at_least(1),
    )
    start_timeout: float = field(
        300.0,
        help="Seconds that the workers of multi_worker wait for each other at the start.",
        check=above(0),
    )
    slurm_port: int = field(
        8888,
        help="Port of the first worker on each host under Slurm; the others of a host have the next ones.",
        check=between(1, 65535),
    )
