"""A small scenario in a file, and shared parts of the tests of `aip sweep`."""

from __future__ import annotations

from pathlib import Path

import pytest

SCENARIO = '''
"""Learns a line, unless it is told to fail."""

import os
import signal
import time

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import Evaluator, ModelParams, Scenario, ScenarioParams


@params
class Model(ModelParams):
    """The model."""

    units: int = field(4, help="Units of the hidden layer.")
    kill: bool = field(False, help="End like a process that takes too much memory.")
    broken: bool = field(False, help="Have a mistake in the model.")
    scale: float = field(1.0, help="What the inputs are multiplied by.")
    wait: float = field(0.0, help="Seconds of each epoch.")


@params
class Params(ScenarioParams):
    """The parameters."""

    model: Model = group(Model, help="The model.")


class Slow(Evaluator):
    """Takes its time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def update(self, targets, outputs, meta):
        pass

    def result(self):
        time.sleep(self.seconds)
        return {"waited": self.seconds}


class Line(Scenario):
    """Learns a line."""

    params_class = Params
    monitor = ("min", "loss")
    defaults = {
        "trainer.epochs": 2, "trainer.random_seed": 1, "trainer.jit_compile": "off", "trainer.export_best": False,
        "trainer.export_final": False, "learning_rate.lr": 0.01,
    }

    def train_data(self):
        x = np.random.default_rng(0).uniform(-1, 1, (64, 1)).astype("float32")
        return x, 2 * x

    def val_data(self):
        x = np.linspace(-1, 1, 16, dtype="float32")[:, None]
        return x, 2 * x

    def build(self, inputs):
        from keras import layers

        model = self.params.model
        if model.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if model.broken:
            raise RuntimeError("the model has a mistake")
        return layers.Dense(1)(layers.Dense(model.units)(inputs) * model.scale)

    def losses(self):
        return "mse"

    def evaluator(self):
        return Slow(self.params.model.wait)
'''


@pytest.fixture
def line(tmp_path: Path) -> str:
    """Write the scenario's file to the working folder of `fork_aip`."""
    (tmp_path / "line.py").write_text(SCENARIO, encoding="utf-8")
    return "line.py"
