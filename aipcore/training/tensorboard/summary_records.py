"""Checks of the records that scenarios and evaluators return for TensorBoard."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.errors import ScenarioError
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

Array = npt.NDArray[Any]
CHANNELS = (1, 3, 4)


class RecordCheck:
    """Checks of the records of one method.

    Args:
        called: the method's name in error messages.
        reserved: names that belong to curves.
    """

    def __init__(self, called: str, reserved: Collection[str]) -> None:
        self._called = called
        self._reserved = reserved

    def checked(self, given: Iterable[Summary] | None) -> list[Summary]:
        """Return the records with NumPy arrays of the shapes and types that `EventWriter` accepts.

        Raises:
            ScenarioError: a record cannot be shown.
        """
        if given is None or isinstance(given, str | Image | ImageGrid | Histogram | PRCurve):
            raise self._error(
                f"returned {type(given).__name__}. Return a list of Image, ImageGrid, Histogram or PRCurve"
            )
        checked: list[Summary] = []
        names = set(self._reserved)
        for record in given:
            if not isinstance(record, Image | ImageGrid | Histogram | PRCurve):
                raise self._error(
                    f"returned {type(record).__name__}. Return Image, ImageGrid, Histogram or PRCurve "
                    "from aipcore.scenario"
                )
            if record.name in names:
                raise self._error(f"returned {record.name!r}, the name of a curve or of another record. Rename it")
            names.add(record.name)
            checked.append(self._arrays(record))
        return checked

    def _arrays(self, record: Summary) -> Summary:
        what = f"{type(record).__name__} {record.name!r}"
        match record:
            case Image():
                pixels = self._pixels(record.pixels, what)
                if pixels.ndim == 2:
                    pixels = pixels[..., None]
                if pixels.ndim != 3 or pixels.shape[-1] not in CHANNELS or not pixels.size:
                    shape = np.shape(record.pixels)
                    raise self._error(
                        f"returned {what} of shape {shape}. Return [height, width] or [height, width, 1|3|4]"
                    )
                return attrs.evolve(record, pixels=pixels)
            case ImageGrid():
                images = self._pixels(record.images, what)
                if images.ndim == 3:
                    images = images[..., None]
                if images.ndim != 4 or images.shape[-1] not in CHANNELS or not images.size:
                    shape = np.shape(record.images)
                    raise self._error(
                        f"returned {what} of shape {shape}. "
                        "Return [images, height, width] or [images, height, width, 1|3|4]"
                    )
                return attrs.evolve(record, images=images)
            case Histogram():
                values = self._numbers(record.values, what)
                if not np.isfinite(values).all():
                    raise self._error(f"returned {what} with values that are not finite. Leave them out")
                return attrs.evolve(record, values=values)
            case PRCurve():
                return self._curve(record, what)

    def _curve(self, record: PRCurve, what: str) -> PRCurve:
        labels, scores = self._numbers(record.labels, what), self._numbers(record.scores, what)
        if labels.shape != scores.shape:
            raise self._error(
                f"returned {what} with labels of shape {labels.shape} and scores of shape {scores.shape}. "
                "Return as many labels as scores"
            )
        if not np.isin(labels, (0, 1)).all():
            raise self._error(f"returned {what} with labels other than 0 and 1. Return the true labels as bool")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise self._error(f"returned {what} with scores outside 0 to 1. Return probabilities, not logits")
        if record.thresholds < 2:
            raise self._error(f"returned {what} with thresholds={record.thresholds}. Use at least 2")
        return attrs.evolve(record, labels=labels.astype(bool), scores=scores)

    def _pixels(self, given: Any, what: str) -> Array:
        array = np.asarray(given)
        if array.dtype == np.uint8:
            return array
        if array.dtype != bool and not _is_float(array):
            raise self._error(
                f"returned {what} of type {array.dtype}. Return uint8 from 0 to 255, or float from 0 to 1"
            )
        return (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255).round().astype(np.uint8)

    def _numbers(self, given: Any, what: str) -> Array:
        array = np.asarray(given)
        if not array.size:
            raise self._error(f"returned {what} without values. Leave it out")
        if array.dtype.kind not in "biu" and not _is_float(array):
            raise self._error(f"returned {what} of type {array.dtype}. Return numbers")
        return array.astype(np.float64)

    def _error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{self._called} {text}.")


def records_of(evaluator: Evaluator, reserved: Collection[str]) -> list[Summary]:
    """Return an evaluator's TensorBoard records for its LAV list.

    Args:
        evaluator: the evaluator, after the whole list.
        reserved: the names of the list's curves.

    Raises:
        ScenarioError: a record cannot be shown.
    """
    return RecordCheck(f"{type(evaluator).__name__}.summaries()", reserved).checked(evaluator.summaries())


def _is_float(array: Array) -> bool:
    # NumPy itself does not classify bfloat16 as a float.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
