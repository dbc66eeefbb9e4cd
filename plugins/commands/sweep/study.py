"""The Optuna study of a sweep, with its sampler and pruner."""

from __future__ import annotations

import hashlib
import math
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from aip_plugins.commands.sweep.dimension import Dimension
from aip_plugins.commands.sweep.settings import Settings, lock_when_free
from aip_plugins.commands.sweep.space import Space
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from aipcore.errors import AipError, UsageError
from aipcore.params.secret import redacted

WAIT = 60.0
"""Seconds to wait for another process that writes to the SQLite file."""

TRIES = 4
"""Attempts to create the lock table, which another process may be creating too."""

LOCKS = sqlalchemy.Table(
    "aip_sweeps", sqlalchemy.MetaData(), sqlalchemy.Column("study", sqlalchemy.String(512), primary_key=True)
)
"""Table with one row per study. The holder of the row's lock may change the study."""


def open_study(settings: Settings, space: Space, folder: Path | None = None) -> optuna.Study:
    """Open the study of a sweep, or create it.

    Args:
        settings: the settings of the sweep.
        space: the search space.
        folder: the folder of the database if `settings` names none.

    Raises:
        UsageError: the database cannot be used, or contains another study of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = _url(settings, folder)
    with database_errors(settings, "Check --storage"):
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
    about = {"scenario": settings.scenario, "monitor": ":".join(settings.monitor), "space": sorted(settings.space)}
    empty = not study.get_trials(deepcopy=False)
    for key, value in about.items():
        there = study.user_attrs.get(f"aip_{key}")
        if there is None and empty:
            study.set_user_attr(f"aip_{key}", value)
        elif there != value:
            before, now = (" ".join(each) if isinstance(each, list) else each for each in (there, value))
            found = f"has the {key} {before}, but this sweep has {now}" if before else "was not created by aip sweep"
            raise UsageError(f"The study {settings.study} in {settings.place} {found}. Choose another --study.")
    if settings.sampler == "grid" and not study.user_attrs.get("aip_grid"):
        for point in space.grid():
            study.enqueue_trial(point, skip_if_exists=not empty)
        study.set_user_attr("aip_grid", True)


@contextmanager
def study_locked(settings: Settings, folder: Path | None) -> Iterator[None]:
    """Lock the study against all other sweeps, on this host and on others.

    SQLite is locked by a file beside the database, since a transaction would lock out Optuna itself. Other databases
    are locked by a row of `LOCKS`. Both locks are released when the process ends.

    Args:
        settings: the settings of the sweep.
        folder: the folder of the database if `settings` names none.
    """
    url = sqlalchemy.make_url(_url(settings, folder))
    if url.get_backend_name() == "sqlite":
        file = Path((url.database or "").removeprefix("file:")).resolve()
        # Without this folder SQLite fails and reports the reason.
        lockable = url.database not in (None, "", ":memory:") and file.parent.is_dir()
        with lock_when_free(file.parent, f".{file.name}.lock") if lockable else nullcontext():
            yield
    else:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
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
    """Return the pruner of this name.

    Args:
        name: the value of `--pruner`.
        epochs: the most epochs of a trial.
    """
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


def suggest(study: optuna.Study, trial: optuna.Trial, settings: Settings, space: Space) -> dict[str, str]:
    """Choose a trial's hyperparameters; existing choices stay.

    The choice depends on the seed, the number of the trial and the earlier trials. Neither an interruption nor another
    process with the same seed therefore repeats a choice.
    """
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed}:{trial.number}".encode()).digest()[:4], "big")
    kind = optuna.samplers.TPESampler if settings.sampler == "tpe" else optuna.samplers.RandomSampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.sampler = kind(seed=seed)
    return space.walk(lambda each: each.word(_suggest(trial, each)))


def _suggest(trial: optuna.Trial, each: Dimension) -> Any:
    if each.choices:
        return trial.suggest_categorical(each.name, each.choices)
    if each.kind == "int":
        return trial.suggest_int(each.name, int(each.low), int(each.high), step=int(each.step or 1), log=each.log)
    return trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)


def begun(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended or are running, in order."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each hyperparameter for the differences between trials, largest first; the sum is 1.

    Empty if there are too few trials or all have the same value.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    common = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
    if len(complete) < 4 or len(common) < 2 or len({trial.value for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The only evaluator that needs no further package.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(common))
    return {name: value for name, value in found.items() if math.isfinite(value)}


@contextmanager
def database_errors(settings: Settings, remedy: str, kind: type[AipError] = UsageError) -> Iterator[None]:
    """Convert a database failure to an error of one sentence.

    Args:
        settings: the settings of the sweep.
        remedy: the end of the sentence.
        kind: the error to raise.

    Raises:
        AipError: the database failed.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError) as error:
        # The database's own text, without the statement and the link to SQLAlchemy's manual.
        known = error.__cause__ if isinstance(error.__cause__, sqlalchemy.exc.SQLAlchemyError) else error
        cause = " ".join(re.split(r"\n\[SQL|\n\(Background", str(known))[0].split())
        raise kind(f"The storage {settings.place} cannot be used ({redacted(cause)}). {remedy}.") from error
