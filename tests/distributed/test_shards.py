"""The division of the optimizer's state among processes: all weights once, about equal parts, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from aipcore.distributed.cluster import Cluster
from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.shards import WeightShards
from aipcore.distributed.strategy import Distribution, make_distribution
from aipcore.errors import ParamsError

SIZES = [[30, 20], [20], [20, 20], [20], [20, 5], [5], [3]]


def shards(weights: list[Any], index: int, count: int, *, sharded: bool = True) -> WeightShards:
    """Return the division for one of several processes, without connections."""
    made = Distribution(processes=ProcessGroup(Cluster(tuple(f"host:{n}" for n in range(count)), index)))
    made.shards_optimizer = sharded
    return WeightShards(weights, made)


def test_each_weight_has_one_process() -> None:
    """Parts differ by at most the largest weight, and each weight is in one of them, in the given order."""
    weights = [SimpleNamespace(shape=shape) for shape in SIZES]
    for count in range(2, 8):
        parts = [shards(weights, index, count).own(weights) for index in range(count)]
        assert sorted(place for part in parts for place in part) == list(range(7))
        assert all(part == sorted(part) for part in parts)
        sizes = [sum(math.prod(SIZES[place]) for place in part) for part in parts]
        assert max(sizes) <= max(600, sum(sizes) / count + 400)
    assert shards(weights, 1, 2, sharded=False).own(weights) == list(range(7))


def test_too_few_weights() -> None:
    """Each process must update a weight: of the model, and of those that are trained in a phase."""
    weights = [SimpleNamespace(shape=[4]) for _ in range(3)]
    with pytest.raises(ParamsError, match="cannot divide the 3 trained weights among 4 processes"):
        shards(weights, 0, 4)
    with pytest.raises(ParamsError, match="cannot divide the 2 trained weights among 3 processes"):
        shards(weights, 1, 3).own(weights[1:])


def test_needs_processes_with_one_device() -> None:
    """A strategy without several processes, and processes with several devices, are refused."""
    with pytest.raises(ParamsError, match=r"Use it with --device\.strategy multi_worker"):
        make_distribution(DeviceParams(strategy="mirror", shard_optimizer=True), 8, ProcessGroup())
    processes = ProcessGroup(Cluster(("a:1", "b:2"), 0))
    processes.strategy = SimpleNamespace(extended=SimpleNamespace(worker_devices=("/device:GPU:0", "/device:GPU:1")))
    with pytest.raises(ParamsError, match="needs one device in each process, but this one has 2"):
        make_distribution(DeviceParams(strategy="multi_worker", shard_optimizer=True), 8, processes)
