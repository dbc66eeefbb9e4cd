"""Workers as real processes on loopback, without computation: their messages and their ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import forks
import pytest

from aipcore.distributed.cluster import SECRET
from aipcore.distributed.launcher import free_ports

SCRIPT = Path(__file__).parent / "one_worker.py"
ENVIRONMENT = {**os.environ, SECRET: "workers of one test"}
Ended = tuple[int, str, str]


def start(what: str, count: int, *, only: range | None = None, timeout: float = 60) -> list[Ended]:
    """Start workers, all of them or those of `only`, and return exit code, output and errors of each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    started = [
        forks.start([sys.executable, str(SCRIPT), what, str(index), str(timeout), *addresses], env=ENVIRONMENT)
        for index in only or range(count)
    ]  # fmt: skip
    try:
        return [(worker.returncode, *said) for worker in started for said in [worker.communicate(timeout=50)]]
    finally:
        for worker in started:
            worker.kill()
            worker.close()


@pytest.mark.parametrize("what", ["talk", "knock"])
def test_messages(what: str) -> None:
    """Values and arrays of any dtype reach all in the order of the workers, even if a stranger connects."""
    ended = start(what, 3)
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 3
    chief, *others = (json.loads(out.splitlines()[-1]) for _, out, _ in ended)
    assert [each["chief"] for each in (chief, *others)] == [True, False, False]
    for each in (chief, *others):
        assert each["broadcast"] == 100
        assert each["everywhere"] == [0, 1, 2]
        assert repr(each["exchange"]) == "[[0, None, 1e-300], [1, nan, 1e-300], [2, nan, 1e-300]]"
    assert chief["gathered"][2] == [
        ["half2", "bfloat16", [2], [2.0, 0.5]],
        ["n2", "int16", [2, 2], [[2, 2], [2, 2]]],
        ["scalar", "float64", [], 2.0],
    ]
    assert [each["gathered"] for each in others] == [[], []]
    assert [each["apart"] for each in (chief, *others)] == [False, True, True]


def test_alone() -> None:
    """A single worker needs no others."""
    ((code, out, err),) = start("talk", 1)
    assert (code, err) == (0, "")
    assert json.loads(out)["broadcast"] == 100


def test_different_parameters() -> None:
    """A worker that was started with other parameters is named to all."""
    for code, _, err in start("differ", 3):
        assert code == 2
        assert err.splitlines() == [
            "error: trainer.epochs is 3 for worker 2, but 2 for the chief. Start all workers with the same command, "
            "code and data."
        ]


def test_out_of_step() -> None:
    """Workers that run different code are detected instead of mixing up their messages."""
    code, _, err = start("stray", 2)[0]
    assert code == 1
    assert "Two workers are at different points of the run (one at 'here', one at 'there')" in err


@pytest.mark.parametrize("victim", [0, 1])
def test_killed(victim: int) -> None:
    """The others name the lost worker and end, even if their main thread waits for something else."""
    ended = start(f"kill{victim}", 3)
    assert ended.pop(victim)[0] == -9
    who = "The chief, worker 0 (" if victim == 0 else "Worker 1 ("
    for code, _, err in ended:
        assert code == 1
        assert err.startswith(f"last: {who}")
        assert "is gone: it was killed" in err


def test_error() -> None:
    """The others report the reason why one has ended."""
    ended = start("raise", 3)
    assert ended[1][::2] == (1, "error: Sample 3 is broken.\n")
    for code, _, err in (ended[0], ended[2]):
        assert code == 1
        assert err.startswith("last: Worker 1 (")
        assert err.endswith("ended: Sample 3 is broken.\n")


def test_same_error() -> None:
    """An error of all workers is reported once in each."""
    assert start("bad", 3) == [(1, "", "error: Sample 3 is broken.\n")] * 3


def test_missing() -> None:
    """A missing worker is named in time."""
    ((code, _, err),) = start("talk", 3, only=range(1), timeout=0.5)
    assert code == 2
    assert err.startswith("error: No connection from workers 1 (127.0.0.1:")
    ((code, _, err),) = start("talk", 3, only=range(1, 2), timeout=0.5)
    assert code == 2
    assert err.startswith("error: The chief does not answer at 127.0.0.1:")


def test_another_cluster() -> None:
    """Workers of different clusters refuse each other, and each reports its cluster."""
    ports = free_ports(3)
    one, other = ([f"127.0.0.1:{port}" for port in (ports[0], last)] for last in ports[1:])
    started = [
        forks.start([sys.executable, str(SCRIPT), "talk", str(index), "30", *addresses], env=ENVIRONMENT)
        for index, addresses in enumerate((one, other))
    ]  # fmt: skip
    for worker in started:
        _, err = worker.communicate(timeout=50)
        assert worker.returncode == 2
        assert "Worker 1 has the workers" in err
