"""Starting TensorFlow for a command that applies a model."""

from __future__ import annotations

import logging

from aipcore.devices.params import DeviceParams
from aipcore.prediction.params import ApplyDeviceParams


def start_computing(device: ApplyDeviceParams | None = None) -> None:
    """Imports TensorFlow and chooses the devices.

    Raises:
        ParamsError: a device does not exist.
    """
    from aipcore.logs import log_level
    from aipcore.training.start import import_tensorflow

    import_tensorflow(verbose=log_level() <= logging.DEBUG)
    from aipcore.devices.selection import select_devices

    if device is not None:
        given = {name: getattr(device, name) for name in ("gpus", "memory_growth", "memory_limit_mib")}
        select_devices(DeviceParams(**given))
