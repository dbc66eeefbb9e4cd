"""Deletion of runs. Only files that a run writes are deleted, and never those of a running one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aipcore.errors import UsageError
from aipcore.training.checkpoint.atomic import write_file
from aipcore.training.run_folder import LOCK, WRITTEN, locked
from aipcore.training.runs import Run, history, validations

RECORDS = ("status.json", "train.log", "params.json", "run.json", LOCK)
"""The records of a run, in the order of deletion: a run whose deletion is interrupted can still be found."""

OF_COMPONENTS = frozenset(
    {"learning_rate.csv", "wandb", "mlflow.db", "mlartifacts", "mlruns", "output.log", ".trial.lock", ".events.new"}
)
"""Further names at the top of run folders, from built-in callbacks and sweeps."""


def check_removable(run: Run, *, keep_best: bool) -> None:
    """Check that a run can be deleted.

    Raises:
        UsageError: it is a sweep, a link or a running run, or has no best model to keep.
    """
    if run.kind == "sweep":
        raise UsageError(
            f"{run.path} is a sweep, not a run. Give its trials, such as {run.path}{os.sep}trial-0000, or delete the "
            "folder yourself."
        )
    if run.path.is_symlink():
        raise UsageError(f"{run.path} is a symbolic link. Give the folder that it points to.")
    for each in (run, *run.runs):
        if each.state == "running":
            raise UsageError(f"{each.path} is running. Stop it first, or wait for its end.")
    if keep_best:
        for each in run.runs or [run]:
            if each.state == "damaged":
                raise UsageError(f"{each.path} is damaged ({each.reason}). Leave out --keep-best to delete it.")
            best = each.path / "best"
            if best.is_symlink() or not (best / "aip.json").is_file():
                raise UsageError(f"{each.path} has no best model to keep. Leave out --keep-best to delete it.")


def remove_run(run: Run, *, keep_best: bool) -> list[Path]:
    """Delete a run, after `check_removable`.

    Args:
        run: the run, or the folds of a cross-validation.
        keep_best: if True, keep the best model, which `aip lav` and `aip predict` use, and the records.

    Returns:
        The remaining files and folders that no run has written.

    Raises:
        UsageError: another process is writing to the run.
        OSError: a file cannot be deleted.
    """
    left: list[Path] = []
    with locked(run.path):
        for each in run.runs:
            left += remove_run(each, keep_best=keep_best)
        if keep_best:
            if not run.runs:
                _record_end(run)
            _remove(run, kept={"best", *RECORDS})
            return left
        folds = {each.path for each in run.runs}
        left += [entry for entry in _remove(run, kept=set(RECORDS)) if entry not in folds]
        for name in RECORDS:
            (run.path / name).unlink(missing_ok=True)
    with suppress(OSError):
        run.path.rmdir()
    return left


def _record_end(run: Run) -> None:
    """Record the result in `run.json`. Otherwise, `aip resume` would train the run from the beginning."""
    if not isinstance(run.about.get("result"), dict):
        values = {"epochs": run.epochs, "monitor": run.monitor, "best": run.best, "best_epoch": run.best_epoch}
        values |= {"best_step": run.best_step, "updates": run.updates}
        result = {"status": "stopped", **values, "history": history(run), "validations": validations(run)}
        write_file(run.path / "run.json", json.dumps({**run.about, "result": result}, indent=2) + "\n")


def _remove(run: Run, kept: set[str]) -> list[Path]:
    """Delete the entries of a run folder that the run has written, except for some; return the others."""
    own = {*WRITTEN, *OF_COMPONENTS, *_named_files(run.about)}
    left = []
    with os.scandir(run.path) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name in kept:
            continue
        if entry.name not in own:
            left.append(Path(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
    return left


def _named_files(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that parameters of callbacks give to their files."""
    trainer = about.get("params", {}).get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    for callback in callbacks if isinstance(callbacks, list) else []:
        if isinstance(callback, dict):
            yield from (value for value in callback.values() if isinstance(value, str))
