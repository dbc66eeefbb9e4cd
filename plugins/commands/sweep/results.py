"""What has become of the trials: as rows, as a table on the terminal, and as trials.csv and trials.json."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import optuna
from aip_plugins.commands.sweep.search import Space
from aip_plugins.commands.sweep.settings import Settings
from aip_plugins.commands.sweep.study import begun, importances
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.table import Table

from aipcore.params.names import count

SHOWN = 20
"""Rows of the table on the terminal."""

ORDER = ("complete", "pruned", "running", "failed")


@attrs.frozen(kw_only=True)
class Row:
    """A trial.

    Attributes:
        trial: its number.
        state: `complete`, `pruned`, `running` (which an interrupted one is too), or `failed`.
        value: the best value of the monitored metric; for a pruned trial up to where it was stopped.
        epoch: the epoch that gave it, counted from 1.
        seconds: how long its processes ran.
        params: the values that vary, by name.
        reason: why it failed.
        folder: its output folder.
        logs: all values of the best epoch.
    """

    trial: int
    state: str
    value: float | None
    epoch: int | None
    seconds: float
    params: dict[str, Any]
    reason: str
    folder: str
    logs: dict[str, float]


def rows_of(study: optuna.Study, mode: str) -> list[Row]:
    """All trials, the best first."""
    rows = [_row(trial) for trial in begun(study)]
    sign = 1 if mode == "min" else -1
    return sorted(
        rows, key=lambda row: (ORDER.index(row.state), row.value is None, sign * (row.value or 0.0), row.trial)
    )


def _row(trial: FrozenTrial) -> Row:
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    kept = trial.user_attrs
    return Row(
        trial=trial.number,
        state=states.get(trial.state, "running"),
        value=kept.get("value"),
        epoch=kept.get("epoch"),
        seconds=kept.get("seconds", 0.0),
        params=dict(trial.params),
        reason=kept.get("reason", ""),
        folder=kept.get("folder", ""),
        logs=kept.get("logs", {}),
    )


def write_results(folder: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Writes `trials.csv` and `trials.json`, each whole or not at all."""
    plain = [attrs.asdict(row) for row in rows]
    _replace(folder / "trials.json", json.dumps(plain, indent=2) + "\n")
    fresh = folder / f".trials.csv.{os.getpid()}"
    with fresh.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "value", "epoch", "seconds", *names, "reason", "folder"])
        for row in rows:
            values = [row.params.get(name, "") for name in names]
            known = ["" if each is None else each for each in (row.value, row.epoch)]
            writer.writerow([row.trial, row.state, *known, round(row.seconds, 1), *values, row.reason, row.folder])
    fresh.replace(folder / "trials.csv")


def _replace(path: Path, text: str) -> None:
    # Another process of the same sweep may be writing too.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def show_results(
    console: Console, study: optuna.Study, settings: Settings, space: Space, rows: Sequence[Row], folder: Path
) -> None:
    """Prints the table, what mattered, the best trial with the command that trains it again, and where all of it is."""
    names = [each.name for each in space.dimensions]
    mode, monitor = settings.monitor[0], study.user_attrs.get("aip_monitored", settings.monitor[1])
    title = f"{count(len(rows), 'trial')}, {'smallest' if mode == 'min' else 'largest'} {monitor} first"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("state")
    table.add_column(monitor, justify="right", overflow="fold")
    table.add_column("epoch", justify="right")
    for heading in headings(names):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("seconds", justify="right")
    for number, row in enumerate(rows[:SHOWN]):
        best = number == 0 and row.state == "complete"
        value = "" if row.value is None else number_text(row.value)
        cells = [str(row.trial), row.state, value, "" if row.epoch is None else str(row.epoch)]
        cells += [number_text(row.params[name]) if name in row.params else "" for name in names]
        table.add_row(*cells, f"{row.seconds:.1f}", style="bold green" if best else "")
    if rows:
        console.print(table)
    if len(rows) > SHOWN:
        _say(console, f"{len(rows) - SHOWN} more are in trials.csv.")
    for row in [each for each in rows if each.state == "failed"][:3]:
        _say(console, f"Trial {row.trial} failed: {row.reason}")
    found = importances(study)
    if found:
        _say(console, "Importance: " + ", ".join(f"{name} {share:.0%}" for name, share in found.items()))
    if rows and rows[0].state == "complete":
        best_row = rows[0]
        _say(console, f"Best: trial {best_row.trial} in {best_row.folder}. To train it again:")
        chosen = {
            each.name: each.word(best_row.params[each.name])
            for each in space.dimensions
            if each.name in best_row.params
        }
        _say(console, f"  aip train {shlex.join([*settings.shown_words, *space.options(chosen)])}")
    _say(console, f"Compare the trials: tensorboard --logdir {folder} (HPARAMS); {folder / 'trials.csv'}")


def headings(names: Sequence[str]) -> list[str]:
    """The last part of each dotted name, or the whole name where several end alike."""
    ends = [name.rpartition(".")[2] for name in names]
    return [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]


def number_text(value: Any) -> str:
    """A value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
