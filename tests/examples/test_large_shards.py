"""The example of files that do not fit in memory trains within a memory cap and resumes exactly after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forks
import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "large_shards.py"

TRAIN = """
import ctypes, os, resource, signal, sys
from pathlib import Path

import aipcore

cap, kill, *words = sys.argv[1:]


def size(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


# Each further arena of the C library reserves 64 MiB of addresses.
ctypes.CDLL(None).mallopt(-8, 2)
if int(cap):
    resource.setrlimit(resource.RLIMIT_AS, 2 * (int(cap),))

import keras


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        run = Path(words[1] if words[0] == "resume" else words[words.index("--trainer.output_dir") + 1])
        if int(kill) and any(int(each.name[-10:]) >= int(kill) for each in (run / "checkpoint").glob("step-*")):
            os.kill(os.getpid(), signal.SIGKILL)


fit = aipcore.training.trainer.Trainer.fit


def killed(self, *arguments, **named):
    self.callbacks["kill"] = Kill()
    return fit(self, *arguments, **named)


aipcore.training.trainer.Trainer.fit = killed
from aipcore.cli.main import main

code = main(words)
print(size("VmPeak"))
sys.exit(code)
"""


def aip(folder: Path, *words: object, cap: int = 0, kill: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `aip` with at most `cap` bytes of addresses; kill it when it has a checkpoint after `kill` batches."""
    return forks.run(
        [sys.executable, "-c", TRAIN, str(cap), str(kill), *map(str, words)],
        cwd=folder, env={**os.environ, "NO_COLOR": "1"}, timeout=300,
    )  # fmt: skip


def history(run: Path) -> Any:
    """Return the history and the model weights of the newest checkpoint, as text and bytes."""
    from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    return json.dumps(stored.progress["history"]), {name: each.tobytes() for name, each in stored.arrays.items()
                                                    if not name.startswith("stream/")}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 500 MB of samples in each of both formats, and one with 100 MB."""
    folder = tmp_path_factory.mktemp("shards")
    for name, gigabytes in (("small", "0.1"), ("large", "0.5")):
        done = forks.run([sys.executable, str(FILE), str(folder / name), "--gigabytes", gigabytes, "--shards", "4"])
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["TFRecords", "ParquetFiles"])
def test_within_a_memory_cap(kind: str, shards: Path) -> None:
    """500 MB of samples need at most 250 MiB more addresses than 100 MB, and a killed run is resumed bit for bit."""
    words = (
        "--trainer.epochs", "1", "--trainer.random_seed", "5", "--trainer.tune", "off", "--quiet",
        "--trainer.jit_compile", "off", "--checkpoint.every_steps", "9",
        "--trainer.export_best", "false", "--trainer.export_final", "false",
    )  # fmt: skip

    def train(name: str, data: str, **arguments: int) -> subprocess.CompletedProcess[str]:
        output = ("--data.folder", shards / data, "--trainer.output_dir", shards / f"{kind}-{name}")
        return aip(shards, "train", f"{FILE}:{kind}", *output, *words, **arguments)

    small = train("small", "small")
    assert small.returncode == 0, small.stderr
    cap = int(small.stdout.splitlines()[-1]) + 250 * 2**20
    whole = train("whole", "large", cap=cap)
    assert whole.returncode == 0, whole.stderr
    killed = train("killed", "large", cap=cap, kill=20)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = aip(shards, "resume", shards / f"{kind}-killed", "--trust", "--quiet", cap=cap)
    assert resumed.returncode == 0, resumed.stderr
    assert "Skipped" not in resumed.stdout + resumed.stderr
    assert history(shards / f"{kind}-killed") == history(shards / f"{kind}-whole")
