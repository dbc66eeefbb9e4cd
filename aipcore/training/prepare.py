"""Everything a run needs before its first batch: data, model, optimizer, loops, and what says which epoch is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import attrs
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.feed import Batching, Feed
from aipcore.data.modes import Mode
from aipcore.data.pipeline import Pipeline
from aipcore.data.resident import Numbers, resident
from aipcore.data.workers import Workers
from aipcore.devices.distribution import Distribution
from aipcore.errors import ScenarioError
from aipcore.evaluation.evaluate import Evaluation
from aipcore.scenario.graph import Graph, build_graph, prediction_graph
from aipcore.scenario.metrics import MetricSet, ReplicaMetrics
from aipcore.scenario.objective import Objective
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.paths import name_optimizer_variables
from aipcore.scenario.pipelines import make_pipeline, make_workers
from aipcore.scenario.scenario import Scenario
from aipcore.training.context import RunContext
from aipcore.training.ema import WeightAverage, averaged_variables, averaging_rate
from aipcore.training.formats import Format
from aipcore.training.freezing import freeze
from aipcore.training.horizon import Horizon
from aipcore.training.learning_rate import ScaledSchedule
from aipcore.training.loop import TrainingLoop
from aipcore.training.loss_scale import LossScale
from aipcore.training.monitor import Monitor, make_monitor
from aipcore.training.params import TrainerParams
from aipcore.training.sanity import check_data, check_first_losses, check_metrics, check_targets
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.report import WarmStart

P = ParamSpec("P")
R = TypeVar("R")


@attrs.frozen(kw_only=True, eq=False)
class Parts:
    """What a run is put together from, made by plugins.

    Attributes:
        schedule: from the horizon to a `keras.optimizers.schedules.LearningRateSchedule`.
        optimizer: from that schedule to a `keras.optimizers.Optimizer`.
        callbacks: by name, from the run's context to a `keras.callbacks.Callback`.
        formats: by name, what a model is written in.
    """

    schedule: Callable[[Horizon], Any]
    optimizer: Callable[[Any], Any]
    callbacks: Mapping[str, Callable[[RunContext], Any]] = attrs.field(factory=dict)
    formats: Mapping[str, Format] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class RunData:
    """The data of a run.

    Attributes:
        train: the training samples.
        val: the validation samples, or None.
        lav: the lists of the extended validation, by name; the validation samples alone have the name "".
        batching: how an epoch of training is cut into batches.
        feed: these batches, in the run's order.
        horizon: optimizer updates per epoch, and epochs.
        pipelines: where all of the samples come from.
        left_out: a sentence for each pipeline that left samples out while they were read for the first time.
        workers: the processes that make samples for all of them.
    """

    train: Dataset
    val: Dataset | None
    lav: dict[str, Dataset]
    batching: Batching
    feed: Feed
    horizon: Horizon
    pipelines: list[Pipeline]
    left_out: list[str]
    workers: Workers

    def skipped(self) -> list[str]:
        """A sentence for each pipeline that left samples out since the last call."""
        return _skipped(self.pipelines)

    def close(self) -> None:
        """Ends what works in the background."""
        self.workers.close()


def closing_data(method: Callable[P, R]) -> Callable[P, R]:
    """A method that ends what works in the background for the object's `data`, a `RunData`, if it fails."""

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


@attrs.frozen(kw_only=True, eq=False)
class RunModel:
    """The model of a run and what computes with it.

    Attributes:
        graph: the model that is trained.
        prediction: the one that is applied; the same object, if that is no other.
        learning_rate: the schedule, scaled by what callbacks say.
        optimizer: its variables built.
        distribution: the devices that share each batch.
        metrics: of training.
        loop: the training step.
        feed: what the loop is given: the data's, or the numbers of samples that lie on the device.
        validation: the pass over the validation data, or None.
        lav: those of the extended validation, by list.
        monitor: which epoch is best.
        average: of the weights, or None.
        frozen: the layers that are not trained and their numbers of weights.
        warm_start: what weights the run begins with, or None.
    """

    graph: Graph
    prediction: Graph
    learning_rate: ScaledSchedule
    optimizer: Any
    distribution: Distribution
    metrics: ReplicaMetrics
    loop: TrainingLoop
    feed: Feed
    validation: Evaluation | None
    lav: dict[str, Evaluation]
    monitor: Monitor
    average: WeightAverage | None
    frozen: list[tuple[str, int]]
    warm_start: WarmStart | None


def prepare_data(scenario: Scenario, params: ScenarioParams, trainer: TrainerParams, seed: int) -> RunData:
    """Reads the scenario's data.

    Raises:
        DataError: it is empty, or no data at all.
    """
    workers = make_workers(params)
    try:
        return _read_data(scenario, params, trainer, seed, workers)
    except BaseException:
        workers.close()
        raise


def _read_data(
    scenario: Scenario, params: ScenarioParams, trainer: TrainerParams, seed: int, workers: Workers
) -> RunData:
    pipelines: list[Pipeline] = []

    def pipeline(data: Any, origin: str, mode: Mode, preload: Any) -> Pipeline:
        made = make_pipeline(
            scenario, params, data, origin=origin, mode=mode, preload=preload, seed=seed, workers=workers
        )
        pipelines.append(made)
        return made

    training = pipeline(scenario.train_data(), "train_data()", Mode.TRAINING, params.train.preload)
    train = training.dataset()
    val_data = scenario.val_data()
    val = None
    if val_data is not None:
        val = pipeline(val_data, "val_data()", Mode.EVALUATION, params.val.preload).dataset()
    lav: dict[str, Dataset] = {}
    lists = scenario.lav_data() if trainer.lav_every_n else {}
    if lists is None:
        lav = {} if val is None else {"": val}
    else:
        for name, data in lists.items():
            lav[name] = pipeline(data, f"lav_data()[{name!r}]", Mode.EVALUATION, params.lav.preload).dataset()
    wanted = len(train) if trainer.samples_per_epoch == -1 else trainer.samples_per_epoch
    feed = training.feed(
        params.train.batch_size,
        samples=max(1, round(wanted * trainer.scale_epoch_size)),
        shuffle=params.train.shuffle,
        bucket_window=params.train.bucket_window,
    )
    updates = math.ceil(feed.batching.steps / trainer.accumulate_steps)
    return RunData(
        train=train,
        val=val,
        lav=lav,
        batching=feed.batching,
        feed=feed,
        horizon=Horizon(updates_per_epoch=updates, epochs=trainer.epochs),
        pipelines=pipelines,
        left_out=_skipped(pipelines),
        workers=workers,
    )


def _skipped(pipelines: list[Pipeline]) -> list[str]:
    return [text for text in (pipeline.skipped() for pipeline in pipelines) if text]


def prepare_model(
    scenario: Scenario,
    params: ScenarioParams,
    trainer: TrainerParams,
    data: RunData,
    parts: Parts,
    distribution: Distribution,
) -> RunModel:
    """Builds the model and all that computes with it.

    Raises:
        ScenarioError: model, losses, metrics and data do not fit together, and why.
        ParamsError: the weights to begin with do not fit, or other parameters.
    """
    kind = type(scenario).__name__
    with distribution.scope():
        graph = build_graph(scenario, data.train)
        prediction = prediction_graph(scenario, graph)
    distribution.spread_seeds(graph.model.variables)
    warm_started = warm_start(graph.model, trainer.warmstart)
    frozen = freeze(graph.model, trainer.no_train_scope) if trainer.no_train_scope is not None else []
    if not graph.model.trainable_variables:
        raise ScenarioError(f"The model of {kind} has no trainable weights.")
    learning_rate = ScaledSchedule(parts.schedule(data.horizon))
    with distribution.scope():
        optimizer = parts.optimizer(learning_rate)
        optimizer.build(graph.model.trainable_variables)
    name_optimizer_variables(optimizer)
    distribution.adopt_optimizer(optimizer)
    # Callbacks reach the optimizer through the model, as under Model.fit.
    graph.model.compile(optimizer=optimizer, jit_compile=False)
    targets = list(data.train.specs()[1])
    objective = Objective(scenario, graph.outputs, targets)
    named = _named(kind, data)
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_data(dataset.known(), origin)
            check_targets(objective, graph, dataset.known(), origin)
    losses = _loss_names(kind, objective, graph, data.feed)
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_first_losses(objective, graph, dataset.known(), origin, data.batching.batch_size)

    def make_metrics() -> MetricSet:
        return MetricSet(scenario, graph.outputs, targets, losses)

    # Where another model is applied than is trained, with those of its outputs alone.
    there = prediction.outputs
    applied = Objective(scenario, graph.outputs, targets, given=there)

    def make_applied_metrics() -> MetricSet:
        return MetricSet(scenario, graph.outputs, targets, applied.computable(losses), given=there)

    metrics = ReplicaMetrics(make_metrics, distribution)
    if not trainer.skip_sanity_check:
        evaluator = scenario.evaluator() if data.lav else None
        for dataset, _ in named[:1] if data.val is None else named[1:2]:
            known, size = dataset.known(), data.batching.batch_size
            if prediction is not graph:
                check_metrics(make_metrics(), None, graph, known, kind, size)
            check_metrics(make_applied_metrics(), evaluator, prediction, known, kind, size)
    average = None
    if trainer.calc_ema != 0:
        rate = averaging_rate(trainer.calc_ema, data.horizon.updates_per_epoch)
        average = WeightAverage(averaged_variables(graph, batch_norm=trainer.ema_batch_norm), rate, distribution)
    held = resident(data.train) if distribution.strategy is None else None
    feed = data.feed if held is None else Feed(Numbers(held), data.feed.order, data.batching)
    loop = TrainingLoop(
        graph,
        optimizer,
        objective,
        metrics,
        feed.dataset.specs(),
        resident=None if held is None else (held.inputs.columns, held.targets.columns),
        distribution=distribution,
        clipping=trainer.optimizer,
        accumulate_steps=trainer.accumulate_steps,
        average=average,
        loss_scale=LossScale() if trainer.precision == "float16" else None,
    )

    def evaluation(dataset: Dataset, size: int, graph: Graph, losses: Objective, make: Any) -> Evaluation:
        return Evaluation(
            graph, dataset, losses, ReplicaMetrics(make, distribution), batch_size=size, distribution=distribution,
            eager=trainer.force_eager,
        )  # fmt: skip

    val_batch = params.val.batch_size or data.batching.batch_size
    validation = None if data.val is None else evaluation(data.val, val_batch, graph, objective, make_metrics)
    lav_batch = params.lav.batch_size or val_batch
    lav = {
        name: evaluation(dataset, lav_batch, prediction, applied, make_applied_metrics)
        for name, dataset in data.lav.items()
    }
    monitor = make_monitor(scenario.monitor, kind, metrics.names, validates=validation is not None)
    return RunModel(
        graph=graph,
        prediction=prediction,
        learning_rate=learning_rate,
        optimizer=optimizer,
        distribution=distribution,
        metrics=metrics,
        loop=loop,
        feed=feed,
        validation=validation,
        lav=lav,
        monitor=monitor,
        average=average,
        frozen=frozen,
        warm_start=warm_started,
    )


def _named(kind: str, data: RunData) -> list[tuple[Dataset, str]]:
    """The data sets, as errors call them."""
    named = [(data.train, f"{kind}.train_data()")]
    if data.val is not None:
        named.append((data.val, f"{kind}.val_data()"))
    named += [(dataset, f"{kind}.lav_data()[{name!r}]") for name, dataset in data.lav.items() if name]
    return named


def _loss_names(kind: str, objective: Objective, graph: Graph, feed: Feed) -> list[str]:
    # One batch through model and loss, not compiled: finds what does not fit, and tells the names of the losses.
    block = next(feed.blocks(0, chunk=1))
    inputs = {name: tf.constant(column[0]) for name, column in block.inputs.items()}
    targets = {name: tf.constant(column[0]) for name, column in block.targets.items()}
    try:
        return list(objective(inputs, targets, graph(inputs, training=False)))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        shapes = ", ".join(f"{name or 'targets'} {tuple(value.shape)}" for name, value in targets.items())
        reason = " ".join(str(error).split())
        raise ScenarioError(
            f"The losses of {kind} cannot take the model's output and the targets ({shapes}): {reason}"
        ) from error
