"""Components that may be repeated on the command line: parameters, help, completion, sweeps, runs and resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aip_plugins.callbacks.remote_params import TrackerParams
from aip_plugins.callbacks.tracking import Tracker
from aip_plugins.commands.sweep.space import make_space
from runs_on_disk import write_run

import aipcore
from aipcore.cli.main import main
from aipcore.cli.request import Arguments, make_request
from aipcore.cli.train import command as train_command
from aipcore.errors import UsageError
from aipcore.params import Choice

SCENARIO = '''
"""A network of repeated layers."""

import numpy as np

from aipcore.params import Choice, at_least, components, field, group, params
from aipcore.scenario import ModelParams, Scenario, ScenarioParams


@params
class Dense:
    """A fully connected layer."""

    units: int = field(4, help="Number of units.", check=at_least(1))


@params
class Dropout:
    """Dropout in training."""

    rate: float = field(0.1, help="Rate.")


@params
class Model(ModelParams):
    """The network."""

    layers: tuple[Choice, ...] = components(
        {"Dense": Dense, "Dropout": Dropout},
        default=("Dense", "Dropout", Choice("Dense", Dense(units=2))),
        repeat=True,
        help="Layers in order.",
    )


@params
class Params(ScenarioParams):
    """The parameters."""

    model: Model = group(Model, help="The network.")


class Layers(Scenario):
    """Learns a line with a list of layers."""

    params_class = Params

    def train_data(self):
        x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
        return x, 2 * x

    def build(self, inputs):
        from keras import layers

        x = inputs
        for each in self.params.model.layers:
            x = layers.Dense(each.params.units)(x) if each.name == "Dense" else layers.Dropout(each.params.rate)(x)
        return layers.Dense(1)(x)

    def losses(self):
        return "mean_squared_error"
'''

Aip = Callable[..., str]


@pytest.fixture
def aip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aip:
    """Return a function that runs `aip` beside the scenario `layers.py` and returns its output or its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "layers.py").write_text(SCENARIO)

    def aip(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(words) == code
        output = capsys.readouterr()
        return output.err if code else output.out

    return aip


def units_in(text: str) -> list[Any]:
    """Return the units, or the rate, of each layer in parameters printed as YAML."""
    return [each.get("units", each.get("rate")) for each in yaml.safe_load(text)["model"]["layers"]]


def test_params(aip: Aip, tmp_path: Path) -> None:
    """`aip params` prints the list with the origin of each value, and `--params` reads it back."""
    assert units_in(aip("params", "layers.py")) == [4, 0.1, 2]
    words = (
        "--model.layers",
        "Dense",
        "Dense",
        "Dropout",
        "--model.layers.2.units",
        "7",
        "--model.layers.dropout.rate=0.3",
    )
    text = aip("params", "layers.py", *words)
    assert units_in(text) == [4, 7, 0.3]
    assert text.count("# command line") == 5
    (tmp_path / "p.yaml").write_text(text)
    again = aip("params", "layers.py", "--params", "p.yaml", "--model.layers.1.units", "9", "--format", "json")
    assert units_in(again) == [9, 7, 0.3]
    error = aip("params", "layers.py", "--model.layers.2.units", "7", code=2)
    assert (
        "--model.layers.2.units belongs to Dense, but model.layers.2 is Dropout. Write --model.layers.1.units or"
        in error
    )


def test_help(aip: Aip) -> None:
    """The overview and the details show the options of each layer by number."""
    overview = aip("train", "layers.py", "--help")
    assert "--model.layers Dense|Dropout ..." in overview
    for name in ("1.units", "2.rate", "3.units"):
        assert f"--model.layers.{name}" in overview
    assert "model.layers.3: Dense" in aip("train", "layers.py", "--help", "model.layers")
    dense = aip("train", "layers.py", "--help", "dense")
    assert "--model.layers.1.units" in dense
    assert "--model.layers.3.units" in dense
    assert "--model.layers.2.rate" not in dense
    unselected = aip("train", "layers.py", "--model.layers", "Dense", "--help", "dropout")
    assert "--model.layers.N.rate" in unselected


def test_completion(aip: Aip) -> None:
    """Names are completed after earlier names, and options for the chosen list."""
    context = train_command.make_context("train", ["layers.py", "--model.layers", "Dense", "Dense"])
    names = [item.value for item in train_command.shell_complete(context, "D")]
    assert names == ["Dense", "Dropout"]
    options = [item.value for item in train_command.shell_complete(context, "--model.layers.")]
    assert options == ["--model.layers.1.units", "--model.layers.2.units"]


def test_sweep(aip: Aip) -> None:
    """A sweep varies options of a component by number or unique name; the list itself cannot vary."""
    words = ("--model.layers", "Dense", "Dropout", "Dense")
    request = make_request(Arguments(scenario="layers.py", options={}, rest=list(words)), "sweep")
    space = make_space(("model.layers.3.units=2,3", "model.layers.dropout.rate=0.1,0.2"), request, words)
    assert [each.name for each in space.dimensions] == ["model.layers.3.units", "model.layers.2.rate"]
    model = space.with_chosen(space.grid()[-1]).resolved().value.model  # type: ignore[arg-type]
    assert (model.layers[2].params.units, model.layers[1].params.rate) == (3, 0.2)
    with pytest.raises(UsageError, match=r"model.layers is a list of components, which cannot be searched"):
        make_space(("model.layers=Dense,Dropout",), request, ())


def test_runs(aip: Aip, tmp_path: Path) -> None:
    """The table of runs distinguishes the options of repeated components, and filters by them."""
    for units in (4, 5):
        layers = [{"name": "Dense", "units": units}, {"name": "Dense", "units": 3}]
        write_run(tmp_path / f"runs/run-{units}", model__layers=layers)
    table = aip("runs", "runs")
    assert "UNITS" in table.upper()
    assert "layers" not in table.splitlines()[0].replace("layers.1", "")
    assert "run-5" not in aip("runs", "runs", "--filter", "model.layers.1.units=4")
    recorded = [{"name": "Dense", "units": 4}, {"name": "Dense", "units": 5}]
    logged = {"layers": recorded, "callbacks": [{"name": "Log", "file": "x"}]}
    tracker = Tracker("MLflow", TrackerParams(), SimpleNamespace(output_dir=tmp_path, params=logged))  # type: ignore[arg-type]
    found = tracker.flat_params()
    assert (found["layers.2.units"], found["callbacks.Log.file"]) == ("5", "x")


def test_train_and_resume(aip: Aip, tmp_path: Path) -> None:
    """A run in Python takes choices and dotted names. Its layers are fixed when it is resumed."""
    from aipcore.scenario.loader import load_scenario

    cls = load_scenario("layers.py", names=(), find=lambda name: None).cls
    dense = cls.params_class().model.layers[0]
    values = {
        "model.layers": [dense, Choice("Dense", dense.params), "Dense"],
        "model.layers.3.units": 3,
        "trainer.epochs": 1,
        "trainer.output_dir": "run",
        "trainer.jit_compile": "off",
        "trainer.export_best": False,
        "trainer.export_final": False,
    }
    done = aipcore.train(cls, values, quiet=True)
    assert [layer.units for layer in done.model.layers if hasattr(layer, "units")] == [4, 4, 3, 1]
    for changed, sentence in (
        ({"model.layers.2.units": 9}, "--model.layers.2.units cannot change from 4 to 9 when a run is resumed."),
        ({"model.layers": ["Dense"]}, "--model.layers cannot change from Dense, Dense, Dense to Dense when a run"),
    ):
        with pytest.raises(UsageError) as caught:
            aipcore.resume("run", changed, scenario=cls, quiet=True)
        assert sentence in str(caught.value)
    again = aipcore.resume("run", {"trainer.epochs": 2, "model.layers.3.units": 3}, scenario=cls, quiet=True)
    assert again.epochs == 2
