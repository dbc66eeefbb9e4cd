"""Division of the optimizer's state among the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from typing import Any

import tensorflow as tf

from aipcore.distributed.strategy import Distribution, components, element_count
from aipcore.errors import ParamsError


class WeightShards:
    """The weights that each process updates, for which it alone holds the optimizer's state.

    Weights are not cut, so that all optimizers compute the same numbers as without shards.

    Args:
        weights: Keras variables, in the same order in all processes.
        distribution: the devices. Unless its `shards_optimizer` is True, every process updates all weights.

    Raises:
        ParamsError: there are fewer weights than processes.
    """

    def __init__(self, weights: Sequence[Any], distribution: Distribution) -> None:
        self._distribution = distribution
        count = distribution.processes.count if distribution.shards_optimizer else 1
        parts: list[list[int]] = [[] for _ in range(count)]
        sizes, totals = [element_count(weight) for weight in weights], [0] * count
        for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
            smallest = totals.index(min(totals))
            parts[smallest].append(place)
            totals[smallest] += sizes[place]
        self._parts = [[weights[place] for place in sorted(part)] for part in parts]
        self._own = distribution.processes.index if count > 1 else 0
        self.own(weights)

    def scope(self) -> AbstractContextManager[None]:
        """Return the scope in which the optimizer creates its variables."""
        # The strategy would send the initial value of each variable to all processes, which create different ones.
        return self._distribution.scope() if len(self._parts) == 1 else nullcontext()

    def own(self, weights: Sequence[Any]) -> list[int]:
        """Return the positions, among some of the weights, of those that this process updates.

        Raises:
            ParamsError: a process updates none of them.
        """
        owner = {id(weight): number for number, part in enumerate(self._parts) for weight in part}
        owners = [owner[id(weight)] for weight in weights]
        if len(self._parts) > 1 and len(set(owners)) < len(self._parts):
            raise ParamsError(
                f"--device.shard_optimizer cannot divide the {len(weights)} trained weights among "
                f"{len(self._parts)} processes so that each has one. Leave the option out."
            )
        return [place for place, number in enumerate(owners) if number == self._own]

    def spread(self) -> None:
        """Copy the trained weights of each process to all others; runs inside the compiled step."""
        if len(self._parts) > 1:
            self._distribution.run(self._spread_rows)

    def _spread_rows(self, replica: int) -> None:
        parts = [[weight for weight in part if weight.trainable] for part in self._parts]
        before: list[Any] = []
        for dtype in sorted({weight.dtype for part in parts for weight in part}):
            for row in zip_longest(*([weight for weight in part if weight.dtype == dtype] for part in parts)):
                # One weight of each process after the other, so that little more memory is needed.
                with tf.control_dependencies(before):
                    before = [each for each in self._spread_row(replica, row) if each is not None]

    def _spread_row(self, replica: int, row: Sequence[Any]) -> list[Any]:
        """Copy at most one weight of each process; return the assignments, or None for each in eager mode."""
        length = max(element_count(weight) for weight in row if weight is not None)
        sent, own = row[self._own], next(weight for weight in row if weight is not None)
        if sent is None:
            flat = tf.zeros([length], own.dtype)
        else:
            flat = tf.pad(tf.reshape(components(sent)[replica], [-1]), [[0, length - element_count(sent)]])
        everywhere = tf.distribute.get_replica_context().all_gather(flat, axis=0)
        assigned = []
        for process, weight in enumerate(row):
            if weight is not None and process != self._own:
                values = everywhere[process * length : process * length + element_count(weight)]
                value = tf.reshape(values, weight.shape)
                assigned.append(components(weight)[replica].assign(value, read_value=False))
        return assigned
