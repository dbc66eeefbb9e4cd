"""The setup of a run: data, model, optimizer and loops, identical on all processes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import keras

from aipcore.data.dataset import Dataset
from aipcore.data.device_cache import IndexDataset, resident
from aipcore.data.loader import DataLoader
from aipcore.data.pipeline import evaluation_batch_size
from aipcore.data.processor import as_post_processors
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import Distribution, path_of
from aipcore.errors import ParamsError, ScenarioError
from aipcore.params.dump import flat
from aipcore.scenario.losses import Objective
from aipcore.scenario.model import (
    Graph,
    build_graph,
    further_graphs,
    prediction_graph,
)
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.scenario import Scenario
from aipcore.start_tensorflow import KERAS_STATE
from aipcore.training.callbacks.context import RunContext
from aipcore.training.data import RunData
from aipcore.training.engine.batch_normalization import use_fused_kernels
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.engine.evaluate import Evaluation
from aipcore.training.engine.freezing import freeze
from aipcore.training.engine.learning_rate import Horizon, ScaledSchedule
from aipcore.training.engine.phases import RatePhases
from aipcore.training.engine.step_log import make_step_log
from aipcore.training.engine.train_step import TrainingLoop
from aipcore.training.export.formats import Format
from aipcore.training.losses_and_metrics import prepare_scoring
from aipcore.training.monitor import Monitor, known_directions, make_monitor
from aipcore.training.params import TrainerParams
from aipcore.training.updates import (
    UpdateComponents,
    make_optimizers,
    make_updates,
    target_updates,
    update_settings,
    updated_weights,
)
from aipcore.training.variables import VariableState, by_path
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.matching import WarmStart


def alone(strategy: str) -> ProcessGroup:
    """Return a process group with only this process.

    Raises:
        ParamsError: the strategy requires other processes.
    """
    if strategy == "multi_worker":
        raise ParamsError(
            "--device.strategy multi_worker needs the other workers. Train with aip train, or pass the processes "
            "of aipcore.distributed.strategy.joined_processes to the trainer."
        )
    return ProcessGroup()


def agreed_seed(processes: ProcessGroup, given: int | None) -> int:
    """Return the seed of a run: the given one, or one drawn by the chief for all."""
    seed: int = processes.broadcast("seed", secrets.randbelow(2**31) if given is None else given)
    return seed


def require_same_run(processes: ProcessGroup, about: Mapping[str, Any], samples: int) -> None:
    """Check that all workers have the same parameters and the same number of samples.

    Args:
        processes: the processes of the run.
        about: the record of the run; its `params` are the resolved parameters.
        samples: training samples of an epoch.

    Raises:
        ParamsError: a value differs.
    """
    params = flat(about.get("params", {}))
    params.pop("trainer.output_dir", None)  # Only the chief writes.
    versions = flat({"version": about.get("versions", {})})
    files = {f"the file {Path(each['path']).name}": each["fingerprint"] for each in about.get("plugin_files", [])}
    processes.require_same({"the number of training samples": samples, **params, **versions, **files})


@attrs.frozen(kw_only=True, eq=False)
class RunComponents:
    """The parts of a run that plugins build.

    Attributes:
        schedule: builds a `keras.optimizers.schedules.LearningRateSchedule` from the horizon.
        optimizer: builds a `keras.optimizers.Optimizer` from that schedule.
        updates: the parts of each of several updates by name. An update that is not in it uses `schedule` and
            `optimizer`.
        callbacks: functions that build a `keras.callbacks.Callback` from the run's context, by name.
        formats: export formats, by name.
    """

    schedule: Callable[[Horizon], Any]
    optimizer: Callable[[Any], Any]
    updates: Mapping[str, UpdateComponents] = attrs.field(factory=dict)
    callbacks: Mapping[str, Callable[[RunContext], Any]] = attrs.field(factory=dict)
    formats: Mapping[str, Format] = attrs.field(factory=dict)

    def of_update(self, name: str) -> UpdateComponents:
        """Return the parts of an update by its name."""
        return self.updates.get(name) or UpdateComponents(schedule=self.schedule, optimizer=self.optimizer)


@attrs.frozen(kw_only=True, eq=False)
class Engine:
    """The model of a run and its compiled steps.

    Attributes:
        graph: the trained model.
        prediction: the model for prediction; the same object as `graph` if the scenario defines no other.
        further: additional exported graphs, by name.
        learning_rate: the schedule, multiplied by a factor that callbacks can change; of several updates, the first.
        optimizers: the optimizers by the name of their update, with their variables built; a single one has the name
            "".
        distribution: the devices that share each batch.
        metrics: the training metrics.
        loop: the training step, with its updates.
        loader: the batches for the loop: the loader of the data, or indices of samples on the device.
        validation: the pass over the validation data, or None.
        lav: the passes over the LAV lists, by name.
        monitor: tracks the best epoch.
        average: the EMA of the weights, or None.
        frozen: the frozen layers and their numbers of weights.
        phases: the phases with their own rates and frozen layers.
        warm_start: the loaded initial weights, or None.
    """

    graph: Graph
    prediction: Graph
    further: dict[str, Graph]
    learning_rate: ScaledSchedule
    optimizers: dict[str, Any]
    distribution: Distribution
    metrics: ReplicaMetrics
    loop: TrainingLoop
    loader: DataLoader
    validation: Evaluation | None
    lav: dict[str, Evaluation]
    monitor: Monitor
    average: WeightAverage | None
    frozen: list[tuple[str, int]]
    phases: RatePhases
    warm_start: WarmStart | None

    @property
    def optimizer(self) -> Any:
        """The optimizer; of several, the first."""
        return next(iter(self.optimizers.values()))

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the model has the averaged weights, if there are any."""
        return nullcontext() if self.average is None else self.average.applied()

    def variables(self) -> VariableState:
        """Return all variables, by group and path."""
        average = [] if self.average is None else self.average.shadows
        return VariableState(
            {
                "model": by_path(self.graph.model.variables, "the model"),
                **{
                    f"optimizer/{name}" if name else "optimizer": by_path(
                        optimizer.variables, f"the optimizer {type(optimizer).__name__}"
                    )
                    for name, optimizer in self.optimizers.items()
                },
                "learning_rate": by_path([self.learning_rate.scale], "the learning rate"),
                # Metrics of several outputs may have the same names, so the position is part of the key.
                "metrics": {f"{at}/{path_of(each)}": each for at, each in enumerate(self.metrics.variables)},
                "loop": by_path(self.loop.variables, "the training loop"),
                "ema": by_path(average, "the moving average"),
            },
            self.distribution,
        )


@contextmanager
def dtype_policy_kept() -> Iterator[None]:
    """Isolate Keras' global state, and restore the dtype policy afterwards. Use with `with` or as a decorator."""
    with KERAS_STATE:
        before = keras.config.dtype_policy()
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def prepare_model(
    scenario: Scenario,
    params: ScenarioParams,
    trainer: TrainerParams,
    data: RunData,
    parts: RunComponents,
    distribution: Distribution,
    seed: int,
) -> Engine:
    """Build the model and its compiled steps. `seed` is that of the run.

    Raises:
        ScenarioError: model, losses, metrics and data do not match.
        ParamsError: the weights of the warm start or other parameters do not match the model.
    """
    kind = type(scenario).__name__
    # Only prediction uses them, but errors should be reported now.
    as_post_processors(scenario.post_processors(), f"{kind}.post_processors()")
    with distribution.scope():
        graph = build_graph(scenario, data.train)
        prediction = prediction_graph(scenario, graph)
        further = further_graphs(scenario, graph)
    distribution.spread_seeds(graph.model.variables)
    if trainer.fused_kernels:
        use_fused_kernels(graph.model)
    warm_started = warm_start(graph.model, trainer.warmstart, scenario.adapt_weights)
    frozen = freeze(graph.model, trainer.no_train_scope) if trainer.no_train_scope is not None else []
    if trainer.input_gradient_penalty and not any(spec.dtype.startswith("float") for spec in graph.inputs.values()):
        raise ParamsError(
            f"--trainer.input_gradient_penalty {trainer.input_gradient_penalty:g} needs a floating-point input, but "
            f"{kind} has none. Leave the option out."
        )
    if not graph.model.trainable_variables:
        raise ScenarioError(f"The model of {kind} has no trainable weights.")
    updated = updated_weights(scenario, graph.model)
    phases = RatePhases(graph.model, trainer.rates, data.horizon, trainer.accumulate_steps, updated)
    settings = update_settings(scenario, trainer, graph, data.horizon)
    components = {name: parts.of_update(name) for name in settings}
    optimizers, learning_rate = make_optimizers(settings, components, graph, distribution)
    targets = target_updates(scenario, trainer, graph, settings, warm_started)
    weights = {name: each.weights for name, each in settings.items()}
    scoring = prepare_scoring(scenario, trainer, data, graph, prediction, weights, seed)
    metrics = ReplicaMetrics(scoring.make_metrics, distribution)
    updates, average = make_updates(
        scenario, trainer, graph, scoring, settings, optimizers, targets, metrics, distribution
    )  # fmt: skip
    held = resident(data.train) if distribution.strategy is None else None
    loader = data.loader if held is None else DataLoader(IndexDataset(held), data.loader.order, data.batching)
    # Several replicas combine their metrics on the host, so their calls end at logged updates.
    log_steps = trainer.log_every_steps is not None and distribution.replicas == 1
    loop = TrainingLoop(
        graph,
        updates,
        metrics,
        loader.dataset.specs(),
        resident=None if held is None else [side.columns for side in (held.inputs, held.targets, held.weights)],
        distribution=distribution,
        accumulate_steps=trainer.accumulate_steps,
        average=average,
        step_log=make_step_log(metrics, updates) if log_steps else None,
    )

    def evaluation(
        dataset: Dataset, size: int, graph: Graph, losses: Objective, make: Any, bucket_window: int = 0
    ) -> Evaluation:
        return Evaluation(
            graph,
            dataset,
            losses,
            ReplicaMetrics(make, distribution),
            batch_size=size,
            distribution=distribution,
            eager=trainer.force_eager,
            bucket_window=bucket_window,
        )

    default = data.batching.batch_size
    validation = None
    if data.val is not None:
        val_batch = evaluation_batch_size(data.val, params.val.batch_size, default)
        window = params.val.bucket_window
        validation = evaluation(data.val, val_batch, graph, scoring.objective, scoring.make_metrics, window)
    lav_sizes = (params.lav.batch_size, params.val.batch_size, default)
    lav = {
        name: evaluation(
            dataset,
            evaluation_batch_size(dataset, *lav_sizes),
            prediction,
            scoring.applied,
            scoring.make_applied_metrics,
        )
        for name, dataset in data.lav.items()
    }
    phases.connect(optimizers.values(), loop, [*lav.values(), *([] if validation is None else [validation])])
    monitor = make_monitor(
        scenario.monitor,
        kind,
        metrics.names,
        validates=validation is not None,
        option=trainer.monitor,
        directions=known_directions(metrics.sets[0]),
        min_delta=trainer.early_stopping.min_delta,
    )
    return Engine(
        graph=graph,
        prediction=prediction,
        further=further,
        learning_rate=learning_rate,
        optimizers=optimizers,
        distribution=distribution,
        metrics=metrics,
        loop=loop,
        loader=loader,
        validation=validation,
        lav=lav,
        monitor=monitor,
        average=average,
        frozen=frozen,
        phases=phases,
        warm_start=warm_started,
    )
