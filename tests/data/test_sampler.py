"""The order of samples is a function of seed and position."""

from __future__ import annotations

import numpy as np
import pytest

from aipcore.data.sampler import SampleOrder


def test_every_pass_is_a_different_permutation() -> None:
    """Each pass visits every sample once, in an order that differs between passes and seeds."""
    order = SampleOrder(50, seed=3, shuffle=True)
    epochs = [order.indices(50 * number, 50 * (number + 1)) for number in range(4)]
    for indices in epochs:
        assert sorted(indices) == list(range(50))
    assert len({tuple(indices) for indices in epochs}) == 4
    assert tuple(SampleOrder(50, seed=4, shuffle=True).indices(0, 50)) != tuple(epochs[0])


def test_any_position_can_be_asked_for_first() -> None:
    """Seeking gives the same indices as stepping, across the ends of passes."""
    whole = SampleOrder(7, seed=1, shuffle=True).indices(0, 40)
    for start in range(0, 36, 5):
        np.testing.assert_array_equal(
            SampleOrder(7, seed=1, shuffle=True).indices(start, start + 4), whole[start : start + 4]
        )


def test_unshuffled() -> None:
    """Without shuffling, samples come in their original order in each pass."""
    assert SampleOrder(3, seed=1, shuffle=False).indices(2, 8).tolist() == [2, 0, 1, 2, 0, 1]


def test_nothing() -> None:
    """No positions give no indices."""
    assert SampleOrder(3, seed=1, shuffle=True).indices(4, 4).tolist() == []


@pytest.mark.parametrize("seed", [0, 2**31, 2**63])
def test_large_seeds(seed: int) -> None:
    """Every allowed seed works."""
    assert sorted(SampleOrder(5, seed=seed, shuffle=True).indices(0, 5)) == [0, 1, 2, 3, 4]
