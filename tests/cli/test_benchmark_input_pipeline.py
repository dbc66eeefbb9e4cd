"""`aip benchmark-input-pipeline` as a user runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENARIO = '''
import time
import attrs
import numpy as np
from aipcore.scenario import Processor, RandomProcessor, Scenario

class Quick(RandomProcessor):
    def process(self, sample, rng):
        return attrs.evolve(sample, inputs=sample.inputs + rng.random(4, dtype=np.float32))

class Sleepy(Processor):
    def process(self, sample):
        time.sleep(0.002)
        return sample

class Task(Scenario):
    """Takes its time."""

    def train_data(self):
        return np.zeros((1000, 4), np.float32), np.zeros(1000, np.float32)

    def processors(self):
        return [Quick(), Sleepy()]

    def build(self, inputs):
        from keras import layers
        return layers.Dense(1)(inputs)

    def losses(self):
        return "mse"

import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({"tensorflow", "keras"} & set(sys.modules))))
'''


def run(folder: Path, *words: str) -> Any:
    """Start the command on the scenario."""
    (folder / "task.py").write_text(SCENARIO, encoding="utf-8")
    command = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
    return subprocess.Popen(
        [*command, "benchmark-input-pipeline", "task.py", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_names_the_bottleneck(workers: str, tmp_path: Path) -> None:
    """The slow processor is named, live and at the end, without TensorFlow. Ctrl-C ends with the results so far."""
    process = run(tmp_path, "--data.workers", workers, *(["--seconds", "1.5"] if workers == "0" else []))
    lines = []
    for line in process.stdout:
        lines.append(line)
        if workers != "0" and "prefetched parts are ready" in line:
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=60)
    text = " ".join(("".join(lines) + rest).split())
    assert process.returncode == 0, errors
    assert re.search(r"Quick, Sleepy in each epoch (in this process|by 2 worker processes) ", text)
    assert re.search(r"[\d,]+ samples in [\d.]+ s: [\d,]+ samples/s, [\d.]+ MiB/s The data pipeline", text)
    assert re.search(r"limited by (Sleepy, which takes \d\d% of the time per sample|the transfer of batches)", text)
    assert text.endswith("IMPORTED")


@pytest.mark.slow
def test_with_the_model(tmp_path: Path) -> None:
    """With a tiny model, the slow data is the limit."""
    process = run(tmp_path, "--with-model", "--seconds", "1", "--trainer.jit_compile", "off", "--data.workers", "0")
    text, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    said = " ".join(text.split())
    assert re.search(r"The data pipeline is the bottleneck: the model processes [\d,]+ samples/s\. .* by Sleepy", said)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_must_be_positive(seconds: str, tmp_path: Path) -> None:
    """Other values are refused in one sentence before any data is read."""
    process = run(tmp_path, f"--seconds={seconds}")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"--seconds: {seconds} is not allowed. It must be a number above 0." in errors
