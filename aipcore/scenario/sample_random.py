"""Random numbers inside the losses of updates, which do not depend on the devices and are exact after a resume."""

from __future__ import annotations

from typing import Any

import attrs
import tensorflow as tf

from aipcore.distributed.strategy import Distribution


@attrs.frozen(eq=False)
class Part:
    """The part of a batch on one replica.

    Attributes:
        samples: the number of its samples, an int32 scalar.
        first: the position of the first one in the whole batch; None if it is the whole batch.
        size: the samples in the whole batch.
    """

    samples: Any
    first: Any = None
    size: Any = None

    @classmethod
    def of(cls, distribution: Distribution, replica: int, samples: Any, size: Any) -> Part:
        """Return the part of a replica, by its index within this worker; see `Distribution.split`."""
        if distribution.replicas == 1:
            return cls(samples)
        place = distribution.first + replica
        each, larger = size // distribution.replicas, size % distribution.replicas
        # A replica without samples of its own computes on one that does not count.
        first = tf.minimum(place * each + tf.minimum(place, larger), size - samples)
        return cls(samples, first, size)


class SampleRandom:
    """Random numbers for the samples of a batch.

    They are a function of the run's seed, the update, the number of its earlier batches, and the position of the sample
    in the batch. In validation, they are the same in each batch.

    Args:
        key: an integer tensor of shape [2].
        part: the part of the batch.
    """

    def __init__(self, key: Any, part: Part) -> None:
        self._key = key
        self._part = part
        self._calls = 0

    def normal(self, *shape: int) -> Any:
        """Return standard normal numbers, a float32 tensor of shape [batch, *shape]."""
        return self._draw(tf.random.stateless_normal, shape)

    def uniform(self, *shape: int) -> Any:
        """Return numbers from 0 to below 1, a float32 tensor of shape [batch, *shape]."""
        return self._draw(tf.random.stateless_uniform, shape)

    def _draw(self, draw: Any, shape: tuple[int, ...]) -> Any:
        part = self._part
        key = tf.random.experimental.stateless_fold_in(self._key, self._calls)
        self._calls += 1
        rows = part.samples if part.size is None else part.size
        drawn = draw(tf.stack([rows, *shape]), key, alg="philox")
        if part.first is not None:
            drawn = drawn[part.first : part.first + part.samples]
        return tf.ensure_shape(drawn, (None, *shape))
