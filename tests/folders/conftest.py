"""Run folders as a stranger may send them."""

from __future__ import annotations

import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that creates the folder of a tutorial run that was killed before its first checkpoint.

    It does not train. Its arguments are the words after `aip train tutorial`, and the folder's name.
    """
    from aipcore.cli.request import Arguments, make_request
    from aipcore.training.components import about_run, write_run_files

    def make(*words: str, name: str = "run") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        words = ("--trainer.epochs", "1", *words)
        request = make_request(Arguments(scenario="tutorial", options={}, rest=list(words)), "train")
        resolved: Any = request.resolved()
        about = about_run(request.scenario, resolved, request.plugins)
        write_run_files(folder, {**about, "seed": 1})
        (folder / "train.log").touch()
        return folder

    return make


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove addresses and secrets from the environment of the tests."""
    for name in ("MLFLOW_TRACKING_URI", "AIP_WEBHOOK_URL", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def _bounded(megabytes: int = 256, seconds: float = 2.0) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    # On a busy machine, a process gets less time than alone.
    signal.setitimer(signal.ITIMER_REAL, 5 * seconds)
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert peak < megabytes * 2**20, f"{peak / 2**20:.0f} MiB"
    # Measuring memory makes Python about twice as slow.
    assert time.process_time() - began < 2 * seconds


@pytest.fixture
def bounded() -> Callable[..., AbstractContextManager[None]]:
    """Return a context manager that limits time to two seconds, and Python's and NumPy's memory to 256 MiB."""
    return _bounded
