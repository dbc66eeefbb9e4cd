"""Export to LiteRT, formerly TensorFlow Lite: converted by TensorFlow, run by LiteRT's interpreter."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from aip_plugins.exporters.params import LiteRTParams

from aipcore.errors import FormatError
from aipcore.logs import log_level
from aipcore.scenario.model import Graph
from aipcore.start_tensorflow import held_back_stderr
from aipcore.training.export.formats import refuse_precisions, refuse_strings
from aipcore.training.export.saved_model import SIGNATURE, Exportable, serving_function

FILE = "model.tflite"

OPS = re.compile(r"'tf\.(\w+)' op|'tf\.(\w+)' that was explicitly marked illegal")
RECURRENT = "TensorListReserve"
"""The operation with which recurrent layers collect their steps; its shape, with the batch, must be known."""


def build(params: LiteRTParams) -> Callable[[Exportable, Path], None]:
    """Return the exporter."""

    def export(exportable: Exportable, folder: Path) -> None:
        refuse_precisions("LiteRT", exportable.graph, ["bfloat16", "float16"])
        refuse_strings("LiteRT", exportable.graph)
        (folder / FILE).write_bytes(_convert(exportable, params))

    return export


def _convert(exportable: Exportable, params: LiteRTParams) -> bytes:
    module = exportable.served()
    serve = module.serve if params.batch_size is None else _fixed(exportable.graph, params.batch_size)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve], module)
    if params.quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if params.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        # The converter prints its objections to standard error, line by line, and then raises all of them.
        with _quiet():
            content: bytes = converter.convert()
    except Exception as error:
        raise _failure(error) from error
    return content


def _quiet() -> AbstractContextManager[None]:
    return nullcontext() if log_level() <= logging.DEBUG else held_back_stderr(forget=(Exception,))


def _fixed(graph: Graph, batch_size: int) -> Any:
    """Return the serving function for batches of one size."""
    specs = graph.argument_specs(batch_size)
    return tf.function(serving_function(graph), autograph=False).get_concrete_function(**specs)


def _failure(error: Exception) -> FormatError:
    text = str(error)
    ops = sorted({one or other for one, other in OPS.findall(text)})
    if RECURRENT in ops:
        return FormatError(
            f"LiteRT does not support the op {RECURRENT} of a recurrent layer for batches of any size. Set the option "
            "batch_size of LiteRT, for example to 1, or leave out LiteRT."
        )
    if ops:
        what = f"the op {ops[0]}" if len(ops) == 1 else f"the ops {', '.join(ops)}"
        return FormatError(
            f"LiteRT does not support {what} of TensorFlow. Leave out LiteRT, or move "
            f"{'it' if len(ops) == 1 else 'them'} to post_processors()."
        )
    reason = " ".join(text.split())[:300]
    return FormatError(f"The model cannot be written as LiteRT ({type(error).__name__}: {reason}). Leave out LiteRT.")


def load(folder: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Load an export as a function from NumPy arrays by input name to NumPy arrays by output name.

    If the file takes batches of one size only, other batches are split and padded with their last sample.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / FILE))
    signature = interpreter.get_signature_runner(SIGNATURE)
    size = int(next(iter(signature.get_input_details().values()))["shape_signature"][0])

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        # The interpreter prints a message for each delegate.
        with _quiet():
            return dict(signature(**inputs))

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        if size == -1:
            return call(inputs)
        samples = len(next(iter(inputs.values())))
        answers: dict[str, list[Any]] = {}
        for first in range(0, samples, size):
            indices = np.minimum(np.arange(first, first + size), samples - 1)
            for name, value in call({name: array[indices] for name, array in inputs.items()}).items():
                answers.setdefault(name, []).append(value[: samples - first])
        return {name: np.concatenate(values) for name, values in answers.items()}

    return run
