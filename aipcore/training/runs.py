"""Runs below a folder: found, read and compared without TensorFlow. The content of all files is untrusted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.errors import UsageError
from aipcore.files import PROGRESS_BYTES, as_mapping, read_json
from aipcore.params.dump import component_keys, flat
from aipcore.params.tree import COMPONENT_KEY
from aipcore.scenario.record import ABOUT_FILE, checked_record
from aipcore.training.run_folder import is_locked
from aipcore.training.status import Status, as_finite, as_whole, read_status

DEPTH = 6
"""Levels of folders that are searched for runs."""

SWEEP_FILE = "sweep.json"
"""The file that marks the folder of a sweep."""

UNIMPORTANT = ("trainer.output_dir", "trainer.fold")
"""Parameters that do not distinguish runs."""

LATEST = 253402300799.0
"""The end of the year 9999 in seconds since 1970: the latest time with a name."""

Kind = Literal["run", "folds", "sweep"]
State = Literal["running", "finished", "stopped", "interrupted", "failed", "damaged"]


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A run on disk, or a group of runs: a sweep, or the folds of a cross-validation.

    Attributes:
        path: the folder.
        kind: "run", or the kind of the group.
        state: the state of the run. A group is running if one of its runs is, and finished if all are.
        reason: the reason why the run failed or is damaged.
        scenario: the scenario's name.
        epochs: completed epochs.
        total: epochs of the whole run; None if unknown.
        monitor: the monitored value's name.
        mode: the better direction of that value, "min" or "max".
        best: the best monitored value; for folds their mean, for a sweep that of the best trial.
        best_epoch: the epoch of the best value, counted from 1.
        best_step: the optimizer updates before the best value; None if unknown.
        updates: completed optimizer updates of an ended run; None if unknown.
        params: the parameters by dotted path; empty for a sweep.
        started: the time of the start, in seconds since 1970.
        size: the size of all files, in bytes.
        about: the record of the run; empty if damaged.
        runs: the runs of a group.
    """

    path: Path
    kind: Kind = "run"
    state: State
    reason: str = ""
    scenario: str = ""
    epochs: int = 0
    total: int | None = None
    monitor: str = ""
    mode: str = ""
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    updates: int | None = None
    params: Mapping[str, Any] = attrs.field(factory=dict)
    started: float
    size: int
    about: Mapping[str, Any] = attrs.field(factory=dict)
    runs: Sequence[Run] = ()


def find_runs(folder: Path, *, every: bool = False) -> list[Run]:
    """Return the runs in a folder and below it. Links below the folder are not followed.

    Args:
        folder: a folder with runs, a group of runs, or a single run.
        every: if True, return the runs of groups in place of the groups.

    Raises:
        UsageError: the folder does not exist or cannot be read.
    """
    try:
        names = _names(folder)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} does not exist. Give a folder with runs: aip runs FOLDER.") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}). Give a folder with runs.") from error
    given = _read(folder, names)
    found = list(_below(folder, DEPTH)) if given is None else list(given.runs) or [given]
    return [run for each in found for run in (each.runs if every and each.runs else [each])]


def read_run(path: Path) -> Run:
    """Read a run or a group of runs.

    Raises:
        UsageError: the folder does not contain one.
    """
    with suppress(OSError):
        if (found := _read(path, _names(path))) is not None:
            return found
    problem = "does not exist" if not path.exists() else "is not a run folder"
    raise UsageError(f"{path} {problem}. aip runs lists the runs below a folder.")


def history(run: Run) -> list[dict[str, float]]:
    """Return the logs of each completed epoch, as far as they are recorded."""
    return _rows(run, "history")


def validations(run: Run) -> list[dict[str, float]]:
    """Return the results of each validation of a run that validates by steps, with its `step` and its `epoch`."""
    return _rows(run, "validations")


def _rows(run: Run, name: str) -> list[dict[str, float]]:
    result = run.about.get("result")
    rows = result.get(name) if isinstance(result, dict) else None
    if rows is None:
        steps = _checkpoints(run.path / "checkpoint")
        for step in reversed(steps):
            with suppress(OSError, ValueError, AttributeError):
                rows = read_json(step / "progress.json", limit=PROGRESS_BYTES, follow=False).get(name)
                break
    if not isinstance(rows, list):
        return []
    return [
        {str(key): number for key, value in row.items() if (number := _number(value)) is not None}
        for row in rows
        if isinstance(row, dict)
    ]


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the dotted paths of parameters with different values in the runs that have them, in recorded order."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.params.items():
            # The options of components in a list have paths of their own.
            names = [each[COMPONENT_KEY] for each in value] if component_keys(value) else value
            values.setdefault(name, set()).add(repr(names))
    return [name for name, found in values.items() if len(found) > 1 and name not in UNIMPORTANT]


def short_names(names: Sequence[str]) -> list[str]:
    """Return the last part of each dotted path, or the whole path where several end alike."""
    plain = [name.removesuffix(f".{COMPONENT_KEY}") for name in names]
    ends = [name.rpartition(".")[2] for name in plain]
    return [end if ends.count(end) == 1 else name for name, end in zip(plain, ends, strict=True)]


def _names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def _below(folder: Path, depth: int) -> Iterator[Run]:
    """Yield the runs below a folder, by name. Hidden folders and links are skipped."""
    try:
        with os.scandir(folder) as entries:
            inner = [each.name for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."]
    except OSError:
        return
    for name in sorted(inner, key=_natural):
        path = folder / name
        with suppress(OSError):
            if (run := _read(path, _names(path))) is not None:
                yield run
            elif depth > 1:
                yield from _below(path, depth - 1)


def _natural(name: str) -> list[Any]:
    """Return the sort key in which `run-2` precedes `run-10`."""
    return [part.zfill(20) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def is_run(names: set[str]) -> bool:
    """Return True if a folder with these names is a run folder, possibly a damaged one."""
    records = names & {"run.json", "params.json"}
    others = names & {"train.log", "checkpoint", ".lock", "best", "export"}
    return len(records) == 2 or bool(records and others) or {"train.log", ".lock"} <= names


def _read(path: Path, names: set[str]) -> Run | None:
    if SWEEP_FILE in names and not is_run(names):
        runs = list(_below(path, 1))
        return _sweep(path, runs)
    if not is_run(names):
        return None
    size, started = _usage(path)
    try:
        about = checked_record(read_json(path / "run.json", follow=False), path / "run.json")
        params = flat(about["params"], lists=True)
    except FileNotFoundError:
        return _damaged(path, "run.json is missing", size, started)
    except OSError as error:
        return _damaged(path, f"run.json: {error.strerror}", size, started)
    except (ValueError, UsageError, RecursionError):
        return _damaged(path, "run.json is not a record of aip", size, started)
    if params.get("trainer.folds") is not None and params.get("trainer.fold") is None:
        return _folds(path, about, params)
    if "params.json" not in names:
        return _damaged(path, "params.json is missing", size, started)
    total = as_whole(params.get("trainer.epochs"))
    status = read_status(path) or _unrecorded(path, about, total)
    return Run(
        path=path,
        state=_state(path, status, total, as_whole(params.get("trainer.max_steps"))),
        reason=status.reason if status.state == "failed" else "",
        scenario=about["scenario"]["name"],
        epochs=status.epochs,
        total=total,
        monitor=status.monitor,
        mode=status.mode,
        best=status.best,
        best_epoch=status.best_epoch,
        best_step=status.best_step,
        updates=status.updates,
        params=params,
        started=_seconds(status.started, started),
        size=size,
        about=about,
    )


def _damaged(path: Path, reason: str, size: int, started: float) -> Run:
    state: State = "running" if is_locked(path) else "damaged"
    return Run(path=path, state=state, reason="" if state == "running" else reason, size=size, started=started)


def _state(path: Path, status: Status, total: int | None, most: int | None) -> State:
    """Return the state of a run, which ends after `total` epochs or `most` optimizer updates."""
    if is_locked(path):
        return "running"
    ended = most is not None and (status.updates is None or status.updates >= most)
    ended = ended or (status.epochs >= total if total is not None else most is None)
    unfinished = status.state == "finished" and not ended
    # A killed run cannot record its end.
    return "interrupted" if status.state == "running" or unfinished else status.state  # type: ignore[return-value]


def _unrecorded(path: Path, about: Mapping[str, Any], total: int | None) -> Status:
    """Return the status of a run without `status.json`, from an earlier version, by its result and its models."""
    result = about.get("result")
    if not isinstance(result, dict):
        exported = as_whole(_model_record(path, "export").get("epoch"))
        result = {} if exported is None else {"epochs": exported}
        if exported is not None:
            result["status"] = "stopped" if total is not None and exported < total else "finished"
    note = as_mapping(_model_record(path, "best").get("monitor"))
    known = result.get("status") in ("finished", "stopped")
    return Status(
        state=result["status"] if known else "interrupted",
        epochs=as_whole(result.get("epochs")) or 0,
        monitor=str(note.get("name") or result.get("monitor") or ""),
        mode=str(note.get("mode") or ""),
        best=as_finite(note.get("value", result.get("best"))),
        best_epoch=as_whole(note.get("epoch", result.get("best_epoch"))),
        best_step=as_whole(note.get("step", result.get("best_step"))),
        updates=as_whole(result.get("updates")),
    )


def _model_record(path: Path, name: str) -> Mapping[str, Any]:
    """Return the record of `best` or `export`; empty if it is missing or damaged."""
    found = None
    if not (path / name).is_symlink():
        with suppress(OSError, ValueError):
            found = read_json(path / name / ABOUT_FILE, follow=False)
    return as_mapping(found)


def _sweep(path: Path, runs: Sequence[Run]) -> Run:
    mode, scored = _comparable(runs)
    best = min(scored, key=lambda run: (run.best or 0.0) * (-1 if mode == "max" else 1)) if scored else None
    size, started = _usage(path)
    return Run(
        path=path,
        kind="sweep",
        state=_joint_state(runs),
        scenario=next((run.scenario for run in runs if run.scenario), ""),
        epochs=sum(run.state in ("finished", "stopped") for run in runs),
        total=len(runs),
        monitor=best.monitor if best else "",
        mode=mode,
        best=best.best if best else None,
        started=min([started, *(run.started for run in runs)]),
        size=size,
        runs=runs,
    )


def _folds(path: Path, about: Mapping[str, Any], params: Mapping[str, Any]) -> Run:
    runs = [run for run in _below(path, 1) if run.kind == "run"]
    wanted = as_whole(params["trainer.folds"]) or 0
    mode, scored = _comparable(runs)
    size, started = _usage(path)
    states = {run.state for run in runs}
    state: State = "finished" if len(runs) == wanted and states <= {"finished", "stopped"} else "interrupted"
    if is_locked(path) or "running" in states:
        state = "running"
    elif states & {"failed", "damaged"}:
        state = "failed"
    return Run(
        path=path,
        kind="folds",
        state=state,
        scenario=about["scenario"]["name"],
        epochs=sum(run.state in ("finished", "stopped") for run in runs),
        total=wanted,
        monitor=scored[0].monitor if scored else "",
        mode=mode,
        best=sum(run.best or 0.0 for run in scored) / len(scored) if scored else None,
        params=params,
        started=min([started, *(run.started for run in runs)]),
        size=size,
        about=about,
        runs=runs,
    )


def _comparable(runs: Sequence[Run]) -> tuple[str, list[Run]]:
    """Return the common direction of the runs with a best value, and these runs; none if they differ."""
    scored = [run for run in runs if run.best is not None]
    same = len({(run.mode, run.monitor) for run in scored}) == 1
    return (scored[0].mode, scored) if same else ("", [])


def _joint_state(runs: Sequence[Run]) -> State:
    states = {run.state for run in runs}
    order: tuple[State, ...] = ("running", "interrupted", "failed", "damaged")
    if states and states <= {"failed", "damaged"}:
        return "failed"
    # A failed trial does not make a sweep fail.
    return next((state for state in order[:2] if state in states), "finished" if states else "interrupted")


def _usage(path: Path) -> tuple[int, float]:
    """Return the size of all files of a run, and the oldest time of its records."""
    size, pending, times = 0, [os.fspath(path)], []
    while pending:
        here = pending.pop()
        with suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        pending.append(entry.path)
                    elif stat.S_ISREG(found.st_mode):
                        size += found.st_size
                        if entry.name in (".lock", "run.json", "train.log", SWEEP_FILE):
                            times.append(found.st_mtime)
    return size, min(max(0.0, min(times, default=0.0)), LATEST)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints of a run, oldest first."""
    if folder.is_symlink():
        return []
    with suppress(OSError), os.scandir(folder) as entries:
        names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        return [folder / name for name in sorted(names) if re.fullmatch(r"step-\d+", name)]
    return []


def _number(value: Any) -> float | None:
    return value if isinstance(value, float) else as_whole(value)


def _seconds(text: str, otherwise: float) -> float:
    try:
        return min(max(0.0, datetime.fromisoformat(text).timestamp()), LATEST)
    except (ValueError, OverflowError, OSError):
        return otherwise
