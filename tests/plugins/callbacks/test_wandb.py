"""The tracker of Weights & Biases, offline: the content of its files, and runs without a connection."""

from __future__ import annotations

import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from events import events_of

from aipcore.errors import AuthorError

pytest.importorskip("wandb", reason="needs the extra wandb")

pytestmark = pytest.mark.filterwarnings("ignore")

WANDB = ("--callbacks", "WandB", "--callbacks.wandb.mode", "offline")
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


def records_of(file: Path) -> Iterator[Any]:
    """Yield the records of a file of W&B: a head of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind == 0:
            break
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def runs_of(folder: Path) -> list[list[Any]]:
    """Return the records of each start of a run, in order."""
    found = []
    for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        # A process of W&B writes the file, and may lag behind.
        for _ in range(3000):
            records = list(records_of(file))
            if only(records, "exit"):
                break
            time.sleep(0.01)
        found.append(records)
    return found


def only(records: list[Any], kind: str) -> list[Any]:
    """Return the records of one kind."""
    return [getattr(each, kind) for each in records if each.WhichOneof("record_type") == kind]


def history_of(records: list[Any]) -> dict[int, dict[str, Any]]:
    """Return the logged values, by step."""
    found = {}
    for each in only(records, "history"):
        values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in each.item}
        assert values["_step"] not in found
        found[values["_step"]] = values
    return found


def test_logged_values(run: Any, tmp_path: Path) -> None:
    """The file has parameters, tags, and every value of every epoch."""
    words = (
        "--trainer.val_every_n", "2", "--trainer.epochs", "3", "--callbacks.wandb.project", "letters",
        "--callbacks.wandb.run_name", "first", "--callbacks.wandb.tags", "a", "b",
    )  # fmt: skip
    trainer = run(*WANDB, *words)
    history = trainer.fit().history
    (records,) = runs_of(tmp_path / "out")
    logged = history_of(records)
    for epoch, logs in enumerate(history, start=1):
        assert {name: logged[epoch][name] for name in logs} == pytest.approx(logs)
        assert logged[epoch]["epoch"] == epoch
    (begun, *_) = only(records, "run")
    assert (begun.project, begun.display_name, list(begun.tags)) == ("letters", "first", ["a", "b"])
    config = {item.key: item.value_json for each in only(records, "run") for item in each.config.update}
    config |= {item.key: item.value_json for each in only(records, "config") for item in each.update}
    assert json.loads(config["trainer"])["epochs"] == 3
    assert [each.exit_code for each in only(records, "exit")] == [0]


class Ending(keras.callbacks.Callback):
    """A callback that ends a run in its second epoch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1 and self.how == "error":
            raise RuntimeError("no more")
        if epoch == 1 and self.how == "signal":
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
def test_goes_on_in_the_same_run(run: Any, caplog: Any, refused: Any) -> None:
    """A run that is killed, fails and finishes has one id, each epoch once over all files, and each exit code."""
    words = (*WANDB, "--trainer.epochs", "4", "--checkpoint.keep", "9", "--trainer.log_every_steps", "2")
    first = run(*words)
    first.callbacks["end"] = Ending("signal")
    assert first.fit().status == "interrupted"
    checkpoints = first.output_dir / "checkpoint"
    second = run(*words, checkpoint=sorted(checkpoints.iterdir())[0])
    second.callbacks["end"] = Ending("error")
    with refused(AuthorError):
        second.fit()
    third = run(*words, checkpoint=sorted(checkpoints.iterdir())[1])
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        history = third.fit().history
    runs = runs_of(first.output_dir)
    assert len({begun.run_id for records in runs for begun in only(records, "run")}) == 1
    assert [only(records, "exit")[0].exit_code for records in runs] == [255, 1, 0]
    logged: dict[int, Any] = {}
    for records in runs:
        for step, values in history_of(records).items():
            assert step not in logged
            logged[step] = values
    losses = {each["epoch"]: each["loss"] for each in logged.values() if "epoch" in each}
    assert losses == pytest.approx({epoch: logs["loss"] for epoch, logs in enumerate(history, start=1)})
    within = {each["step"]: each["train_steps/loss"] for each in logged.values() if "step" in each}
    points = events_of(first.output_dir / "tensorboard")["train_steps"]["loss"]
    assert within == pytest.approx({step: float(value) for step, value in points})
    assert "Weights & Biases already has values from step 8 on. They are not logged again." in caplog.text
    assert f"wandb sync --append {first.output_dir}/wandb/offline-run-*" in caplog.text


def test_refused_before_training(fork_aip: Any, tmp_path: Path) -> None:
    """Online mode without a key is refused in one sentence before TensorFlow is imported."""
    done = fork_aip("train", "tutorial", "--callbacks", "WandB", HOME=str(tmp_path), WANDB_API_KEY="")
    assert done.returncode == 2
    assert "The callback WandB has no API key. Run wandb login, set WANDB_API_KEY, or use" in " ".join(
        done.stderr.split()
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_no_connection(tmp_path: Path) -> None:
    """Online without a connection, the run finishes with warnings, and its process ends."""
    words = ["train", "tutorial", "--trainer.epochs", "2", "--trainer.output_dir", "out", "--callbacks", "WandB"]
    environment = {**os.environ, "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "COLUMNS": "200"}
    done = subprocess.run(
        [*AIP, *words, "--callbacks.wandb.timeout", "2"], cwd=tmp_path, check=True, timeout=300, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (
        "Weights & Biases did not receive all data of this run (2 epochs are missing). "
        "All values are in out/tensorboard." in done.stdout + done.stderr
    )
    assert (tmp_path / "out" / "export").is_dir()
