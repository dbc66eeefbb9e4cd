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
