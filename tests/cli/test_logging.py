"""Messages of all loggers and of `warnings` during a run: in the terminal and in train.log, and nothing left behind."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tensorflow  # noqa: F401 - which sets up its logger
from rich.console import Console

from aipcore.cli.main import main
from aipcore.data.pipeline import Pipeline
from aipcore.logs import LIBRARIES, logging_to
from aipcore.scenario import Processor, Sample
from aipcore.training.console_reporter import ConsoleHandler

SCENARIO = """
import logging
import warnings

import numpy as np
from aipcore.scenario import Scenario

logger = logging.getLogger("my.module")


class Case(Scenario):
    defaults = {"optimizer": "SGD", "trainer.epochs": 1}

    def train_data(self):
        logger.info("an info of %s", "mine")
        logger.debug("a debug message")
        logging.warning("a root warning")
        warnings.warn("a plain warning")
        logging.getLogger("matplotlib.font_manager").info("a library's info")
        logging.getLogger("tensorflow").warning("a library's warning")
        x = np.ones((8, 2))
        return x, x[:, :1]

    def build(self, inputs):
        from keras import layers

        return layers.Dense(1)(inputs)

    def losses(self):
        return "mse"
"""
WORDS = ("--trainer.tune", "off", "--trainer.export_final", "False", "--trainer.export_best", "False")


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enable warnings as outside of tests, and logging's report of malformed messages."""
    monkeypatch.delenv("AIP_LOG_LEVEL", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def state() -> tuple[Any, ...]:
    """Return the logging state that a run must not change."""
    named = [logging.getLogger(name) for name in (None, "tensorflow", "my.module")]
    loggers = [(logger.level, list(logger.handlers), logger.propagate) for logger in named]
    return (*loggers, *(logging.getLogger(name).level for name in LIBRARIES), warnings.showwarning)


def console_handler(*, quiet: bool = False) -> tuple[ConsoleHandler, io.StringIO]:
    """Return the handler of a run, and its output."""
    file = io.StringIO()
    return ConsoleHandler(Console(file=file, width=200, color_system=None), quiet=quiet), file


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_run_logs_the_messages_of_the_author(
    attempt: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run logs all messages since the scenario was created, in order and once each, also in a second run."""
    del attempt
    monkeypatch.chdir(tmp_path)
    Path("logs_much.py").write_text(SCENARIO)
    before = state()
    code = main(["train", "logs_much.py", *WORDS, "--trainer.output_dir", "out"])
    output, errors = capfd.readouterr()
    assert code == 0
    assert state() == before
    expected = [
        ("info", "my.module: an info of mine"),
        ("warning", "a root warning"),
        ("warning", f"{tmp_path / 'logs_much.py'}:18: UserWarning: a plain warning"),
        ("warning", "tensorflow: a library's warning"),
    ]
    assert output.splitlines()[: len(expected)] == [f"{level}: {text}" for level, text in expected]
    assert "an info of mine" not in errors
    log = Path("out/train.log").read_text()
    assert [line.split(maxsplit=2)[2] for line in log.splitlines()[: len(expected)]] == [
        f"{level.upper():<7} {text}" for level, text in expected
    ]
    assert "debug" not in log
    assert "library's info" not in log
    assert "scenario: logs_much" in log


def test_a_run_that_fails_leaves_logging_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error in a data method, before there is a folder, the earlier messages are printed."""
    monkeypatch.chdir(tmp_path)
    Path("fails.py").write_text(
        SCENARIO.replace("        x = np.ones", "        raise OSError('gone')\n        x = np.ones")
    )
    before = state()
    assert main(["train", "fails.py", *WORDS, "--trainer.output_dir", "out"]) == 1
    assert state() == before
    assert "an info of mine" in capfd.readouterr().out
    assert not Path("out").exists()


def test_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """AIP_LOG_LEVEL sets all loggers except those with an explicit level; --quiet prints only warnings."""
    monkeypatch.setenv("AIP_LOG_LEVEL", "debug")
    logging.getLogger("h5py").setLevel(logging.INFO)
    handler, printed = console_handler()
    try:
        with logging_to(handler):
            logging.getLogger("anything").debug("debug")
            logging.getLogger("h5py.sub").info("asked for")
            logging.getLogger("h5py.sub").debug("not asked for")
            logging.getLogger("absl").info("not asked for")
        assert logging.getLogger("h5py").level == logging.INFO
    finally:
        logging.getLogger("h5py").setLevel(logging.NOTSET)
    assert printed.getvalue().splitlines() == ["debug: anything: debug", "info: h5py.sub: asked for"]
    handler, printed = console_handler(quiet=True)
    with logging_to(handler):
        logging.getLogger("anything").info("info")
        logging.getLogger("anything").warning("%s", "warning")
        logging.getLogger("aipcore.training").warning("of aip")
        logging.getLogger("aip_plugins.callbacks").error("of a shipped plugin")
    assert printed.getvalue().splitlines() == [
        "warning: anything: warning",
        "warning: of aip",
        "error: of a shipped plugin",
    ]


def test_a_wrong_message_does_not_end_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    """A malformed message is reported in the way of logging, with its line."""
    handler, printed = console_handler()
    handler.handle(logging.LogRecord("mine", logging.INFO, __file__, 1, "%d samples", ("many",), None))
    assert printed.getvalue() == ""
    assert "Logging error" in capfd.readouterr().err


def test_handlers_that_write_to_the_terminal_are_off(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If a program prints log messages, each appears once; its other handlers are left alone."""
    handler, printed = console_handler()
    others = [logging.StreamHandler(sys.stderr) for _ in range(3)]
    collected = io.StringIO()
    to_root, of_logger, apart = others
    loggers = [logging.getLogger(name) for name in (None, "speaks", "apart")]
    loggers[2].propagate = False
    for logger, other in zip(loggers, (to_root, of_logger, apart), strict=True):
        logger.addHandler(other)
    kept = logging.StreamHandler(collected)
    logging.getLogger().addHandler(kept)
    try:
        with logging_to(handler):
            logging.getLogger("speaks").warning("once")
            logging.getLogger("apart").warning("apart")
        assert printed.getvalue() == "warning: speaks: once\n"
        assert capfd.readouterr().err == "apart\n"
        logging.getLogger("speaks").warning("after")
        assert capfd.readouterr().err == "after\nafter\n"
        assert collected.getvalue() == "once\nafter\n"
    finally:
        loggers[2].propagate = True
        logging.getLogger().removeHandler(kept)
        for logger, other in zip(loggers, others, strict=True):
            logger.removeHandler(other)


class Chatty(Processor):
    def process(self, sample: Sample) -> Sample:
        if sample.inputs["x"] == 3:
            logging.getLogger("my.processors").info("an info from %d", os.getpid())
            warnings.warn(f"a warning from {os.getpid()}", stacklevel=1)
        return attrs.evolve(sample, targets={"y": np.float32(1)})


class Numbers:
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        return Sample(inputs={"x": np.float32(index)}, targets={"y": np.float32(0)})


@pytest.mark.parametrize("workers", [0, 1])
def test_messages_of_processors_are_logged(workers: int) -> None:
    """Messages of processors reach the run's handlers, also from worker processes."""
    handler, printed = console_handler()
    with logging_to(handler), Pipeline(Numbers(), [Chatty()], workers=workers, preload="off") as pipeline:
        list(pipeline.loader(4).blocks(0, chunk=1))
        assert bool(pipeline.workers.processes()) == bool(workers)
        pid = pipeline.workers.processes()[0] if workers else os.getpid()
    lines = printed.getvalue().splitlines()
    assert lines.count(f"info: my.processors: an info from {pid}") >= 1
    assert any(line.endswith(f"UserWarning: a warning from {pid}") for line in lines)


def test_importing_leaves_logging_alone() -> None:
    """An import adds no handler, level or captured warnings, and does not import TensorFlow, which does more."""
    code = """
import logging, warnings
show = warnings.showwarning
import aipcore, aipcore.cli.main, aipcore.cli.train, aipcore.logs, aipcore.plugin
print(logging.getLogger().handlers, logging.getLogger().level, warnings.showwarning is show)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 30 True\n"
