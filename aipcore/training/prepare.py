"""Everything a run needs before its first batch: data, model, optimizer, loops, and what says which epoch is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import attrs
import tensorflow as tf

from aipcore.data.class_weight import Table, weight_table
from aipcore.data.dataset import Dataset
from aipcore.data.feed import Batching, Feed
from aipcore.data.modes import Mode
from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import as_post_processors
from aipcore.data.resident import Numbers, resident
from aipcore.data.workers import Workers
from aipcore.devices.distribution import Distribution
from aipcore.errors import AipError, ParamsError, ScenarioError, located_sentence
from aipcore.evaluation.evaluate import Evaluation
from aipcore.evaluation.shown import show_samples
from aipcore.scenario.graph import (
    Graph,
    build_graph,
    further_graphs,
    prediction_graph,
    symbolic_targets_and_outputs,
)
from aipcore.scenario.metrics import MetricSet, ReplicaMetrics, metric_sets
from aipcore.scenario.objective import LossTerm, Objective, Tensors
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.paths import name_optimizer_variables
from aipcore.scenario.pipelines import lav_data_of, make_pipeline, make_workers
from aipcore.scenario.scenario import Scenario
from aipcore.training.context import RunContext
from aipcore.training.ema import WeightAverage, averaged_variables, averaging_rate
from aipcore.training.formats import Format
from aipcore.training.freezing import freeze
from aipcore.training.horizon import Horizon
from aipcore.training.learning_rate import ScaledSchedule, make_settable
from aipcore.training.loop import TrainingLoop
from aipcore.training.loss_scale import LossScale
from aipcore.training.monitor import Monitor, make_monitor
from aipcore.training.params import TrainerParams
from aipcore.training.sanity import (
    check_data,
    check_first_evaluation,
    check_first_losses,
    check_targets,
    check_weight_names,
)
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
        class_weights: how much a training sample counts, indexed by its class, or None; see `class_weight.Table`.
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
    class_weights: Table | None
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
        further: graphs that are exported beside that, by name.
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
    further: dict[str, Graph]
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
        ParamsError: parameters of the data do not fit together.
    """
    if trainer.lav_every_n and trainer.lav_min_epoch > trainer.epochs:
        raise ParamsError(
            f"--trainer.lav_min_epoch {trainer.lav_min_epoch} is after the last epoch (--trainer.epochs "
            f"{trainer.epochs}), so LAV never runs. Give an earlier epoch, or --trainer.lav_every_n 0."
        )
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

    def pipeline(data: Any, origin: str, mode: Mode, preload: Any, limit: int | None) -> Pipeline:
        made = make_pipeline(
            scenario, params, data, origin=origin, mode=mode, preload=preload, seed=seed, workers=workers, limit=limit
        )
        pipelines.append(made)
        return made

    training = pipeline(scenario.train_data(), "train_data()", Mode.TRAINING, params.train.preload, params.train.limit)
    train = training.dataset()
    val_data = scenario.val_data()
    val = None
    if val_data is not None:
        val = pipeline(val_data, "val_data()", Mode.EVALUATION, params.val.preload, params.val.limit).dataset()
    lav: dict[str, Dataset] = {}
    lists = lav_data_of(scenario) if trainer.lav_every_n else {}
    if lists is None:
        if val is not None and params.lav.limit in (None, params.val.limit):
            lav = {"": val}
        elif val is not None:
            again = scenario.val_data()
            lav = {"": pipeline(again, "val_data()", Mode.EVALUATION, params.val.preload, params.lav.limit).dataset()}
    else:
        for name, data in lists.items():
            origin = f"lav_data()[{name!r}]"
            lav[name] = pipeline(data, origin, Mode.EVALUATION, params.lav.preload, params.lav.limit).dataset()
    wanted = len(train) if trainer.samples_per_epoch == -1 else trainer.samples_per_epoch
    feed = training.feed(
        params.train.batch_size,
        samples=max(1, round(wanted * trainer.scale_epoch_size)),
        shuffle=params.train.shuffle,
        bucket_window=params.train.bucket_window,
        drop_remainder=params.train.batch_drop_remainder,
    )
    updates = math.ceil(feed.batching.steps / trainer.accumulate_steps)
    return RunData(
        train=train,
        val=val,
        lav=lav,
        class_weights=weight_table(params.train, train, f"{type(scenario).__name__}.train_data()"),
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
    # Only prediction needs them, but that is too late to be told.
    as_post_processors(scenario.post_processors(), f"{kind}.post_processors()")
    with distribution.scope():
        graph = build_graph(scenario, data.train)
        prediction = prediction_graph(scenario, graph)
        further = further_graphs(scenario, graph)
    distribution.spread_seeds(graph.model.variables)
    warm_started = warm_start(graph.model, trainer.warmstart)
    frozen = freeze(graph.model, trainer.no_train_scope) if trainer.no_train_scope is not None else []
    if trainer.input_gradient_penalty and not any(spec.dtype.startswith("float") for spec in graph.inputs.values()):
        raise ParamsError(
            f"--trainer.input_gradient_penalty {trainer.input_gradient_penalty:g}: {kind} has no floating-point "
            "input. Leave the option out."
        )
    if not graph.model.trainable_variables:
        raise ScenarioError(f"The model of {kind} has no trainable weights.")
    learning_rate = ScaledSchedule(parts.schedule(data.horizon))
    with distribution.scope():
        optimizer = parts.optimizer(learning_rate)
        optimizer.build(graph.model.trainable_variables)
    make_settable(optimizer, learning_rate)
    name_optimizer_variables(optimizer)
    distribution.adopt_optimizer(optimizer)
    # Callbacks reach the optimizer through the model, as under Model.fit.
    graph.model.compile(optimizer=optimizer, jit_compile=False)
    scoring = _prepare_scoring(scenario, trainer, data, graph, prediction)
    metrics = ReplicaMetrics(scoring.make_metrics, distribution)
    average = None
    if trainer.calc_ema != 0:
        rate = averaging_rate(trainer.calc_ema, data.horizon.updates_per_epoch)
        average = WeightAverage(averaged_variables(graph, batch_norm=trainer.ema_batch_norm), rate, distribution)
    held = resident(data.train) if distribution.strategy is None else None
    feed = data.feed if held is None else Feed(Numbers(held), data.feed.order, data.batching)
    loop = TrainingLoop(
        graph,
        optimizer,
        scoring.training,
        metrics,
        feed.dataset.specs(),
        resident=None if held is None else [side.columns for side in (held.inputs, held.targets, held.weights)],
        distribution=distribution,
        clipping=trainer.optimizer,
        accumulate_steps=trainer.accumulate_steps,
        input_gradient_penalty=trainer.input_gradient_penalty,
        average=average,
        loss_scale=LossScale() if trainer.precision == "float16" else None,
    )

    def evaluation(dataset: Dataset, size: int, graph: Graph, losses: Objective, make: Any) -> Evaluation:
        return Evaluation(
            graph,
            dataset,
            losses,
            ReplicaMetrics(make, distribution),
            batch_size=size,
            distribution=distribution,
            eager=trainer.force_eager,
        )

    val_batch = params.val.batch_size or data.batching.batch_size
    validation = None
    if data.val is not None:
        validation = evaluation(data.val, val_batch, graph, scoring.objective, scoring.make_metrics)
    lav_batch = params.lav.batch_size or val_batch
    lav = {
        name: evaluation(dataset, lav_batch, prediction, scoring.applied, scoring.make_applied_metrics)
        for name, dataset in data.lav.items()
    }
    monitor = make_monitor(scenario.monitor, kind, metrics.names, validates=validation is not None)
    return RunModel(
        graph=graph,
        prediction=prediction,
        further=further,
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


@attrs.frozen(kw_only=True, eq=False)
class _Scoring:
    """The losses and metrics of a run.

    Attributes:
        training: the losses of training, in which the weights of classes count.
        objective: those of validation.
        applied: those of the model that is applied.
        make_metrics: makes running losses and metrics for the trained model.
        make_applied_metrics: makes those for the applied one.
    """

    training: Objective
    objective: Objective
    applied: Objective
    make_metrics: Callable[[], MetricSet]
    make_applied_metrics: Callable[[], MetricSet]


def _prepare_scoring(
    scenario: Scenario, trainer: TrainerParams, data: RunData, graph: Graph, prediction: Graph
) -> _Scoring:
    """Resolves losses and metrics, and tries them out on the data.

    Raises:
        ScenarioError, DataError: they do not fit the model or the data.
    """
    kind, targets = type(scenario).__name__, list(data.train.specs()[1])
    objective = Objective(scenario, graph.outputs, targets)
    objective.resolve(*symbolic_targets_and_outputs(graph, data.train))
    named = _named(kind, data)
    for dataset, origin in named:
        check_weight_names(dataset.specs()[2], graph.outputs, origin)
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_data(dataset.known(), origin)
            check_targets(objective, graph, dataset.known(), origin)
    first = _FirstBatch.of(data.feed)
    terms, outputs = first.run(objective, graph, kind)
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_first_losses(objective, graph, dataset.known(), origin, data.batching.batch_size)
    make_metrics = metric_sets(scenario, graph.outputs, targets, objective, terms, (first.targets, outputs))
    applied, make_applied_metrics = objective, make_metrics
    if prediction is not graph:
        # Where another model is applied than is trained, with those of its outputs alone.
        applied = Objective(scenario, graph.outputs, targets, given=prediction.outputs)
        terms, outputs = first.run(applied, prediction, kind)
        make_applied_metrics = metric_sets(scenario, graph.outputs, targets, applied, terms, (first.targets, outputs))
    if data.lav and not trainer.skip_sanity_check:
        known, size = named[0 if data.val is None else 1][0].known(), data.batching.batch_size
        shown = show_samples(scenario, None, min(size, len(known)))
        check_first_evaluation(
            scenario.evaluator(), prediction, known, kind, size, names=make_applied_metrics().names, shown=shown
        )
    training = objective
    if data.class_weights is not None:
        training = Objective(scenario, graph.outputs, targets, class_weights=data.class_weights)
        training.resolve(*symbolic_targets_and_outputs(graph, data.train))
    return _Scoring(
        training=training,
        objective=objective,
        applied=applied,
        make_metrics=make_metrics,
        make_applied_metrics=make_applied_metrics,
    )


def _named(kind: str, data: RunData) -> list[tuple[Dataset, str]]:
    """The data sets, as errors call them."""
    named = [(data.train, f"{kind}.train_data()")]
    if data.val is not None:
        named.append((data.val, f"{kind}.val_data()"))
    named += [(dataset, f"{kind}.lav_data()[{name!r}]") for name, dataset in data.lav.items() if name]
    return named


@attrs.frozen(kw_only=True, eq=False)
class _FirstBatch:
    """The first batch of a run, by name: tensors of shape [batch, ...]."""

    inputs: Tensors
    targets: Tensors
    weights: Tensors
    samples: int

    @classmethod
    def of(cls, feed: Feed) -> _FirstBatch:
        """Reads it."""
        block = next(feed.blocks(0, chunk=1))
        inputs, targets, weights = (
            {name: tf.constant(column[0]) for name, column in side.items()}
            for side in (block.inputs, block.targets, block.weights)
        )
        return cls(inputs=inputs, targets=targets, weights=weights, samples=block.batch_size)

    def run(self, objective: Objective, graph: Graph, kind: str) -> tuple[dict[str, LossTerm], Tensors]:
        """The losses and outputs of the batch, not compiled: finds what does not fit.

        Raises:
            ScenarioError: the losses cannot take targets and outputs.
        """
        try:
            outputs = graph(self.inputs, training=False)
            return objective(self.inputs, self.targets, outputs, self.weights, float(self.samples)), outputs
        except AipError:
            raise
        except Exception as error:
            if texts := [name for name, value in self.targets.items() if value.dtype == tf.string]:
                raise ScenarioError(
                    f"The targets {texts[0] and repr(texts[0]) + ' '}of {kind} are text, which the loss cannot take. "
                    "Turn them into numbers in processors()."
                ) from error
            shapes = ", ".join(f"{name or 'targets'} {tuple(value.shape)}" for name, value in self.targets.items())
            raise ScenarioError(
                f"The losses of {kind} cannot take the model's output and the targets ({shapes}): "
                f"{located_sentence(error)}"
            ) from error
