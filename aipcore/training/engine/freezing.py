"""Freezing of layers whose paths match a regular expression."""

from __future__ import annotations

from typing import Any

from aipcore.errors import ParamsError
from aipcore.scenario.paths import layers_by_path, matching


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
    layers = [(path, layer) for path, layer in layers_by_path(model) if layer.weights]
    paths = [path for path, _ in layers]
    matched = set(matching(pattern, paths, "--trainer.no_train_scope", "layer", whole=True))
    frozen: set[int] = set()
    for path, layer in layers:
        if path in matched:
            layer.trainable = False
            frozen |= {id(each) for each in layer._flatten_layers()}
    if not model.trainable_variables:
        raise ParamsError(f"--trainer.no_train_scope {pattern!r} freezes every layer. Nothing is left to train.")
    counts = [(path, _own_weights(layer)) for path, layer in layers if id(layer) in frozen]
    return [(path, count) for path, count in counts if count]


def _own_weights(layer: Any) -> int:
    own = (*layer._trainable_variables, *layer._non_trainable_variables)
    return sum(int(variable.shape.num_elements()) for variable in own)
