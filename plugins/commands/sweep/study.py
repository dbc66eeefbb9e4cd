"""The study: what Optuna keeps of a sweep, and how it is asked."""

from __future__ import annotations

import hashlib
import math
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from aip_plugins.commands.sweep.search import Space
from aip_plugins.commands.sweep.settings import Settings
from aip_plugins.commands.sweep.space import Dimension
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from aipcore.errors import AipError, UsageError
from aipcore.params.secret import redacted

WAIT = 60.0
"""Seconds that a process waits for another that writes to the SQLite file."""

TRIES = 4
"""How often a database is tried that cannot be used at first."""


def open_study(settings: Settings, space: Space, folder: Path | None = None) -> optuna.Study:
    """The study of a sweep, made if there is none.

    Args:
        settings: the sweep.
        space: its parameters.
        folder: holds the database if `settings` names none.

    Raises:
        UsageError: the database cannot be used, or its study of this name is another one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mode, name = settings.monitor
    url = settings.storage or f"sqlite:///{(folder or Path()).resolve() / 'study.db'}"
    with database_errors(settings, "check --storage"):
        storage = _connect(url)
        study = optuna.create_study(
            storage=storage,
            study_name=settings.study,
            direction="minimize" if mode == "min" else "maximize",
            load_if_exists=True,
        )
        about = {"scenario": settings.scenario, "monitor": f"{mode}:{name}", "space": sorted(settings.space)}
        for key, value in about.items():
            there = study.user_attrs.get(f"aip_{key}")
            if there is None and not study.get_trials(deepcopy=False):
                study.set_user_attr(f"aip_{key}", value)
            elif there != value:
                raise UsageError(
                    f"The study {settings.study} in {_place(settings)} has the {key} {_said(there)}, and this "
                    f"sweep {_said(value)}: give another --study."
                )
        if settings.sampler == "grid" and not study.user_attrs.get("aip_grid"):
            begun = bool(study.get_trials(deepcopy=False))
            for point in space.grid():
                study.enqueue_trial(point, skip_if_exists=begun)
            study.set_user_attr("aip_grid", True)
    return study


def _connect(url: str) -> optuna.storages.RDBStorage:
    arguments = {"connect_args": {"timeout": WAIT}} if url.startswith("sqlite:") else {}
    for _ in range(TRIES):
        with suppress(sqlalchemy.exc.IntegrityError, sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError):
            return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
        # Another process may be making the tables at this very moment.
        time.sleep(0.5)
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """What tells from the values of some epochs that a trial will not be among the best."""
    match name:
        case "median":
            return optuna.pruners.MedianPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
        case _:
            return optuna.pruners.NopPruner()


def suggest(study: optuna.Study, trial: optuna.Trial, settings: Settings, space: Space) -> dict[str, str]:
    """Chooses a trial's parameters; those that it has already stay.

    The choice follows from the seed, the number of the trial and the trials before it, so that neither an interruption
    nor another process of the same seed repeats one.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{settings.seed}:{trial.number}".encode()).digest()[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if settings.sampler == "tpe":
            study.sampler = optuna.samplers.TPESampler(seed=drawn)
        else:
            study.sampler = optuna.samplers.RandomSampler(seed=drawn)
    return space.walk(lambda each: each.word(_suggest(trial, each)))


def _suggest(trial: optuna.Trial, each: Dimension) -> Any:
    if each.choices:
        return trial.suggest_categorical(each.name, each.choices)
    if each.kind == "int":
        return trial.suggest_int(each.name, int(each.low), int(each.high), step=int(each.step or 1), log=each.log)
    return trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)


def begun(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended or are running, in their order."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the differences between the trials comes from each parameter, largest first; they sum to 1.

    Empty if there are too few trials, or they are all alike.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    names = {name for trial in complete for name in trial.params}
    common = {name for name in names if all(name in trial.params for trial in complete)}
    if len(complete) < 4 or len(common) < 2 or len({trial.value for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The one that needs no further package.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(common))
    return {name: value for name, value in found.items() if math.isfinite(value)}


@contextmanager
def database_errors(settings: Settings, remedy: str, kind: type[AipError] = UsageError) -> Iterator[None]:
    """Says in one sentence that the database failed, and what to do.

    Args:
        settings: the sweep.
        remedy: completes the sentence.
        kind: the error to raise.

    Raises:
        AipError: it failed.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError) as error:
        # The database's own words, without the statement and SQLAlchemy's link to its manual.
        known = error.__cause__ if isinstance(error.__cause__, sqlalchemy.exc.SQLAlchemyError) else error
        cause = " ".join(re.split(r"\n\[SQL|\n\(Background", str(known))[0].split())
        raise kind(f"The storage {_place(settings)} cannot be used ({redacted(cause)}): {remedy}.") from error


def _place(settings: Settings) -> str:
    """The address of the database, without who logs in."""
    if settings.storage is None:
        return "study.db of the sweep's folder"
    return redacted(settings.storage.partition("@")[2] or settings.storage)


def _said(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "of something else than aip sweep")
