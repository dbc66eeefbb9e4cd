"""The results of a sweep: rows of trials, the table on the terminal, and trials.csv and trials.json."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import optuna
from aip_plugins.commands.sweep.settings import Settings, write_whole
from aip_plugins.commands.sweep.space import Space
from aip_plugins.commands.sweep.study import begun, importances
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.table import Table

from aipcore.params.names import count

SHOWN = 20
"""The most rows of the table on the terminal."""

MONITORED = "aip_monitored"
"""The study attribute with the name of the monitored value, once known."""

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
ORDER = ("complete", "pruned", "running", "failed")


@attrs.frozen(kw_only=True)
class Row:
    """The result of a trial.

    Attributes:
        trial: the number of the trial.
        state: `complete`, `pruned`, `running` (also for an interrupted trial), or `failed`.
        value: the best monitored value; for a pruned trial, up to the pruning.
        epoch: the epoch of that value, counted from 1.
        seconds: the running time of its processes.
        params: the hyperparameters by name.
        reason: the reason of a failure.
        folder: the folder of the trial.
        logs: all values of the best epoch.
    """

    trial: int
    state: str
    value: float | None = None
    epoch: int | None = None
    seconds: float = 0.0
    params: dict[str, Any]
    reason: str = ""
    folder: str = ""
    logs: dict[str, float] = attrs.field(factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Row:
        """Return the row of a trial from its attributes in `RESULT`."""
        known = {name: value for name, value in trial.user_attrs.items() if name in RESULT}
        return cls(trial=trial.number, state=STATES.get(trial.state, "running"), params=dict(trial.params), **known)


RESULT = ("value", "epoch", "seconds", "reason", "folder", "logs")


def rows_of(study: optuna.Study, mode: str) -> list[Row]:
    """Return all trials, the best first."""
    sign = 1 if mode == "min" else -1
    return sorted(
        map(Row.of, begun(study)),
        key=lambda row: (ORDER.index(row.state), row.value is None, sign * (row.value or 0.0), row.trial),
    )


def write_results(folder: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Write `trials.csv` and `trials.json`, each completely or not at all."""
    write_whole(folder / "trials.json", json.dumps([attrs.asdict(row) for row in rows], indent=2) + "\n")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", "state", "value", "epoch", "seconds", *names, "reason", "folder"])
    for row in rows:
        values = [row.params.get(name, "") for name in names]
        writer.writerow(
            [row.trial, row.state, row.value, row.epoch, round(row.seconds, 1), *values, row.reason, row.folder]
        )
    write_whole(folder / "trials.csv", text.getvalue())


def show_results(
    console: Console, study: optuna.Study, settings: Settings, space: Space, rows: Sequence[Row], folder: Path
) -> None:
    """Print the table, the importances, the best trial with the command that repeats its training, and the files."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    names = [each.name for each in space.dimensions]
    mode, monitor = settings.monitor[0], study.user_attrs.get(MONITORED, settings.monitor[1])
    title = f"{count(len(rows), 'trial')}, {'lowest' if mode == 'min' else 'highest'} {monitor} first"
    table = Table("trial", "state", monitor, "epoch", *headings(names), "seconds", title=title, box=box.SIMPLE_HEAD)
    table.title_justify, table.pad_edge = "left", False
    for column in table.columns:
        column.justify, column.overflow = "left" if column.header == "state" else "right", "fold"
    for row in rows[:SHOWN]:
        values = [row.trial, row.state, row.value, row.epoch, *(row.params.get(name) for name in names)]
        best = row is rows[0] and row.state == "complete"
        table.add_row(*map(cell, values), f"{row.seconds:.1f}", style="bold green" if best else "")
    if rows:
        console.print(table)
    if len(rows) > SHOWN:
        say(f"... and {len(rows) - SHOWN} more in trials.csv.")
    for row in [each for each in rows if each.state == "failed"][:3]:
        say(f"Trial {row.trial} failed: {row.reason}")
    if found := importances(study):
        say("Importance: " + ", ".join(f"{name} {share:.0%}" for name, share in found.items()))
    if rows and rows[0].state == "complete":
        first = rows[0]
        chosen = {e.name: e.word(first.params[e.name]) for e in space.dimensions if e.name in first.params}
        say(f"Best: trial {first.trial} in {first.folder}. To train it again:")
        files = [word for path in settings.plugins for word in ("-p", path)]
        say(f"  aip train {shlex.join([*settings.train_words(recorded=True), *space.options(chosen), *files])}")
    say(
        f"Compare the trials: tensorboard --logdir {shlex.quote(str(folder))} (tab HPARAMS), or {folder / 'trials.csv'}"
    )


def headings(names: Sequence[str]) -> list[str]:
    """Return the last part of each dotted name, or the whole name where several end alike."""
    ends = [name.rpartition(".")[2] for name in names]
    return [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]


def cell(value: Any) -> str:
    """Return a value as text for the table."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
