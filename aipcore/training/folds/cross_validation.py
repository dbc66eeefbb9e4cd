"""Cross-validation: one run for each fold of the training data, in one folder, and their mean and deviation."""

from __future__ import annotations

import gc
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import ParamsError, UsageError
from aipcore.logs import logging_to
from aipcore.params import Layer, Resolved, to_dict
from aipcore.params.resources import planned_copies
from aipcore.scenario.record import read_record
from aipcore.training.artifacts import RUN_RECORDS, WEIGHTS, find_artifact, fold_folder, fold_folders
from aipcore.training.checkpoint.atomic import write_file
from aipcore.training.folds.processes import FoldProcesses
from aipcore.training.folds.summary import best_values, mean_and_deviation, summary_lines
from aipcore.training.reporter import Reporters, TrainResult
from aipcore.training.request import Request
from aipcore.training.run_folder import LOCK, choose_output_dir, claim_output_dir, locked
from aipcore.training.runs import Run, history, read_run, validations
from aipcore.training.session import Output, open_output, start_tensorflow
from aipcore.training.stored_run import StoredRun, changes, find_stored_run

OF_FOLD = ("trainer.output_dir", "trainer.fold", "trainer.random_seed", "trainer.warmstart")
"""Parameters of a fold that differ from those of the cross-validation."""

Train = Callable[[Request, Output], TrainResult]
Resume = Callable[[StoredRun, Output], TrainResult]


def train_folds(request: Request, resolved: Resolved[Any], output: Output, train: Train) -> TrainResult:
    """Train all folds of a request.

    Args:
        request: the scenario and its parameters, with `trainer.folds`.
        resolved: the checked parameters.
        output: the settings for the output.
        train: trains one run; see `train_request`.

    Raises:
        AipError: see `train`.
    """
    params = resolved.value.trainer
    _check(request, params)
    sources, known = _sources(params)
    seed = params.random_seed if params.random_seed is not None else known
    seed = secrets.randbelow(2**31) if seed is None else seed
    request = attrs.evolve(request, layers=[*request.layers, _seed_layer(seed)])
    resolved = request.checked()
    folder = choose_output_dir(params.output_dir, request.scenario.name)
    start_tensorflow(params.device)
    from aipcore.training.components import about_run, write_run_files

    about = {**about_run(request.scenario, resolved, request.plugins), "seed": seed}
    claim_output_dir(folder)
    with locked(folder), _removed_if_empty(folder, params.folds):
        write_run_files(folder, about, planned_copies(resolved.value)[1])
        folds = _Folds(folder, request, params.folds, output, about, sources)
        return folds.run(train, None, processes=params.fold_processes)


def resume_folds(
    stored: StoredRun, resolved: Resolved[Any], output: Output, train: Train, resume: Resume, *, changed: bool
) -> TrainResult:
    """Resume a cross-validation: continue the unfinished folds, and train those that have not started.

    Args:
        stored: the folder of all folds.
        resolved: its checked parameters, with changes.
        output: the settings for the output.
        train: trains one run; see `train_request`.
        resume: resumes one run; see `resume_run`.
        changed: True if parameters were changed, which also continues finished folds.

    Raises:
        AipError: see `resume`.
    """
    folder, about, params = stored.folder.path, stored.folder.about, resolved.value.trainer
    _check(stored.request, params)
    if stored.given is not None and params.fold_processes > 1:
        raise UsageError(
            "A given scenario cannot be passed to --trainer.fold_processes. Resume with trainer.fold_processes 1."
        )
    with locked(folder):
        if changed:
            start_tensorflow(params.device)
            from aipcore.training.components import about_run, write_run_files

            made = about_run(stored.request.scenario, resolved, stored.request.plugins)
            about = {**made, **{name: about[name] for name in ("seed", "working_dir", "resources") if name in about}}
            write_run_files(folder, about)
        # Folds that have not started still need the warm start, which a resumed run does not.
        request = attrs.evolve(
            stored.request, layers=[layer for layer in stored.request.layers if layer is not stored.recorded[2]]
        )
        request = attrs.evolve(request, layers=[*request.layers, _seed_layer(about.get("seed"))])
        overrides = stored.request.layers[len(stored.recorded) :]
        model = request.resolved().value.trainer.warmstart.model
        sources = [] if model is None else fold_folders(model)
        folds = _Folds(folder, request, params.folds, output, about, sources, overrides=overrides, trust=stored.trust)

        def again(path: Path, shown: Output) -> TrainResult:
            return resume(find_stored_run(path, folds.changes(path), trust=stored.trust, scenario=stored.given), shown)

        return folds.run(train, again, processes=params.fold_processes, changed=changed)


def _seed_layer(seed: Any) -> Layer:
    return Layer.from_mapping("the folds", {"trainer.random_seed": seed})


def _sources(params: Any) -> tuple[list[Path], int | None]:
    """Return the run folders whose weights the folds start with, and the seed that divided their data.

    Both are empty without a warm start from a cross-validation.

    Raises:
        ParamsError: its folds differ from those of this one, so that a fold could start with a model that was trained
            on its validation data.
    """
    model = params.warmstart.model
    if model is None:
        return [], None
    folders = fold_folders(model)
    for folder in folders or [model]:
        find_artifact(folder, WEIGHTS)
    if not folders:
        return [], None
    about = read_record(model / "run.json")
    seed, trainer = about.get("seed"), about["params"]["trainer"]
    theirs = {name: trainer.get(name) for name in ("folds", "folds_by")} | {"random_seed": seed}
    for name, value in theirs.items():
        own = getattr(params, name)
        if own != value and not (name == "random_seed" and own is None and isinstance(seed, int)):
            raise ParamsError(
                f"--warmstart.model {model} is a cross-validation with trainer.{name} {value}, but this one has {own}. "
                "Each fold starts with the weights of the same fold, so both must divide the data equally."
            )
    return folders, seed


def _check(request: Request, params: Any) -> None:
    if params.device.strategy == "multi_worker":
        raise UsageError(
            "--trainer.folds cannot be combined with --device.strategy multi_worker. Train on one host, with "
            "--trainer.fold_processes for several processes."
        )
    if params.fold_processes > 1 and request.scenario.kind == "class":
        raise UsageError(
            "--trainer.fold_processes needs a scenario that other processes can import. Save it to a file, or train "
            "the folds one after another."
        )


@contextmanager
def _removed_if_empty(folder: Path, folds: int) -> Iterator[None]:
    """Remove the records of a new folder if no fold could begin."""
    try:
        yield
    except BaseException:
        if not any(fold_folder(folder, fold).exists() for fold in range(1, folds + 1)):
            for name in ("run.json", "params.json", "train.log", LOCK):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "resources", ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()
        raise


@attrs.frozen
class _Folds:
    """The folds of one cross-validation.

    Attributes:
        folder: the folder of all folds, which is locked.
        request: the request of each fold, without its number.
        folds: the number of folds.
        output: the settings for the output.
        about: the record in `run.json`.
        sources: the run folders whose weights the folds start with; empty without a warm start from another
            cross-validation.
        overrides: the parameters changed since the start.
        trust: True if addresses named in the folder may be contacted.
    """

    folder: Path
    request: Request
    folds: int
    output: Output
    about: Mapping[str, Any]
    sources: Sequence[Path] = ()
    overrides: Sequence[Layer] = ()
    trust: bool = True

    def run(
        self,
        train: Train,
        resume: Callable[[Path, Output], TrainResult] | None,
        *,
        processes: int,
        changed: bool = False,
    ) -> TrainResult:
        """Train or resume all folds that are not finished, and return their joint result."""
        started = time.perf_counter()
        listeners = list(self.output.listeners())
        # Opened once: a file of progress receives the events of all folds.
        given = None if self.output.reporter is None else Reporters(self.output.reporter)
        shared = [Reporters(*listeners)] if listeners else []
        joint = attrs.evolve(self.output, reporter=given, listeners=lambda: shared)
        signal = None
        try:
            waiting = [fold for fold in range(1, self.folds + 1) if changed or not self._is_done(fold)]
            if processes > 1 and len(waiting) > 1:
                signal = self._run_processes(waiting, processes, joint)
            else:
                for fold in waiting:
                    self._tell(joint, f"Fold {fold} of {self.folds}")
                    path = fold_folder(self.folder, fold)
                    # The model is not kept: the folds are trained in one process.
                    if resume is not None and self._has_begun(fold):
                        signal = resume(path, joint).signal
                    else:
                        signal = train(self._request(fold), joint).signal
                    gc.collect()
                    if signal is not None:
                        break
            return self._finish(joint, time.perf_counter() - started, signal)
        finally:
            for listener in listeners:
                if hasattr(listener, "close"):
                    listener.close()

    def _request(self, fold: int) -> Request:
        place = {"trainer.fold": fold, "trainer.output_dir": str(fold_folder(self.folder, fold))}
        if self.sources:
            place["trainer.warmstart.model"] = str(self.sources[fold - 1])
        return attrs.evolve(self.request, layers=[*self.request.layers, Layer.from_mapping("the folds", place)])

    def changes(self, path: Path) -> list[Layer]:
        """Return the changed parameters of a fold that has begun.

        They include those of an earlier resume that was interrupted before it reached the fold.
        """
        params = self.request.checked().value
        about, joint, values = read_run(path).about, to_dict(params, reveal=True), {}
        fixed = (*OF_FOLD, *about.get("resources", {}))
        for change in changes(about.get("params", {}), to_dict(params)):
            if not change.path.startswith(fixed):
                # Components and groups are replaced as a whole.
                group, name, *_ = change.path.split(".")
                values[f"{group}.{name}"] = joint[group][name]
        return [*([Layer.from_mapping("the folds", values)] if values else []), *self.overrides]

    def _is_done(self, fold: int) -> bool:
        path = fold_folder(self.folder, fold)
        with suppress(UsageError):
            return read_run(path).state in ("finished", "stopped") and not self.changes(path)
        return False

    def _has_records(self, fold: int) -> bool:
        return all((fold_folder(self.folder, fold) / name).exists() for name in RUN_RECORDS)

    def _has_begun(self, fold: int) -> bool:
        """Return True if the run of a fold has its records. Otherwise, remove what a kill at its start has left."""
        folder = fold_folder(self.folder, fold)
        if self._has_records(fold):
            return True
        for name in (*RUN_RECORDS, *(f".{name}.new" for name in RUN_RECORDS), "train.log", LOCK):
            (folder / name).unlink(missing_ok=True)
        return False

    def _run_processes(self, waiting: Sequence[int], processes: int, output: Output) -> int | None:
        def start(fold: int) -> dict[str, Any]:
            return {
                "folder": fold_folder(self.folder, fold),
                "begun": self._has_begun(fold),
                "about": dict(self.about),
                "layers": self._request(fold).layers[1:],
                "overrides": self.changes(fold_folder(self.folder, fold)) if self._has_begun(fold) else [],
                "trust": self.trust,
            }

        made = FoldProcesses(processes, lambda text: self._tell(output, text))
        return made.run({fold: start(fold) for fold in waiting})

    def _tell(self, output: Output, *lines: str) -> None:
        shown = open_output(output)
        with logging_to(shown.handler) as log:
            log.write_to(self.folder / "train.log")
            for line in lines:
                shown.reporter.message(line)
        shown.close()

    def _finish(self, output: Output, seconds: float, signal: int | None) -> TrainResult:
        begun = [fold for fold in range(1, self.folds + 1) if self._has_records(fold)]
        runs = [read_run(fold_folder(self.folder, fold)) for fold in begun]
        results = [_result_of(run) for run in runs]
        done = [run.state in ("finished", "stopped") for run in runs]
        complete = len(runs) == self.folds and all(done)
        values = [best_values(run) for run in runs]
        mean, deviation = mean_and_deviation(values) if complete else ({}, {})
        status = "finished" if complete else "interrupted"
        rows = [
            {"fold": fold, "status": run.state, "best_epoch": run.best_epoch, "values": logs}
            for fold, run, logs in zip(begun, runs, values, strict=True)
        ]
        content = {"status": status, "folds": rows, "mean": mean, "deviation": deviation}
        write_file(self.folder / "run.json", json.dumps({**self.about, "result": content}, indent=2) + "\n")
        again = self.request.resume_command(self.request.resolved(), self.folder)
        lines = summary_lines(mean, deviation, self.folds) if complete else [f"Resume all folds with: {again}"]
        self._tell(output, *lines)
        first = results[0] if results else None
        return TrainResult(
            status=status,  # type: ignore[arg-type]
            output_dir=self.folder,
            epochs=sum(result.epochs for result in results),
            history=[],
            monitor="" if first is None else first.monitor,
            best=None if first is None else mean.get(first.monitor),
            best_epoch=None,
            seconds=seconds,
            saved=[],
            signal=signal,
            resume="" if complete else again,
            folds=tuple(results),
            mean=mean,
            deviation=deviation,
        )


def _result_of(run: Run) -> TrainResult:
    """Return the recorded result of a fold, without its model."""
    return TrainResult(
        status=run.state if run.state in ("finished", "stopped") else "interrupted",
        output_dir=run.path,
        epochs=run.epochs,
        history=history(run),
        monitor=run.monitor,
        best=run.best,
        best_epoch=run.best_epoch,
        best_step=run.best_step,
        updates=run.updates or 0,
        validations=validations(run),
        seconds=0.0,
        saved=[name for name in ("best", "export", "checkpoint") if (run.path / name).exists()],
    )
