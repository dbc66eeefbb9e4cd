"""From a scenario's data to pipelines; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipcore.data.adapters.arrays import is_arrays
from aipcore.data.pipeline import Pipeline, Preload
from aipcore.data.processor import Mode
from aipcore.data.sample import SIDES
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError, ScenarioError
from aipcore.params.names import count
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario


def lav_data_of(scenario: Scenario) -> Mapping[str, Any] | None:
    """Return the scenario's lists for the extended validation by name, or None.

    Raises:
        ScenarioError: it gives no mapping.
    """
    lists: Any = scenario.lav_data()
    if lists is None or isinstance(lists, Mapping):
        return lists
    raise ScenarioError(
        f"{type(scenario).__name__}.lav_data() returned {type(lists).__name__}. Return a mapping from name to data."
    )


def make_workers(params: ScenarioParams) -> WorkerPool:
    """The worker processes of a run, none of which is started yet."""
    return WorkerPool(params.data.workers, buffer_bytes=params.data.buffer_mib * 2**20)


def refuse_lists(data: Any, origin: str) -> None:
    """Refuse a list of arrays for several inputs or targets, as Keras takes it. Here they go by name.

    Raises:
        DataError: an entry of the list has as many samples as the other side, and the list has not.
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
) -> Pipeline:
    """A pipeline through the scenario's processors.

    Args:
        scenario: says what is done with samples.
        params: of the scenario.
        data: what `train_data` or its like returned.
        origin: which of these it was, for errors.
        mode: what the data is for.
        preload: whether to keep processed samples.
        seed: of the order and of random processors.
        workers: who makes samples.
        limit: use only the first so many samples of `data`.
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
    )
