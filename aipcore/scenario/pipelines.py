"""From a scenario's data to pipelines; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipcore.data.pipeline import Pipeline, Preload
from aipcore.data.processor import Mode
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import ScenarioError
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
