"""Examples with phases and with losses of their own: the numbers of plain Keras loops, resuming, and two devices."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from plain_loops import LOOPS, WORDS, distance

from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_equals_a_plain_loop(make_trainer: Any, name: str) -> None:
    """20 steps have the losses and weights of a loop in plain Keras with the same weights and batches."""
    loop = LOOPS[name]
    of_losses, of_weights = distance(loop, make_trainer(loop.cls, *WORDS, *loop.words, exports=False))
    assert of_losses < 1e-4
    assert of_weights < 1e-4


@pytest.mark.slow
def test_two_devices() -> None:
    """Two devices have the numbers of the plain loop, of which each device has a half of the batch as negatives."""
    done = forks.run([sys.executable, str(Path(__file__).parent / "on_two_devices.py")], timeout=300)
    assert done.returncode == 0, done.stderr
    for name, (of_losses, of_weights) in json.loads(done.stdout.splitlines()[-1]).items():
        assert of_losses < 1e-5, name
        assert of_weights < 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first", "second"), [("finetune.py:FineTuning", 4, 14), ("vae.py", 2, 5), ("contrastive.py", 2, 5)]
)
def test_killed_and_resumed(name: str, first: int, second: int, tmp_path: Path) -> None:
    """A run killed in two epochs and resumed has the variables and the history of an uninterrupted one."""
    words = ["train", str(EXAMPLES / name), "--trainer.random_seed", "3", "--trainer.tune", "off", "--quiet"]
    words += ["--trainer.epochs", str(second + 4), "--trainer.export_best", "False", "--trainer.export_final", "False"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert forks.run([*AIP, *words, "--trainer.output_dir", str(whole)], timeout=120).returncode == 0
    command = [*words, "--trainer.output_dir", str(killed)]
    for epoch in (first, second):
        process = forks.start([*AIP, *command])
        until = time.monotonic() + 60
        while not reached(killed / "checkpoint", epoch):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        command = ["resume", str(killed), "--trust", "--quiet"]
    assert forks.run([*AIP, *command], timeout=120).returncode == 0
    found = [read_checkpoint(newest_checkpoint(folder / "checkpoint")) for folder in (whole, killed)]
    assert found[0].progress["history"] == found[1].progress["history"]
    assert found[0].arrays.keys() == found[1].arrays.keys()
    for key, array in found[0].arrays.items():
        np.testing.assert_array_equal(array, found[1].arrays[key], err_msg=key)


def reached(folder: Path, epoch: int) -> bool:
    """Return True if the newest complete checkpoint has that many epochs."""
    try:
        return int(read_checkpoint(newest_checkpoint(folder)).progress["epoch"]) >= epoch
    except Exception:
        return False


@pytest.mark.slow
def test_learn(tmp_path: Path) -> None:
    """The fine-tuned model, the features and the codes are worth their training."""
    from aipcore.cli.main import main

    def train(name: str, *words: str) -> list[dict[str, float]]:
        log = tmp_path / "log.jsonl"
        command = ["train", str(EXAMPLES / name), "--json-log", str(log), "--quiet", "--trainer.random_seed", "1"]
        exports = ["--trainer.export_best", "False", "--trainer.export_final", "False"]
        assert main([*command, "--trainer.tune", "off", *exports, *words]) == 0
        events = [json.loads(line) for line in log.read_text().splitlines()]
        log.unlink()
        return [event["logs"] for event in events if event["event"] == "epoch"]

    backbone, tuned = str(tmp_path / "backbone"), str(tmp_path / "tuned")
    assert train("finetune.py:Pretraining", "--trainer.output_dir", backbone)[-1]["val_accuracy"] > 0.97
    words = ("--warmstart.model", backbone, "--warmstart.exclude", "head/.*", "--trainer.output_dir", tuned)
    epochs = train("finetune.py:FineTuning", *words)
    assert epochs[-1]["val_accuracy"] > epochs[9]["val_accuracy"] + 0.05
    enough = ("--early_stopping.upper_threshold", "0.86")
    epochs = train("contrastive.py", "--trainer.output_dir", str(tmp_path / "views"), *enough)
    assert epochs[-1]["val_probe_accuracy"] > 0.85
    epochs = train("vae.py", "--trainer.output_dir", str(tmp_path / "vae"))
    assert epochs[-1]["val_loss"] < 0.92 * epochs[0]["val_loss"]
