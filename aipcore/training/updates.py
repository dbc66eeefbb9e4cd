"""The updates of a run's steps: the weights, the optimizer and the schedule of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from aipcore.distributed.shards import WeightShards
from aipcore.distributed.strategy import Distribution
from aipcore.errors import ParamsError, ScenarioError
from aipcore.hooks.records import OptimizerParams
from aipcore.scenario.model import Graph
from aipcore.scenario.paths import name_optimizer_variables
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.update_losses import UpdateObjective
from aipcore.scenario.updates import TargetNetwork, Update
from aipcore.training.engine.ema import WeightAverage, averaged_variables, averaging_rate
from aipcore.training.engine.forward import ModelForward, UpdateForward
from aipcore.training.engine.freezing import target_pairs, trained_weights
from aipcore.training.engine.learning_rate import Horizon, ScaledSchedule, last_rate, make_settable
from aipcore.training.engine.loss_scaling import LossScale
from aipcore.training.engine.update import AnyStepUpdate, OptimizerUpdate, TargetUpdate
from aipcore.training.losses_and_metrics import Scoring
from aipcore.training.params import TrainerParams
from aipcore.training.update_params import TargetNetworkParams, optimizer_params, update_params
from aipcore.training.warmstart.matching import WarmStart


@attrs.frozen(kw_only=True, eq=False)
class UpdateComponents:
    """The parts of an update that plugins build.

    Attributes:
        schedule: builds a `keras.optimizers.schedules.LearningRateSchedule` from the horizon.
        optimizer: builds a `keras.optimizers.Optimizer` from that schedule.
    """

    schedule: Callable[[Horizon], Any]
    optimizer: Callable[[Any], Any]


@attrs.frozen(kw_only=True, eq=False)
class UpdateSetting:
    """An update before its loss is known.

    Attributes:
        name: its name; empty for a single update.
        weights: the weights that it trains.
        horizon: its optimizer updates per epoch, and epochs.
        times: number of updates for each batch.
        clipping: the limits of gradients.
        calc_ema: the given rate of the EMA of the weights; 0 for none.
    """

    name: str
    weights: list[Any]
    horizon: Horizon
    times: int
    clipping: OptimizerParams
    calc_ema: float


def update_settings(
    scenario: Scenario, trainer: TrainerParams, graph: Graph, horizon: Horizon
) -> dict[str, UpdateSetting]:
    """Return the updates with a loss, by name; a single one of all weights has the name "".

    Raises:
        ScenarioError: the scenario defines an update of weights that do not exist.
        ParamsError: an average would be computed twice.
    """
    if not scenario.updates:
        single = UpdateSetting(
            name="",
            weights=list(graph.model.trainable_variables),
            horizon=horizon,
            times=1,
            clipping=trainer.optimizer.params,
            calc_ema=trainer.calc_ema,
        )
        return {"": single}
    params, found = optimizer_params(trainer), {}
    averaged: dict[str, str] = {}
    for each in scenario.updates:
        if not isinstance(each, Update):
            continue
        own = params[each.name]
        weights = _weights_of(each, scenario, graph.model)
        for weight in weights if own.calc_ema != 0 else ():
            other = averaged.setdefault(weight.path, each.name)
            if other != each.name:
                raise ParamsError(
                    f"The updates {other} and {each.name} both train and average {weight.path}. Give "
                    f"--updates.{each.name}.calc_ema 0."
                )
        found[each.name] = UpdateSetting(
            name=each.name,
            weights=weights,
            horizon=horizon.repeated(own.times),
            times=own.times,
            clipping=own.optimizer.params,
            calc_ema=own.calc_ema,
        )
    return found


def updated_weights(scenario: Scenario, model: Any) -> list[Any] | None:
    """Return the weights that the updates of a scenario train; None if it defines no updates.

    Raises:
        ScenarioError: an update trains nothing.
    """
    if not scenario.updates:
        return None
    losses = [each for each in scenario.updates if isinstance(each, Update)]
    return [weight for each in losses for weight in _weights_of(each, scenario, model)]


def _weights_of(update: Update, scenario: Scenario, model: Any) -> list[Any]:
    return trained_weights(model, update.trains, f"{type(scenario).__name__}.updates ({update.name}): trains")


def make_optimizers(
    settings: Mapping[str, UpdateSetting],
    parts: Mapping[str, UpdateComponents],
    graph: Graph,
    distribution: Distribution,
) -> tuple[dict[str, Any], ScaledSchedule]:
    """Return the optimizer of each update, with its variables built, and the schedule of the first.

    All schedules have one scale, so that a callback that changes the rate changes all in proportion.
    """
    optimizers: dict[str, Any] = {}
    first: ScaledSchedule | None = None
    for name, each in settings.items():
        rate = ScaledSchedule(parts[name].schedule(each.horizon), None if first is None else first.scale)
        shards = WeightShards(each.weights, distribution)
        with shards.scope():
            optimizer = parts[name].optimizer(rate)
            optimizer.build([each.weights[place] for place in shards.own(each.weights)])
        make_settable(optimizer, rate)
        name_optimizer_variables(optimizer)
        distribution.adopt_optimizer(optimizer)
        optimizers[name] = optimizer
        first = first or rate
    assert first is not None
    # As with Model.fit, callbacks access the optimizer through the model; with several, the first one.
    graph.model.compile(optimizer=next(iter(optimizers.values())), jit_compile=False)
    return optimizers, first


def target_updates(
    scenario: Scenario,
    trainer: TrainerParams,
    graph: Graph,
    settings: Mapping[str, UpdateSetting],
    warm_start: WarmStart | None,
) -> dict[str, TargetUpdate]:
    """Return the updates of target networks by name, and copy the weights of their sources into them.

    Weights that a warm start loaded are kept.

    Raises:
        ScenarioError: a target network does not match the model, or an update trains it.
    """
    what = f"{type(scenario).__name__}.updates"
    rows = () if warm_start is None else warm_start.rows
    loaded = {row.path for row in rows if row.is_loaded}
    trained = {weight.path: name for name, each in settings.items() for weight in each.weights}
    found = {}
    for network in scenario.updates:
        if not isinstance(network, TargetNetwork):
            continue
        params = update_params(trainer)[network.name]
        assert isinstance(params, TargetNetworkParams)
        pairs = target_pairs(graph.model, network, f"{what}: {network.name}")
        for target, source in pairs:
            if target.path in trained:
                raise ScenarioError(
                    f"{what}: the update {trained[target.path]} trains {target.path}, which the target network "
                    f"{network.name} would overwrite. Change what they match."
                )
            if target.path not in loaded:
                target.assign(source.value)
        found[network.name] = TargetUpdate(pairs, params.rate, network.name)
    return found


def make_updates(
    scenario: Scenario,
    trainer: TrainerParams,
    graph: Graph,
    scoring: Scoring,
    settings: Mapping[str, UpdateSetting],
    optimizers: Mapping[str, Any],
    targets: Mapping[str, TargetUpdate],
    metrics: ReplicaMetrics,
    distribution: Distribution,
) -> tuple[list[AnyStepUpdate], WeightAverage | None]:
    """Return the updates of a step in order, and the EMA of all weights that are averaged."""
    made: dict[str, AnyStepUpdate] = {}
    averages = []
    for name, each in settings.items():
        average = None
        if each.calc_ema != 0:
            rate = averaging_rate(each.calc_ema, each.horizon.updates_per_epoch)
            variables = averaged_variables(graph, each.weights, batch_norm=trainer.ema_batch_norm)
            average = WeightAverage(variables, rate, distribution)
            averages.append(average)
        objective = scoring.training
        if isinstance(objective, UpdateObjective):
            forward: Any = UpdateForward(objective, name)
        else:
            forward = ModelForward(graph, objective, trainer.input_gradient_penalty)
        made[name] = OptimizerUpdate(
            optimizers[name],
            forward,
            each.weights,
            metrics,
            distribution=distribution,
            clipping=each.clipping,
            grouped=trainer.accumulate_steps > 1,
            name=name,
            times=each.times,
            average=average,
            loss_scale=LossScale(name) if trainer.precision == "float16" else None,
        )
    made |= targets
    order = [each.name for each in scenario.updates] or [""]
    whole = averages[0] if len(averages) == 1 else WeightAverage.joined(averages, distribution) if averages else None
    return [made[name] for name in order], whole


def rate_logs(updates: Sequence[AnyStepUpdate]) -> dict[str, float]:
    """Return the learning rate of the last update of each optimizer, and the rates of EMAs, by their names in logs."""
    logs = {}
    for each in updates:
        if isinstance(each, OptimizerUpdate):
            logs[each.rate_name] = last_rate(each.optimizer)
            if each.average is not None:
                logs[f"{each.name}_ema_rate" if each.name else "ema_rate"] = each.average.rate
    return logs
