"""Weights of an output layer whose classes differ from those of the model that a run starts from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any


def adapted_classes(source: Any, fresh: Any, there: Any, here: Sequence[Hashable]) -> Any:
    """Return the weights of an output layer, in which classes known to the source keep the source's weights.

    For `Scenario.adapt_weights`. Classes are along the last axis, as in the kernel and the bias of a `Dense` layer.

    Args:
        source: the array in the source, shape [..., classes of the source].
        fresh: the initial value in this model, shape [..., classes].
        there: the names of the source's classes in their order, such as `before["data.classes"]`. It may be untrusted.
        here: the names of this model's classes in their order.

    Returns:
        an array of the shape of `fresh`; None if `there` is not a list of a name for each class of `source`, or if the
        shapes differ in other axes.
    """
    if not isinstance(there, list | tuple) or fresh.shape[-1:] != (len(here),):
        return None
    if source.shape != (*fresh.shape[:-1], len(there)):
        return None
    numbers = {name: number for number, name in enumerate(there) if isinstance(name, Hashable)}
    adapted = fresh.copy()
    for number, name in enumerate(here):
        if name in numbers:
            adapted[..., number] = source[..., numbers[name]]
    return adapted
