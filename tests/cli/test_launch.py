"""`aip launch` before it starts workers, and the environment of a worker."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from aipcore.distributed.launcher import Launch, gpu_shares
from aipcore.errors import UsageError


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--workers", "2"], "aip launch needs a command. Use train or resume"),
        (["--workers", "2", "params", "tutorial"], "aip launch cannot start 'params'. Use train or resume"),
        (
            ["--workers", "2", "train", "tutorial", "--device.strategy", "mirror"],
            "mirror cannot be used with aip launch",
        ),
        (["--workers", "2", "train", "tutorial", "--device.strategy=none"], "none cannot be used with aip launch"),
        (["--workers", "9", "--port-base", "65530", "train", "tutorial"], "leaves no room for 9 workers"),
        (["--workers", "0", "train", "tutorial"], "--workers"),
        (["train", "tutorial"], "--workers"),
    ],
)
def test_wrong(fork_aip: Any, words: list[str], text: str) -> None:
    """Bad input is refused in one sentence with exit code 2."""
    done = fork_aip("launch", *words)
    assert done.returncode == 2
    assert text in done.stderr


def test_help(fork_aip: Any) -> None:
    """The help of `aip launch` and that of the started command are shown once."""
    own = fork_aip("launch", "--help")
    assert own.returncode == 0
    assert "aip launch --workers 2 train tutorial" in own.stdout
    inner = fork_aip("launch", "--workers", "2", "train", "tutorial", "--help=trainer")
    assert inner.returncode == 0
    assert inner.stdout.count("--trainer.epochs INT") == 1


def test_the_same_error_is_shown_once(fork_aip: Any) -> None:
    """If all workers find the same wrong parameter, the log has one error, and the exit code is theirs."""
    done = fork_aip("launch", "--workers", "3", "train", "tutorial", "--trainer.epochs", "many")
    assert done.returncode == 2
    assert done.stderr.count("--trainer.epochs") == 1


@pytest.mark.parametrize("config", [None, "{}"])
def test_no_cluster(fork_aip: Any, config: str | None) -> None:
    """A worker without a cluster names the variable to set."""
    environment = {} if config is None else {"TF_CONFIG": config}
    done = fork_aip("train", "tutorial", "--device.strategy", "multi_worker", **environment)
    assert done.returncode == 2
    assert "TF_CONFIG" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_secret(fork_aip: Any) -> None:
    """Workers without a secret show the command that creates one, before anything is computed."""
    config = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}'
    done = fork_aip("train", "tutorial", "--device.strategy", "multi_worker", TF_CONFIG=config)
    assert done.returncode == 2
    assert "export AIP_CLUSTER_SECRET=$(openssl rand -hex 32)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_secret_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each launch gives its workers a new secret, only in the environment."""
    started = []

    class Ended:
        stdout = stderr = None
        pid, returncode = 0, 0

        def __init__(self, words: list[str], **how: Any) -> None:
            started.append((how["env"]["AIP_CLUSTER_SECRET"], words))

        def poll(self) -> int:
            return 0

        wait = poll

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.setenv("AIP_CLUSTER_SECRET", "of another run that listens")
    for _ in range(2):
        assert Launch(["train", "tutorial"], [1, 2], [{}, {}]).run() == 0
    values = [secret for secret, _ in started]
    assert values[0] == values[1] != values[2] == values[3]
    assert all(len(secret) == 64 and not any(secret in word for word in words) for secret, words in started)


def test_gpus_are_shared(refused: Any) -> None:
    """Each worker sees its part of the GPUs."""
    shares = gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})
    assert shares == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    assert gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "-1"}) == [{}, {}]
    assert gpu_shares(2, {"CUDA_VISIBLE_DEVICES": ""}) == [{}, {}]
    with refused(UsageError):
        gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "0,1,2"})
