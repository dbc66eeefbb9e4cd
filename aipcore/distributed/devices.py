"""Selection of the devices of a run."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aipcore.distributed.params import DeviceParams, GpuParams
from aipcore.errors import ParamsError
from aipcore.params.names import count


def select_devices(params: GpuParams) -> None:
    """Make only the selected devices visible to TensorFlow. Call this before TensorFlow computes anything.

    By default, all GPUs allowed by `CUDA_VISIBLE_DEVICES` are used.

    Raises:
        ParamsError: a GPU does not exist, its memory cannot be limited, `cpus` is set although there is a GPU, or
            TensorFlow is already running.
    """
    cpus = params.cpus if isinstance(params, DeviceParams) else 1
    present = tf.config.list_physical_devices("GPU")
    if params.memory_limit_mib is not None:
        given = f"--device.memory_limit_mib {params.memory_limit_mib}"
        if params.memory_growth:
            raise ParamsError(f"{given} reserves this memory at the start. Add --device.memory_growth False.")
        if not present:
            raise ParamsError(f"{given} limits GPU memory, but TensorFlow finds no GPU. Remove the option.")
    chosen = present if params.gpus is None else _numbered(params.gpus, present)
    if cpus > 1 and chosen:
        raise ParamsError(
            f"--device.cpus {cpus} divides the CPU, but the run uses {count(len(chosen), 'GPU')}. Set "
            "CUDA_VISIBLE_DEVICES=-1 to hide all GPUs."
        )
    try:
        if chosen != present:
            tf.config.set_visible_devices(chosen, "GPU")
        for device in chosen:
            tf.config.experimental.set_memory_growth(device, params.memory_growth)
            if params.memory_limit_mib is not None:
                limited = tf.config.LogicalDeviceConfiguration(memory_limit=params.memory_limit_mib)
                tf.config.set_logical_device_configuration(device, [limited])
        if cpus > 1:
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * cpus
            )
    except RuntimeError as error:
        if params.gpus is None and params.memory_limit_mib is None and cpus == 1:
            # A program that calls aip has already used a GPU, so its memory settings are fixed.
            return
        raise ParamsError(
            "--device cannot be set, because TensorFlow is already running in this process. Start a new process."
        ) from error


def make_deterministic() -> None:
    """Restrict this process to deterministic operations. Seeds must be set already.

    An operation without a deterministic variant on a GPU raises when it runs. Source: TensorFlow,
    `enable_op_determinism`.
    """
    tf.config.experimental.enable_op_determinism()


def _numbered(numbers: tuple[int, ...], present: list[Any]) -> list[Any]:
    missing = [number for number in numbers if number >= len(present)]
    if missing:
        given = " ".join(map(str, numbers))
        found = f"{count(len(present), 'GPU')}, from 0 to {len(present) - 1}" if present else "no GPU"
        hint = "Use one of these" if present else "Remove the option to train on the CPU"
        raise ParamsError(f"--device.gpus {given}: GPU {missing[0]} does not exist. TensorFlow finds {found}. {hint}.")
    return [present[number] for number in dict.fromkeys(numbers)]
