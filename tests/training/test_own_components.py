"""Components in a scenario's file and in plugin files: trained, resumed, recorded, trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipcore
from aipcore.errors import PluginError, ScenarioError, UsageError
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins, get_plugin_manager
from aipcore.hooks.plugin_files import fingerprint_of, named_file

COMPONENTS = '''
from aipcore.plugin import (
    CallbackParams, CallbackRecord, OptimizerParams, OptimizerRecord, ScheduleParams, ScheduleRecord, field, hookimpl,
    params,
)

@params
class SignParams(OptimizerParams):
    """Sign of the averaged gradient."""
    momentum: float = field(0.9, help="Decay rate.")

@params
class HalvingParams(ScheduleParams):
    """Halves the rate."""

@params
class CounterParams(CallbackParams):
    """Counts epochs."""

def make_sign(params, learning_rate):
    import keras
    from keras import ops

    class Sign(keras.optimizers.Optimizer):
        def build(self, variables):
            if not self.built:
                super().build(variables)
                self.averages = self.add_optimizer_variables(variables, "average")

        def update_step(self, gradient, variable, learning_rate):
            average = self.averages[self._get_variable_index(variable)]
            self.assign(average, params.momentum * average + (1 - params.momentum) * gradient)
            self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * ops.sign(average))

    return Sign(learning_rate, name="sign")

def make_halving(params, horizon):
    import keras

    return keras.optimizers.schedules.ExponentialDecay(params.lr, horizon.updates_per_epoch, 0.5, staircase=True)

def make_counter(params, context):
    import keras

    class Counter(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            (context.output_dir / "epochs").write_text(str(self.epochs))

        def get_state(self):
            return {"epochs": self.epochs}

        def set_state(self, state):
            self.epochs = state["epochs"]

    return Counter()

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="Sign", summary="Sign.", params=SignParams, build=make_sign)]

@hookimpl
def aip_schedules():
    return [ScheduleRecord(name="Halving", summary="Halves.", params=HalvingParams, build=make_halving)]

@hookimpl
def aip_callbacks():
    return [CallbackRecord(name="Counter", summary="Counts.", params=CounterParams, build=make_counter)]
'''

SCENARIO = """
import numpy as np
from aipcore.scenario import Scenario

class Line(Scenario):
    '''A line.'''
    def train_data(self):
        x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
        return x, x @ np.array([[1.0], [2.0], [3.0]], np.float32)

    def build(self, inputs):
        from keras import layers
        return layers.Dense(1)(inputs)

    def losses(self):
        return "mean_squared_error"
"""

CHOSEN = {"optimizer": "Sign", "learning_rate": "Halving", "callbacks": ["Counter"]}
SMALL = {"trainer.jit_compile": "off", "trainer.tune": "off", "trainer.export_best": False, "trainer.random_seed": 3}
SMALL |= {"trainer.skip_sanity_check": True}
QUICK = {"trainer.export_final": False}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the working folder of a user; forget the modules and plugin files of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    configure_plugins(Switches())
    for name in set(sys.modules) - before:
        if name.startswith(("aip_plugin_file_", "aip_scenario_", "line")):
            del sys.modules[name]


def name_files(*paths: str) -> None:
    """Load plugin files as `-p FILE` does."""
    configure_plugins(Switches(files=tuple(map(named_file, paths))))


def weights(result: Any) -> list[Any]:
    """Return the weights of a result."""
    return [weight.numpy() for weight in result.model.weights]


def train(source: str = "line.py", **params: Any) -> Any:
    """Train the scenario for some epochs."""
    return aipcore.train(source, {**SMALL, **params}, quiet=True)


def test_a_scenario_file_with_its_own_components(folder: Path) -> None:
    """It trains as its formulas say, is resumed bit for bit and with trust only, and leaves no component behind."""
    Path("line.py").write_text(COMPONENTS + SCENARIO)
    whole = train(**{**CHOSEN, **QUICK, "trainer.epochs": 3, "trainer.output_dir": "whole", "optimizer.momentum": 0.0})
    rates = [logs["learning_rate"] for logs in whole.history]
    np.testing.assert_allclose(rates, [1e-3, 5e-4, 2.5e-4], rtol=1e-6)
    # Two batches an epoch move each weight by the rate, in the direction of its target.
    kernel = weights(whole)[0]
    part = train(**{**CHOSEN, "trainer.epochs": 1, "trainer.output_dir": "part", "optimizer.momentum": 0.0})
    np.testing.assert_allclose(kernel - weights(part)[0], 2 * (5e-4 + 2.5e-4), rtol=1e-3)
    about = json.loads((folder / "part" / "run.json").read_text())
    assert {each["package"] for each in about["components"] if each["kind"] != "exporter"} == {str(folder / "line.py")}
    assert about["plugin_files"] == []
    with pytest.raises(ScenarioError, match="trust=True"):
        aipcore.resume("part", {"trainer.epochs": 3})
    again = aipcore.resume("part", {"trainer.epochs": 3}, trust=True, quiet=True)
    for one, other in zip(weights(again), weights(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (folder / "part" / "epochs").read_text() == "3"
    assert not get_plugin_manager().has("optimizer", "Sign")
    assert next(iter(aipcore.Predictor.load("part/export", trust=True).predict([np.ones(3, np.float32)]))).outputs


def test_a_plugin_file(folder: Path) -> None:
    """A run records the file it used. Resume needs the file, or the trust to load it, in its recorded form."""
    Path("own.py").write_text(COMPONENTS)
    Path("line.py").write_text(SCENARIO)
    name_files("own.py")
    train("line.py", **CHOSEN, **{"trainer.epochs": 1, "trainer.output_dir": "run"})
    (recorded,) = json.loads((folder / "run" / "run.json").read_text())["plugin_files"]
    assert (recorded["path"], recorded["model"]) == (str(folder / "own.py"), False)
    assert [each["name"] for each in recorded["components"]] == ["Sign", "Halving", "Counter"]
    configure_plugins(Switches())
    more = {**QUICK, "trainer.epochs": 2}
    with pytest.raises(PluginError, match=r"uses the optimizer Sign, .* of the plugin file .*own\.py, and loading it"):
        aipcore.resume("run", more)
    aipcore.resume("run", more, trust=True, quiet=True)
    assert (folder / "run" / "epochs").read_text() == "2"
    # The model does not need the file.
    assert aipcore.Predictor.load("run/export", trust=True)
    Path("own.py").write_text(COMPONENTS + "# changed\n")
    with pytest.raises(PluginError, match="which has changed since"):
        aipcore.resume("run", {**QUICK, "trainer.epochs": 3}, trust=True)
    Path("own.py").rename("renamed.py")
    with pytest.raises(PluginError, match="which is missing"):
        aipcore.resume("run", {**QUICK, "trainer.epochs": 3}, trust=True)
    # A file that the user names replaces the recorded one, with a warning about the change.
    name_files("renamed.py")
    aipcore.resume("run", {**QUICK, "trainer.epochs": 3}, trust=True, quiet=True)
    assert "now comes from renamed.py" in (folder / "run" / "train.log").read_text()
    assert (folder / "run" / "epochs").read_text() == "3"


def test_a_moved_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the scenario, a plugin file is found at the same place of a project that was moved as a whole."""
    from aipcore.scenario.record import recorded_plugins

    (folder / "there").mkdir()
    file = folder / "there" / "own.py"
    file.write_text(COMPONENTS)
    used = [{"kind": "optimizer", "name": "Sign"}]
    recorded = {"path": str(folder / "here" / "own.py"), "fingerprint": fingerprint_of(file), "components": used}
    about = {"scenario": {}, "working_dir": str(folder / "here"), "plugin_files": [{**recorded, "model": False}]}
    plugins = get_plugin_manager()
    with pytest.raises(PluginError, match="is missing"):
        recorded_plugins(about, plugins, trust=True, where=folder, applied=False)
    assert recorded_plugins(about, plugins, trust=True, where=folder, applied=True) is plugins
    assert recorded_plugins(about, plugins, trust=True, where=folder, applied=False, replaced=["optimizer"]) is plugins
    monkeypatch.chdir(folder / "there")
    found = recorded_plugins(about, plugins, trust=True, where=folder, applied=False)
    assert found.entry("optimizer", "Sign").plugin.file == file


def test_a_scenario_of_a_plugin_file(folder: Path) -> None:
    """Its name can be trained; a model of it needs the file, or trust."""
    hook = "\nfrom aipcore.plugin import ScenarioRecord, hookimpl\n\n@hookimpl\ndef aip_scenarios():\n"
    hook += "    return [ScenarioRecord(name='line', summary='A line.', build=Line)]\n"
    Path("own.py").write_text(SCENARIO + hook)
    name_files("own.py")
    train("line", **{"trainer.epochs": 1, "trainer.output_dir": "run"})
    configure_plugins(Switches())
    with pytest.raises(PluginError, match=r"uses the scenario line of the plugin file .*trust=True"):
        aipcore.Predictor.load("run/export")
    assert aipcore.Predictor.load("run/export", trust=True)
    name_files("own.py")
    assert aipcore.Predictor.load("run/export")
    assert aipcore.resume("run", {**QUICK, "trainer.epochs": 2}, quiet=True).epochs == 2


@pytest.mark.parametrize("files", [3, [3], [{"path": 1}], [{"path": "a\0", "fingerprint": "", "components": []}]])
def test_a_damaged_record(folder: Path, files: Any) -> None:
    """A record that is not one of plugin files is refused."""
    from aipcore.scenario.record import recorded_plugins

    with pytest.raises(UsageError, match="no valid record of its plugin files"):
        recorded_plugins({"plugin_files": files}, get_plugin_manager(), trust=True, where=folder, applied=False)


def test_callbacks_of_a_scenario(make_trainer: Any, blobs_class: Any) -> None:
    """They are called before those of plugins, keep their state on resume, and two of one class have two names."""
    import keras

    class Adds(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seen.append(epoch)
            logs["added"] = len(self.seen)

        def get_state(self) -> Any:
            return self.seen

        def set_state(self, state: Any) -> None:
            self.seen = list(state)

    class Own(blobs_class):  # type: ignore[misc]
        def callbacks(self, context: Any) -> Any:
            assert context.monitor == ("max", "val_accuracy")
            return [Adds(), Adds(), keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=100.0)]

    words = ("--callbacks", "CSVLog", "--trainer.epochs", "9", "--checkpoint.keep", "9")
    whole = make_trainer(Own, *words, output="whole", exports=False)
    assert list(whole.callbacks) == ["scenario.Adds", "scenario.Adds_2", "scenario.EarlyStopping", "CSVLog"]
    result = whole.fit()
    assert (result.status, result.epochs) == ("stopped", 2)
    assert "The callback scenario.EarlyStopping stopped the run" in whole.state.stopped
    again = make_trainer(Own, *words, output="again", exports=False)
    again.restore(sorted((whole.output_dir / "checkpoint").iterdir())[1])
    assert again.fit().epochs == 2
    assert again.callbacks["scenario.Adds"].seen == [0, 1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "returns NoneType, not a list"),
        (["CSVLog"], "returns str, which is not a Keras callback"),
        ([dict], "returns the class dict, which is not"),
    ],
)
def test_what_is_no_callback(make_trainer: Any, blobs_class: Any, given: Any, text: str) -> None:
    """Anything but a list of callbacks is refused before training."""

    class Own(blobs_class):  # type: ignore[misc]
        def callbacks(self, context: Any) -> Any:
            return given

    with pytest.raises(ScenarioError, match=text):
        make_trainer(Own)
