"""Unknown public names in an author's class, and methods with wrong signatures."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.data.processor import Processor, as_processors
from aipcore.errors import ScenarioError
from aipcore.params.author_class import describe_unused
from aipcore.scenario import Evaluator, Scenario, ScenarioParams
from aipcore.scenario.author_names import check_scenario
from aipcore.scenario.evaluator import check_evaluator


def scenario(**names: Any) -> type[Scenario]:
    """Return a scenario class with these names."""
    return type("Case", (Scenario,), names)


def method(*arguments: str) -> Any:
    """Return a method with these arguments."""
    return eval(f"lambda {', '.join(arguments)}: None")


CASES = {
    "metric": (method("self"), "Case defines metric(), which aip does not use. Return Keras metrics from metrics()."),
    "callbacks": (method("self"), "Write def callbacks(self, context)."),
    "optimizer": (method("self"), "Write defaults = {'optimizer': 'SGD'}, or pass --optimizer SGD."),
    "configure_optimizers": (method("self"), "Write defaults = {'optimizer': 'SGD'}"),
    "train_step": (method("self", "data"), "loss_values(inputs, targets, outputs)."),
    "loss": ("mse", "Case defines loss, which aip does not use. Return Keras losses from losses(), or"),
    "epochs": (3, "Write defaults = {'trainer.epochs': 20}, or pass --trainer.epochs 20."),
    "batch_size": (3, "Write defaults = {'train.batch_size': 32}"),
    "learning_rate": (0.1, "Write defaults = {'learning_rate.lr': 0.01}"),
    "forward": (method("self", "x"), "Build the model in build(inputs)."),
    "padding_": ({}, "Case defines padding_, which aip does not use. Did you mean padding?"),
    "val_dat": (method("self"), "Did you mean val_data?"),
    "postprocessors": (method("self"), "Did you mean post_processors?"),
    "default": ({}, "Did you mean defaults?"),
    "on_epoch_end": (
        method("self", "epoch"),
        "Return Keras callbacks from callbacks(context), or select some",
    ),
    "build": (method("self"), "does not accept the arguments of aip"),
    "losses": ("mse", "Case.losses is a str. Make it a method: def losses(...)."),
    "metrics": (property(method("self")), "Case.metrics is a property. Make it a method"),
    "monitor": (method("self"), "Case.monitor is a method. Make it an attribute: monitor = ..."),
    "params_class": (3, "Case.params_class is not a parameter class. Extend ScenarioParams."),
    "defaults": ([], "Case.defaults is not a mapping."),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes(name: str) -> None:
    """Each mistake is an error with advice."""
    value, hint = CASES[name]
    with pytest.raises(ScenarioError) as caught:
        check_scenario(scenario(**{name: value}))
    assert hint in str(caught.value)


def test_several_mistakes_are_one_error() -> None:
    """Several mistakes are reported in one error."""
    with pytest.raises(ScenarioError) as caught:
        check_scenario(scenario(metric=method("self"), optimizer="SGD"))
    assert "metric()" in str(caught.value)
    assert "optimizer: Write defaults" in str(caught.value)


class Shared:
    """A mixin whose method the scenario uses."""

    def load_data(self) -> Any:
        return self.data

    data = ()


class Own(Shared, Scenario):
    """A scenario with custom names of all kinds."""

    class Params(ScenarioParams):
        """Nested parameters."""

    params_class = Params
    CLASSES = 10
    _metric = None
    units = 3

    def train_data(self) -> Any:
        return self.load_data()

    def loss(self, values: Any) -> Any:
        return [self.units for _ in values]

    def losses(self) -> Any:
        def inner() -> Any:
            return self.loss([])

        return inner()

    def preprocess(self) -> Any:
        return None

    @staticmethod
    def decode(values: Any) -> Any:
        return values

    def evaluator(self) -> Any:
        return Decoding(self)


class Decoding(Evaluator):
    """An evaluator that uses methods of its scenario."""

    def __init__(self, scenario: Own) -> None:
        self.scenario = scenario

    def result(self) -> Any:
        self.scenario.decode([])
        return helper(self.scenario)


def helper(scenario: Own) -> Any:
    """Use a method of a scenario."""
    return scenario.preprocess()


def test_names_that_the_author_uses() -> None:
    """Names used in the class, a mixin, an evaluator or a function are accepted; so are names that begin with _."""
    check_scenario(Own)
    check_evaluator(Decoding(Own(Own.Params())))
    assert describe_unused(Own) == ""


def test_unused_names_are_reported() -> None:
    """A name without any use is reported, but is not an error."""
    cls = scenario(plot=method("self"), colour="red", LIMIT=3)
    check_scenario(cls)
    assert describe_unused(cls) == "plot(), colour"


def test_evaluators_and_processors(refused: Any) -> None:
    """Evaluators and processors are compared with their base classes."""

    class Late(Evaluator):
        def results(self) -> Any:
            return {}

    class Resets(Evaluator):
        def reset_state(self) -> None:
            pass

    class Scale(Processor):
        def transform(self, sample: Any) -> Any:
            return sample

    class Short(Processor):
        def process(self) -> Any:
            return None

    with refused(ScenarioError):
        check_evaluator(Late())
    with refused(ScenarioError):
        check_evaluator(Resets())
    with refused(ScenarioError):
        as_processors([Scale()], "data")
    with refused(ScenarioError):
        as_processors([Short()], "data")
    with refused(ScenarioError):
        as_processors(None, "data")  # type: ignore[arg-type]
