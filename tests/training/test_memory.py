"""Memory of a run: one copy of its data, no growth over epochs, and a report in the summary."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import forks
import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from aipcore.training.memory import peak_memory
from aipcore.training.reporter import PeakMemory

HERE = Path(__file__).parent
MIB = 2**20


def result_of(script: str, *words: str) -> dict[str, Any]:
    """Return the printed result of a script."""
    process = subprocess.run(
        [sys.executable, str(HERE / script), *words], capture_output=True, text=True, check=False, timeout=1500,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Return the result of `memory_of_runs.py`."""
    return result_of("memory_of_runs.py")


def copies(found: dict[str, Any], kind: str) -> float:
    """Return the most copies of the data in memory, from the peaks of a run with few and one with many samples."""
    few, many = found[kind]
    return float(many - few) / (found["many"] - found["few"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Floats", "Bytes", "Generated"])
def test_data_is_there_once(found: dict[str, Any], kind: str) -> None:
    """Each further MiB of numbers, bytes or generated samples takes about one MiB at any time."""
    assert 0.5 < copies(found, kind) < 1.5


@pytest.mark.slow
def test_worker_processes_share_the_data(found: dict[str, Any]) -> None:
    """Workers and this process share the memory of the source data, and the workers' private memory is small."""
    assert min(found["shared"]) >= found["many"]
    assert max(found["own"]) < 0.15 * found["many"]
    assert 0.5 < copies(found, "Dimmed") < 1.5
    assert found["memory"]["worker_processes"] == 2
    assert 0 < found["memory"]["workers"] < 0.3 * found["many"] * MIB
    assert found["memory"]["process"] == pytest.approx(found["now"], rel=0.02)


@pytest.mark.slow
def test_flat_over_epochs_and_runs(tmp_path: Path) -> None:
    """Memory stays flat over epochs and over runs, with validation, LAV, EMA, checkpoints, exports and TensorBoard."""
    found = result_of("long_run.py", str(tmp_path), "200", "8")
    sizes, after = found["epochs"], found["runs"]
    assert len(sizes) == 200
    assert max(sizes[20:]) < 1.03 * sizes[19]
    # The first runs fill caches.
    assert after[-1] - after[1] < 5


def test_a_run_leaves_no_graph(make_trainer: Any, blobs_class: Any) -> None:
    """After a run, its model, its traced functions and its trainer can be freed."""

    def run() -> list[Any]:
        trainer = make_trainer(blobs_class, "--trainer.tune", "off", "--trainer.epochs", "1", output="out")
        trainer.fit()
        return [weakref.ref(each) for each in (trainer, trainer.model, trainer.engine.optimizer)]

    gc.collect()
    before = func_graphs()
    left = run()
    gc.collect()
    assert [each() for each in left] == [None] * len(left)
    assert func_graphs() <= before


def func_graphs() -> int:
    """Return the number of graphs of traced functions in memory."""
    return sum(isinstance(each, FuncGraph) for each in gc.get_objects())


PEAK = """
from aipcore.training.memory import peak_memory
before = peak_memory([])
taken = b"x" * (2 * before.process)
after = peak_memory([])
assert after.process >= 2 * before.process
assert (after.workers, after.worker_processes, after.gpus) == (0, 0, {})
del taken
# The system counts in steps.
assert peak_memory([]).process >= 0.98 * after.process
"""


def test_peak_of_this_process() -> None:
    """The peak grows with allocations, as the system counts them, and does not shrink."""
    # The process of the tests may already be large.
    done = forks.run([sys.executable, "-c", PEAK])
    assert done.returncode == 0, done.stderr


def test_other_processes() -> None:
    """Running processes are counted; a finished one is not."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    found = peak_memory([process.pid])
    assert 0 < found.workers < 200 * MIB
    assert found.worker_processes == 1
    process.communicate(b"\n")
    assert peak_memory([process.pid]).worker_processes == 0


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        (PeakMemory(process=612 * MIB), "612 MiB"),
        (PeakMemory(process=1500 * MIB, workers=340 * MIB, worker_processes=2),
         "1,500 MiB, 340 MiB in 2 worker processes"),
        (PeakMemory(process=9 * MIB, workers=5 * MIB, worker_processes=1, gpus={"GPU:0": 7 * MIB}),
         "9 MiB, 5 MiB in 1 worker process, 7 MiB on GPU:0"),
        (PeakMemory(process=0), ""),
    ],
)  # fmt: skip
def test_in_words(memory: PeakMemory, text: str) -> None:
    """Amounts of zero are not mentioned."""
    assert str(memory) == text


def test_reported_at_the_end(make_trainer: Any, blobs_class: Any) -> None:
    """The result of every run has its memory."""
    result = make_trainer(blobs_class, "--trainer.tune", "off").fit()
    assert result.memory.process > 100 * MIB
