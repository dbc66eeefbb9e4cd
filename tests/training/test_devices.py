"""Selection of devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aipcore.distributed.devices import select_devices
from aipcore.distributed.params import DeviceParams
from aipcore.errors import ParamsError


@pytest.mark.slow
@pytest.mark.skipif("__import__('tensorflow').config.list_physical_devices('GPU')", reason="this machine has GPUs")
def test_missing_gpus_are_named(fork_aip: Callable[..., Any], tmp_path: Any) -> None:
    """Selecting GPUs that do not exist is reported in one sentence, and nothing is written."""
    done = fork_aip("train", "tutorial", "--device.gpus", "0", "1", "--trainer.output_dir", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: --device.gpus 0 1: GPU 0 does not exist. TensorFlow finds no GPU. Remove the option to train on the "
        "CPU."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_plan_shows_the_device(fork_aip: Callable[..., Any], tmp_path: Any) -> None:
    """The plan shows the device and the precision, and none of TensorFlow's notices reach stderr."""
    done = fork_aip(
        "train", "tutorial", "--trainer.epochs", "1", "--trainer.precision", "bfloat16", "--trainer.output_dir",
        str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0
    assert "in bfloat16 with float32 weights" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_mirrored_from_the_command_line(fork_aip: Callable[..., Any], tmp_path: Any) -> None:
    """The tutorial learns on two halves of the CPU, and the plan shows them."""
    done = fork_aip(
        "train", "tutorial", "--trainer.epochs", "1", "--device.cpus", "2", "--device.strategy", "mirror",
        "--trainer.output_dir", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CPU:0, CPU:1 share each batch" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "out" / "best" / "saved_model.pb").is_file()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record TensorFlow's configuration calls for two GPUs that do not exist."""
    import tensorflow as tf

    told: list[Any] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0", "GPU:1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: told.append(("visible", *given)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *given: told.append(("growth", *given)))
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda device, parts: told.append(("parts", device, [part.memory_limit for part in parts])),
    )
    return told


def test_a_memory_limit_is_one_logical_device_on_each_gpu(calls: list[Any]) -> None:
    """The limit in MiB applies only to the selected GPUs; without a limit, no logical device is configured."""
    select_devices(DeviceParams(gpus=(1,), memory_growth=False, memory_limit_mib=4096))
    assert calls == [("visible", ["GPU:1"], "GPU"), ("growth", "GPU:1", False), ("parts", "GPU:1", [4096])]
    calls.clear()
    select_devices(DeviceParams())
    assert calls == [("growth", "GPU:0", True), ("growth", "GPU:1", True)]


def test_parts_of_the_cpu_beside_a_gpu_are_refused(calls: list[Any], refused: Any) -> None:
    """Several CPU devices cannot be used on a machine with GPUs, since the GPUs do the work."""
    with refused(ParamsError):
        select_devices(DeviceParams(cpus=2))
    assert calls == []


def test_a_memory_limit_that_cannot_hold_is_refused(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    """A memory limit is refused together with memory growth and on a machine without GPUs."""
    with refused(ParamsError):
        select_devices(DeviceParams(memory_limit_mib=9))
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    with refused(ParamsError):
        select_devices(DeviceParams(memory_growth=False, memory_limit_mib=9))
    assert calls == []
