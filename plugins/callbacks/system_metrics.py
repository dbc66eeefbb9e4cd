"""The use of CPU, memory and GPUs, and a callback that records it in TensorBoard."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import keras
import psutil
import tensorflow as tf
from aip_plugins.callbacks.observe_params import SystemMetricsParams

from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")

GIB = 2**30


class SystemUse:
    """The use of this machine since the last reading, and its memory at the reading.

    GPUs are all those that NVIDIA's driver shows, with its numbers. Their use is the mean of the samples that the
    driver has kept, which are those of the last seconds.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._times = _cpu_times()
        self._nvml, self._gpus = _gpus()
        self._sampled = [0] * len(self._gpus)

    def read(self) -> dict[str, float]:
        """Return the values by name."""
        (idle, total), before = _cpu_times(), self._times
        values = {
            "memory_percent": psutil.virtual_memory().percent,
            "process_memory_gib": self._process.memory_info().rss / GIB,
        }
        if total > before[1]:
            values["cpu_percent"] = 100 * (1 - (idle - before[0]) / (total - before[1]))
            self._times = idle, total
        for number, gpu in enumerate(self._gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in self._read_gpu(number, gpu).items()}
        return values

    def _read_gpu(self, number: int, gpu: Any) -> dict[str, float]:
        nvml, values = self._nvml, {}
        # A GPU may not report a value, or may have no new sample.
        with suppress(nvml.NVMLError):
            values["memory_gib"] = nvml.nvmlDeviceGetMemoryInfo(gpu).used / GIB
            kind = nvml.NVML_GPU_UTILIZATION_SAMPLES
            if samples := nvml.nvmlDeviceGetSamples(gpu, kind, self._sampled[number])[1]:
                self._sampled[number] = samples[-1].timeStamp
                values["percent"] = sum(each.sampleValue.uiVal for each in samples) / len(samples)
        return values


def _cpu_times() -> tuple[float, float]:
    """Return the idle and the total seconds of all CPUs since the start of the machine."""
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of guests in that of user processes too.
    total = sum(times.values()) - times.get("guest", 0) - times.get("guest_nice", 0)
    return times["idle"] + times.get("iowait", 0), total


def _gpus() -> tuple[Any, list[Any]]:
    """Return NVML and its GPUs."""
    if find_spec("pynvml") is None:
        if tf.config.list_physical_devices("GPU"):
            logger.warning(
                "The use of the GPUs is not recorded, because the package nvidia-ml-py is not installed. Run pip "
                "install 'aipcore[system]'."
            )
        return None, []
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        # There is no driver, and so no GPU.
        return pynvml, []


class SystemMetrics(keras.callbacks.Callback):
    """Records the use of the machine after each epoch. It is not part of the logs, so records stay comparable."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self.context = context
        self._use = SystemUse()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the values."""
        self.context.events.scalars("system", epoch + 1, self._use.read())


def build(params: SystemMetricsParams, context: RunContext) -> SystemMetrics:
    """Return the callback."""
    del params
    return SystemMetrics(context)
