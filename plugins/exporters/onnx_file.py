"""Export to ONNX, converted by tf2onnx and run by ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from aip_plugins.exporters.params import OnnxParams

from aipcore.errors import FormatError
from aipcore.scenario.model import Graph
from aipcore.training.export.formats import refuse_precisions, refuse_strings
from aipcore.training.export.saved_model import Exportable, serving_function

FILE = "model.onnx"

STRINGS = 19
"""The first version of the operator set that compares strings."""


def build(params: OnnxParams) -> Callable[[Exportable, Path], None]:
    """Return the exporter."""

    def export(exportable: Exportable, folder: Path) -> None:
        refuse_precisions("ONNX", exportable.graph, ["bfloat16"])
        refuse_strings("ONNX", exportable.graph, lookups_only=True)
        with _quiet():
            model = _convert(exportable.graph, params.opset)
        (folder / FILE).write_bytes(model.SerializeToString())

    return export


def _convert(graph: Graph, opset: int) -> Any:
    import onnx.version_converter
    import tf2onnx

    run = serving_function(graph)
    specs = list(graph.argument_specs().values())

    def serve(*tensors: Any) -> dict[str, Any]:
        # Positional, since the converter names inputs by position.
        return run(**{spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)})

    try:
        model, _ = tf2onnx.convert.from_function(
            tf.function(serve, autograph=False),
            input_signature=specs,
            opset=opset,
            custom_op_handlers={"Equal": (_convert_equal, [])},
        )
        unknown = sorted({node.op_type for node in _nodes(model.graph) if not onnx.defs.has(node.op_type, node.domain)})
        if not unknown and any(spec.dtype == tf.string for spec in specs):
            model = onnx.version_converter.convert_version(model, max(opset, STRINGS))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(
            f"The model cannot be written as ONNX ({type(error).__name__}: {reason}). Leave out ONNX, or move what "
            "it does not support to post_processors()."
        ) from error
    if unknown:
        raise FormatError(
            f"ONNX (opset {opset}) does not support {_listed(unknown)} of TensorFlow. Leave out ONNX, or move "
            f"{'it' if len(unknown) == 1 else 'them'} to post_processors()."
        )
    _drop_unused_inputs(model.graph, {spec.name for spec in specs}, list(_nodes(model.graph)))
    return model


def _convert_equal(context: Any, node: Any, name: str, args: Any) -> None:
    """Convert a comparison. tf2onnx would cast strings to integers."""
    from onnx import TensorProto
    from tf2onnx.onnx_opset.logical import Equal

    del name, args
    if context.get_dtype(node.input[0]) != TensorProto.STRING:
        Equal.version_11(context, node)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield all nodes, including those in the bodies of loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _drop_unused_inputs(graph: Any, names: set[str], nodes: list[Any]) -> None:
    """Remove inputs that the model does not have: the converter turns unused constants into inputs."""
    used = {name for node in nodes for name in node.input}
    for extra in [each for each in graph.input if each.name not in names and each.name not in used]:
        graph.input.remove(extra)


def _listed(ops: list[str]) -> str:
    return f"the op {ops[0]}" if len(ops) == 1 else f"the ops {', '.join(ops)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tf2onnx's messages about progress and unknown operations off the terminal."""
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def load(folder: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Load an export as a function from NumPy arrays by input name to NumPy arrays by output name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: _recoded(value, "decode", bytes) for name, value in inputs.items()}
        return {
            name: _recoded(value, "encode", str) for name, value in zip(names, session.run(names, given), strict=True)
        }

    return run


def _recoded(values: Any, method: str, kind: type) -> Any:
    """Return an array with strings of one kind converted. TensorFlow has bytes, and ONNX Runtime has str."""
    if values.dtype != object:
        return values
    made = [getattr(each, method)() if isinstance(each, kind) else each for each in values.flat]
    return np.array(made, object).reshape(values.shape)
