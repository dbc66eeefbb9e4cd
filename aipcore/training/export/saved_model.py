"""SavedModels with a serving signature, which load without aip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import tensorflow as tf

from aipcore.scenario.losses import mask_of
from aipcore.scenario.model import BARE_OUTPUT, Graph, argument_names
from aipcore.scenario.preprocessing import PreprocessedGraph, used_tables
from aipcore.scenario.record import DEFAULT_GRAPH


@contextmanager
def portable(model: Any) -> Iterator[None]:
    """Disable cuDNN operations in Keras' recurrent layers, because only NVIDIA GPUs can run them.

    On a machine with a GPU, Keras selects them automatically, and a graph traced there would run nowhere else.
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
    """Return the untraced function that serves a model: keyword tensors [batch, ...] to a dict of such tensors.

    Names are those of the signature: `inputs` and `outputs` for an unnamed input or output.
    """

    def serve(**inputs: Any) -> dict[str, Any]:
        with portable(graph.model):
            outputs = graph(
                {name: inputs[argument] for name, argument in argument_names(graph.inputs).items()}, training=False
            )
        return {name or BARE_OUTPUT: value for name, value in outputs.items()}

    return serve


SIGNATURE = DEFAULT_GRAPH

OUTPUT, MASK, PENALTY = "output/", "mask/", "penalty"
"""Name prefixes in the result of `ServedModule.score`, and the name of the penalty."""


class ServedModule(tf.Module):  # type: ignore[misc]
    """The content of the SavedModel: the model's variables, the serving function, and if needed a scoring function.

    A signature returns only outputs. Losses may also need the penalty of regularizers and the masks that Keras attaches
    to outputs. These are returned by `score`, which exists only if the model has any.

    Attributes:
        state: the variables.
        preprocessing: the preprocessing in front of the model, or None.
        tables: the lookup tables that the functions use, such as the vocabulary of `TextVectorization`.
        serve: the concrete function from named tensors of shape [batch, ...] to a dict of them.
        further: such functions of further graphs, by name.
    """

    def __init__(self, graph: Graph, further: Mapping[str, Graph] | None = None) -> None:
        super().__init__()
        further = further or {}
        self.state = [variable.value for variable in variables_of(graph, further).values()]
        preprocessing = [one.preprocessing for one in (graph, *further.values()) if isinstance(one, PreprocessedGraph)]
        self.preprocessing = preprocessing[0] if preprocessing else None
        specs = graph.argument_specs()
        needed: list[bool] = []
        run = serving_function(graph)

        def serve(**inputs: Any) -> dict[str, Any]:
            outputs = run(**inputs)
            needed.append(bool(graph.model.losses) or any(mask_of(value) is not None for value in outputs.values()))
            return outputs

        def score(**inputs: Any) -> dict[str, Any]:
            outputs = run(**inputs)
            masks = {name: mask_of(value) for name, value in outputs.items()}
            return {
                PENALTY: graph.penalty(),
                **{f"{OUTPUT}{name}": value for name, value in outputs.items()},
                **{f"{MASK}{name}": mask for name, mask in masks.items() if mask is not None},
            }

        self.serve = tf.function(serve, autograph=False).get_concrete_function(**specs)
        if any(needed):
            self.score = tf.function(score, autograph=False).get_concrete_function(**specs)
        self.further = {
            name: tf.function(serving_function(other), autograph=False).get_concrete_function(**other.argument_specs())
            for name, other in further.items()
        }
        models = [one.model for one in (graph, *further.values())]
        self.tables = used_tables(models, [self.serve, *self.further.values()])


@attrs.frozen(kw_only=True, eq=False)
class Exportable:
    """A model to be written by an exporter: the first argument of the function that `build` returns.

    The model has the weights to be exported: those of the best epoch for `best`, averaged ones with
    `trainer.calc_ema`. An exporter leaves the model unchanged.

    Attributes:
        graph: the model, a `Graph`: the Keras model with the names of its inputs and outputs.
        further: further graphs of the scenario by name, for formats that hold several. Each is a `Graph`.
        save_model: `save_model(folder)` writes all graphs as a TensorFlow SavedModel into an existing empty folder, for
            formats that are converted from one.
        served: `served()` returns a `ServedModule`, traced on the first call. `served().serve` is the concrete function
            of the serving signature, for converters. Its names are those of the signature.
    """

    graph: Graph
    further: Mapping[str, Graph]
    save_model: Callable[[Path], None]
    served: Callable[[], ServedModule]


def variables_of(graph: Graph, further: Mapping[str, Graph]) -> dict[str, Any]:
    """Return the variables of a model and of its further graphs by path, each once."""
    return {each.path: each for one in (graph, *further.values()) for each in one.model.variables}
