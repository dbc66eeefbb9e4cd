"""Batches of similar length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.data.pipeline import Pipeline
from aipcore.data.sampler import Buckets, SampleOrder
from aipcore.scenario import Sample

LENGTHS = np.random.default_rng(0).integers(1, 200, 103)


def bucketed(window: int, *, seed: int = 1, shuffle: bool = True) -> SampleOrder:
    """Return an order of 103 samples in batches of 8."""
    return SampleOrder(103, seed=seed, shuffle=shuffle, buckets=Buckets(lengths=LENGTHS, batch_size=8, window=window))


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_once_a_pass(window: int, shuffle: bool) -> None:
    """Every sample comes once per pass, for any window."""
    order = bucketed(window, shuffle=shuffle)
    for number in range(3):
        assert sorted(order.indices(103 * number, 103 * (number + 1))) == list(range(103))


def test_function_of_seed_and_pass() -> None:
    """Passes and seeds differ, and any position can be the first one requested."""
    whole = bucketed(4).indices(0, 309)
    for start in range(0, 300, 37):
        np.testing.assert_array_equal(bucketed(4).indices(start, start + 9), whole[start : start + 9])
    epochs = [*np.split(whole, 3), bucketed(4, seed=2).indices(0, 103)]
    assert len({tuple(each) for each in epochs}) == 4


def test_batches_hold_similar_lengths_in_mixed_order() -> None:
    """There is little padding, less with wider windows, and batches are not sorted by length."""

    def waste(order: SampleOrder) -> float:
        batches = [LENGTHS[order.indices(start, start + 8)] for start in range(0, 96, 8)]
        return sum(int((batch.max() - batch).sum()) for batch in batches) / int(LENGTHS.sum())

    wastes = [waste(SampleOrder(103, seed=1, shuffle=True)), waste(bucketed(3)), waste(bucketed(100))]
    assert wastes[0] > 2 * wastes[1] > 2 * wastes[2]
    assert wastes[2] < 0.06
    means = [LENGTHS[bucketed(100).indices(start, start + 8)].mean() for start in range(0, 96, 8)]
    assert means != sorted(means)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_of_a_pipeline(preload: Any) -> None:
    """The lengths are those of the processed inputs, cached or not; seeking gives the end of the epoch."""

    class Lines:
        def __len__(self) -> int:
            return 103

        def __getitem__(self, index: int) -> Sample:
            return Sample(inputs=np.full((2, LENGTHS[index]), index, np.float32), targets=index)

    loader = Pipeline(Lines(), seed=1, preload=preload).loader(8, shuffle=True, bucket_window=100)
    np.testing.assert_array_equal(loader.dataset.lengths(), 2 * LENGTHS)
    seen = [block.targets[""].ravel().tolist() for block in loader.blocks(1, chunk=4)]
    assert [index for batch in seen for index in batch] == bucketed(100).indices(103, 206).tolist()
    assert [block.targets[""].ravel().tolist() for block in loader.blocks(1, chunk=4, first=5)] == seen[5:]
