"""The division of samples into folds: complete, even, stratified, grouped and repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.data.adapters import as_dataset, as_samples
from aipcore.data.folds import FoldSplit, divided, selected
from aipcore.data.pipeline import Pipeline
from aipcore.data.sample import Sample
from aipcore.errors import DataError


def test_random_folds() -> None:
    """Each sample is in one fold, sizes differ by at most 1, and the seed alone determines the division."""
    for size, folds in ((23, 5), (6, 6), (100, 2)):
        assigned = divided(size, folds, seed=3)
        sizes = np.bincount(assigned, minlength=folds)
        assert sizes.sum() == size
        assert sizes.max() - sizes.min() <= 1
        np.testing.assert_array_equal(assigned, divided(size, folds, seed=3))
    assert (divided(100, 2, seed=3) != divided(100, 2, seed=4)).any()


def test_stratified_folds() -> None:
    """In each class and in total, two folds differ by at most one sample, whatever the order of the samples."""
    labels = np.random.default_rng(0).choice([3, 7, 9], 103, p=[0.7, 0.25, 0.05])
    for given in (labels, np.sort(labels)):
        assigned = divided(103, 5, seed=1, labels=given)
        for part in [np.full(103, True), *(given == label for label in (3, 7, 9))]:
            sizes = np.bincount(assigned[part], minlength=5)
            assert sizes.max() - sizes.min() <= 1


def test_grouped_folds() -> None:
    """Groups are never divided, and classes are spread as far as groups allow."""
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 800)
    labels = (groups % 4 == 0).astype(int)
    assigned = divided(800, 4, seed=1, labels=labels, groups=groups.tolist())
    assert all(len(set(assigned[groups == group].tolist())) == 1 for group in range(40))
    shares = [labels[assigned == fold].mean() for fold in range(4)]
    assert max(shares) - min(shares) < 0.1
    sizes = np.bincount(assigned)
    assert sizes.max() - sizes.min() < 80


def samples(count: int = 12, **meta: Any) -> list[Sample]:
    """Return samples of two classes with metadata."""
    return [
        Sample(inputs=np.float32([at]), targets=np.int64(at % 2), meta=dict.fromkeys(meta, at // 3) or None)
        for at in range(count)
    ]


class Indexed:
    """Samples that are read on demand."""

    def __init__(self, given: list[Sample]) -> None:
        self.given = given

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Sample:
        return self.given[index]


@pytest.mark.parametrize("kind", ["memory", "list", "indexed"])
def test_all_kinds_of_samples(kind: str) -> None:
    """Samples in memory and on demand have the same folds; training and validation are complementary."""
    given = samples(group=True)
    made: Any = {
        "memory": lambda: as_dataset(given, "it"),
        "list": lambda: as_samples(given, "it"),
        "indexed": lambda: as_samples(Indexed(given), "it"),
    }[kind]()
    split = FoldSplit(folds=4, fold=2, seed=5)
    train, held = split.training(made, "it"), split.validation()(made, "it")
    assert split.text == "fold 2 of 4, stratified by 2 classes and grouped by group"
    assert sorted([*train, *held]) == list(range(12))
    assert held.tolist() == FoldSplit(folds=4, fold=2, seed=5).validation()(as_samples(given, "it"), "it").tolist()
    assert len({at // 3 for at in held}) == 1
    chosen = selected(made, held)
    assert [float(chosen[at].inputs[0]) for at in range(len(chosen))] == held.tolist()
    assert [chosen[at].meta for at in range(len(chosen))] == [given[at].meta for at in held]
    assert split.validation(2)(made, "it").tolist() == held[:2].tolist()


def test_targets_without_classes_are_not_stratified() -> None:
    """Only single integers are classes; other targets leave the division random."""
    for targets in (
        np.ones((12, 1), np.float32),
        np.ones((12, 2), np.int64),
        {"a": np.ones(12, int), "b": np.ones(12, int)},
    ):
        split = FoldSplit(folds=3, fold=1, seed=1)
        split.training(as_dataset((np.ones((12, 1)), targets), "it"), "it")
        assert split.text == "fold 1 of 3, at random"
    split = FoldSplit(folds=3, fold=1, seed=1)
    split.training(as_dataset((np.ones((12, 1)), np.arange(12).reshape(12, 1) % 3), "it"), "it")
    assert "stratified by 3 classes" in split.text


def test_impossible_divisions(refused: Any) -> None:
    """Too few samples or groups, missing groups, changing data and streams are refused."""

    def training(given: list[Sample], **options: Any) -> None:
        FoldSplit(fold=1, seed=1, **options).training(as_samples(given, "Some.train_data()"), "Some.train_data()")

    with refused(DataError):
        training(samples(3), folds=5)
    with refused(DataError):
        training(samples(12, group=True), folds=5)
    with refused(DataError):
        training(samples(12), folds=2, by="patient")
    split = FoldSplit(folds=2, fold=1, seed=1)
    split.training(as_samples(samples(12), "it"), "it")
    with refused(DataError):
        split.validation()(as_samples(samples(13), "it"), "it")
    with refused(DataError):
        Pipeline(
            iter(samples(12)), preload="off", streamed=True, origin="Some.train_data()", select=split.training
        ).dataset()
