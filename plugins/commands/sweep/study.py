"""The study: what Optuna keeps of a sweep, and how it is asked."""

from __future__ import annotations

import hashlib
import math
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from aip_plugins.commands.sweep.locks import enter_when_free
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
"""Attempts to make the lock's table, which another process may be making too."""

LOCKS = sqlalchemy.Table(
    "aip_sweeps", sqlalchemy.MetaData(), sqlalchemy.Column("study", sqlalchemy.String(512), primary_key=True)
)
"""Table with one row per study. Whoever locks the row may change the study."""


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
    url = _url(settings, folder)
    with database_errors(settings, "check --storage"):
        _make_lock(url, settings.study)
        with study_locked(settings, folder):
            arguments = {"connect_args": {"timeout": WAIT}} if url.startswith("sqlite:") else {}
            study = optuna.create_study(
                storage=optuna.storages.RDBStorage(url, engine_kwargs=arguments),
                study_name=settings.study,
                direction="minimize" if settings.monitor[0] == "min" else "maximize",
                load_if_exists=True,
            )
            _begin_study(study, settings, space)
    return study


def _begin_study(study: optuna.Study, settings: Settings, space: Space) -> None:
    mode, name = settings.monitor
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


@contextmanager
def study_locked(settings: Settings, folder: Path | None) -> Iterator[None]:
    """Keeps every other sweep from changing the study, on this host and on others.

    SQLite is locked by a file beside the database: a transaction would lock out Optuna itself. Other databases are
    locked by a row of `LOCKS`. The end of the process releases either.

    Args:
        settings: the sweep.
        folder: holds the database if `settings` names none.
    """
    url = sqlalchemy.make_url(_url(settings, folder))
    with ExitStack() as held:
        if url.get_backend_name() == "sqlite":
            file = Path((url.database or "").removeprefix("file:")).resolve()
            # Without this folder SQLite fails, and names the reason.
            if url.database not in (None, "", ":memory:") and file.parent.is_dir():
                enter_when_free(held, file.parent, f".{file.name}.lock")
        else:
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
            connection = held.enter_context(engine.begin())
            connection.execute(sqlalchemy.select(LOCKS).where(LOCKS.c.study == settings.study).with_for_update())
        yield


def _make_lock(url: str, study: str) -> None:
    if sqlalchemy.make_url(url).get_backend_name() == "sqlite":
        return
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    for attempt in range(1, TRIES + 1):
        try:
            LOCKS.metadata.create_all(engine)
            break
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError):
            if attempt == TRIES:
                raise
            time.sleep(0.5)
    with suppress(sqlalchemy.exc.IntegrityError), engine.begin() as connection:
        connection.execute(LOCKS.insert().values(study=study))


def _url(settings: Settings, folder: Path | None) -> str:
    return settings.storage or f"sqlite:///{(folder or Path()).resolve() / 'study.db'}"


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
