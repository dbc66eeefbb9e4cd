"""Names of losses and metrics in Keras, with suggestions for unknown names."""

from __future__ import annotations

from typing import Any

import keras

from aipcore.errors import ScenarioError
from aipcore.params.names import nearest, one_of


def refuse_own_step(layer: Any, where: str) -> None:
    """Check that a model inside the model does not define its own training.

    Raises:
        ScenarioError: it does.
    """
    if isinstance(layer, keras.Model) and type(layer).train_step is not keras.Model.train_step:
        raise ScenarioError(
            f"{where} uses the model {layer.name!r} ({type(layer).__name__}), whose train_step() aip does not call. "
            "Define its losses in the scenario: losses(), loss_values(inputs, targets, outputs), or, for several "
            "losses and optimizers in each step, updates = (Update(...), ...)."
        )


def check_metric_name(given: Any, where: str) -> None:
    """Check the name of a metric.

    Args:
        given: the author's metric.
        where: the method that returned it, for the error message.

    Raises:
        ScenarioError: Keras has no such metric.
    """
    if isinstance(given, str) and given.lower() in ("accuracy", "acc"):
        return
    try:
        found = keras.metrics.get(given) if isinstance(given, str | dict) else given
    except ValueError as error:
        raise ScenarioError(f"{where}: {unknown_name(given, 'metric')}") from error
    if not callable(found):
        raise ScenarioError(f"{where}: {unknown_name(given, 'metric')}")


def unknown_name(given: Any, kind: str) -> str:
    """Return the error sentence for a loss or a metric that Keras does not have.

    Args:
        given: the author's loss or metric.
        kind: `loss` or `metric`.
    """
    module = keras.losses if kind == "loss" else keras.metrics
    if not isinstance(given, str):
        return f"{given!r} is not a {kind}. Use a name, a class, an instance or a function that Keras accepts."
    public = [name for name in dir(module) if name[0].islower() and callable(getattr(module, name))]
    # `compile` chooses these by shape; they have no function of their own.
    names = {*public, "crossentropy", "accuracy"} - {"get", "serialize", "deserialize"}
    near = nearest(given, sorted(names - ({"accuracy"} if kind == "loss" else set())))
    hint = f"Did you mean {one_of(near)}?" if near else f"See keras.{module.__name__.rpartition('.')[2]} for all names."
    return f"Keras has no {kind} {given!r}. {hint}"
