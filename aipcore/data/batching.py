"""Batching: the division of an epoch into batches, and the checked columns of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Batch, Padding, pad
from aipcore.data.processing import SampleError
from aipcore.data.sample import SIDES, ColumnSpec, Sample, Specs, present
from aipcore.data.strings import OBJECT, STRING, as_strings, dtype_name, numpy_dtype, type_of

Array = npt.NDArray[Any]


@attrs.frozen(kw_only=True)
class Batching:
    """The division of an epoch into batches.

    Attributes:
        samples: the number of samples in all batches of an epoch.
        batch_size: samples in each batch, except a possibly smaller last one.
        dropped: samples at the end of an epoch that are in no batch.
    """

    samples: int
    batch_size: int
    dropped: int = 0

    @property
    def steps(self) -> int:
        """The number of batches in an epoch, including a partial one."""
        return -(-self.samples // self.batch_size)

    def start(self, epoch: int, step: int) -> int:
        """Return the position in the sample order of the first sample of a batch."""
        return epoch * (self.samples + self.dropped) + step * self.batch_size

    @property
    def full_steps(self) -> int:
        """The number of full batches in an epoch."""
        return self.samples // self.batch_size


@attrs.frozen(kw_only=True, eq=False)
class _Side:
    """The columns of the inputs, the targets or the weights: name, shape, dtype and padding value of each."""

    part: str
    bare: bool
    columns: list[tuple[str, tuple[int | None, ...], np.dtype[Any]]]
    padding: Mapping[str, Any]

    def together(self, values: Any, count: int) -> dict[str, Array] | None:
        """Return the columns of samples that are already stacked, or None if they do not match the specs."""
        given = {"": values} if self.bare else {} if values is None else values
        return self.matching(given, count) if isinstance(given, Mapping) else None

    def matching(self, given: Mapping[str, Any], count: int) -> dict[str, Array] | None:
        """Return stacked columns by name with the dtypes of the specs, or None if they do not match the specs."""
        if given.keys() != {name for name, *_ in self.columns}:
            return None
        made = {}
        for name, shape, dtype in self.columns:
            array = np.asarray(given[name]) if dtype is not OBJECT else as_strings(given[name])
            if array is None:
                return None
            fits = array.ndim and len(array) == count and _fits(array.shape[1:], shape)
            if not fits or not np.can_cast(array.dtype, dtype, "same_kind"):
                return None
            made[name] = array.astype(dtype, copy=False)
        return made


class Layout:
    """The required names, shapes and dtypes of samples.

    Args:
        specs: the specs of inputs, targets and weights.
        bare: per side, True for a single unnamed array.
        padding: per side, the padding values by column name; default 0.
        origin: the name of the data in errors.
    """

    def __init__(self, specs: Specs, bare: tuple[bool, bool, bool], padding: Padding, origin: str) -> None:
        self.origin = origin
        self.specs = specs
        self._given = specs, bare, padding, origin
        self.stacked = all(None not in spec.shape for side in specs for spec in side.values())
        self.inputs, self.targets, self.weights = (
            _Side(part=part, bare=bare[n], columns=_columns(specs[n]), padding=padding[n])
            for n, part in enumerate(SIDES)
        )

    @property
    def sides(self) -> tuple[_Side, _Side, _Side]:
        """The inputs, the targets and the weights, as in `SIDES`."""
        return self.inputs, self.targets, self.weights

    def __reduce__(self) -> tuple[Any, ...]:
        # Built again, since NumPy compares dtypes by identity first.
        return Layout, self._given


class Collector:
    """A collector of single samples. Arrays of equal shape are copied once, to their place in the batch.

    Args:
        layout: the required layout of the samples.
        size: the most samples in the batch.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self._layout = layout
        self._count = 0
        self._meta: list[Any] = []
        self._inputs = self._rooms(layout.inputs, size)
        self._targets = self._rooms(layout.targets, size)
        self._weights = self._rooms(layout.weights, size)

    def add(self, sample: Sample, index: int) -> None:
        """Add one sample. The next sample overwrites a row that an invalid sample has begun to fill.

        Raises:
            SampleError: the arrays of the sample do not match the layout.
        """
        self._put(self._layout.inputs, self._inputs, sample.inputs, index)
        self._put(self._layout.targets, self._targets, sample.targets, index)
        if self._weights or sample.weight is not None:
            self._put(self._layout.weights, self._weights, self._weight(sample, index), index)
        self._meta.append(sample.meta)
        self._count += 1

    def batch(self, kept: npt.NDArray[np.bool_] | None = None, errors: Sequence[str] = ()) -> Batch:
        """Return the samples as a batch; for `kept` and `errors` see `Batch`."""
        return Batch(
            inputs=self._joined(self._layout.inputs, self._inputs),
            targets=self._joined(self._layout.targets, self._targets),
            weights=self._joined(self._layout.weights, self._weights),
            meta=self._meta if any(each is not None for each in self._meta) else None,
            kept=kept,
            errors=errors,
        )

    def _rooms(self, side: _Side, size: int) -> list[Any]:
        return [_room(column, size) if self._layout.stacked else [] for column in side.columns]

    def _weight(self, sample: Sample, index: int) -> Any:
        weight = present(sample.weight)
        if bool(self._weights) is (weight is None):
            given, first = ("no", "one") if weight is None else ("a", "none")
            raise SampleError(
                f"After processing, sample {index} of {self._layout.origin} has {given} weight, but the first samples "
                f"have {first}. Give all samples a weight, or none of them."
            )
        return weight

    def _put(self, side: _Side, columns: list[Any], values: Any, index: int) -> None:
        if side.bare:
            values = {"": values}
        elif values is None:
            values = {}
        elif type(values) is not dict and not isinstance(values, Mapping):
            raise self._misfit(index, f"{side.part} without a name", sorted(name for name, *_ in side.columns))
        if len(values) != len(columns):
            raise self._misfit(index, f"the {side.part} {sorted(values)}", sorted(name for name, *_ in side.columns))
        row = self._count
        for (name, shape, dtype), column in zip(side.columns, columns, strict=True):
            if name not in values:
                names = sorted(each for each, *_ in side.columns)
                raise self._misfit(index, f"the {side.part} {sorted(values)}", names)
            array = values[name]
            if type(array) is not np.ndarray or dtype is OBJECT:
                array = self._array(array, side, name, dtype, index)
            if array.shape != shape and not _fits(array.shape, shape):
                raise self._misfit(index, f"{_called(side, name)} of shape {array.shape}", shape)
            if array.dtype is not dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
                raise self._misfit(index, f"{_called(side, name)} of type {type_of(array)}", dtype_name(dtype))
            if isinstance(column, list):
                del column[row:]
                column.append(array)
            else:
                # With the ellipsis, a single string is not stored as an array.
                column[row, ...] = array

    def _array(self, value: Any, side: _Side, name: str, dtype: np.dtype[Any], index: int) -> Array:
        array = as_strings(value) if dtype is OBJECT else np.asarray(value)
        if array is None:
            raise self._misfit(index, f"{_called(side, name)} of type {type_of(np.asarray(value))}", STRING)
        return array

    def _joined(self, side: _Side, columns: list[Any]) -> dict[str, Array]:
        joined = {}
        for (name, shape, dtype), column in zip(side.columns, columns, strict=True):
            if not isinstance(column, list):
                joined[name] = column[: self._count]
            elif self._count:
                joined[name] = pad(column[: self._count], side.padding.get(name, 0), dtype)
            else:
                joined[name] = _room((name, shape, dtype), 0)
        return joined

    def _misfit(self, index: int, given: str, wanted: object) -> SampleError:
        return SampleError(
            f"After processing, sample {index} of {self._layout.origin} has {given}, but the first samples or "
            f"sample_specs() have {wanted}. Give all samples the same names, shapes and types, or declare varying axes "
            "as None in sample_specs()."
        )


def collect(layout: Layout, indices: Sequence[int], make: Callable[[int], Sample | None], *, skips: bool) -> Batch:
    """Make samples one by one and return them as a batch.

    Args:
        layout: the required layout of the samples.
        indices: the sample indices, for errors.
        make: returns the sample at a position of `indices`, or None if there is none.
        skips: True to leave out a sample that cannot be made; False to raise an error.

    Raises:
        SampleError: a sample cannot be made and is not to be skipped.
    """
    collector = Collector(layout, len(indices))
    kept = None
    errors: list[str] = []
    for position, index in enumerate(indices):
        try:
            sample = make(position)
            if sample is not None:
                collector.add(sample, index)
                continue
        except SampleError as error:
            if not skips:
                raise
            errors.append(str(error))
        kept = np.ones(len(indices), bool) if kept is None else kept
        kept[position] = False
    return collector.batch(kept, errors)


def _columns(specs: Mapping[str, ColumnSpec]) -> list[tuple[str, tuple[int | None, ...], np.dtype[Any]]]:
    return [(name, spec.shape, numpy_dtype(spec.dtype)) for name, spec in specs.items()]


def _room(column: tuple[str, tuple[int | None, ...], np.dtype[Any]], size: int) -> Array:
    _, shape, dtype = column
    return np.empty((size, *(axis or 0 for axis in shape)), dtype)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(a in (None, b) for a, b in zip(wanted, shape, strict=True))


def _called(side: _Side, name: str) -> str:
    return f"{side.part} {name!r}" if name else side.part
