"""The data pipelines of a scenario for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.adapters import is_stream
from aipcore.data.adapters.arrays import as_sides, is_arrays
from aipcore.data.folds import FoldSplit, Select
from aipcore.data.pipeline import Pipeline, Preload
from aipcore.data.processor import Mode
from aipcore.data.sample import Sample
from aipcore.errors import DataError
from aipcore.scenario.pipelines import lav_data_of, make_pipeline, make_workers
from aipcore.scenario.scenario import Scenario


@contextmanager
def open_pipeline(
    scenario: Scenario,
    data: Any,
    origin: str,
    *,
    mode: Mode,
    seed: int,
    again: Callable[[], Any] | None = None,
    preload: Preload = "auto",
    limit: int | None = None,
    select: Select | None = None,
) -> Iterator[Pipeline]:
    """Process data as in training, without the targets if only inputs are needed. The context ends the workers.

    Args:
        scenario: the scenario.
        data: its data.
        origin: the name of the data in errors.
        mode: the purpose of the data.
        seed: the seed of the model's run.
        again: returns the data again; without it, an iterator is read once and kept.
        preload: keep processed samples in memory; see `Pipeline`.
        limit: use only this many samples from the start of the data.
        select: selects some of the samples; see `Pipeline`.
    """
    workers = make_workers(scenario.params)
    given = _for(mode, data)
    try:
        yield make_pipeline(
            scenario,
            scenario.params,
            given,
            origin=origin,
            mode=mode,
            preload=preload,
            seed=seed,
            workers=workers,
            limit=limit,
            again=None if again is None else lambda: _for(mode, again()),
            select=select,
        )
    finally:
        workers.close()


@contextmanager
def open_predict_data(
    scenario: Scenario, data: Any, origin: str, mode: Mode, *, seed: int, given: frozenset[str]
) -> Iterator[Pipeline]:
    """Process the result of `scenario.predict_data()`; see `open_pipeline`.

    The options `--val.limit` and `--val.preload` apply to any data. Their recorded values are those of the validation
    data, and apply only if `predict_data` is not overridden.

    Args:
        scenario: the scenario.
        data: its data.
        origin: the name of the data in errors.
        mode: the purpose of the data.
        seed: the seed of the model's run.
        given: names of the parameters that the user has changed.
    """
    val, inherited = scenario.params.val, type(scenario).predict_data is Scenario.predict_data
    with open_pipeline(
        scenario,
        data,
        origin,
        mode=mode,
        seed=seed,
        again=scenario.predict_data,
        preload=val.preload if inherited or "val.preload" in given else "auto",
        limit=val.limit if inherited or "val.limit" in given else None,
    ) as pipeline:
        yield pipeline


Array = npt.NDArray[Any]


def fold_of(about: Mapping[str, Any]) -> FoldSplit | None:
    """Return the division of the training data recorded with the model of a fold; None for other models."""
    trainer = about["params"].get("trainer")
    if not isinstance(trainer, Mapping):
        return None
    folds, fold, by, seed = trainer.get("folds"), trainer.get("fold"), trainer.get("folds_by"), about.get("seed")
    if not (isinstance(folds, int) and isinstance(fold, int) and isinstance(seed, int) and isinstance(by, str | None)):
        return None
    return FoldSplit(folds=folds, fold=fold, seed=seed, by=by) if 1 <= fold <= folds and seed >= 0 else None


@contextmanager
def open_held_out(scenario: Scenario, split: FoldSplit, *, seed: int, limit: int | None = None) -> Iterator[Pipeline]:
    """Process the training samples of one fold for evaluation, with which its model was validated."""
    with open_pipeline(
        scenario,
        scenario.train_data(),
        "train_data()",
        mode=Mode.EVALUATION,
        seed=seed,
        again=scenario.train_data,
        preload=scenario.params.val.preload,
        limit=scenario.params.train.limit,
        select=split.validation(limit),
    ) as pipeline:
        yield pipeline


def lav_lists(scenario: Scenario) -> dict[str, Any]:
    """Return the LAV datasets by name. If there is only the validation data, its name is "".

    Raises:
        DataError: the scenario has no such data.
    """
    lists = lav_data_of(scenario)
    if lists is not None:
        return dict(lists)
    data = scenario.val_data()
    if data is None:
        raise DataError(
            f"{type(scenario).__name__} has no validation data. Set some with the options of --data, --val or --lav."
        )
    return {"": data}


def _for(mode: Mode, data: Any) -> Any:
    # Streams leave the targets out themselves.
    return data if mode is not Mode.PREDICTION or is_stream(data) else _without_targets(data)


def _without_targets(data: Any) -> Any:
    if is_arrays(data):
        return (as_sides(data)[0], None)
    if not isinstance(data, list | tuple) and hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return _InputsOnly(data)
    # Invalid items are left to the pipeline, whose error names them.
    return (_stripped(sample) for sample in data) if hasattr(data, "__iter__") else data


def _stripped(sample: Any) -> Any:
    return attrs.evolve(sample, targets=None) if isinstance(sample, Sample) else sample


@attrs.frozen(eq=False)
class _InputsOnly:
    given: Any

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Any:
        return _stripped(self.given[index])


def cut_masked_end(values: Array, mask: Array | None) -> Array:
    """Remove the masked positions at the end of values. The mask has shape [positions, ...].

    Masked positions before the last valid one are kept, so that positions keep their indices.
    """
    if mask is None or not mask.ndim or len(mask) != len(values):
        return values
    counted = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))
    return values[: counted[-1] + 1 if counted.size else 0]
