"""Strategies of `tf.distribute`: the split of a step's work among devices, and the start of several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

import attrs
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.distributed.cluster import Cluster
from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.rendezvous import Tell, meet
from aipcore.errors import ParamsError

Array = npt.NDArray[Any]

SEED_STRIDE = 0x9E3779B9
"""Difference between the dropout seeds of two neighbouring replicas."""


class Distribution:
    """One device of this process, or several devices of this and maybe other workers that share each batch.

    A replica is addressed by its index within this worker, unless its `global` index is asked for.

    Attributes:
        strategy: the TensorFlow strategy; None for one device.
        processes: the processes that share each batch.
        devices: the device of each replica of this worker, such as "/device:GPU:0"; a single empty name leaves the
            placement to TensorFlow.
        shards_optimizer: True if each process holds a part of the optimizer's state; see `WeightShards`.
    """

    shards_optimizer = False

    def __init__(self, strategy: Any = None, processes: ProcessGroup | None = None) -> None:
        self.strategy = strategy
        self.processes = processes or ProcessGroup()
        self.devices: list[str] = [""]
        if strategy is not None:
            self.devices = list(strategy.extended.worker_devices)

    @property
    def replicas(self) -> int:
        """The number of parts of a batch, over all workers."""
        return len(self.devices) * self.processes.count

    @property
    def first(self) -> int:
        """The global index of this worker's first replica."""
        return len(self.devices) * self.processes.index

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Enter the scope in which model and optimizer create the strategy's variables."""
        if self.strategy is None:
            yield
            return
        with self.strategy.scope(), tf.variable_creator_scope(self._create):
            yield

    def _create(self, create: Callable[..., Any], **arguments: Any) -> Any:
        # Keras does not set the aggregation of the replicas' batch-norm statistics, and central storage requires one.
        if (
            isinstance(self.strategy, tf.distribute.experimental.CentralStorageStrategy)
            and not arguments.get("trainable")
            and arguments.get("aggregation") in (None, tf.VariableAggregation.NONE)
        ):
            floating = arguments.get("dtype") is None or tf.as_dtype(arguments["dtype"]).is_floating
            arguments["aggregation"] = (
                tf.VariableAggregation.MEAN if floating else tf.VariableAggregation.ONLY_FIRST_REPLICA
            )
        return create(**arguments)

    def on_replica(self, index: int) -> AbstractContextManager[Any]:
        """Return a context that creates the plain variables of one replica on its device."""
        device: AbstractContextManager[Any] = tf.device(self.devices[index]) if self.devices[index] else nullcontext()
        return device

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function(replica, *arguments)` on every replica. Arguments made by `per_replica` differ by replica.

        All workers must call this, in the same order if the function has collective operations.

        Returns:
            The function's result. With several replicas, its values are valid only for `run`, `local` and TensorFlow's
            reductions.
        """
        if self.strategy is None:
            return function(0, *arguments)

        def call(*given: Any) -> Any:
            # A constant: each replica has its own part of the graph.
            replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
            return function(int(replica) - self.first, *given)

        return self.strategy.run(call, args=arguments)

    def per_replica(self, values: Sequence[Any]) -> Any:
        """Combine one value for each replica of this worker into one argument of `run`."""
        if self.strategy is None:
            return values[0]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group - self.first]
        )

    def local(self, value: Any) -> list[Any]:
        """Return the value of each replica of this worker, for a single tensor returned by `run`."""
        if self.strategy is None:
            return [value]
        return list(self.strategy.experimental_local_results(value))

    def sum(self, values: Sequence[Any]) -> list[Any]:
        """Sum tensors over the replicas. Each replica must call this, inside `run`."""
        if self.strategy is None:
            return list(values)
        reduced: list[Any] = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
        return reduced

    def split(self, columns: Mapping[str, Any], *, axis: int) -> list[dict[str, Any]]:
        """Split this worker's samples along `axis` into one part for each of its replicas, and copy the parts there.

        If the parts cannot be equal, the first ones are larger by one sample. If there are fewer samples than replicas,
        the last replicas get a copy of the first sample, which does not count according to `parts`.

        Args:
            columns: all samples of a batch for a single worker, otherwise those given by `own_samples`.
            axis: the axis of the samples.
        """
        if self.strategy is None:
            return [{name: tf.constant(column) for name, column in columns.items()}]
        parts: list[dict[str, Any]] = []
        for replica, device in enumerate(self.devices):
            with tf.device(device):
                parts.append({name: tf.constant(self._part(c, axis, replica)) for name, c in columns.items()})
        return parts

    def _part(self, column: Any, axis: int, replica: int) -> Any:
        own = _share(column.shape[axis], replica, len(self.devices))
        return column[(slice(None),) * axis + (own if own.stop > own.start else slice(1),)]

    def samples_of(self, replica: int, size: int) -> slice:
        """Return the samples of a batch of `size` for one replica, by its global index; empty if there are too few."""
        return _share(size, replica, self.replicas)

    def own_samples(self, size: int) -> npt.NDArray[np.int64]:
        """Return the positions, in a batch of `size`, of all samples that this worker has to read or process.

        These are the samples of its replicas, in replica order. Workers share no samples, with one exception: a replica
        without samples computes on the first sample of the batch.
        """
        parts = [self.samples_of(replica, size) for replica in range(self.first, self.first + len(self.devices))]
        return np.concatenate([np.arange(part.start, part.stop) if part.stop > part.start else [0] for part in parts])

    @property
    def share(self) -> Callable[[int], npt.NDArray[np.int64]] | None:
        """`own_samples` if several workers share each batch, else None."""
        return self.own_samples if self.processes.count > 1 else None

    def parts(self, samples: int) -> int:
        """Return the number of this worker's replicas that have their own samples in a batch of `samples`."""
        return min(len(self.devices), max(0, samples - self.first))

    def adopt_optimizer(self, optimizer: Any) -> None:
        """Make a Keras optimizer use gradients as they are, instead of summing them over the replicas a second time.

        Clipping needs the sum before the optimizer computes it, and Keras has no option to disable it.
        """
        if self.strategy is not None:
            optimizer._all_reduce_sum_gradients = list

    def spread_seeds(self, variables: Sequence[Any]) -> None:
        """Give each replica different dropout masks. As built, all replicas have the same seeds."""
        for variable in variables:
            if not variable.path.endswith("seed_generator_state"):
                continue
            for replica, part in enumerate(components(variable), start=self.first):
                if replica:
                    seed, count = (int(value) for value in part.numpy())
                    part.assign(np.array([(seed + replica * SEED_STRIDE) % 2**31, count], part.dtype.as_numpy_dtype))

    def unify(self, variables: Sequence[Any]) -> None:
        """Assign each variable the mean over its replicas, as needed for batch-norm statistics of partial batches.

        A moving average is linear, so the mean of the averages equals the average of the means.
        """
        if self.replicas == 1:
            return
        each = [v for v in variables if not v.trainable and len(components(v)) == len(self.devices)]
        chosen = [v for v in each if tf.as_dtype(components(v)[0].dtype).is_floating]
        values = self.gather([[components(v)[replica].numpy() for v in chosen] for replica in range(len(self.devices))])
        for variable, *parts in zip(chosen, *values, strict=True):
            mean = sum(part.astype(np.float64) for part in parts) / len(parts)
            for part in components(variable):
                part.assign(tf.cast(mean, part.dtype))

    def mean(self, variable: Any) -> Any:
        """Return the mean of a variable over all replicas, as a tensor, within a compiled step."""
        parts = components(variable)
        if self.processes.count > 1:
            summed = self.run(lambda _: self.sum([tf.identity(variable.value)]))
            return self.local(summed[0])[0] / self.replicas
        if len(parts) == 1:
            return variable.value
        return tf.add_n([tf.convert_to_tensor(part) for part in parts]) / len(parts)

    def gather(self, values: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Return the arrays of each replica of all workers, on all workers, given those of this worker's replicas."""
        if self.processes.count == 1:
            return [list(each) for each in values]
        named = {
            f"{replica}/{position}": array
            for replica, arrays in enumerate(values, start=self.first)
            for position, array in enumerate(arrays)
        }
        gathered = {name: a for part in self.processes.gather_arrays("values", named) for name, a in part.items()}
        everywhere = self.processes.broadcast_arrays("values", gathered)
        count = len(values[0])
        return [[everywhere[f"{replica}/{n}"] for n in range(count)] for replica in range(self.replicas)]


@attrs.frozen(eq=False)
class ReplicaVariables:
    """Plain variables, one for each replica of this worker, stored as one variable in a checkpoint."""

    values: list[Any]

    @property
    def path(self) -> str:
        """The name of the first variable."""
        return path_of(self.values[0])

    @property
    def shape(self) -> Any:
        """The shape of each variable."""
        return self.values[0].shape

    @property
    def aggregation(self) -> str:
        """The kind of `merge` that gives one value for all replicas: "sum", unless Keras' variables name another."""
        own = self.values[0].aggregation
        return own if isinstance(own, str) else "sum"


def merge(aggregation: str, parts: Sequence[Any]) -> Any:
    """Return one value for those of all replicas."""
    if aggregation == "sum":
        return sum(parts)
    if aggregation == "mean":
        return sum(parts) / len(parts)
    return parts[0]


def _share(size: int, part: int, parts: int) -> slice:
    """Return one of `parts` slices of equal size, or larger by one."""
    each, larger = divmod(size, parts)
    start = part * each + min(part, larger)
    return slice(start, start + each + (part < larger))


def path_of(variable: Any) -> str:
    """Return the name of a variable of Keras or TensorFlow."""
    path: str = variable.path if hasattr(variable, "path") else variable.name.removesuffix(":0")
    return path


def element_count(variable: Any) -> int:
    """Return the number of elements of a variable of Keras or TensorFlow."""
    return int(tf.TensorShape(variable.shape).num_elements() or 0)


def components(variable: Any) -> list[Any]:
    """Return the plain variables of a Keras or TensorFlow variable, one for each replica of this worker."""
    if isinstance(variable, ReplicaVariables):
        return variable.values
    value = getattr(variable, "value", variable)
    if isinstance(value, tf.distribute.DistributedValues):
        return list(value.values)
    return [variable]


def make_distribution(params: DeviceParams, batch_size: int, processes: ProcessGroup) -> Distribution:
    """Return the selected distribution, over all visible GPUs or, without GPUs, over all logical CPU devices.

    Args:
        params: the devices, already selected, and the strategy.
        batch_size: samples in a training batch.
        processes: this process and its peers; a group of several has its own TensorFlow strategy.

    Raises:
        ParamsError: a batch has fewer samples than there are devices, or an option does not suit the strategy.
    """
    kind = params.strategy
    if params.shard_optimizer and kind != "multi_worker":
        raise ParamsError(
            "--device.shard_optimizer divides the optimizer's state among processes. Use it with --device.strategy "
            "multi_worker, or leave it out."
        )
    if processes.count > 1:
        distribution = Distribution(processes.strategy, processes)
        distribution.shards_optimizer = params.shard_optimizer
        if params.shard_optimizer and len(distribution.devices) > 1:
            raise ParamsError(
                f"--device.shard_optimizer needs one device in each process, but this one has "
                f"{len(distribution.devices)}. Start one process for each GPU, e.g. with aip launch."
            )
    else:
        gpus = tf.config.list_logical_devices("GPU")
        names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        if kind == "none" or len(names) == 1:
            return Distribution()
        # For a single worker, mirroring is equivalent.
        distribution = Distribution(_strategy("mirror" if kind == "multi_worker" else kind, tuple(names)))
    if batch_size < distribution.replicas:
        raise ParamsError(
            f"--train.batch_size {batch_size} cannot be split among {distribution.replicas} devices. Use at least "
            f"{distribution.replicas}, or fewer devices."
        )
    return distribution


@cache
def _strategy(kind: Literal["mirror", "central_storage"], names: tuple[str, ...]) -> Any:
    # Cached per process: two mirrored strategies give their collective operations the same numbers, which mixes
    # them up.
    if kind == "mirror":
        return tf.distribute.MirroredStrategy(list(names))
    return tf.distribute.experimental.CentralStorageStrategy(list(names))


@contextmanager
def joined_processes(params: DeviceParams, cluster: Cluster | None, tell: Tell) -> Iterator[ProcessGroup]:
    """Connect to the other workers, start TensorFlow's strategy over all devices, and disconnect at the end.

    Args:
        params: the devices, already selected.
        cluster: all workers; None for a single process.
        tell: callbacks for messages.

    Raises:
        UsageError: a worker did not connect.
        ParamsError: the workers' settings do not match.
    """
    if cluster is None:
        yield ProcessGroup()
        return
    if params.cpus > 1:
        raise ParamsError(
            f"--device.cpus {params.cpus} cannot be used with --device.strategy multi_worker. Start more workers "
            "instead."
        )
    with meet(cluster, params.start_timeout, tell) as processes:
        if processes.count > 1:
            os.environ["TF_CONFIG"] = cluster.tf_config
            gpus = len(tf.config.list_physical_devices("GPU")) if params.gpus is None else len(set(params.gpus))
            processes.require_same({"the number of GPUs": gpus})
            processes.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        yield processes
