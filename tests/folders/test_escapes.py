"""Control characters in names and paths are shown as text and have no effect on terminals."""

from __future__ import annotations

import logging
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from aipcore.cli.main import main
from aipcore.cli.tables import show_scores
from aipcore.console import Console
from aipcore.logs import logging_to
from aipcore.prediction.evaluate_saved import ListScore
from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter

TITLE = "\x1b]0;mine\x07"
SHOWN = "\\x1b]0;mine\\x07"


@pytest.mark.parametrize("terminal", [True, False])
def test_console(terminal: bool) -> None:
    """Tables, markup and plain text are escaped, in a pipe and on a terminal."""
    file = StringIO()
    console = Console(file=file, width=100, force_terminal=terminal, color_system="standard" if terminal else None)
    table = Table.grid()
    table.add_row(f"{TITLE}one", Text(f"\x9b2J{TITLE}two"))
    console.print(table)
    console.print(f"[bold]{TITLE}three[/bold]")
    console.print(Text(f"{TITLE}four", style="red"), soft_wrap=True)
    console.print(f"a\tb{TITLE}", markup=False, highlight=False)
    text = file.getvalue()
    assert "\x1b]" not in text
    assert "\x9b" not in text
    assert "\x07" not in text
    assert text.count("\\x1b") == 5
    # Rich's colours are kept.
    assert ("\x1b[1m" in text) == terminal


def test_progress() -> None:
    """Rich can still move the cursor."""
    file = StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    with Progress(console=console) as progress:
        progress.update(progress.add_task(f"{TITLE}name", total=2), completed=1)
    assert "\x1b[?25l" in file.getvalue()
    assert "\x1b]" not in file.getvalue()


def test_log_and_plan(tmp_path: Path) -> None:
    """Messages and the plan of a run are escaped in train.log and on the terminal."""
    file = StringIO()
    console = Console(file=file, width=100)
    with logging_to(ConsoleHandler(console, quiet=False), file_follows=True) as log:
        log.write_to(tmp_path / "train.log")
        logging.getLogger("aipcore.test").warning("The class %s is empty.\nSecond line.", TITLE)
        ConsoleReporter(console).plan([("scenario", f"{TITLE}name")])
    log = (tmp_path / "train.log").read_text()
    for text in (log, file.getvalue()):
        assert "\x1b" not in text
        # Rich omits the bell.
        assert f"{SHOWN}name" in text or f"{SHOWN[:-4]}name" in text
        assert f"The class {SHOWN}" in text or f"The class {SHOWN[:-4]} is empty.\nSecond line." in text


def test_errors(tmp_path: Path, make_run: Any, capsys: Any) -> None:
    """Names from a folder are escaped in errors."""
    run = make_run()
    (run / f"{TITLE}log.csv").symlink_to("/tmp")
    assert main(["resume", str(run)]) == 2
    assert main(["resume", f"no{TITLE}where"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert f"contains the symbolic link {SHOWN}log.csv" in error
    assert f"no{SHOWN}where" in error


def test_scores(capsys: Any) -> None:
    """Names of metrics and values of an evaluator are escaped in a pipe."""
    score = ListScore(name="lav", samples=1, values={f"{TITLE}accuracy": 0.5}, report=f"{TITLE}seen")
    show_scores(Console(file=StringIO()), [score])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert f"{SHOWN}accuracy\t0.5" in out
    assert f"{SHOWN}seen" in out
