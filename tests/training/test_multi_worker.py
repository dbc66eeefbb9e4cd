"""Several workers that share each batch: the results of one device, exact resuming, and no worker left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

from aipcore.distributed.cluster import SECRET
from aipcore.distributed.launcher import free_ports
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

HERE = Path(__file__).parent
AIP = (sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())")


def start(script: str, count: int, *words: str) -> list[tuple[int, str, str]]:
    """Run a script as several workers; return the exit code, output and errors of each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    workers = [
        forks.start(
            [sys.executable, str(HERE / script), *words, str(index), *addresses],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", SECRET: "workers of one test"},
        )
        for index in range(count)
    ]  # fmt: skip
    try:
        return [(worker.returncode, out, err) for worker in workers for out, err in [worker.communicate(timeout=300)]]
    finally:
        for worker in workers:
            worker.kill()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], dict[str, Any]]:
    """Return a function that runs `several_workers.py` once for a number of workers and few or all cases."""
    folder = tmp_path_factory.mktemp("workers")

    @cache
    def run(count: int, which: str) -> dict[str, Any]:
        if count == 4:
            # The four workers continue a run of the two.
            run(2, which)
        ended = start("several_workers.py", count, str(folder / f"{count}-{which}"), which)
        for code, _, err in ended:
            assert code == 0, err
        assert [out for _, out, _ in ended[1:]] == [""] * (count - 1)
        results: dict[str, Any] = json.loads(ended[0][1].splitlines()[-1])
        return {**results, "count": count, "which": which}

    return run


@pytest.fixture(
    scope="module",
    params=[(2, "few"), *(pytest.param((count, "all"), marks=pytest.mark.slow) for count in (2, 4))],
    ids=["two workers, few cases", "two workers", "four workers"],
)
def found(request: pytest.FixtureRequest, results: Callable[[int, str], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `several_workers.py`."""
    return results(*request.param)


CASES = {"few": ("everything", "ragged"), "all": ("everything", "accumulated", "ragged", "streamed")}


def test_same_numbers_as_one_device(found: dict[str, Any]) -> None:
    """The results equal those of one device with all options, partial batches and samples of several lengths."""
    for case in CASES[found["which"]]:
        together, alone = found[f"{case} together"], found[f"{case} alone"]
        np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6, err_msg=case)
        assert found[f"{case} distance"] < 1e-5, case
        assert found[f"{case} traces"] == 1, case


def test_optimizer_state_is_divided(found: dict[str, Any]) -> None:
    """With --device.shard_optimizer, each worker has about an equal part of the optimizer's state."""
    # Of 276 weights, 192 are in one matrix, and Adam has two numbers for each, and its number of updates.
    held = found["everything held"]
    assert sum(held) == 2 * 276 + found["count"]
    assert max(held) == 2 * 192 + 1


@pytest.mark.parametrize(("side", "samples", "size"), [(0, 50, 12), (1, 33, 8)], ids=["training", "validation"])
def test_each_worker_reads_its_own_samples(found: dict[str, Any], side: int, samples: int, size: int) -> None:
    """Each sample is read once per epoch by one worker, partial batches included."""
    count = found["count"]
    for case in set(CASES[found["which"]]) & {"ragged", "streamed"}:
        check_reads([read[side] for read in found[f"{case} read"]], count, samples, size)


def check_reads(parts: list[list[int]], count: int, samples: int, size: int) -> None:
    """Check the samples that each worker has read in two epochs."""
    batches = [min(size, samples - start) for start in range(0, samples, size)]
    # If the last batch has fewer samples than there are workers, its first sample fills the empty shares.
    shares = [sum(max(1, each // count + (index < each % count)) for each in batches) for index in range(count)]
    assert [len(part) for part in parts] == [2 * share for share in shares]
    counts = Counter(index for part in parts for index in part)
    assert sorted(counts) == list(range(samples))
    assert min(counts.values()) == 2
    assert sum(counts.values()) == 2 * (samples + max(0, count - batches[-1]))


def test_resumes_exactly(found: dict[str, Any]) -> None:
    """Dropout, batch norm, EMA and accumulation of every worker resume bit-identically from the chief's checkpoint."""
    assert found["resumed in"] == 1
    assert found["same history"]
    assert found["different after resuming"] == []


@pytest.mark.slow
def test_moves_to_other_numbers_of_devices(results: Callable[[int, str], dict[str, Any]]) -> None:
    """A run on 1, 2, 4 and 1 devices, moved within epochs and groups of batches, gives the numbers of one device."""
    found = results(2, "all") | results(4, "all")
    for where in ("on 2", "on 4", "on 1"):
        ours, theirs = found[f"moved {where}"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=where)
        assert found[f"moved distance {where}"] < 1e-5, where


def test_all_know_the_same(found: dict[str, Any]) -> None:
    """All workers have the losses, metrics and evaluator results of all of them."""
    assert found["histories of all"] == [True] * found["count"]


def test_evaluator_sees_each_sample_once_in_order(found: dict[str, Any]) -> None:
    """The chief receives the outputs of all workers in the order of the data."""
    for share, accuracy, in_order in found["evaluated"]:
        assert share == pytest.approx(accuracy)
        assert in_order == 1


def test_chief_alone_writes(found: dict[str, Any]) -> None:
    """The chief's model is an ordinary one, and its checkpoint has the dropout seeds of all workers."""
    assert found["written by"] == [True] + [False] * (found["count"] - 1)
    share, printed = found["exported"]
    assert share == pytest.approx(printed)
    name = "model/dropout/seed_generator_state"
    assert found["seeds"] == [name, *(f"{name}@{replica}" for replica in range(1, found["count"]))]
    parts = ", the optimizer's state in parts" if found["which"] == "few" else ""
    where = f"the weights are kept on each{parts}"
    assert found["plan"] == f"{found['count']} workers (CPU:0 each) share each batch; {where}"
    text, *ports = found["ports"]
    assert text.startswith(f"TensorFlow listens on {', '.join(sorted(ports, key=int))} without authentication")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the final state of an uninterrupted run of two workers."""
    folder = tmp_path_factory.mktemp("whole")
    for code, _, err in start("killed_workers.py", 2, str(folder / "whole"), "whole", "-"):
        assert code == 0, err
    return json.loads((folder / "whole.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_and_resumed(tmp_path: Path, victim: int, whole: Any) -> None:
    """If a worker or the chief is killed, all end with one message, and the resumed run is bit-identical."""
    ended = start("killed_workers.py", 2, str(tmp_path / "run"), "killed", str(victim))
    assert ended.pop(victim)[0] == -signal.SIGKILL
    ((code, _, err),) = ended
    assert code == 1
    assert err.count("is gone: it was killed") == 1
    assert ("The chief, worker 0" if victim == 0 else "Worker 1") in err
    assert not (tmp_path / "run.json").exists()
    for code, _, err in start("killed_workers.py", 2, str(tmp_path / "run"), "resumed", "-"):
        assert code == 0, err
    assert json.loads((tmp_path / "run.json").read_text()) == whole


ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def launch(folder: Path, *words: str) -> forks.Forked:
    """Start `aip launch` in a folder."""
    return forks.start([*AIP, "launch", *words], cwd=folder, env=ENVIRONMENT, children=True)


@pytest.mark.slow
def test_launch(tmp_path: Path) -> None:
    """Two processes have one log and one run folder."""
    process = launch(tmp_path, "--workers", "2", "train", "tutorial", "--trainer.epochs", "1", "--trainer.output_dir=o")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "2 workers (CPU:0 each) share each batch" in out
    assert out.count("epoch 1/1") == 1
    assert "[worker 1]" not in out
    assert {"best", "export", "checkpoint", "train.log"} <= {path.name for path in (tmp_path / "o").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whom", "number", "code"),
    [(1, signal.SIGTERM, 143), (None, signal.SIGINT, 130), (1, signal.SIGKILL, 137), (None, signal.SIGKILL, -9)],
    ids=["a worker is told to stop", "Ctrl-C", "a worker is killed", "the launcher is killed"],
)
def test_launch_ends(tmp_path: Path, whom: int | None, number: int, code: int) -> None:
    """All processes stop, at the same batch if possible, and none is left."""
    words = ("--workers", "2", "train", "tutorial", "--trainer.epochs", "9999", "--trainer.output_dir", "o")
    # The command lines and environments of forked processes are not their own.
    process = subprocess.Popen(
        [*AIP, "launch", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=ENVIRONMENT,
    )  # fmt: skip
    log = tmp_path / "o" / "train.log"
    deadline = time.monotonic() + 100
    while not (log.exists() and "epoch    2/9999" in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) == 2
    environments = [Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in children]
    (secret,) = {word.partition("=")[2] for each in environments for word in each if word.startswith(SECRET)}
    for pid in (process.pid, *children):
        assert secret not in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(process.pid if whom is None else children[whom], number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in text for text in (out.encode(), err.encode(), *written))
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
    if number == signal.SIGKILL:
        assert err.count("is gone: it was killed") == (whom is not None)
    else:
        assert err == ""
        assert out.count("Interrupted after") == 1
        steps = sorted(path.name for path in (tmp_path / "o" / "checkpoint").iterdir())
        assert steps == sorted(set(steps))
    if number == signal.SIGTERM:
        assert "Worker 1 received SIGTERM. Stopping and saving." in out
        assert out.endswith("\nResume with: aip launch --workers 2 resume o\n")


@pytest.mark.slow
def test_launch_restarts(tmp_path: Path) -> None:
    """A worker is killed: all end with one message, and the restart is bit-identical. One process agrees to 1e-5."""
    words = ("--trainer.epochs", "6", "--trainer.random_seed", "5", "--trainer.tune", "off",
             "--trainer.calc_ema", "0.9", "--checkpoint.every_steps", "30", "--train.batch_size", "15")  # fmt: skip
    whole = launch(tmp_path, "--workers", "2", "train", "tutorial", *words, "--trainer.output_dir", "whole")
    _, err = whole.communicate(timeout=300)
    assert (whole.returncode, err) == (0, "")
    killed = launch(tmp_path, "--workers", "2", "--max-restarts", "1",
                    "train", "tutorial", *words, "--trainer.output_dir", "killed")  # fmt: skip
    log = tmp_path / "killed" / "train.log"
    while not (log.exists() and "epoch 3/6" in log.read_text()):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    os.kill(forks.children(killed.pid)[1], signal.SIGKILL)
    out, err = killed.communicate(timeout=300)
    assert killed.returncode == 0, err
    assert err.count("is gone: it was killed") == 1
    assert err.endswith("aip: Worker 1 is lost. Restart 1 of 1.\n")
    assert out.count("epoch 6/6") == 1
    stored = [read_checkpoint(newest_checkpoint(tmp_path / name / "checkpoint")) for name in ("whole", "killed")]
    assert stored[0].progress["history"] == stored[1].progress["history"]
    assert stored[0].arrays.keys() == stored[1].arrays.keys()
    for name, array in stored[0].arrays.items():
        assert array.tobytes() == stored[1].arrays[name].tobytes(), name
    shutil.copytree(tmp_path / "whole", tmp_path / "alone")
    shutil.rmtree(newest_checkpoint(tmp_path / "alone" / "checkpoint"))
    moved = forks.run([*AIP, "resume", "alone", "--device.strategy", "none"], cwd=tmp_path, timeout=300)
    assert (moved.returncode, moved.stderr) == (0, "")
    assert "The checkpoint is from 2 devices, and this run has 1 device." in moved.stdout
    history = read_checkpoint(newest_checkpoint(tmp_path / "alone" / "checkpoint")).progress["history"]
    for ours, theirs in zip(history, stored[0].progress["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def alive(pid: int) -> bool:
    """Return True if a process runs; one that ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
