"""`aip launch --cluster ray` on a Ray cluster of several node processes, one of which is killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.training.checkpoint.format import Checkpoint, newest_checkpoint, read_checkpoint

pytestmark = [
    pytest.mark.slow,
    # importorskip would import Ray, which takes seconds, even if these tests are not selected.
    pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'aipcore[ray]'"),
]

AIP = (sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())")
RUN = ("train", "tutorial", "--trainer.epochs", "4", "--trainer.random_seed", "5", "--trainer.tune", "off",
       "--checkpoint.every_steps", "20", "--train.batch_size", "30")  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[subprocess.Popen[str]]:
    """Start a cluster, and set its address for all launches."""
    # Ray's sockets need a short path.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", short)
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "ray_cluster.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            patch.setenv("RAY_ADDRESS", answer(process, "ADDRESS "))
            yield process


def answer(process: subprocess.Popen[str], label: str) -> str:
    """Return the rest of the cluster's next line with a label."""
    assert process.stdout is not None
    return next(line.removeprefix(label).strip() for line in process.stdout if line.startswith(label))


def launch(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `aip launch` on the cluster."""
    return subprocess.Popen(
        [*AIP, "launch", "--cluster", "ray", "--workers", "3", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def end_of(folder: Path) -> Checkpoint:
    """Return the last checkpoint of a run."""
    return read_checkpoint(newest_checkpoint(folder / "checkpoint"))


@pytest.fixture(scope="module")
def whole(cluster: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on three nodes, and return the run folder."""
    del cluster
    folder = tmp_path_factory.mktemp("nodes") / "whole"
    process = launch(folder.parent, *RUN, "--trainer.output_dir", "whole")
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    assert "3 workers (CPU:0 each) share each batch" in out
    assert out.count("epoch 4/4") == 1
    return folder


def test_same_numbers_as_one_process(whole: Path, fork_aip: Any, tmp_path: Path) -> None:
    """Three nodes compute the losses and metrics of one process."""
    done = fork_aip(*RUN, "--trainer.output_dir", "alone")
    assert done.returncode == 0, done.stderr
    ours, alone = (end_of(folder).progress["history"] for folder in (whole, tmp_path / "alone"))
    assert [list(logs) for logs in ours] == [list(logs) for logs in alone]
    np.testing.assert_allclose(
        [list(logs.values()) for logs in ours], [list(logs.values()) for logs in alone], rtol=1e-6, atol=1e-6
    )


def test_killed_node(whole: Path, cluster: subprocess.Popen[str], tmp_path: Path) -> None:
    """A run that loses a node continues on the others, and ends with the same bits as an uninterrupted one."""
    process = launch(tmp_path, "--max-restarts", "1", *RUN, "--trainer.output_dir", "killed")
    log = tmp_path / "killed" / "train.log"
    while not (log.exists() and "epoch 2/4" in log.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    print("kill", file=cluster.stdin, flush=True)
    answer(cluster, "KILLED")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert re.search(r"error: (The chief, worker 0|Worker [12]) \(.*\),? is gone: it was killed", err)
    assert err.count("error: ") == 1
    assert "raylet" not in out + err
    assert err.count("Restart 1 of 1.") == 1
    assert "Resuming from killed/checkpoint/step-" in out
    one, other = end_of(whole), end_of(tmp_path / "killed")
    assert one.progress["history"] == other.progress["history"]
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.tobytes() == other.arrays[name].tobytes(), name
