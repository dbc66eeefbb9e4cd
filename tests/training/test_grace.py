"""Processes that do not react to a signal because the running call does not return."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forks
import pytest

from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]

SCENARIO = '''
"""Trains until the file `hang` is there, and then neither trains nor ends."""
import time
from pathlib import Path

from aipcore.scenario import Processor, Scenario


def hang(kind):
    while Path("hang-" + kind).exists():
        Path("hangs").touch()
        time.sleep(0.01)


class Waits(Processor):
    """Never comes back with its sample."""

    def process(self, sample):
        hang("data")
        return sample


class Points(Scenario):
    """Adds up three numbers."""

    def train_data(self):
        import numpy as np

        inputs = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
        return inputs, inputs.sum(axis=1, keepdims=True)

    def processors(self):
        return [Waits()]

    def build(self, inputs):
        from keras import layers

        return layers.Dense(1)(inputs)

    def losses(self):
        import tensorflow as tf

        def wait(values):
            hang("step")
            return values

        def loss(targets, outputs):
            # An operation of TensorFlow that does not return: Python can handle no signal meanwhile.
            outputs = tf.reshape(tf.numpy_function(wait, [outputs], tf.float32), tf.shape(outputs)) + outputs * 0
            return tf.reduce_mean(tf.square(targets - outputs), axis=-1)

        return loss
'''


def start_and_hang(folder: Path, kind: str, grace: float) -> forks.Forked:
    """Start a run that hangs in its data or in a step, after at least one checkpoint besides the first."""
    (folder / "points.py").write_text(SCENARIO)
    words = ["train", "points.py", "--trainer.output_dir", "out", "--trainer.epochs", "1000000"]
    words += ["--trainer.grace_seconds", str(grace), "--trainer.jit_compile", "off", "--train.preload", "off"]
    process = forks.start([*AIP, *words], cwd=folder, start_new_session=True)
    log = folder / "out" / "train.log"
    wait_for(process, lambda: log.exists() and "epoch       2/" in log.read_text())
    (folder / f"hang-{kind}").touch()
    wait_for(process, (folder / "hangs").exists)
    # The main thread is then in the call that hangs.
    time.sleep(0.5)
    return process


def wait_for(process: forks.Forked, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, unless the process ends."""
    while not condition():
        if process.poll() is not None:
            output, errors = process.communicate()
            pytest.fail(f"The process ended with {process.returncode}: {output}{errors}")
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [pytest.param("data", marks=pytest.mark.slow), "step"])
def test_the_grace_time_is_the_end(tmp_path: Path, kind: str) -> None:
    """A hanging run exits with 143 and one message after the grace time. It leaves complete checkpoints, no process."""
    process = start_and_hang(tmp_path, kind, 1.5)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent >= 1.5
    assert process.returncode == 143
    assert "Traceback" not in output + errors
    assert output.count("The run did not stop within 1.5 s (trainer.grace_seconds) and is killed.") == 1
    assert output.endswith("\nResume with: aip resume out --trust\n")
    assert read_checkpoint(newest_checkpoint(tmp_path / "out" / "checkpoint")).progress["epoch"] >= 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
    ids=["TERM", "INT"],
)
def test_a_second_signal_is_the_end(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """The second of two signals ends the process immediately, even where Python cannot handle it."""
    process = start_and_hang(tmp_path, "step", 3600)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in output + errors
    assert output.endswith("Stopped without saving.\nResume with: aip resume out --trust\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
