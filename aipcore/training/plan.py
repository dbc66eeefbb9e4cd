"""The plan of a run in words, shown before the first batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from aipcore.data.batching import Batching
from aipcore.data.class_weight import Table
from aipcore.data.padding_sizes import describe_sizes
from aipcore.data.pipeline import Pipeline
from aipcore.data.preprocessed import PreprocessedDataset
from aipcore.data.streamed import StreamDataset
from aipcore.distributed.strategy import Distribution
from aipcore.params.author_class import describe_unused
from aipcore.params.names import count
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.updates import losses_used
from aipcore.training.data import RunData
from aipcore.training.engine.compilation import Compilation
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.engine.learning_rate import Horizon
from aipcore.training.engine.update import TargetUpdate
from aipcore.training.params import TrainerParams
from aipcore.training.setup import Engine
from aipcore.training.steps import Steps
from aipcore.training.update_params import UpdateParams, optimizer_params
from aipcore.training.warmstart.matching import WarmStart

MOST_CLASSES = 10
"""Maximum number of classes whose weights the plan lists."""

MOST_PATHS = 3
"""Maximum number of paths of weights that the plan lists."""

MOST_PORTS = 8
"""Maximum number of ports that the plan lists."""


def describe_run(
    scenario: type,
    params: ScenarioParams,
    data: RunData,
    model: Engine,
    compilation: Compilation,
    *,
    steps_per_call: int,
    name: str,
    seed: int,
    output_dir: Path | None,
    warm_start: WarmStart | None,
    per_batch: list[str],
) -> list[tuple[str, str]]:
    """Return the whole plan: pairs of a heading and its text.

    Args:
        scenario: the scenario's class.
        params: the run's parameters.
        data: the data of the run.
        model: the model of the run, with its compiled steps.
        compilation: the compilation of the loop.
        steps_per_call: the most steps per call of the compiled loop.
        name: the scenario's name.
        seed: the seed of the run.
        output_dir: the run folder, or None.
        warm_start: the loaded initial weights; None after a resume.
        per_batch: the callbacks that need every batch.
    """
    trainer: TrainerParams = params.trainer  # type: ignore[attr-defined]
    best = "lowest" if model.monitor.mode == "min" else "highest"
    return [
        ("scenario", name),
        ("data", describe_data(data, params)),
        *([] if data.split is None else [("folds", data.split.text)]),
        *describe_stream(data.stream),
        *describe_processing(data.pipelines),
        *describe_preprocessing(data),
        ("model", describe_model(model.graph.model, model.phases.trained)),
        *describe_warm_start(warm_start),
        *describe_frozen(model.frozen),
        *model.phases.describe(),
        *describe_updates(trainer, data.horizon, model),
        *describe_steps(data.steps),
        ("best", f"the model of the {_unit(data.steps)} with the {best} {model.monitor.name}"),
        ("device", describe_device(trainer.precision, model.distribution, trainer.device.strategy)),
        *describe_ports(model.distribution.processes.addresses),
        ("loop", describe_compilation(compilation, steps_per_call, data.batching, per_batch)),
        *describe_padding(compilation),
        ("seed", str(seed)),
        ("output", describe_output(output_dir)),
        *describe_unused_names(scenario),
    ]


def describe_unused_names(scenario: type) -> list[tuple[str, str]]:
    """Describe the public names of the scenario that are not used, if there are any."""
    names = describe_unused(scenario, losses_used(getattr(scenario, "updates", ())))
    return [("not used", f"{names} of {scenario.__name__}: neither aip nor the scenario uses them")] if names else []


def describe_data(data: RunData, params: ScenarioParams) -> str:
    """Describe the number of samples and batches, the skipped samples, and the weights of samples."""
    batching, train, val = data.batching, data.train, data.val
    samples = batching.samples + batching.dropped
    size = samples if data.stream is not None and data.stream.length is None else len(train)
    epoch = "" if samples == size else f", {samples:,} per epoch"
    dropped = f" without the last {count(batching.dropped, 'sample')}" if batching.dropped else ""
    validation = (
        "no validation data" if val is None else f"{count(len(val), 'validation sample')}{_limit(params.val.limit)}"
    )
    if val is not None and val.specs()[2]:
        validation += ", weighted"
    lav = f"; LAV{_limit(params.lav.limit)}" if data.lav and params.lav.limit is not None else ""
    weights = ", weighted" if train.specs()[2] else ""
    if data.class_weights is not None:
        weights = f", class weights {_class_weights(data.class_weights)}"
    if data.stream is not None and data.stream.nominal:
        # The last batch of a pass may have fewer samples.
        batches = f"{count(batching.steps, 'training batch')} of up to {count(batching.batch_size, 'sample')}"
        return f"{batches}{_limit(params.train.limit)}{weights}; {validation}{lav}"
    return (
        f"{count(size, 'training sample')}{_limit(params.train.limit)}{epoch} in "
        f"{count(batching.steps, 'batch')} of {min(batching.batch_size, batching.samples)}{dropped}"
        f"{weights}; {validation}{lav}"
    )


def describe_stream(stream: StreamDataset | None) -> list[tuple[str, str]]:
    """Describe the kind, the order and the resumption of a stream of training samples."""
    return [] if stream is None else [("stream", stream.describe())]


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" (limit {limit:,})"


def _class_weights(table: Table) -> str:
    parts = [f"{number}={weight:.4g}" for number, weight in enumerate(table[:MOST_CLASSES].tolist())]
    return " ".join(parts) + (" ..." if len(table) > MOST_CLASSES else "")


def describe_processing(pipelines: list[Pipeline]) -> list[tuple[str, str]]:
    """Describe the processors of the training samples, the first pipeline, if there are any."""
    text = pipelines[0].describe()
    return [("processing", text)] if text else []


def describe_preprocessing(data: RunData) -> list[tuple[str, str]]:
    """Describe the adapted preprocessing, if there is any."""
    if data.preprocessing is None:
        return []
    when = "in each epoch" if isinstance(data.train, PreprocessedDataset) else "once, kept in memory"
    return [("preprocessing", f"{data.preprocessing.about}; {when}")]


def describe_model(model: Any, trained: Sequence[Any]) -> str:
    """Describe the number of layers and weights, of which some are trained."""
    trainable = sum(int(weight.shape.num_elements()) for weight in trained)
    total = sum(int(weight.shape.num_elements()) for weight in model.weights)
    frozen = f", {total - trainable:,} non-trainable" if total > trainable else ""
    return f"{count(len(model.layers), 'layer')}, {count(trainable, 'trainable weight')}{frozen}"


def describe_frozen(frozen: list[tuple[str, int]]) -> list[tuple[str, str]]:
    """Describe the frozen layers, if any."""
    if not frozen:
        return []
    return [("frozen", ", ".join(f"{path} ({count(weights, 'weight')})" for path, weights in frozen))]


def describe_warm_start(warm_start: WarmStart | None) -> list[tuple[str, str]]:
    """Describe the initial weights, if they come from a warm start."""
    return [] if warm_start is None else [("warm start", warm_start.summary())]


def describe_average(average: WeightAverage | None) -> list[tuple[str, str]]:
    """Describe the EMA of the weights, if there is one."""
    if average is None:
        return []
    return [("ema", f"rate {average.rate:g}; validation, best and export use the averaged weights")]


def describe_updates(params: TrainerParams, horizon: Horizon, model: Engine) -> list[tuple[str, str]]:
    """Describe the optimizer, the schedule and the number of updates; of several updates, those of each."""
    group = f" from {params.accumulate_steps} batches each" if params.accumulate_steps > 1 else ""

    def epochs(times: int) -> str:
        length = f"{count(horizon.epochs, 'epoch')} of {count(horizon.updates_per_epoch * times, 'update')}{group}"
        return f"; {length}{_end(params, horizon.repeated(times))}"

    settings = optimizer_params(params)
    if not settings:
        return [("optimizer", f"{_optimizer(params)}{epochs(1)}"), *describe_average(model.average)]
    rows = []
    trained: set[int] = set()
    for each in model.loop.updates:
        if isinstance(each, TargetUpdate):
            trained |= {id(target) for target, _ in each.pairs}
            text = f"target network of {count(len(each.pairs), 'variable')}, such as {each.pairs[0][0].path}"
            rows.append((f"update {each.name}", f"{text}; rate {each.rate:g}"))
            continue
        trained |= {id(weight) for weight in each.weights}
        weights = sum(int(weight.shape.num_elements()) for weight in each.weights)
        times = f", {each.times} times for each batch" if each.times > 1 else ""
        ema = "" if each.average is None else f"; ema with rate {each.average.rate:g}"
        text = f"{count(weights, 'weight')}{times}; {_optimizer(settings[each.name])}"
        rows.append((f"update {each.name}", f"{text}{epochs(each.times)}{ema}"))
    left = [weight.path for weight in model.graph.model.trainable_variables if id(weight) not in trained]
    more = f" and {len(left) - MOST_PATHS} more" if len(left) > MOST_PATHS else ""
    return rows + ([("not trained", f"{', '.join(left[:MOST_PATHS])}{more}, by no update")] if left else [])


def _optimizer(params: TrainerParams | UpdateParams) -> str:
    rate = params.learning_rate
    return f"{params.optimizer.name}, learning rate {rate.params.lr:g} ({rate.name})"


def _end(params: TrainerParams, horizon: Horizon) -> str:
    if params.max_steps is None:
        return ""
    reached = horizon.total_updates == params.max_steps
    return f", to update {horizon.total_updates:,}{'' if reached else ', before trainer.max_steps'}"


def _unit(steps: Steps) -> str:
    return "epoch" if steps.validate is None else "validation"


def describe_steps(steps: Steps) -> list[tuple[str, str]]:
    """Describe what happens within epochs, if anything."""
    parts = ((steps.log, "logged"), (steps.validate, "validated"))
    texts = [f"{what} every {count(every, 'update')}" for every, what in parts if every is not None]
    if steps.log is not None and steps.log > (total := steps.horizon.total_updates):
        texts[0] += f" (never: the run has {count(total, 'update')})"
    return [("steps", ", ".join(texts))] if texts else []


def describe_ports(addresses: Sequence[str]) -> list[tuple[str, str]]:
    """Describe the exposure of the ports that TensorFlow opens, if there are several workers."""
    if len(addresses) < 2:
        return []
    ports = sorted({address.rpartition(":")[2] for address in addresses}, key=int)
    names = ", ".join(ports[:MOST_PORTS]) + (" ..." if len(ports) > MOST_PORTS else "")
    text = (
        f"TensorFlow listens on {names} without authentication, reachable from this host and its networks; "
        "docs/scale.md describes how to close them"
    )
    return [("ports", text)]


def describe_device(precision: str, distribution: Distribution, strategy: str) -> str:
    """Describe the devices, the distribution of the work over them, and the precision."""
    mixed = "" if precision == "float32" else f", in {precision} with float32 weights"
    gpus = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices("GPU")]
    if distribution.replicas > 1:
        names = ", ".join(device.rpartition("device:")[2] for device in distribution.devices)
        if distribution.processes.count > 1:
            names = f"{count(distribution.processes.count, 'worker')} ({names} each)"
        kept = "on the CPU" if strategy == "central_storage" else "on each"
        kept += ", the optimizer's state in parts" if distribution.shards_optimizer else ""
        return f"{names} share each batch; the weights are kept {kept}{mixed}"
    alone = "" if strategy == "none" else f" (--device.strategy {strategy} has no effect on a single device)"
    idle = f" of {len(gpus)}; --device.strategy mirror uses all of them" if len(gpus) > 1 else ""
    return f"{gpus[0] if gpus else 'CPU'}{idle}{alone}{mixed}"


def describe_compilation(compilation: Compilation, steps: int, batching: Batching, per_batch: list[str]) -> str:
    """Describe the compilation of the loop and its steps per call.

    Args:
        compilation: the compilation.
        steps: the most steps per call.
        batching: the division of an epoch into batches; a smaller last batch needs a call of its own.
        per_batch: the callbacks that need every batch.
    """
    ways = {"graph": "TensorFlow graph", "xla": "XLA", "eager": "not compiled"}
    last = ", 1 for the last batch" if 1 < steps == batching.full_steps < batching.steps else ""
    why = f", for {' and '.join(per_batch)}" if per_batch else ""
    return f"{ways[compilation.mode]} ({compilation.reason}), {count(steps, 'step')} per call{last}{why}"


def describe_padding(compilation: Compilation) -> list[tuple[str, str]]:
    """Describe the sizes that batches of samples of varying size are padded to, if there are any."""
    if not compilation.sizes:
        return []
    sizes = count(len(compilation.sizes), "size")
    what = f"batches are padded to {sizes} for XLA: {describe_sizes(compilation.sizes)}"
    return [("padding", f"{what}; {compilation.padding:.0%} more elements")]


def describe_output(output_dir: Path | None) -> str:
    """Describe the output folder."""
    return "none, nothing is written" if output_dir is None else str(output_dir)
