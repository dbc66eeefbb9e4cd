"""Layers that are not trained, chosen by a regular expression on their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aipcore.errors import ParamsError


def layer_paths(layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All layers below a layer or model with their paths: the names of the layers around them, joined by `/`."""
    for child in layer._flatten_layers(include_self=False, recursive=False):
        path = f"{prefix}{child.name}"
        yield path, child
        yield from layer_paths(child, f"{path}/")


def freeze(model: Any, pattern: str) -> list[tuple[str, int]]:
    """Freezes every layer whose path matches as a whole, together with its children.

    A frozen batch normalisation also keeps its statistics, as Keras has it.

    Args:
        model: a built Keras model.
        pattern: a regular expression, such as `.*conv.*`.

    Returns:
        the path of each frozen layer that has weights of its own, and their number.

    Raises:
        ParamsError: nothing matches, or everything does.
    """
    expression = re.compile(pattern)
    layers = list(layer_paths(model))
    matched = [path for path, _ in layers if expression.fullmatch(path)]
    if not matched:
        paths = ", ".join(path for path, layer in layers if layer.weights)
        raise ParamsError(f"--trainer.no_train_scope {pattern!r} matches no layer; the layers are: {paths}.")
    frozen = []
    for path, layer in layers:
        if any(path == top or path.startswith(f"{top}/") for top in matched):
            layer.trainable = False
            count = sum(int(weight.shape.num_elements()) for weight in layer.weights)
            children = list(layer._flatten_layers(include_self=False, recursive=False))
            if count and not children:
                frozen.append((path, count))
    if not model.trainable_variables:
        raise ParamsError(f"--trainer.no_train_scope {pattern!r} freezes every layer: nothing is left to train.")
    return frozen
