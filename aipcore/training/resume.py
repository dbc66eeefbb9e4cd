"""Resuming a run, from Python and from the command line. Imports TensorFlow only for training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.errors import TrainingError, UsageError, author_errors, python_arguments
from aipcore.files import as_mapping
from aipcore.logs import RunLog, logging_to
from aipcore.params import Resolved, fill, to_dict
from aipcore.params.names import count
from aipcore.params.resources import planned_copies
from aipcore.params.secret import contacts, refuse_contacts
from aipcore.params.tree import shown
from aipcore.training.artifacts import is_cross_validation
from aipcore.training.folds.cross_validation import resume_folds
from aipcore.training.monitor import chosen_monitor
from aipcore.training.reporter import Reporter, TrainResult
from aipcore.training.request import AnyScenario, params_layer
from aipcore.training.run_folder import RunFolder, exported_epoch, locked, recover_models, set_aside
from aipcore.training.session import Opening, OpenOutput, Output, Record, open_output, session
from aipcore.training.status import record_end, recorded_failure
from aipcore.training.stored_run import RECOMPILE, Change, StoredRun, changes, find_stored_run, refuse_impossible
from aipcore.training.train import train_request

if TYPE_CHECKING:
    from aipcore.distributed.process_group import ProcessGroup
    from aipcore.training.checkpoint.format import Checkpoint
    from aipcore.training.params import TrainerParams


@author_errors()
@python_arguments()
def resume(
    folder: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    *,
    scenario: AnyScenario | None = None,
    trust: bool = False,
    strict_data: bool = False,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Resume a run from its newest checkpoint, as `aip resume` does.

    Args:
        folder: the run folder, its `checkpoint` folder, or one checkpoint.
        params: changed parameters, nested or by dotted names: `{"trainer.epochs": 9}`.
        scenario: a replacement for the scenario named in the folder, such as a class defined in a notebook.
        trust: if True, import the file or module named in the folder as its scenario, and contact addresses named in
            it.
        strict_data: if True, changed data or scenario source is an error instead of a warning.
        reporter: receives the progress instead of the console.
        quiet: if True, print only warnings.

    Returns:
        The result of the run. If there is nothing left to train, the earlier result, without a model.

    Raises:
        AipError: the folder is not a run folder, a parameter cannot change, or training failed.
    """
    stored = find_stored_run(Path(folder), [params_layer(params)], trust=trust, scenario=scenario)
    return resume_run(stored, Output(reporter=reporter, quiet=quiet), strict_data=strict_data)


@attrs.frozen(kw_only=True)
class _Resumption:
    """A checked run that can be resumed.

    Attributes:
        stored: the run as found on disk.
        resolved: its parameters from now on.
        found: the changed parameters.
        warnings: sentences for the user.
        path: the checkpoint to resume from; None to start from the beginning.
        checkpoint: the content of the checkpoint.
        differs: the parameters that differ from those in the checkpoint.
    """

    stored: StoredRun
    resolved: Resolved[Any]
    found: list[Change]
    warnings: list[str]
    path: Path | None = None
    checkpoint: Checkpoint | None = None
    differs: tuple[str, ...] = ()


def resume_run(stored: StoredRun, output: Output, *, strict_data: bool = False) -> TrainResult:
    """Resume a run, or all folds of a cross-validation; see `resume`."""
    resumption = _checked(stored)
    if is_cross_validation(stored.folder.about):
        again = partial(resume_run, strict_data=strict_data)
        changed = bool(resumption.found)
        return resume_folds(stored, resumption.resolved, output, train_request, again, changed=changed)
    return _resume(resumption, output, strict_data=strict_data)


def _resume(resumption: _Resumption, output: Output, *, strict_data: bool) -> TrainResult:
    folder, params = resumption.stored.folder, resumption.resolved.value.trainer
    cluster = output.find_cluster(params.device)
    chief = cluster is None or cluster.index == 0
    with locked(folder.path) if chief else nullcontext():
        resumption = _with_checkpoint(resumption)
        done = _finished(resumption)
        if done is not None:
            shown = open_output(output, cluster)
            with logging_to(shown.handler), closing(shown):
                shown.reporter.message(done[0])
            record_end(folder.path, done[1])
            return done[1]
        with session(params.device, output, cluster, folder.path if chief else None) as (shown, log, processes):
            # The folder may have changed since a worker read it, so all workers must agree with the chief.
            name = None if resumption.path is None else resumption.path.name
            processes.require_same({"the checkpoint to resume from": name})
            return _fit(resumption, shown, log, processes, strict_data=strict_data, owns_process=output.owns_process)


def _checked(stored: StoredRun) -> _Resumption:
    """Check parameters and addresses.

    Raises:
        AipError: a parameter or an address cannot be used.
    """
    request, warnings = stored.request, list(stored.warnings)
    tree = request.resolved().tree
    named = contacts(tree, (stored.recorded[1].name,))
    file = stored.folder.params_file
    if not stored.trust:
        refuse_contacts(named, file)
    warnings.extend(f"The run contacts {each.address}, which {file} names (--{each.option})." for each in named)
    resolved = request.checked()
    before = fill(request.root, stored.recorded, request.plugins)
    found = changes(to_dict(before), to_dict(resolved.value))
    fixed = request.scenario.cls.fixed
    refuse_impossible(found, lambda path: shown(tuple(path.split(".")), tree.shorts), fixed)
    return _Resumption(stored=stored, resolved=resolved, found=found, warnings=warnings)


def _with_checkpoint(resumption: _Resumption) -> _Resumption:
    """Find and read the checkpoint to resume from.

    Raises:
        TrainingError: it is damaged, or was written by a newer version of aip.
    """
    from aipcore.training.checkpoint.format import find_newest, read_checkpoint

    folder = resumption.stored.folder
    path, damaged = (folder.chosen, []) if folder.chosen is not None else find_newest(folder.checkpoints)
    warnings = [f"The checkpoint {each.name} is damaged ({why}) and is set aside." for each, why in damaged]
    checkpoint = None if path is None else read_checkpoint(path)
    # An override may come from an earlier process that was killed before it wrote a checkpoint.
    written = {} if checkpoint is None else checkpoint.about.get("params")
    now = json.loads(json.dumps(to_dict(resumption.resolved.value)))
    return attrs.evolve(
        resumption,
        warnings=[*resumption.warnings, *warnings],
        path=path,
        checkpoint=checkpoint,
        differs=tuple(change.path for change in changes(as_mapping(written), now)),
    )


def _fit(
    resumption: _Resumption,
    shown: OpenOutput,
    log: RunLog,
    processes: ProcessGroup,
    *,
    strict_data: bool,
    owns_process: bool,
) -> TrainResult:
    from aipcore.training.components import about_run, changed_kernels
    from aipcore.training.fingerprint import differences
    from aipcore.training.preprocessing import load_preprocessing
    from aipcore.training.tensorboard.events import BY_UPDATE, TRAIN_STEPS, VALIDATION_STEPS
    from aipcore.training.trainer import Trainer

    stored, checkpoint = resumption.stored, resumption.checkpoint
    before = stored.folder.about
    entry = _entry(resumption)
    about = about_run(stored.request.scenario, resumption.resolved, stored.request.plugins)

    def place() -> tuple[int, int, dict[str, int]]:
        state = trainer.state
        updates = int(trainer.engine.optimizer.iterations.numpy())
        return *state.position, {BY_UPDATE: updates, TRAIN_STEPS: state.updates, VALIDATION_STEPS: state.validated}

    trainer = Trainer.from_request(
        stored.request,
        resumption.resolved,
        output_dir=stored.folder.path if processes.is_chief else None,
        about={**about, "resumed": [*before.get("resumed", []), entry]},
        reporter=shown.reporter,
        processes=processes,
        preprocessing=None if checkpoint is None else load_preprocessing(stored.folder.path, checkpoint.about),
        opening=_opening(resumption, shown.reporter, log, place) if processes.is_chief else None,
        owns_process=owns_process,
    )
    if processes.is_chief:
        resumption.warnings.extend(changed_kernels(before, about))
        entry["differences"] = differences(before.get("fingerprint"), trainer.about["fingerprint"])
        resumption.warnings.extend(entry["differences"])
        if strict_data and (reason := _data_reason(stored.folder, entry["differences"])):
            trainer.data.close()
            raise UsageError(reason)
        recover_models(stored.folder)
    if checkpoint is not None:
        trainer.restore(
            checkpoint,
            recompile=any(path in RECOMPILE for path in resumption.differs),
            restart=_restarts(_stopped(checkpoint), resumption),
        )
    return trainer.fit()


def _data_reason(folder: RunFolder, found: Sequence[str]) -> str:
    """Return the reason why strict data rejects a run, or an empty string."""
    if not isinstance(folder.about.get("fingerprint"), dict):
        return f"{folder.path / 'run.json'} has no fingerprint of the data to compare. Resume without --strict-data."
    if not found:
        return ""
    return f"{' '.join(found)} Restore the original data and source, or resume without --strict-data."


def _opening(
    resumption: _Resumption, reporter: Reporter, log: RunLog, place: Callable[[], tuple[int, int, dict[str, int]]]
) -> Opening:
    """Return the context in which a resumed run uses its folder, which is already locked.

    Args:
        resumption: the run to resume.
        reporter: receives warnings and the position at which the run continues.
        log: the log of the run.
        place: returns completed epochs, batches of the epoch, and the last step of each part of the event files whose
            steps are updates.
    """

    @contextmanager
    def opening(about: dict[str, Any]) -> Iterator[Record]:
        from aipcore.training.components import record_result, write_run_files
        from aipcore.training.tensorboard.events import trim_events

        folder = resumption.stored.folder
        epoch, step, by_step = place()
        # All checks are done. From here on, the folder is changed.
        moved = set_aside(folder, resumption.path)
        trim_events(folder.path / "tensorboard", epoch, by_step)
        write_run_files(folder.path, about, planned_copies(resumption.resolved.value)[1])
        log.write_to(folder.path / "train.log")
        for warning in resumption.warnings:
            reporter.warning(warning)
        for each in moved:
            reporter.warning(f"The newer checkpoint {each.name} was moved to {each.parent}.")
        reporter.message(_begin(resumption.path, epoch, step, resumption.found))
        with recorded_failure(folder.path):
            yield lambda result: record_result(folder.path, about, result)

    return opening


def _entry(resumption: _Resumption) -> dict[str, Any]:
    """Return the entry for this resumption in `run.json`. Its time is only informative."""
    plain = {change.path: {"from": change.before, "to": change.after} for change in resumption.found}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "aip": version("aipcore"),
        "checkpoint": None if resumption.path is None else resumption.path.name,
        "overrides": plain,
    }


def _stopped(checkpoint: Checkpoint) -> str:
    return str(checkpoint.progress.get("stopped") or "")


def _restarts(stopped: str, resumption: _Resumption) -> bool:
    """Return True if a run that stopped early continues, since the cause of the stop has changed."""
    group = "trainer.early_stopping." if stopped.startswith("Early stopping") else "trainer.callbacks"
    return bool(stopped) and any(path.startswith(group) for path in resumption.differs)


def _finished(resumption: _Resumption) -> tuple[str, TrainResult] | None:
    """Return a sentence on a run with nothing left to do, and its result; None if training continues.

    Raises:
        UsageError: the run has ended without checkpoints, and parameters were changed to train further.
        TrainingError: the checkpoint cannot be used.
    """
    folder, checkpoint = resumption.stored.folder, resumption.checkpoint
    params = resumption.resolved.value.trainer
    if checkpoint is None:
        return _finished_without_checkpoint(resumption)
    progress, stopped = checkpoint.progress, _stopped(checkpoint)
    result = {**progress, **as_mapping(progress.get("monitor")), "epochs": progress.get("epoch")}
    if progress.get("step"):
        # The checkpoint is within the last epoch, which trainer.max_steps ended early.
        result = dict(as_mapping(folder.about.get("result")))
    epoch, reached = result.get("epochs"), _reached(params, progress)
    if stopped and not _restarts(stopped, resumption):
        why = f"The run stopped after epoch {epoch} ({stopped[:1].lower()}{stopped[1:]})."
        how = "To train further, change what stopped it, such as --early_stopping.n_to_go."
    elif reached is not None:
        option, number, given, unit = reached
        if any(change.path == option for change in resumption.found):
            why = f"The run already has {count(number, unit)}, so --{option} {given} trains none."
            how = f"Set a larger total, for example --{option} {2 * number}."
        else:
            why = f"The run finished after {count(number, unit)}."
            how = f"To train further, set more {unit}s, such as --{option} {2 * number}."
    else:
        return None
    if not result or (params.export_final and exported_epoch(folder) != epoch):
        # The run was killed before its export.
        return None
    result["status"] = "stopped" if stopped else "finished"
    return f"{why} {how}", _result(resumption, result)


def _reached(params: TrainerParams, progress: Mapping[str, Any]) -> tuple[str, int, int, str] | None:
    """Return the option that ends the run at a checkpoint, with the number there, the limit and the unit, or None."""
    limits = (("max_steps", "updates", params.max_steps, "update"), ("epochs", "epoch", params.epochs, "epoch"))
    for option, key, limit, unit in limits:
        number = progress.get(key)
        if limit is not None and isinstance(number, int) and number >= limit:
            return f"trainer.{option}", number, limit, unit
    return None


def _finished_without_checkpoint(resumption: _Resumption) -> tuple[str, TrainResult] | None:
    folder = resumption.stored.folder
    result, exported = as_mapping(folder.about.get("result")), exported_epoch(folder)
    if not result and exported is None:
        return None
    # Training again would start from scratch, and replace the models of the run.
    how = ", and its checkpoints are damaged" if any(folder.checkpoints.glob("step-*")) else " without a checkpoint"
    ended = f"The run in {folder.path} ended{how}"
    if resumption.found:
        raise UsageError(
            f"{ended}, so it cannot be trained further. To continue from its weights, start a new run: aip train with "
            f"--warmstart.model {folder.path}."
        )
    return f"{ended}. There is nothing to resume.", _result(
        resumption, {"status": "finished", "epochs": exported, "history": [], **result}
    )


def _result(resumption: _Resumption, values: Mapping[str, Any]) -> TrainResult:
    """Return the result of a run that has already ended.

    Raises:
        TrainingError: the values are not valid.
    """
    folder = resumption.stored.folder.path
    try:
        history = [{str(key): float(value) for key, value in logs.items()} for logs in values["history"]]
        best, best_epoch, best_step = (values.get(name) for name in ("best", "best_epoch", "best_step"))
        own = resumption.stored.request.scenario.cls.monitor
        name = chosen_monitor(resumption.resolved.value.trainer.monitor, own)[1].removeprefix("val_")
        return TrainResult(
            status="stopped" if values["status"] == "stopped" else "finished",
            output_dir=folder,
            epochs=int(values["epochs"]),
            history=history,
            monitor=f"val_{name}" if history and f"val_{name}" in history[-1] else name,
            best=None if best is None else float(best),
            best_epoch=None if best_epoch is None else int(best_epoch),
            best_step=None if best_step is None else int(best_step),
            updates=int(values.get("updates") or 0),
            validations=[dict(each) for each in values.get("validations") or ()],
            seconds=0.0,
            saved=[each for each in ("best", "export", "checkpoint") if (folder / each).exists()],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TrainingError(
            f"{folder} has no valid record of the end of its run ({type(error).__name__}: {error}). "
            "The folder is damaged."
        ) from error


def _begin(path: Path | None, epoch: int, step: int, found: Sequence[Change]) -> str:
    if path is None:
        where = "Starting from the beginning, because the run has no checkpoint yet"
    else:
        place = f"after epoch {epoch}" if epoch else "before the first epoch"
        place = f"in epoch {epoch + 1}, after {count(step, 'batch')}" if step else place
        where = f"Resuming from {path}, {place}"
    with_ = ", ".join(f"{change.path} {change.after}" for change in found)
    return f"{where}{f', with {with_}' if with_ else ''}."
