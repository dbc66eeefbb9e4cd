"""Pipelines of a scenario's data; independent of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aipcore.data.adapters.arrays import is_arrays
from aipcore.data.folds import Select
from aipcore.data.pipeline import Pipeline, Preload
from aipcore.data.processor import Mode
from aipcore.data.sample import SIDES
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError, ScenarioError
from aipcore.params.names import count
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario


def lav_data_of(scenario: Scenario) -> Mapping[str, Any] | None:
    """Return the scenario's LAV lists by name, or None.

    Raises:
        ScenarioError: the lists are not a mapping.
    """
    lists: Any = scenario.lav_data()
    if lists is None or isinstance(lists, Mapping):
        return lists
    raise ScenarioError(
        f"{type(scenario).__name__}.lav_data() returned {type(lists).__name__}. Return a mapping from name to data."
    )


def make_workers(params: ScenarioParams) -> WorkerPool:
    """Return the worker processes of a run, not yet started."""
    return WorkerPool(params.data.workers, buffer_bytes=params.data.buffer_mib * 2**20)


def refuse_lists(data: Any, origin: str) -> None:
    """Reject a list of arrays for several inputs or targets, as used in Keras. aip needs a mapping by name.

    Raises:
        DataError: an entry of the list has as many samples as the other side, but the list does not.
    """
    if not is_arrays(data):
        return
    sides = [side for side in data if not isinstance(side, list | tuple)]
    arrays = [array for side in sides for array in (side.values() if isinstance(side, Mapping) else [side])]
    samples = {len(array) for array in arrays if getattr(array, "ndim", 0)}
    for name, side in zip(SIDES, data, strict=False):
        if not isinstance(side, list | tuple) or not side or {len(side)} == samples:
            continue
        if {len(each) if getattr(each, "ndim", 0) else None for each in side} == samples:
            raise DataError(
                f"{origin} returned a {type(side).__name__} of {count(len(side), 'array')} as {name}. Return a mapping "
                f"from the name of each {'input' if name == 'inputs' else 'output'} to its array."
            )


def make_pipeline(
    scenario: Scenario,
    params: ScenarioParams,
    data: Any,
    *,
    origin: str,
    mode: Mode,
    preload: Preload,
    seed: int,
    workers: WorkerPool,
    limit: int | None = None,
    again: Callable[[], Any] | None = None,
    streamed: bool = False,
    process: tuple[int, int] = (0, 1),
    select: Select | None = None,
) -> Pipeline:
    """Return a pipeline with the scenario's processors.

    Args:
        scenario: the scenario that defines the processors.
        params: the scenario's parameters.
        data: the result of `train_data` or a similar method.
        origin: the name of that method, for errors.
        mode: the purpose of the data.
        preload: keep processed samples in memory; see `Pipeline`.
        seed: the seed of the sample order and of random processors.
        workers: the worker pool.
        limit: use only this many samples from the start of `data`.
        again: returns the data again, for iterators.
        streamed: True if an iterable without a length is a stream.
        process: the index of this process and the number of processes that train together.
        select: selects some of the samples; see `Pipeline`.
    """
    refuse_lists(data, f"{type(scenario).__name__}.{origin}")
    return Pipeline(
        data,
        scenario.processors(),
        mode=mode,
        seed=seed,
        origin=f"{type(scenario).__name__}.{origin}",
        preload=preload,
        preload_bytes=params.data.preload_mib * 2**20,
        on_error=params.data.on_error,
        specs=scenario.sample_specs(),
        padding=scenario.padding,
        workers=workers,
        limit=limit,
        convert=None if type(scenario).to_sample is Scenario.to_sample else scenario.to_sample,
        again=again,
        streamed=streamed,
        window=params.train.shuffle_buffer if mode is Mode.TRAINING else 0,
        process=process,
        select=select,
    )
