"""Losses and metrics by their names in Keras, with the nearest name where there is none."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras

from aipcore.errors import ScenarioError
from aipcore.params.names import nearest, one_of


def get_loss(given: Any, where: str) -> Any:
    """Return what `keras.losses.get` makes of a name, a class or a function.

    Args:
        given: the author's loss.
        where: the method that returned it, for the error.

    Raises:
        ScenarioError: Keras has no such loss.
    """
    return _get(keras.losses, given, where, "loss")


def get_metric(given: Any, where: str) -> Any:
    """Return what `keras.metrics.get` makes of a name, a class or a function; see `get_loss`."""
    return _get(keras.metrics, given, where, "metric")


def _get(module: ModuleType, given: Any, where: str, kind: str) -> Any:
    try:
        found = module.get(given)
    except ValueError as error:
        raise ScenarioError(f"{where}: {unknown_name(given, kind)}") from error
    if found is None:
        raise ScenarioError(f"{where} gives no {kind}. Return one.")
    return found


def unknown_name(given: Any, kind: str) -> str:
    """Return the sentence on a loss or a metric that Keras does not have.

    Args:
        given: what the author gave.
        kind: `loss` or `metric`.
    """
    module = keras.losses if kind == "loss" else keras.metrics
    if not isinstance(given, str):
        return f"{given!r} is not a {kind}. Give a name, a class, an instance or a function of Keras' form."
    public = [name for name in dir(module) if name[0].islower() and callable(getattr(module, name))]
    # Those that `compile` chooses by the shapes have no function of their own.
    names = {*public, "crossentropy", "accuracy"} - {"get", "serialize", "deserialize"}
    near = nearest(given, sorted(names - ({"accuracy"} if kind == "loss" else set())))
    hint = f"Did you mean {one_of(near)}?" if near else f"keras.{module.__name__.rpartition('.')[2]} lists all."
    return f"Keras has no {kind} {given!r}. {hint}"
