"""All forms of options that users of the predecessor know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FORMS: tuple[tuple[str, ...], ...] = (
    ("--learning_rate", "ExponentialDecay", "--learning_rate.decay", "0.95"),
    ("--learning_rate.lr", "0.001"),
    ("--optimizer", "Adamax", "--optimizer.epsilon", "1e-7"),
    ("--optimizer.clip_global_norm", "5"),
    ("--optimizer.weight_decay", "0.00002"),
    ("--trainer.calc_ema", "0.99"),
    ("--trainer.no_train_scope", ".*conv.*"),
    ("--warmstart.model", "first/best"),
    ("--trainer.lav_every_n=1",),
    ("--trainer.profile", "True"),
)
CNN = ("--model.graph", "CNN", "--model.graph.filters", "4", "8")


def test_all_forms_in_one_run(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """Two runs, the second with every form of option, have the expected effects."""
    words = ("train", "tutorial", *CNN, "--trainer.epochs", "1", "--trainer.output_dir", "first")
    assert fork_aip(*words).returncode == 0
    together = [word for form in FORMS for word in form]
    done = fork_aip(
        "train", "tutorial", *CNN, *together, "--trainer.epochs", "2", "--trainer.output_dir", "out",
        "--json-log", "log.jsonl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    epochs = [event["logs"] for event in events if event["event"] == "epoch"]
    # The decay of the option, not the default, up to the last of the updates of two epochs.
    plan = next(event for event in events if event["event"] == "plan")
    updates = int(re.search(r"2 epochs of ([\d,]+) updates", plan["optimizer"])[1].replace(",", ""))
    assert epochs[1]["learning_rate"] == pytest.approx(0.001 * 0.95 ** (2 - 1 / updates), rel=1e-5)
    assert epochs[0]["ema_rate"] == pytest.approx(0.99)
    assert all("lav_error_rate" in logs for logs in epochs)
    assert "Adamax" in done.stdout
    assert "conv_1" in next(line for line in done.stdout.splitlines() if line.startswith("frozen"))
    assert any(line.startswith("warm start") for line in done.stdout.splitlines())
    assert list((tmp_path / "out" / "tensorboard").rglob("*.xplane.pb"))
    recorded = json.loads((tmp_path / "out" / "params.json").read_text())["trainer"]
    assert recorded["optimizer"]["clip_global_norm"] == 5
    assert recorded["optimizer"]["weight_decay"] == 0.00002
    assert recorded["optimizer"]["epsilon"] == 1e-7


@pytest.mark.parametrize("words", [("--device.gpus", "0", "1")])
def test_missing_gpus(fork_aip: Callable[..., Any], words: tuple[str, ...]) -> None:
    """Without GPUs, requesting two is refused in one clear sentence."""
    import tensorflow as tf

    if len(tf.config.list_physical_devices("GPU")) > 1:
        pytest.skip("this machine has two GPUs")
    done = fork_aip("train", "tutorial", *words, "--trainer.output_dir", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --device.gpus 0 1: GPU ")
