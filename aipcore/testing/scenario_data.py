"""The data of a scenario under test: completed parameters and processors as in a run, without worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from aipcore.data.dataset import Dataset
from aipcore.data.processor import Mode
from aipcore.params import Layer
from aipcore.scenario import Scenario
from aipcore.scenario.loader import loaded_class
from aipcore.scenario.pipelines import make_pipeline, make_workers
from aipcore.testing.subject import Subject
from aipcore.training.request import make_request

if TYPE_CHECKING:
    from aipcore.scenario.preprocessing import Preprocessing

SEED = 11


def made_scenario(subject: Subject, cls: type[Scenario], values: Mapping[str, Any] | None = None) -> Scenario:
    """Return the scenario with parameters completed as in `aip train`.

    Args:
        subject: plugin under test, with its declaration.
        cls: scenario class, or a subclass of it.
        values: parameters of the run that override all others.
    """
    layers = [
        Layer.from_mapping("check", {"data.workers": 0}),
        Layer.from_mapping("declared", subject.declared.params),
        Layer.from_mapping("check", values or {}),
    ]
    params = make_request(loaded_class(cls, {}), layers, subject.manager).resolved().value
    return cls(cls(params).derived_params())


def dataset_of(scenario: Scenario, part: Literal["train", "val"]) -> Dataset | None:
    """Return the processed training or validation samples; None if there is no such data."""
    data = scenario.train_data() if part == "train" else scenario.val_data()
    if data is None:
        return None
    limit = scenario.params.train.limit if part == "train" else scenario.params.val.limit
    workers = make_workers(scenario.params)
    try:
        return make_pipeline(
            scenario,
            scenario.params,
            data,
            origin=f"{part}_data()",
            mode=Mode.TRAINING if part == "train" else Mode.EVALUATION,
            preload="on",
            seed=SEED,
            workers=workers,
            limit=limit,
        ).dataset()
    finally:
        workers.close()


def adapted_data(scenario: Scenario) -> tuple[Preprocessing | None, Dataset | None, Dataset | None]:
    """Return the adapted preprocessing, or None, and the training and validation samples with the inputs of `build`."""
    from aipcore.scenario.adaptation import adapted_preprocessing
    from aipcore.scenario.preprocessing import preprocessed

    train, val = dataset_of(scenario, "train"), dataset_of(scenario, "val")
    made = None if train is None else adapted_preprocessing(scenario, train)
    if made is None:
        return None, train, val
    data = [None if each is None else preprocessed(each, made, "on", scenario.params.data) for each in (train, val)]
    return made, data[0], data[1]
