"""Layers whose paths match a regular expression: those to freeze, and those that an update trains."""

from __future__ import annotations

import re
from typing import Any

from aipcore.errors import ParamsError, ScenarioError
from aipcore.scenario.paths import layers_by_path, matching, nearest_of
from aipcore.scenario.updates import TargetNetwork


def freeze(model: Any, pattern: str) -> list[tuple[str, int]]:
    """Freeze every layer whose full path matches the whole pattern, with all layers inside it.

    As in Keras, a frozen batch normalisation also keeps its statistics.

    Args:
        model: a built Keras model.
        pattern: a regular expression, such as `.*conv.*`.

    Returns:
        The path of each frozen layer with weights of its own, and the number of these weights.

    Raises:
        ParamsError: no layer matches, or every layer does.
    """
    layers = _layers_with_weights(model)
    frozen: set[int] = set()
    for layer in _matching_layers(model, pattern, "--trainer.no_train_scope"):
        layer.trainable = False
        frozen |= {id(each) for each in layer._flatten_layers()}
    if not model.trainable_variables:
        raise ParamsError(f"--trainer.no_train_scope {pattern!r} freezes every layer. Nothing is left to train.")
    counts = [(path, _own_weights(layer)) for path, layer in layers if id(layer) in frozen]
    return [(path, count) for path, count in counts if count]


def trained_weights(model: Any, pattern: str, what: str) -> list[Any]:
    """Return the trainable weights of every layer whose full path matches, with all layers inside it.

    Args:
        model: a built Keras model.
        pattern: a regular expression, such as `generator/.*`.
        what: the place of the pattern, for errors.

    Raises:
        ScenarioError: no layer matches, or all are frozen.
    """
    try:
        layers = _matching_layers(model, pattern, what)
    except ParamsError as error:
        raise ScenarioError(str(error)) from error
    chosen = {id(weight) for layer in layers for weight in layer.trainable_variables}
    weights = [weight for weight in model.trainable_variables if id(weight) in chosen]
    if not weights:
        raise ScenarioError(
            f"{what} {pattern!r} matches only layers without weights that train. Choose others, or do not freeze them "
            "in the whole run."
        )
    return weights


def target_pairs(model: Any, network: TargetNetwork, what: str) -> list[tuple[Any, Any]]:
    """Return each variable of a target network with the one that it follows. Seeds do not follow.

    Raises:
        ScenarioError: no variable matches, or one has no source of its shape.
    """
    variables = {variable.path: variable for variable in model.variables}
    floats = [path for path, variable in variables.items() if variable.dtype.startswith(("float", "bfloat"))]
    expression = re.compile(network.weights)
    pairs = []
    for path in floats:
        if (match := expression.fullmatch(path)) is None:
            continue
        try:
            source = match.expand(network.source)
        except (re.error, IndexError) as error:
            raise ScenarioError(f"{what}: the source {network.source!r} is not valid ({error}). Fix it.") from error
        if source not in floats or variables[source].shape != variables[path].shape or source == path:
            raise ScenarioError(
                f"{what}: {path} would follow {source}, which is not another variable of the same shape. "
                f"{nearest_of(source, floats, 'variable')}"
            )
        pairs.append((variables[path], variables[source]))
    if not pairs:
        raise ScenarioError(
            f"{what}: {network.weights!r} matches no variable. The whole path must match. "
            f"{nearest_of(network.weights, floats, 'variable')}"
        )
    return pairs


def _layers_with_weights(model: Any) -> list[tuple[str, Any]]:
    return [(path, layer) for path, layer in layers_by_path(model) if layer.weights]


def _matching_layers(model: Any, pattern: str, option: str) -> list[Any]:
    layers = _layers_with_weights(model)
    matched = set(matching(pattern, [path for path, _ in layers], option, "layer", whole=True))
    return [layer for path, layer in layers if path in matched]


def _own_weights(layer: Any) -> int:
    own = (*layer._trainable_variables, *layer._non_trainable_variables)
    return sum(int(variable.shape.num_elements()) for variable in own)
