"""Variables whose values a scenario adapts to its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.distributed.strategy import components
from aipcore.errors import ScenarioError

AdaptWeights = Callable[[str, Any, Any, Mapping[str, Any] | None], Any]
"""`Scenario.adapt_weights`."""


@attrs.frozen(eq=False)
class Adapted:
    """The adapted value of a variable.

    Attributes:
        value: the value, in the type of the variable.
        kept: the number of entries without initial values, and of all, along the axis that differs from the source, or
            the last axis.
    """

    value: npt.NDArray[Any]
    kept: tuple[int, int]


def adapted_value(
    adapt: AdaptWeights, path: str, variable: Any, source: npt.NDArray[Any], before: Mapping[str, Any] | None
) -> Adapted | None:
    """Return the scenario's value of a variable; None if it has none, or only the source's value.

    Args:
        adapt: the method of the scenario.
        path: the path of the variable.
        variable: the Keras variable, which is not changed.
        source: its array in the source.
        before: the recorded parameters of the source by dotted path, or None.

    Raises:
        ScenarioError: the value has another shape or type, or is not finite.
    """
    # On a CPU, the array of a variable may share its memory.
    initial = np.array(components(variable)[0].numpy())
    shown = source.view()
    shown.flags.writeable = False
    answer = adapt(path, shown, initial.copy(), before)
    if answer is None:
        return None
    call = f"{getattr(adapt, '__qualname__', 'adapt_weights')}({path!r}, ...)"
    value = _checked(answer, initial, call)
    if not np.isfinite(value).all():
        theirs = "" if np.isfinite(source).all() else " The source has such values too."
        raise ScenarioError(f"{call} returned values that are not finite.{theirs} Return finite values, or None.")
    if value.shape == source.shape and (value == source).all():
        return None
    return Adapted(value, _kept(value, initial, source.shape))


def _checked(answer: Any, initial: npt.NDArray[Any], call: str) -> npt.NDArray[Any]:
    try:
        value = np.asarray(answer)
    except (TypeError, ValueError) as error:
        raise ScenarioError(
            f"{call} returned {type(answer).__name__}, which is not an array. Return an array, or None."
        ) from error
    if value.shape != initial.shape:
        raise ScenarioError(
            f"{call} returned shape {value.shape}, but the variable has {initial.shape}. Return an array of this "
            "shape, or None."
        )
    here, there = initial.dtype.name, value.dtype.name
    if here != there and not ("float" in here and "float" in there):
        raise ScenarioError(f"{call} returned type {there}, but the variable has {here}. Return this type, or None.")
    with np.errstate(over="ignore"):
        return value.astype(initial.dtype)


def _kept(value: npt.NDArray[Any], initial: npt.NDArray[Any], there: tuple[int, ...]) -> tuple[int, int]:
    if not value.ndim:
        return int(value != initial), 1
    sizes = enumerate(zip(value.shape, there, strict=False))
    axis = next((number for number, (one, other) in sizes if one != other), value.ndim - 1)
    changed = np.moveaxis(value != initial, axis, 0).reshape(value.shape[axis], -1).any(axis=1)
    return int(changed.sum()), len(changed)
