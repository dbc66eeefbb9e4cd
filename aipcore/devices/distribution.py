"""How the work of a step is split among devices: one device, or the replicas of a `tf.distribute` strategy.

The same step serves both. A batch is cut into one part per replica; each replica computes on its part, and what belongs
to the whole batch (gradients) is summed over the replicas. Whatever only ever adds up (metrics, gradients of a group
of batches) is kept in plain variables of each replica, since not every strategy has variables that are summed when they
are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from aipcore.errors import ParamsError

SEED_STRIDE = 0x9E3779B9
"""What the dropout seeds of two neighbouring replicas differ by."""


class Distribution:
    """One device, or several that share each batch.

    Attributes:
        strategy: of TensorFlow; None for one device.
        devices: the device of each replica, such as "/device:GPU:0"; one empty name means wherever TensorFlow likes.
    """

    def __init__(self, strategy: Any = None) -> None:
        self.strategy = strategy
        self.devices: list[str] = [""]
        if strategy is not None:
            self.devices = list(strategy.extended.worker_devices)

    @property
    def replicas(self) -> int:
        """How many parts a batch is cut into."""
        return len(self.devices)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where model and optimizer are made, so that their variables are the strategy's."""
        if self.strategy is None:
            yield
            return
        with self.strategy.scope(), tf.variable_creator_scope(self._create):
            yield

    def _create(self, create: Callable[..., Any], **arguments: Any) -> Any:
        # Keras leaves open how the replicas' batch-norm statistics become one, which central storage insists on.
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
        """Where the plain variables of one replica are made."""
        device: AbstractContextManager[Any] = tf.device(self.devices[index]) if self.devices[index] else nullcontext()
        return device

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function(replica, *arguments)` on every replica; arguments made by `per_replica` are each one's own.

        Returns:
            what the function returned: on several replicas, values that only `run`, `local` and TensorFlow's reductions
            understand.
        """
        if self.strategy is None:
            return function(0, *arguments)

        def call(*given: Any) -> Any:
            # A constant: each replica has its own part of the graph.
            replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
            return function(int(replica), *given)

        return self.strategy.run(call, args=arguments)

    def per_replica(self, values: Sequence[Any]) -> Any:
        """One argument of `run` from one value for each replica."""
        if self.strategy is None:
            return values[0]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group]
        )

    def local(self, value: Any) -> list[Any]:
        """The value of each replica, of a single tensor that `run` returned."""
        if self.strategy is None:
            return [value]
        return list(self.strategy.experimental_local_results(value))

    def sum(self, values: Sequence[Any]) -> list[Any]:
        """Sums tensors over the replicas; to be called by each of them, inside of `run`."""
        if self.strategy is None:
            return list(values)
        reduced: list[Any] = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
        return reduced

    def split(self, columns: Mapping[str, Any], *, axis: int) -> list[dict[str, Any]]:
        """Cuts arrays along `axis` into one part for each replica and copies them to its device.

        The first parts are larger by one if they cannot all be equal. If there are fewer samples than replicas, the
        last replicas get a copy of the first sample, which `parts` says does not count.
        """
        if self.strategy is None:
            return [{name: tf.constant(column) for name, column in columns.items()}]
        parts: list[dict[str, Any]] = []
        for replica, device in enumerate(self.devices):
            with tf.device(device):
                parts.append({name: tf.constant(self._part(c, axis, replica)) for name, c in columns.items()})
        return parts

    def _part(self, column: Any, axis: int, replica: int) -> Any:
        size = column.shape[axis]
        if size < self.replicas:
            return np.take(column, [replica if replica < size else 0], axis=axis)
        return np.array_split(column, self.replicas, axis=axis)[replica]

    def parts(self, samples: int) -> int:
        """How many replicas have samples of their own when a batch of `samples` is split."""
        return min(self.replicas, samples)

    def adopt_optimizer(self, optimizer: Any) -> None:
        """Has a Keras optimizer take gradients as they are; it would sum them over the replicas a second time.

        Clipping needs the sum before the optimizer does, and Keras has no switch for it.
        """
        if self.strategy is not None:
            optimizer._all_reduce_sum_gradients = list

    def spread_seeds(self, variables: Sequence[Any]) -> None:
        """Gives each replica dropout masks of its own: as built, all have the same seeds."""
        for variable in variables:
            if not variable.path.endswith("seed_generator_state"):
                continue
            for replica, part in enumerate(components(variable)[1:], start=1):
                seed, count = (int(value) for value in part.numpy())
                part.assign(np.array([(seed + replica * SEED_STRIDE) % 2**31, count], part.dtype.as_numpy_dtype))

    def unify(self, variables: Sequence[Any]) -> None:
        """Puts the mean over the replicas into each: what batch-norm statistics of parts of batches come to.

        A moving average is linear in what it averages, so that the mean of averages is the average of means.
        """
        for variable in variables:
            parts = components(variable)
            if len(parts) > 1 and not variable.trainable and parts[0].dtype.is_floating:
                mean = tf.add_n([tf.cast(part, tf.float64) for part in parts]) / len(parts)
                for part in parts:
                    part.assign(tf.cast(mean, part.dtype))


def components(variable: Any) -> list[Any]:
    """The plain variables, one for each replica, that a variable (of Keras or TensorFlow) consists of."""
    value = getattr(variable, "value", variable)
    if isinstance(value, tf.distribute.DistributedValues):
        return list(value.values)
    return [variable]


def make_distribution(kind: Literal["none", "mirror", "central_storage"], batch_size: int) -> Distribution:
    """The distribution that the user asks for, over all visible GPUs or, without any, all parts of the CPU.

    Args:
        kind: "none" for one device.
        batch_size: samples in a training batch.

    Raises:
        ParamsError: a batch has fewer samples than there are devices.
    """
    gpus = tf.config.list_logical_devices("GPU")
    names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if kind == "none" or len(names) == 1:
        return Distribution()
    if batch_size < len(names):
        raise ParamsError(
            f"--train.batch_size {batch_size} cannot be split among {len(names)} devices: give at least {len(names)}, "
            "or use fewer devices."
        )
    return Distribution(_strategy(kind, tuple(names)))


@cache
def _strategy(kind: Literal["mirror", "central_storage"], names: tuple[str, ...]) -> Any:
    # Once in a process: two mirrored strategies number their collective operations alike, and take those of the other
    # for their own.
    if kind == "mirror":
        return tf.distribute.MirroredStrategy(list(names))
    return tf.distribute.experimental.CentralStorageStrategy(list(names))
