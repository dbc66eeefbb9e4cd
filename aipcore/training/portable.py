"""A model's computation in operations that every device has, for what is traced here and run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aipcore.scenario.graph import BARE_OUTPUT, Graph, argument_names


@contextmanager
def portable(model: Any) -> Iterator[None]:
    """Keeps Keras' recurrent layers from operations of cuDNN, which only a GPU of the same maker has.

    On a machine with a GPU Keras picks them by itself, and a graph that was traced there would run nowhere else.
    """
    picky = [layer for layer in model._flatten_layers() if getattr(layer, "use_cudnn", False)]
    before = [layer.use_cudnn for layer in picky]
    for layer in picky:
        layer.use_cudnn = False
    try:
        yield
    finally:
        for layer, value in zip(picky, before, strict=True):
            layer.use_cudnn = value


def serving_function(graph: Graph) -> Callable[..., dict[str, Any]]:
    """The function that serves a model, to be traced: keyword tensors [batch, ...] to a dict of them.

    Names are those of the signature: `inputs` and `outputs` where the model has one without a name.
    """

    def serve(**inputs: Any) -> dict[str, Any]:
        with portable(graph.model):
            outputs = graph(
                {name: inputs[argument] for name, argument in argument_names(graph.inputs).items()}, training=False
            )
        return {name or BARE_OUTPUT: value for name, value in outputs.items()}

    return serve
