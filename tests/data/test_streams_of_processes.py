"""Two processes that share the batches of a stream train as one, and are resumed at the positions of both."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

AIP = (sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())")
SUPPORT = Path(__file__).parents[1] / "support"
WORDS = ("--trainer.random_seed", "3", "--quiet", "--trainer.export_best", "false", "--trainer.export_final", "false")
LAUNCH = ("launch", "--workers", "2")

SHARDED = """
from aipcore.data import stream_reader
from aipcore.scenario import Stream
from sources import X, Y, Points

# By default, so short a run would have no state.
stream_reader.STATE_SECONDS, stream_reader.STATE_SHARE = 0, float("inf")


class Part:
    def __init__(self, rows):
        self.rows, self.next = rows, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.next == len(self.rows):
            raise StopIteration
        self.next += 1
        return X[self.rows[self.next - 1]], Y[self.rows[self.next - 1]]

    def get_state(self):
        return self.next

    def set_state(self, state):
        self.next = state


def part(index, count):
    \"\"\"Parts of 32 and of 48 samples, or for one process both in the batches of two.\"\"\"
    parts = [list(range(32)) * 3, list(range(32, 80)) * 2]
    if count == 2:
        return Part(parts[index])
    return Part([row for n in range(0, 96, 8) for half in parts for row in half[n : n + 8]])


class Shared(Points):
    defaults = Points.defaults | {"trainer.samples_per_epoch": 96}

    def train_data(self):
        return Stream(part, sharded=True)
"""


def aip(folder: Path, *words: str) -> None:
    """Run `aip`, which must end well."""
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "NO_COLOR": "1"}
    done = forks.run([*AIP, *words], cwd=folder, env=environment, children=words[0] == "launch")
    assert done.returncode == 0, done.stdout + done.stderr


def result(run: Path) -> tuple[Any, Any]:
    """Return the history and the weights of the newest checkpoint."""
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    weights = {name: each for name, each in stored.arrays.items() if name.startswith("model/")}
    assert weights
    return stored.progress["history"], weights


def assert_close(one: tuple[Any, Any], two: tuple[Any, Any]) -> None:
    """Assert that two results are equal up to rounding."""
    assert len(one[0]) == len(two[0]) == 3
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose([each[key] for each in one[0]], [each[key] for each in two[0]], rtol=1e-5)
    for name, values in one[1].items():
        np.testing.assert_allclose(values, two[1][name], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generator", "tf.data samples", "grain IterDataset"])
def test_two_processes_give_the_numbers_of_one(kind: str, tmp_path: Path) -> None:
    """`aip launch --workers 2` gives the losses and weights of one process, up to rounding."""
    text = f"from sources import JitteredPoints\n\n\nclass Shared(JitteredPoints):\n    kind = {kind!r}\n"
    (tmp_path / "shared.py").write_text(text)
    for name, launch in (("one", ()), ("two", LAUNCH)):
        aip(tmp_path, *launch, "train", "shared.py", "--trainer.output_dir", name, *WORDS)
    assert_close(result(tmp_path / "one"), result(tmp_path / "two"))


@pytest.mark.slow
def test_a_sharded_stream_is_resumed_on_each_process(tmp_path: Path) -> None:
    """Two processes with parts of their own train as one with both, and are resumed within an epoch bit for bit."""
    (tmp_path / "shared.py").write_text(SHARDED)
    words = (*WORDS, "--checkpoint.every_steps", "1", "--checkpoint.keep", "99", "--trainer.tune", "off")
    for name, launch in (("one", ()), ("two", LAUNCH)):
        aip(tmp_path, *launch, "train", "shared.py", "--trainer.output_dir", name, *words)
    assert_close(result(tmp_path / "one"), result(tmp_path / "two"))
    # As if both had been killed within the second epoch.
    shutil.copytree(tmp_path / "two", tmp_path / "killed")
    for checkpoint in (tmp_path / "killed" / "checkpoint").glob("step-*"):
        if int(checkpoint.name[-10:]) > 11:
            shutil.rmtree(checkpoint)
    # While one checkpoint is being written, the next one is left out.
    newest = newest_checkpoint(tmp_path / "killed" / "checkpoint")
    step = int(newest.name[-10:])
    assert 6 < step < 12
    states = read_checkpoint(newest).progress["stream"]["processes"]
    assert [each["sample"] for each in states] == [8 * step, 8 * step]
    aip(tmp_path, *LAUNCH, "resume", "killed", "--trust", "--quiet")
    (whole, ours), (again, theirs) = result(tmp_path / "two"), result(tmp_path / "killed")
    assert whole == again
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
