"""Division of samples into the folds of a cross-validation, stratified by class and grouped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import MemoryDataset
from aipcore.data.sample import Sample, Samples
from aipcore.data.sampler import Indices
from aipcore.errors import DataError
from aipcore.params.names import count

Folds = npt.NDArray[np.int64]
"""The fold of each sample, counted from 0, shape [samples]."""

GROUP = "group"
"""The key of `Sample.meta` that is used without `--trainer.folds_by`."""

Select = Callable[[Samples, str], Indices]
"""A function from unprocessed samples, and their name in errors, to the indices of those to use."""


def divided(
    size: int, folds: int, seed: int, *, labels: npt.NDArray[Any] | None = None, groups: list[Any] | None = None
) -> Folds:
    """Divide samples into folds of about the same size, at random.

    Args:
        size: number of samples, at least `folds`.
        folds: number of folds.
        seed: the seed. The same arguments give the same division on all machines.
        labels: the class of each sample, shape [samples]. Each class is spread evenly over the folds: without groups,
            its counts in two folds differ by at most 1.
        groups: the group of each sample. The samples of a group are in the same fold. Groups are assigned from the
            largest to the smallest, each to the fold with the fewest samples of its classes.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(size)
    classes = np.zeros(size, np.int64) if labels is None else np.unique(labels, return_inverse=True)[1].reshape(size)
    assigned = np.empty(size, np.int64)
    if groups is None:
        # Dealt class by class without a new start, so that the sizes of the folds differ by at most 1 too.
        order = order[np.argsort(classes[order], kind="stable")]
        assigned[order] = np.arange(size) % folds
        return assigned
    numbers: dict[Any, int] = {}
    member = np.array([numbers.setdefault(group, len(numbers)) for group in (groups[index] for index in order)])
    counts = np.zeros((len(numbers), classes.max() + 1))
    np.add.at(counts, (member, classes[order]), 1)
    shares = counts / counts.sum(axis=0)
    totals, fold_of = np.zeros((folds, counts.shape[1])), np.empty(len(numbers), np.int64)
    sizes = np.zeros(folds)
    for number in np.argsort(-counts.sum(axis=1), kind="stable"):
        # The fold whose addition increases the sum of the squares of all shares least; then the smallest.
        best = np.lexsort((sizes, np.round(totals @ shares[number], 12)))[0]
        fold_of[number] = best
        totals[best] += shares[number]
        sizes[best] += counts[number].sum()
    assigned[order] = fold_of[member]
    return assigned


@attrs.define
class FoldSplit:
    """The division of a run's training data into training and validation samples.

    Attributes:
        folds: number of folds.
        fold: the fold with the validation samples, counted from 1.
        seed: the seed of the division.
        by: the key of `Sample.meta` with the group of a sample; None for "group", if the samples have it.
        text: the division in words, once it is known.
    """

    folds: int
    fold: int
    seed: int
    by: str | None = None
    text: str = ""
    _assigned: Folds | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def training(self, samples: Samples, origin: str) -> Indices:
        """Return the indices of the training samples, in order; see `Select`."""
        return np.flatnonzero(self._of(samples, origin) != self.fold - 1)

    def validation(self, limit: int | None = None) -> Select:
        """Return the function that selects the validation samples, at most `limit` of them."""
        return lambda samples, origin: np.flatnonzero(self._of(samples, origin) == self.fold - 1)[:limit]

    def _of(self, samples: Samples, origin: str) -> Folds:
        """Return the fold of each sample. All samples are read once, unless they are in memory.

        Raises:
            DataError: there are fewer samples or groups than folds, or a sample has no group.
        """
        size = len(samples)
        if self._assigned is not None:
            if len(self._assigned) != size:
                raise DataError(
                    f"{origin} returned {count(size, 'sample')}, but {len(self._assigned):,} before. The folds of a "
                    "cross-validation need the same samples each time."
                )
            return self._assigned
        if size < self.folds:
            raise DataError(
                f"{origin} has {count(size, 'sample')}, fewer than the {self.folds} folds of --trainer.folds. Give "
                "fewer folds."
            )
        labels, groups = _labels_and_groups(samples, self.by, origin)
        if groups is not None and len(set(groups)) < self.folds:
            raise DataError(
                f"{origin} has {count(len(set(groups)), 'group')}, fewer than the {self.folds} folds of "
                "--trainer.folds. Give fewer folds."
            )
        ways = [] if labels is None else [f"stratified by {count(len(np.unique(labels)), 'class')}"]
        ways += [] if groups is None else [f"grouped by {self.by or GROUP}"]
        self.text = f"fold {self.fold} of {self.folds}, {' and '.join(ways) or 'at random'}"
        self._assigned = divided(size, self.folds, self.seed, labels=labels, groups=groups)
        return self._assigned


def _labels_and_groups(
    samples: Samples, by: str | None, origin: str
) -> tuple[npt.NDArray[Any] | None, list[Any] | None]:
    """Return the class of each sample if all targets are single integers, and the group if the meta has one."""
    first = samples[0].meta
    key = by or (GROUP if isinstance(first, Mapping) and GROUP in first else None)
    if isinstance(samples, MemoryDataset):
        columns = list(samples.targets.columns.values())
        labels = _labels(columns[0]) if len(columns) == 1 else None
        metas = [None] * len(samples) if samples.meta is None else samples.meta
        return labels, None if key is None else [_group(meta, key, at, origin) for at, meta in enumerate(metas)]
    found: list[npt.NDArray[Any]] = []
    groups: list[Any] = []
    for index in range(len(samples)):
        sample = samples[index]
        found.append(_only_target(sample))
        if key is not None:
            groups.append(_group(sample.meta, key, index, origin))
    same = len({each.shape for each in found}) == 1
    return _labels(np.stack(found)) if same else None, None if key is None else groups


def _only_target(sample: Sample) -> npt.NDArray[Any]:
    """Return the only target if it is a single integer, otherwise an empty array, which has no class."""
    targets = sample.targets
    if isinstance(targets, Mapping):
        targets = next(iter(targets.values())) if len(targets) == 1 else None
    target = np.asarray(targets) if isinstance(targets, int | np.generic | np.ndarray) else np.zeros(0)
    return target if target.size == 1 and target.dtype.kind in "iub" else np.zeros(0)


def _labels(column: Any) -> npt.NDArray[Any] | None:
    """Return the class of each sample, shape [samples]; None for targets that are not single integers."""
    single = isinstance(column, np.ndarray) and column.size == len(column) and column.dtype.kind in "iub"
    return column.reshape(len(column)) if single else None


def _group(meta: Any, key: str, index: int, origin: str) -> Any:
    """Return the group of a sample.

    Raises:
        DataError: it has none.
    """
    group = meta.get(key) if isinstance(meta, Mapping) else None
    group = group.item() if isinstance(group, np.generic | np.ndarray) and np.size(group) == 1 else group
    if isinstance(group, int | str | bytes):
        return group
    found = "is missing" if group is None else f"is {type(group).__name__}"
    raise DataError(
        f"The group of sample {index} of {origin} {found}. Give each sample a meta with an integer or text under "
        f"{key!r}."
    )


@attrs.frozen(eq=False)
class SelectedSamples:
    """Some of several samples.

    Attributes:
        samples: all samples.
        indices: the indices of the selected ones.
    """

    samples: Samples
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[int(self.indices[index])]


def selected(samples: Samples, indices: Indices) -> Samples:
    """Return some of several samples: arrays for samples in memory, otherwise a view."""
    if not isinstance(samples, MemoryDataset):
        return SelectedSamples(samples, indices)
    chosen = indices.tolist()
    inputs, targets, weights = (
        attrs.evolve(
            side,
            columns={
                name: column[indices] if isinstance(column, np.ndarray) else [column[index] for index in chosen]
                for name, column in side.columns.items()
            },
        )
        for side in samples.sides
    )
    meta = None if samples.meta is None else [samples.meta[index] for index in chosen]
    return attrs.evolve(samples, inputs=inputs, targets=targets, weights=weights, meta=meta)
