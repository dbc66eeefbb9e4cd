"""The data of a scenario under test, as a run sees it: completed parameters, processors, no worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from aipcore.data.dataset import Dataset
from aipcore.data.processor import Mode
from aipcore.params import Layer
from aipcore.scenario import Scenario
from aipcore.scenario.loader import loaded_class
from aipcore.scenario.pipelines import make_pipeline, make_workers
from aipcore.testing.subject import Subject
from aipcore.training.request import make_request

SEED = 11


def made_scenario(subject: Subject, cls: type[Scenario], values: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario with the parameters of a run, completed as `aip train` completes them.

    Args:
        subject: says what its author declares.
        cls: the scenario, or one that extends it.
        values: parameters of the run that win over all others.
    """
    layers = [
        Layer.from_mapping("check", {"data.workers": 0}),
        Layer.from_mapping("declared", subject.declared.params),
        Layer.from_mapping("check", values or {}),
    ]
    params = make_request(loaded_class(cls, {}), layers, subject.manager).resolved().value
    return cls(cls(params).derived_params())


def dataset_of(scenario: Scenario, part: Literal["train", "val"]) -> Dataset | None:
    """The processed samples of the training or the validation data; None if there is none."""
    data = scenario.train_data() if part == "train" else scenario.val_data()
    if data is None:
        return None
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
        ).dataset()
    finally:
        workers.close()
