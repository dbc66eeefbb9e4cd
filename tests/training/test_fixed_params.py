"""Parameters of a scenario that belong to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipcore as aip
from aipcore.errors import UsageError
from aipcore.params import field, group, params
from aipcore.prediction import Predictor
from aipcore.scenario import DataParams, Scenario, ScenarioParams


@params
class NamedData(DataParams):
    """Data with named classes."""

    classes: str = field("ab", help="A letter for each class.")
    samples: int = field(8, help="Number of samples.")


@params
class NamedParams(ScenarioParams):
    """Parameters with named classes."""

    data: NamedData = group(NamedData, help="Data.")


class Named(Scenario):
    """A scenario whose outputs have an order."""

    params_class = NamedParams
    fixed = ("data.classes",)

    def train_data(self) -> Any:
        return np.zeros((self.params.data.samples, 2), np.float32), np.zeros(self.params.data.samples, np.int32)

    def build(self, inputs: Any) -> Any:
        import keras

        return keras.layers.Dense(len(self.params.data.classes))(inputs)

    def losses(self) -> Any:
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_the_order_of_outputs_cannot_change(tmp_path: Path) -> None:
    """A resumed run and a predictor refuse other classes, even as many, and accept other data."""
    few = {"trainer": {"epochs": 1, "tune": "off", "skip_sanity_check": True}}
    aip.train(Named, few, tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match=r"^--data.classes cannot change from ab to ba when a run is resumed\."):
        aip.resume(tmp_path / "run", {"trainer.epochs": 2, "data.classes": "ba"}, scenario=Named, quiet=True)
    aip.resume(tmp_path / "run", {"trainer.epochs": 2, "data.samples": 9}, scenario=Named, quiet=True)
    with pytest.raises(UsageError, match=r"^--data.classes belongs to the trained model, which has another one\."):
        Predictor.load(tmp_path / "run", params={"data.classes": "ba"}, scenario=Named)
    Predictor.load(tmp_path / "run", params={"data.classes": "ab", "data.samples": 3}, scenario=Named)
