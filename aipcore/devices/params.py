"""Parameters of devices; light, so that `--help` needs no TensorFlow."""

from __future__ import annotations

from typing import Literal

from aipcore.params import at_least, field, params


@params
class DeviceParams:
    """What computes."""

    gpus: tuple[int, ...] | None = field(
        None,
        help="Numbers of the GPUs to use, among those that CUDA_VISIBLE_DEVICES leaves; by default all of them.",
        check=at_least(0),
    )
    memory_growth: bool = field(True, help="Take GPU memory as it is needed instead of all at once.")
    strategy: Literal["none", "mirror", "central_storage"] = field(
        "none",
        help="How several devices share the work: none uses the first one; mirror splits each batch and keeps the "
        "weights on every device; central_storage splits each batch and keeps the weights on the CPU.",
    )
    cpus: int = field(
        1,
        help="Devices that the CPU counts as, to try a strategy out on a machine without GPUs.",
        check=at_least(1),
    )
