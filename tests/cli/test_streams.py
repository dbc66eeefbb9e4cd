"""Output streams that are closed, full, narrow or unread: a run continues, other commands fail."""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import pytest
from rich.console import Console

from aipcore.cli.json_reporter import JsonReporter
from aipcore.data.pipeline import Pipeline
from aipcore.logs import logging_to
from aipcore.scenario import Processor, Sample
from aipcore.streams import LineFile
from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter

AIP = f"{sys.executable} -c 'import sys; from aipcore.cli.main import main; sys.exit(main())' "
TRAIN = (
    "train tutorial --trainer.epochs 2 --trainer.random_seed 1 --trainer.tune off --trainer.jit_compile off "
    "--trainer.output_dir out --json-log log.jsonl "
)
FULL = "No space left on device"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a bash command line in which AIP stands for aip."""
    return subprocess.run(
        ["bash", "-c", command.replace("AIP ", AIP)], capture_output=True, text=True, check=False, cwd=folder,
        timeout=300, env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **environment},
    )  # fmt: skip


@needs_full
@pytest.mark.parametrize(
    ("command", "code", "errors"),
    [
        ("AIP plugins list > /dev/full", 1, f"error: The output cannot be written ({FULL}).\n"),
        ("AIP plugins list >&-", 1, "error: The output cannot be written (Bad file descriptor).\n"),
        ("AIP --help > /dev/full", 1, f"error: The output cannot be written ({FULL}).\n"),
        ("AIP no-such-command > /dev/full 2> /dev/full", 2, ""),
        ("AIP plugins list > /dev/null 2>&- <&-", 0, ""),
        # The reader has ended before there is anything to read.
        ("set -o pipefail; (sleep 0.1; AIP plugins list) | true", 141, ""),
    ],
)
def test_commands_whose_purpose_is_output(command: str, code: int, errors: str, tmp_path: Path) -> None:
    """A write error causes one sentence on a readable stderr, and a closed pipe causes no message."""
    done = shell(command, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", errors)


def test_characters_that_the_encoding_lacks(tmp_path: Path) -> None:
    """Characters outside of the encoding are written as escapes."""
    code = "from aipcore.streams import guarded_output as g\nwith g(): print(chr(246), chr(8594))"
    done = shell(f"{sys.executable} -c '{code}'", tmp_path, PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xf6 \\u2192\n", "")


@pytest.mark.slow
@needs_full
def test_training_without_any_stream(tmp_path: Path) -> None:
    """A run with its output on a full disk and without other streams finishes, with exit code 0."""
    done = shell(f"AIP {TRAIN} > /dev/full 2>&- <&-", tmp_path)
    assert done.returncode == 0
    check_complete(tmp_path)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose output is read."""
    folder = tmp_path_factory.mktemp("read")
    assert shell(f"AIP {TRAIN}", folder).returncode == 0
    return folder


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize(
    ("streams", "errors"),
    [
        (">&-", ""),
        ("> /dev/full", f"warning: The output cannot be written ({FULL}). Training continues without it.\n"),
        ("2> /dev/full", ""),
        (">&- 2>&- <&-", ""),
        ("| head -n 1", ""),
        ("2>&1 | true", ""),
    ],
)
def test_training_continues(streams: str, errors: str, read: Path, tmp_path: Path) -> None:
    """The run is bit-identical to one whose output is read, for any state of the streams."""
    done = shell(f"set -o pipefail; AIP {TRAIN} {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (0, errors)
    check_complete(tmp_path)
    one, two = (np.load(newest(folder) / "variables.npz") for folder in (tmp_path, read))
    assert one.files == two.files
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.slow
def test_slow_reader(tmp_path: Path) -> None:
    """Training waits for a slow reader, even on a non-blocking pipe, and loses no line."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    words = [*AIP.split(" ", 2)[:2], "import sys; from aipcore.cli.main import main; sys.exit(main())", *TRAIN.split()]
    process = subprocess.Popen(words, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writing)
    time.sleep(4)
    with os.fdopen(reading) as file:
        output = file.read()
    _, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("", 0)
    assert "tensorboard --logdir" in output
    check_complete(tmp_path)


def newest(folder: Path) -> Path:
    """Return the newest checkpoint of the run in a folder."""
    return max((folder / "out" / "checkpoint").glob("step-*"))


def check_complete(folder: Path) -> None:
    """Check that the run in a folder has its log, events, models and last checkpoint."""
    names = {each.name for each in (folder / "out").iterdir()}
    assert {"best", "export", "checkpoint", "run.json", "params.json", "train.log"} <= names
    assert "Trained 2 epochs" in (folder / "out" / "train.log").read_text()
    assert newest(folder).name == "step-0000000182"
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert events[-1]["status"] == "finished"


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """Limit the size of all files to `most_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_wait_for_room(tmp_path: Path) -> None:
    """A full disk raises nothing and passes on one error; all lines are written once there is space."""
    errors: list[OSError] = []
    file = LineFile(tmp_path / "lines", "x", errors.append)
    lines = [f"line {number} \u2192\n" for number in range(20)]
    with full_disk(40):
        for line in lines[:10]:
            file.write(line)
        assert (tmp_path / "lines").stat().st_size == 40
    for line in lines[10:]:
        file.write(line)
    file.close()
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "".join(lines)
    assert len(errors) == 1


def test_log_files_on_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`train.log` and `--json-log` cause one warning each in the terminal, and no traceback."""
    printed = io.StringIO()
    handler = ConsoleHandler(Console(file=printed, width=200), quiet=False)
    with full_disk(200), logging_to(handler, file_follows=True) as log:
        log.write_to(tmp_path / "train.log")
        events = JsonReporter(tmp_path / "log.jsonl")
        for number in range(10):
            events.message(f"event {number}")
            logging.getLogger("aipcore.training").info("message %d", number)
        events.close()
    warned = [line for line in printed.getvalue().splitlines() if "cannot be written" in line]
    assert warned == [
        f"warning: --json-log {tmp_path}/log.jsonl cannot be written (File too large). The run continues without it.",
        f"warning: {tmp_path}/train.log cannot be written (File too large). The run continues without it.",
    ]
    assert "message 9" in printed.getvalue()
    assert "event 1" in (tmp_path / "log.jsonl").read_text()
    assert "message 1" in (tmp_path / "train.log").read_text()
    assert capsys.readouterr() == ("", "")


class Prints(Processor):
    """A processor that prints more than a buffer holds, in worker processes."""

    def __init__(self) -> None:
        self.own = os.getpid()

    def process(self, sample: Sample) -> Sample:
        if os.getpid() != self.own:
            print("x" * 20_000, flush=True)  # noqa: T201
            print("x" * 20_000, file=sys.stderr, flush=True)  # noqa: T201
        return attrs.evolve(sample, targets={"y": np.float32(1)})


@needs_full
def test_worker_processes_may_print(capfd: pytest.CaptureFixture[str]) -> None:
    """Output of a processor in a worker process does not fail on a full disk or a closed stream."""
    with capfd.disabled():
        saved = [os.dup(1), os.dup(2)]
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.dup2(full, 1)
            os.close(2)
            data = [Sample(inputs={"x": np.float32(each)}, targets={"y": np.float32(0)}) for each in range(8)]
            with Pipeline(data, [Prints()], workers=1, preload="off") as pipeline:
                blocks = list(pipeline.loader(4).blocks(0, chunk=1))
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for each in (full, *saved):
                os.close(each)
    assert sum(len(block.inputs["x"].ravel()) for block in blocks) == 8


@pytest.mark.parametrize("width", [1, 10, 40])
def test_plan_on_narrow_terminals(width: int) -> None:
    """The plan is not cut on terminals of any width."""
    printed = io.StringIO()
    console = Console(file=printed, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    reporter = ConsoleReporter(console)
    rows = [("scenario", "tutorial"), ("optimizer", "Adam, learning rate from 0.001 to 0.00001")]
    reporter.plan(rows)
    reporter.epoch_started(1, 3, 91)
    reporter.progress(5, 80, {"loss": 0.5})
    reporter.close()
    shown = "".join(printed.getvalue().split())
    for row in rows:
        for text in row:
            assert text.replace(" ", "") in shown
