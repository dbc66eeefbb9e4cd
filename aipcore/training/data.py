"""The data of a run: its datasets, the batches of an epoch, and the worker processes that make samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import attrs

from aipcore.data.batching import Batching
from aipcore.data.class_weight import Table, weight_table
from aipcore.data.dataset import Dataset
from aipcore.data.folds import FoldSplit, Select
from aipcore.data.loader import DataLoader
from aipcore.data.pipeline import Pipeline, Preload
from aipcore.data.preprocessed import stream_of
from aipcore.data.processor import Mode
from aipcore.data.streamed import StreamDataset
from aipcore.data.worker_pool import WorkerPool
from aipcore.distributed.process_group import ProcessGroup
from aipcore.errors import ParamsError
from aipcore.scenario.model import Graph, signatures_of
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.pipelines import lav_data_of, make_pipeline, make_workers
from aipcore.scenario.preprocessing import Preprocessing, preprocessed, with_preprocessing
from aipcore.scenario.scenario import Scenario
from aipcore.start_tensorflow import reset_keras
from aipcore.training.engine.learning_rate import Horizon
from aipcore.training.params import POLICIES, TrainerParams
from aipcore.training.preprocessing import refuse_string_targets, shared_preprocessing
from aipcore.training.steps import Steps, make_steps

P = ParamSpec("P")
R = TypeVar("R")


@attrs.frozen(kw_only=True, eq=False)
class RunData:
    """The data of a run.

    Attributes:
        train: the training samples.
        shown: samples for comparisons of exported models, with the inputs of the exported model.
        preprocessing: the adapted preprocessing, or None.
        val: the validation samples, or None.
        lav: the LAV lists, by name; the validation samples alone have the name "".
        class_weights: weight of a training sample, indexed by its class, or None; see `class_weight.Table`.
        batching: the division of a training epoch into batches.
        loader: these batches, in the run's order.
        steps: the optimizer updates of an epoch, and those at which something is due.
        pipelines: the sources of all samples.
        left_out: a sentence for each pipeline that skipped samples when they were first read.
        workers: the worker processes for all pipelines.
        fingerprint: the fingerprint of each part's samples, by `train`, `val`, or the name of a LAV list.
        split: the division of the training data into folds, or None.
    """

    train: Dataset
    shown: Dataset
    preprocessing: Preprocessing | None
    val: Dataset | None
    lav: dict[str, Dataset]
    class_weights: Table | None
    batching: Batching
    loader: DataLoader
    steps: Steps
    pipelines: list[Pipeline]
    left_out: list[str]
    workers: WorkerPool
    fingerprint: dict[str, Any]
    split: FoldSplit | None = None

    @property
    def horizon(self) -> Horizon:
        """The length of the run."""
        return self.steps.horizon

    def skipped(self) -> list[str]:
        """Return a sentence for each pipeline that has skipped samples since the last call."""
        return _skipped(self.pipelines)

    @property
    def stream(self) -> StreamDataset | None:
        """The training samples if they are a stream."""
        return stream_of(self.train)

    def signatures(self, trained: Graph, applied: Graph, further: Mapping[str, Graph]) -> dict[str, Any]:
        """Return the inputs and outputs of the models for the record of the run; see `signatures_of`."""
        graphs = {name: with_preprocessing(graph, self.preprocessing) for name, graph in further.items()}
        return signatures_of(trained, with_preprocessing(applied, self.preprocessing), graphs)

    def close(self) -> None:
        """Stop all background work."""
        self.workers.close()


def closing_data(method: Callable[P, R]) -> Callable[P, R]:
    """Wrap a method so that, if it fails, it stops the background work of the object's `data`, a `RunData`."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except BaseException:
            data: RunData | None = getattr(args[0], "data", None)
            if data is not None:
                data.close()
            raise

    return called


def prepare_data(
    scenario: Scenario,
    params: ScenarioParams,
    trainer: TrainerParams,
    seed: int,
    processes: ProcessGroup,
    stored: Preprocessing | None = None,
) -> RunData:
    """Read the scenario's data.

    Args:
        scenario: the scenario.
        params: its parameters.
        trainer: the parameters of the trainer.
        seed: the seed of the run.
        processes: the processes of the run.
        stored: the preprocessing of a resumed run; by default it is adapted to the training data.

    Raises:
        DataError: it is empty, or not valid data.
        ParamsError: parameters of the data contradict each other.
    """
    if trainer.lav_every_n and trainer.epochs is not None and trainer.lav_min_epoch > trainer.epochs:
        raise ParamsError(
            f"--trainer.lav_min_epoch {trainer.lav_min_epoch} is after the last epoch (--trainer.epochs "
            f"{trainer.epochs}), so LAV never runs. Choose an earlier epoch, or turn LAV off: --trainer.lav_every_n 0."
        )
    workers = make_workers(params)
    try:
        return _read_data(scenario, params, trainer, seed, workers, processes, stored)
    except BaseException:
        workers.close()
        raise


def _read_data(
    scenario: Scenario,
    params: ScenarioParams,
    trainer: TrainerParams,
    seed: int,
    workers: WorkerPool,
    processes: ProcessGroup,
    stored: Preprocessing | None,
) -> RunData:
    pipelines: list[Pipeline] = []
    fingerprints: dict[str, Any] = {}

    def pipeline(
        name: str,
        read: Callable[[], Any],
        origin: str,
        mode: Mode,
        preload: Any,
        limit: int | None,
        data: Any = None,
        select: Select | None = None,
    ) -> Pipeline:
        made = make_pipeline(
            scenario,
            params,
            read() if data is None else data,
            origin=origin,
            mode=mode,
            preload=preload,
            seed=seed,
            workers=workers,
            limit=limit,
            again=read,
            streamed=mode is Mode.TRAINING and trainer.samples_per_epoch != -1 and preload != "on",
            process=(processes.index, processes.count),
            select=select,
        )
        pipelines.append(made)
        if name:
            fingerprints[name] = made.fingerprint()
        return made

    split = fold_split(trainer, seed)
    training = pipeline(
        "train",
        scenario.train_data,
        "train_data()",
        Mode.TRAINING,
        params.train.preload,
        params.train.limit,
        select=None if split is None else split.training,
    )
    raw = training.dataset()
    refuse_string_targets(scenario, raw, training.origin)
    preprocessing = stored
    if stored is None and (preprocessing := shared_preprocessing(scenario, raw, processes)) is not None:
        # A resumed run creates no layers for it, and its model must have the same names.
        reset_keras(seed, POLICIES[trainer.precision])

    def prepared(dataset: Dataset, preload: Preload) -> Dataset:
        return dataset if preprocessing is None else preprocessed(dataset, preprocessing, preload, params.data)

    def validation(name: str, limit: int | None, data: Any = None) -> Dataset:
        given: tuple[Any, ...] = (scenario.val_data, "val_data()", Mode.EVALUATION, params.val.preload, limit, data)
        if split is not None:
            select = split.validation(limit)
            given = (scenario.train_data, "train_data()", *given[2:4], params.train.limit, None, select)
        return pipeline(name, *given).dataset()

    train = prepared(raw, params.train.preload)
    val_data = scenario.val_data() if split is None else None
    val, shown = None, raw
    if val_data is not None or split is not None:
        shown = validation("val", params.val.limit, val_data)
        val = prepared(shown, params.val.preload)
    lav: dict[str, Dataset] = {}
    lists = lav_data_of(scenario) if trainer.lav_every_n else {}
    if lists is None:
        if val is not None and params.lav.limit in (None, params.val.limit):
            lav = {"": val}
        elif val is not None:
            lav = {"": prepared(validation("", params.lav.limit), params.val.preload)}
    else:
        for name, data in lists.items():
            origin = f"lav_data()[{name!r}]"

            def read(name: str = name) -> Any:
                return (lav_data_of(scenario) or {})[name]

            dataset = pipeline(
                f"lav {name}", read, origin, Mode.EVALUATION, params.lav.preload, params.lav.limit, data
            ).dataset()
            lav[name] = prepared(dataset, params.lav.preload)
    _refuse_unused(params, training.origin, raw, shown if val is not None else None, adapted=preprocessing is not None)
    wanted = len(train) if trainer.samples_per_epoch == -1 else trainer.samples_per_epoch
    loader = training.loader(
        params.train.batch_size,
        samples=max(1, round(wanted * trainer.scale_epoch_size)),
        shuffle=params.train.shuffle,
        bucket_window=params.train.bucket_window,
        drop_remainder=params.train.batch_drop_remainder,
    )
    if preprocessing is not None:
        loader = DataLoader(train, loader.order, loader.batching)
    return RunData(
        train=train,
        shown=shown,
        preprocessing=preprocessing,
        val=val,
        lav=lav,
        class_weights=weight_table(params.train, train, f"{type(scenario).__name__}.train_data()"),
        batching=loader.batching,
        loader=loader,
        steps=make_steps(trainer, loader.batching.steps, validates=val is not None),
        pipelines=pipelines,
        left_out=_skipped(pipelines),
        workers=workers,
        fingerprint=fingerprints,
        split=split,
    )


def _refuse_unused(params: ScenarioParams, origin: str, train: Dataset, val: Dataset | None, *, adapted: bool) -> None:
    """Reject data parameters that have no effect.

    Args:
        params: parameters of the scenario.
        origin: name of the training data in errors.
        train: training samples, before preprocessing.
        val: validation samples, before preprocessing, or None.
        adapted: True if the scenario has preprocessing.

    Raises:
        ParamsError: a parameter does not suit the kind of data, or there is no such data.
    """
    streams = stream_of(train) is not None, val is not None and stream_of(val) is not None
    kept = "which is not kept in memory"
    for unused, sentence, option in (
        (params.train.shuffle_buffer and not streams[0], f"{origin} is read by index", "train.shuffle_buffer"),
        (params.train.preload == "on" and streams[0], f"{origin} is a stream, {kept}", "train.preload"),
        (params.val.preload == "on" and streams[1], f"val_data() is a stream, {kept}", "val.preload"),
        (params.val.bucket_window and streams[1], "val_data() is a stream, which is not sorted", "val.bucket_window"),
        (params.train.adapt_samples and not adapted, "There is no preprocessing() to adapt", "train.adapt_samples"),
        (params.val.limit and val is None, "There is no validation data", "val.limit"),
    ):
        if unused:
            raise ParamsError(f"{sentence}, so --{option} has no effect. Leave it out.")


def fold_split(trainer: TrainerParams, seed: int) -> FoldSplit | None:
    """Return the division of the training data for the fold of a run; None without folds.

    Raises:
        ParamsError: the parameters of the folds contradict each other.
    """
    if trainer.folds is None:
        if trainer.fold is not None:
            raise ParamsError(f"--trainer.fold {trainer.fold} needs --trainer.folds. Give the number of folds.")
        return None
    if trainer.fold is None:
        raise ParamsError(
            f"--trainer.folds {trainer.folds} trains several runs. Train with aip train or aipcore.train, or give "
            "one --trainer.fold."
        )
    if trainer.fold > trainer.folds:
        raise ParamsError(
            f"--trainer.fold {trainer.fold} is above --trainer.folds {trainer.folds}. Give a fold from 1 to "
            f"{trainer.folds}."
        )
    if trainer.random_seed is None:
        raise ParamsError("--trainer.fold needs --trainer.random_seed. Give all folds the same seed.")
    return FoldSplit(folds=trainer.folds, fold=trainer.fold, seed=seed, by=trainer.folds_by)


def _skipped(pipelines: list[Pipeline]) -> list[str]:
    return [text for text in (pipeline.skipped() for pipeline in pipelines) if text]
