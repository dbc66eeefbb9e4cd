"""The output of a run: on terminals of several widths, as plain text, quiet, as JSON, and at each log level."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import select
import struct
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import forks
import pytest
from rich.console import Console

from aipcore.cli.main import main
from aipcore.distributed.cluster import LAUNCHER
from aipcore.hooks.manager import get_plugin_manager
from aipcore.logs import logging_to
from aipcore.params import Layer
from aipcore.scenario.loader import LoadedScenario
from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter
from aipcore.training.reporter import EpochReport, StepReport, TrainResult, ValidationReport, by_part
from aipcore.training.request import load_any, make_request

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]

QUICK = ["train", "tutorial", "--trainer.epochs", "2", "--trainer.random_seed", "1", "--trainer.jit_compile", "off"]
QUICK += ["--trainer.write_checkpoints", "False", "--trainer.export_best", "False", "--trainer.export_final", "False"]

LOGS = {
    "loss": 0.5, "accuracy": 0.75, "learning_rate": 0.00099, "ema_rate": 0.99, "val_loss": 0.25, "val_accuracy": 0.875,
    "lav_easy_loss": 0.125, "lav_easy_error_rate": 0.0625, "lav_easy_worst_recall": 0.5,
    "lav_easy_too_loss": 0.1, "lav_easy_too_error_rate": 0.2,
}  # fmt: skip


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run `aip train tutorial` in this process; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIP_LOG_LEVEL", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([*QUICK, "--trainer.output_dir", "out", *words])
        output, errors = capfd.readouterr()
        return code, output, errors

    return run


def epoch_lines(width: int, *, terminal: bool = True, **changes: Any) -> list[str]:
    """Return the lines of an epoch on a terminal of this width."""
    report: dict[str, Any] = {"epoch": 3, "epochs": 20, "seconds": 12.34, "logs": LOGS, "monitor": "val_accuracy",
                              "mode": "max", "previous_best": 0.8, "is_best": True,
                              "lav": ("lav_easy", "lav_easy_too")}  # fmt: skip
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    with logging_to(ConsoleHandler(console, quiet=False)):
        ConsoleReporter(console).epoch_ended(EpochReport(**{**report, **changes}))
    return file.getvalue().splitlines()


def test_epoch_on_a_wide_terminal() -> None:
    """An epoch is one line. Each LAV list has a heading, and the EMA rate is left to the plan."""
    assert epoch_lines(250) == [
        "epoch  3/20   12.3s  loss 0.5000  accuracy 0.7500  lr 9.90e-04 | val loss 0.2500  accuracy 0.8750 | "
        "lav easy loss 0.1250  error_rate 0.0625  worst_recall 0.5000 | lav easy_too loss 0.1000  error_rate 0.2000 | "
        "best, was 0.8000"
    ]


def test_epoch_on_narrow_terminals() -> None:
    """Lines are broken between the parts, and between values if one part is too long."""
    assert epoch_lines(80) == [
        "epoch  3/20   12.3s  loss 0.5000  accuracy 0.7500  lr 9.90e-04",
        "                     val loss 0.2500  accuracy 0.8750",
        "                     lav easy loss 0.1250  error_rate 0.0625",
        "                       worst_recall 0.5000",
        "                     lav easy_too loss 0.1000  error_rate 0.2000",
        "                     best, was 0.8000",
    ]
    assert epoch_lines(100)[0] == (
        "epoch  3/20   12.3s  loss 0.5000  accuracy 0.7500  lr 9.90e-04 | val loss 0.2500  accuracy 0.8750"
    )
    for width in range(50, 200):
        assert all(len(line) <= width for line in epoch_lines(width))


def test_epoch_without_a_terminal() -> None:
    """Without a terminal, an epoch is one line of any length."""
    assert epoch_lines(40, terminal=False) == epoch_lines(250)


def test_marks_and_times() -> None:
    """The first best epoch has no predecessor, others have no mark, and short and long times are readable."""
    plain = {"logs": {"loss": 0.5}, "lav": ()}
    assert epoch_lines(80, previous_best=None, seconds=0.0123, **plain) == ["epoch  3/20   0.01s  loss 0.5000 | best"]
    assert epoch_lines(80, is_best=False, seconds=75.5, **plain) == ["epoch  3/20  1m 16s  loss 0.5000"]
    assert epoch_lines(80, is_best=False, seconds=3725, **plain) == ["epoch  3/20  1h 02m  loss 0.5000"]


def test_columns_are_aligned() -> None:
    """The values of all epochs are in the same columns, once a column has had its widest value."""
    file = io.StringIO()
    reporter = ConsoleReporter(Console(file=file, width=250))
    with logging_to(ConsoleHandler(reporter._console, quiet=False)):
        for epoch, (loss, seconds) in enumerate([(1.5, 75), (0.0005, 0.1), (0.25, 10), (1e-8, 3725)], start=1):
            logs = {"loss": loss, "learning_rate": 0.1**epoch, "val_loss": 0.5}
            reporter.epoch_ended(
                EpochReport(epoch=epoch, epochs=10, seconds=seconds, logs=logs, monitor="loss", mode="min",
                            previous_best=None, is_best=False)
            )  # fmt: skip
    assert file.getvalue().splitlines() == [
        "epoch  1/10  1m 15s  loss 1.5000  lr 1.00e-01 | val loss 0.5000",
        "epoch  2/10   0.10s  loss 0.0005000  lr 1.00e-02 | val loss 0.5000",
        "epoch  3/10   10.0s  loss 0.2500     lr 1.00e-03 | val loss 0.5000",
        "epoch  4/10  1h 02m  loss 1.000e-08  lr 1.00e-04 | val loss 0.5000",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_steps(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation within an epoch has a line; logged steps have one per second, and none on a terminal."""
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, color_system=None, legacy_windows=False)
    reporter = ConsoleReporter(console)
    seconds = iter([0.0, 0.4, 1.5])
    monkeypatch.setattr("aipcore.training.console_reporter.time.monotonic", lambda: next(seconds))
    logs = {"loss": 0.5, "learning_rate": 0.001, "samples_per_second": 12345.6}
    with logging_to(ConsoleHandler(console, quiet=False)):
        for step in (1100, 1200, 1300):
            reporter.step_logged(StepReport(step=step, epoch=2, epochs=3, logs=logs))
        reporter.validated(
            ValidationReport(step=1300, epoch=2, epochs=3, seconds=0.25, logs={"loss": 0.5, "val_loss": 0.75},
                             monitor="val_loss", mode="min", previous_best=0.8, is_best=True)
        )  # fmt: skip
    steps = [f"step {step}  epoch 2/3  loss 0.5000  lr 1.00e-03  12,346 samples/s" for step in ("1,100", "1,300")]
    validation = "step 1,300   0.25s  loss 0.5000 | val loss 0.7500 | best, was 0.8000"
    assert file.getvalue().splitlines() == [*([] if terminal else steps), validation]


def summary_lines(trained: int, **changes: Any) -> list[str]:
    """Return the summary after `trained` epochs."""
    file = io.StringIO()
    reporter = ConsoleReporter(Console(file=file, width=80))
    values: dict[str, Any] = {"status": "finished", "output_dir": Path("my runs/a"), "epochs": trained, "history": [],
                              "monitor": "val_loss", "best": 0.25, "best_epoch": 1, "seconds": 1.5,
                              "saved": ["best", "export", "checkpoint"]}  # fmt: skip
    with logging_to(ConsoleHandler(reporter._console, quiet=False)):
        reporter._epochs = trained
        reporter.summary(TrainResult(**{**values, **changes}))
    return file.getvalue().splitlines()[1:]


def test_summary() -> None:
    """The summary counts epochs in singular and plural, aligns its rows and quotes paths."""
    assert summary_lines(1) == [
        "Trained 1 epoch in 1.50s. Best val_loss: 0.2500 in epoch 1.",
        "best model   my runs/a/best",
        "final model  my runs/a/export",
        "checkpoint   my runs/a/checkpoint",
        "curves       tensorboard --logdir 'my runs/a/tensorboard'",
    ]
    assert summary_lines(1, epochs=3)[0] == "Trained 1 more epoch (3 total) in 1.50s. Best val_loss: 0.2500 in epoch 1."
    assert summary_lines(2, status="stopped", best=None)[0] == "Stopped early after 2 epochs in 1.50s."
    assert summary_lines(3, partial=True, updates=250, best_step=200, validations=[{"step": 200}])[0] == (
        "Trained 3 epochs, 250 updates, in 1.50s. Best val_loss: 0.2500 in epoch 1 after 200 updates."
    )
    cut = summary_lines(1, status="interrupted", best=None, saved=["checkpoint"], resume="aip resume 'my runs/a'")
    assert (cut[0], cut[-1]) == (
        "Interrupted after 1 complete epoch in 1.50s.",
        "Resume with: aip resume 'my runs/a'",
    )
    assert summary_lines(0, status="interrupted", best=None, saved=[], output_dir=None) == [
        "Interrupted after 0 complete epochs in 1.50s. Nothing was saved."
    ]


def test_resume_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command quotes the folder, trusts code and addresses that are not a plugin's, and names the launcher."""
    plugins = get_plugin_manager()

    def command(scenario: LoadedScenario, *words: str, folder: str = "runs/a") -> str:
        request = make_request(scenario, [Layer.from_arguments(words)], plugins)
        return request.resume_command(request.resolved(), Path(folder))

    plugin = load_any("tutorial", plugins)
    assert command(plugin) == "aip resume runs/a"
    assert command(plugin, folder="it's mine") == """aip resume 'it'"'"'s mine'"""
    contacted = ("--callbacks", "Webhook", "--callbacks.Webhook.url", "http://127.0.0.1:1")
    assert command(plugin, *contacted) == "aip resume runs/a --trust"
    assert command(attrs.evolve(plugin, kind="file")) == "aip resume runs/a --trust"
    assert command(attrs.evolve(plugin, kind="class")) == f"aipcore.resume('runs/a', scenario={plugin.cls.__name__})"
    monkeypatch.setenv(LAUNCHER, "aip launch --workers 2")
    assert command(plugin) == "aip launch --workers 2 resume runs/a"


def test_values_by_part() -> None:
    """A LAV list whose name is a prefix of another's keeps its values, and the lists share the names of values."""
    assert by_part(LOGS, ("lav_easy", "lav_easy_too")) == {
        "train": {"loss": 0.5, "accuracy": 0.75, "learning_rate": 0.00099, "ema_rate": 0.99},
        "validation": {"loss": 0.25, "accuracy": 0.875},
        "lav_easy": {"loss": 0.125, "error_rate": 0.0625, "worst_recall": 0.5},
        "lav_easy_too": {"loss": 0.1, "error_rate": 0.2},
    }


def test_plain_and_json(tmp_path: Path) -> None:
    """In a pipe, plan, epochs and summary are plain lines; the JSON log has the same, one event per line."""
    words = ("--json-log", "log.jsonl", "--trainer.lav_every_n", "2", "--trainer.profile", "True")
    words = (*QUICK, *words, "--trainer.profile_steps", "2", "3", "--trainer.output_dir", "out")
    done = forks.run([*AIP, *words], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "scenario   tutorial"
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert lines[-2] == "profile      batches 2 to 3, in TensorBoard: pip install 'aipcore[profile]'"
    memory = lines[-1]

    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "plan",
        "message",
        "epoch",
        "message",
        "epoch",
        "message",
        "summary",
    ]
    plan, profiled, first, confused, _, _, summary = events
    assert plan["scenario"] == "tutorial"
    assert plan["seed"] == "1"
    assert profiled == {"event": "message", "level": "info", "text": "Profiled batches 2 to 3."}
    assert "confused" in confused["text"]
    assert set(first) == {"event", "epoch", "epochs", "seconds", "is_best", "lav", "logs"}
    assert (first["epoch"], first["epochs"], first["is_best"], first["lav"]) == (1, 2, True, ["lav"])
    assert {"loss", "val_loss", "lav_loss", "lav_error_rate", "learning_rate"} <= set(first["logs"])
    assert {name: summary[name] for name in ("event", "status", "output_dir", "epochs", "saved", "profiled")} == {
        "event": "summary", "status": "finished", "output_dir": "out", "epochs": 2, "saved": [], "profiled": [2, 3],
    }  # fmt: skip
    assert memory == f"peak memory  {summary['memory']['process'] / 2**20:,.0f} MiB"


def test_quiet(train: Any, tmp_path: Path) -> None:
    """Only warnings are printed; the log file has everything."""
    code, output, errors = train("--quiet", "--trainer.profile", "True", "--trainer.profile_steps", "900", "901")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "warning: Nothing was profiled. trainer.profile_steps is 900 901, but the run has only 182 batches. Choose "
        "earlier batches."
    ]
    log = (tmp_path / "out" / "train.log").read_text()
    for text in (
        "INFO    scenario: tutorial",
        "WARNING Nothing was profiled",
        "INFO    epoch 2/2",
        "INFO    Trained 2 epochs",
    ):
        assert text in log


def test_log_level_warning(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminal and log file have only warnings; the level may be in any case."""
    monkeypatch.setenv("AIP_LOG_LEVEL", "Warning")
    assert train() == (0, "", "")
    assert (tmp_path / "out" / "train.log").read_text() == ""


def test_log_level_debug(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The debug level includes all info messages, and the root logger is not changed."""
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    monkeypatch.setenv("AIP_LOG_LEVEL", "debug")
    code, output, _ = train()
    assert code == 0
    assert "epoch 2/2" in output
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before


def test_log_level_nonsense(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown level is refused before any work."""
    monkeypatch.setenv("AIP_LOG_LEVEL", "nonsense")
    code, output, errors = train()
    assert (code, output) == (2, "")
    assert errors == (
        "error: AIP_LOG_LEVEL is 'nonsense', which is not a log level. Set it to one of debug, info, warning, error, "
        "critical, or unset it.\n"
    )
    assert not (tmp_path / "out").exists()


def on_a_terminal(folder: Path, width: int, *words: str, **environment: str) -> str:
    """Return the output of `aip` on a terminal of this width, including control sequences."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = forks.start(
        [*AIP, *words],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    end = time.monotonic() + 120
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            written += data
        assert process.wait(timeout=30) == 0, written.decode()
    finally:
        process.kill()
        os.close(ours)
    return written.decode()


def test_terminal(tmp_path: Path) -> None:
    """A bar is shown while an epoch runs, with colours, and the cursor is restored; NO_COLOR removes colours."""
    words = [*QUICK, "--trainer.output_dir", "out", "--trainer.samples_per_epoch", "20000"]
    written = on_a_terminal(tmp_path, 80, *words, NO_COLOR="1")
    for text in ("epoch 1/2 ", "samples/s", "1250", "Trained 2 epochs", "\x1b[?25h"):
        assert text in written
    # 30 to 37 and 38;... are colours; bold and dim are not.
    assert not [code for code in ("\x1b[3", ";3") if any(f"{code}{digit}m" in written for digit in range(8))]
    assert "\x1b[38;" not in written
