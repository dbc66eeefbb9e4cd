"""Choosing devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.skipif("__import__('tensorflow').config.list_physical_devices('GPU')", reason="this machine has GPUs")
def test_missing_gpus_are_named(run_aip: Callable[..., Any], tmp_path: Any) -> None:
    """Asking for GPUs that are not there is one sentence, and nothing is written."""
    done = run_aip("train", "tutorial", "--device.gpus", "0", "1", "--trainer.output_dir", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: --device.gpus 0 1: there is no GPU 0; TensorFlow sees no GPU here; leave the option out to train on "
        "the CPU."
    )
    assert not (tmp_path / "out").exists()


def test_the_plan_says_what_computes(run_aip: Callable[..., Any], tmp_path: Any) -> None:
    """The device and the precision stand in the plan, and nothing of TensorFlow's notices on stderr."""
    done = run_aip(
        "train", "tutorial", "--trainer.epochs", "1", "--trainer.precision", "bfloat16", "--trainer.output_dir",
        str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0
    assert "in bfloat16 with float32 weights" in done.stdout
    assert done.stderr == ""


def test_mirrored_from_the_command_line(run_aip: Callable[..., Any], tmp_path: Any) -> None:
    """The tutorial on two halves of the CPU: the plan says so, and it learns."""
    done = run_aip(
        "train", "tutorial", "--trainer.epochs", "3", "--device.cpus", "2", "--device.strategy", "mirror",
        "--trainer.output_dir", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CPU:0, CPU:1 share each batch" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "out" / "best" / "saved_model.pb").is_file()
