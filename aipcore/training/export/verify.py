"""Writes a model in a format, and compares the outputs of the written model with the original."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.sample import ColumnSpec
from aipcore.data.strings import STRING
from aipcore.errors import AipError, FormatError, sentence
from aipcore.scenario.model import BARE_OUTPUT, Graph, argument_names
from aipcore.scenario.record import ALWAYS_WRITTEN
from aipcore.training.export.formats import Arrays, Format, layers_of
from aipcore.training.export.saved_model import Exportable, portable

BATCHES = (1, 3)
"""Batch sizes of the compared samples."""

ANY = 8
"""Length of an axis of any length, in generated inputs."""

LOW_PRECISION = {"bfloat16": 5e-2, "float16": 5e-3}
"""Minimum tolerance for a model that computes in such a precision, by Keras' name of the type."""

ON_GPU = {**LOW_PRECISION, "float32": LOW_PRECISION["float16"]}
"""Minimum tolerance on a GPU. TensorFloat-32 keeps as many bits of a number as float16.

cuDNN and XLA choose an algorithm for each graph, which may use TensorFloat-32 or sum in another order.
"""


def some_batches(dataset: Dataset) -> list[dict[str, npt.NDArray[Any]]]:
    """Return the inputs of some samples of a dataset, in batches of 1 and of 3."""
    known = dataset.known()
    return [known.batch(np.arange(size) % len(known)).inputs for size in BATCHES]


def random_batches(specs: Mapping[str, ColumnSpec]) -> list[dict[str, npt.NDArray[Any]]]:
    """Return generated inputs in batches of 1 and of 3, arrays of shape [batch, ...] by name."""
    return [{name: _random(spec, size) for name, spec in specs.items()} for size in BATCHES]


def _random(spec: ColumnSpec, samples: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(0)
    shape = (samples, *(ANY if size is None else size for size in spec.shape))
    if spec.dtype == STRING:
        return generator.choice(np.array(["", "a", "ab 1"], object), shape)
    dtype = np.dtype(spec.dtype)
    # Integers may be lengths, or indices of a table of any size.
    return (
        generator.normal(size=shape).astype(dtype)
        if dtype.kind == "f"
        else generator.integers(0, 2, shape).astype(dtype)
    )


def write_format(name: str, form: Format, exportable: Exportable, folder: Path, batches: Sequence[Arrays]) -> float:
    """Write a model in one format and compare its outputs. Remove the files if this fails.

    Args:
        name: the name of the format, for messages.
        form: the format.
        exportable: the model.
        folder: the output folder; may hold other formats.
        batches: inputs for the comparison, arrays of shape [batch, ...] by name; none: do not compare.

    Returns:
        The largest deviation found.

    Raises:
        FormatError: the format does not support the model, or outputs differ.
        OSError, tf.errors.OpError: it cannot be written, for example on a full disk.
    """
    before = set(folder.iterdir())
    try:
        try:
            form.write(exportable, folder)
        except (AipError, OSError, tf.errors.OpError):
            raise
        except Exception as error:
            # Exporters may be third-party, and converters raise arbitrary exceptions.
            raise FormatError(
                f"The model cannot be written as {name} ({sentence(error)}). Leave {name} out."
            ) from error
        if not batches or form.read is None:
            return 0.0
        worst = _compare(name, form, exportable.graph, folder, batches)
        if name != ALWAYS_WRITTEN:
            return worst
        for key, graph in exportable.further.items():
            known = all(graph.inputs.keys() <= inputs.keys() for inputs in batches)
            given = batches if known else random_batches(graph.inputs)
            signature = attrs.evolve(form, read=partial(load_signature, key))
            worst = max(worst, _compare(f"{name} (signature {key})", signature, graph, folder, given))
        return worst
    except FormatError:
        for path in set(folder.iterdir()) - before:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise


def load_signature(name: str, folder: Path) -> Callable[[Arrays], Arrays]:
    """Load a signature of a SavedModel as a function from arrays to arrays by name, see `ExporterRecord.load`."""
    model = tf.saved_model.load(str(folder))

    def run(inputs: Arrays) -> Arrays:
        # Called through the model: a signature alone does not keep the model and its variables alive.
        answers = model.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in answers.items()}

    return run


def deviation(expected: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """Return the deviation of an output from the expected one.

    For floating-point numbers, this is the largest difference, relative to the largest finite expected number or to 1,
    whichever is larger. Non-finite values must match exactly. For other types, it is the fraction of different values.
    For different shapes, it is infinite.
    """
    one, other = np.asarray(expected), np.asarray(found)
    if one.shape != other.shape:
        return math.inf
    if not np.issubdtype(one.dtype, np.floating) and one.dtype.name != "bfloat16":
        return float(np.mean(one != other)) if one.size else 0.0
    one, other = one.astype(np.float64), other.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(one - other))
    return float(difference.max(initial=0.0) / np.abs(one[np.isfinite(one)]).max(initial=1.0))


def device_kind() -> str:
    """Return "GPU" if TensorFlow places operations on a GPU, else "CPU"."""
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def tolerance_for(graph: Graph, least: float, kind: str) -> float:
    """Return the largest allowed deviation of a model's outputs, at least `least`; more for low precision.

    Args:
        graph: the model.
        least: the tolerance of the format.
        kind: the kind of device that computes the model's outputs, see `device_kind`.
    """
    minimum = ON_GPU if kind == "GPU" else LOW_PRECISION
    return max([least, *(minimum.get(each.compute_dtype, 0.0) for each in layers_of(graph.model))])


def _compare(name: str, form: Format, graph: Graph, folder: Path, batches: Sequence[Arrays]) -> float:
    assert form.read is not None
    worst = 0.0
    tolerance = tolerance_for(graph, form.tolerance, device_kind())
    arguments = argument_names(graph.inputs)
    with _own_classes(graph.model), _full_precision():
        with _as_format_error(f"The model was written as {name}, but cannot be read back", name):
            run = form.read(folder)
        for inputs in batches:
            size = len(next(iter(inputs.values())))
            tensors = {key: tf.constant(inputs[key], spec.dtype) for key, spec in graph.inputs.items()}
            with portable(graph.model):
                expected = graph(tensors, training=False)
            with _as_format_error(f"The model was written as {name}, but fails for a batch of {size}", name):
                found = run({arguments[key]: value.numpy() for key, value in tensors.items()})
            for output, value in expected.items():
                wrong = f"The model written as {name} does not match the original: output {output or BARE_OUTPUT!r}"
                answer = found.get(output or BARE_OUTPUT)
                if answer is None:
                    raise FormatError(f"{wrong} is missing. Leave {name} out.")
                difference = deviation(array := value.numpy(), answer)
                if math.isinf(difference) and np.shape(answer) != array.shape:
                    raise FormatError(
                        f"{wrong} has shape {list(np.shape(answer))} instead of {list(array.shape)} for a batch of "
                        f"{size}. Leave {name} out."
                    )
                if not difference <= tolerance:
                    raise FormatError(
                        f"{wrong} differs by {difference:.2g} for a batch of {size}, and the tolerance is "
                        f"{tolerance:g}. Change the options of {name}, or leave it out."
                    )
                worst = max(worst, difference)
    return worst


@contextmanager
def _as_format_error(what: str, name: str) -> Iterator[None]:
    # Readers may be third-party, and runtimes raise arbitrary exceptions.
    try:
        yield
    except Exception as error:
        raise FormatError(f"{what} ({sentence(error)}). Leave {name} out.") from error


@contextmanager
def _own_classes(model: Any) -> Iterator[None]:
    """Let Keras find the classes of the model's custom layers, which it may not be able to import by name."""
    own = {
        type(each).__name__: type(each) for each in layers_of(model) if not type(each).__module__.startswith("keras.")
    }
    with keras.saving.custom_object_scope(own):
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    """Make GPUs multiply in full float32 instead of TensorFloat-32, which deviates by 1e-3 from other devices."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
