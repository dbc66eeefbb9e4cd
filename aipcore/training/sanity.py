"""Checks before the first epoch, which find mistakes before hours of training are lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import MemoryDataset
from aipcore.errors import AipError, DataError, ScenarioError, TrainingError, author_line
from aipcore.params.names import count
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.losses import Objective
from aipcore.scenario.model import Graph, listed
from aipcore.scenario.shown_samples import ShownSamples
from aipcore.training.tensorboard.summary_records import records_of

ELEMENTWISE_NAMES = (
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "binary_crossentropy",
    "huber",
    "log_cosh",
    "poisson",
)
"""Losses that compare targets and outputs element by element, and would broadcast different shapes."""

PIECE_BYTES = 2**20
"""Approximate number of bytes of data that are checked at a time."""


def check_data(dataset: MemoryDataset, origin: str) -> None:
    """Check that all numbers are finite, and that the shapes of weights match their targets.

    Raises:
        DataError: a sample fails the check; the message names it.
    """
    _check_weights(dataset, origin)
    for part, fields in (("input", dataset.inputs), ("target", dataset.targets), ("weight", dataset.weights)):
        for name, column in fields.columns.items():
            index = _not_finite(column)
            if index is not None:
                sample = np.asarray(column[index])
                bad = sample[~np.isfinite(sample)][0]
                raise DataError(
                    f"Sample {index} of {origin} has {bad} in its {_called(part, name)}. Training needs "
                    "finite numbers. Fix or remove the sample."
                )


def _check_weights(dataset: MemoryDataset, origin: str) -> None:
    """Compare the shapes of weights with those of their targets."""
    targets = dataset.targets.columns
    for name, column in dataset.weights.columns.items():
        paired = [name] if name in targets else list(targets) if not name or len(targets) == 1 else []
        # All samples of an array have the same shape.
        rows = range(1 if isinstance(column, np.ndarray) else len(column))
        for target in paired:
            if not isinstance(targets[target], np.ndarray):
                rows = range(len(column))
            for row in rows:
                ours, theirs = np.shape(column[row]), np.shape(targets[target][row])
                needed = _without_ones(ours)
                if len(needed) > len(theirs) or any(a not in (1, b) for a, b in zip(needed, theirs, strict=False)):
                    raise DataError(
                        f"The {_called('weight', name)} of sample {row} of {origin} has shape {ours}, but its "
                        f"{_called('target', target)} has shape {theirs}. Give one number for the sample, or one for "
                        "each position of the target."
                    )


def check_weight_names(names: Iterable[str], outputs: Sequence[str], used: Collection[str], origin: str) -> None:
    """Check that each named sample weight belongs to an output with a loss or a weighted metric.

    Raises:
        DataError: the model has no such output, or nothing is computed from it.
    """
    unknown = [name for name in names if name and name not in used]
    if unknown and unknown[0] in outputs:
        raise DataError(
            f"{origin} has weights for the output {unknown[0]!r}, which has neither a loss nor a weighted metric. "
            "Leave them out."
        )
    if unknown:
        raise DataError(
            f"{origin} has weights for the output {unknown[0]!r}, but the model has {listed(outputs)}. Name an "
            "output, or give weights without a name."
        )


def check_targets(objective: Objective, graph: Graph, dataset: MemoryDataset, origin: str) -> None:
    """Compare targets with their outputs.

    Raises:
        DataError: a class index has no output, or target and output have different shapes; the message names the
            sample.
    """
    for output, (loss, target) in objective.pairs.items():
        shape = graph.output_shape(output)
        column = dataset.targets.columns[target]
        if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and shape[-1] is not None:
            _check_classes(column, shape[-1], getattr(loss, "ignore_class", None), _called("target", target), origin)
        elif _is_elementwise(loss):
            _check_shapes(column, shape, _called("target", target), _called("output", output), origin)


def check_first_losses(
    objective: Objective, graph: Graph, dataset: MemoryDataset, origin: str, batch_size: int
) -> None:
    """Compute the loss of each sample of one batch, in the order of the data.

    Raises:
        DataError: a loss is not finite; the message names the sample.
    """
    size = min(batch_size, len(dataset))
    sides = dataset.batch(np.arange(size)).sides
    inputs, targets, weights = ({name: tf.constant(column) for name, column in side.items()} for side in sides)
    for name, term in objective(inputs, targets, graph(inputs, training=False), weights, float(size)).items():
        values = np.atleast_1d(term.values.numpy())
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            place = "" if np.ndim(term.values) == 0 else f" of sample {bad[0][0]}"
            raise DataError(
                f"The loss{f' {name}' if name else ''}{place} of {origin} is {values[tuple(bad[0])]} before training. "
                "Check the sample, the loss, and the initial weights of the model."
            )


def check_first_evaluation(
    evaluator: Evaluator | None,
    graph: Graph,
    dataset: MemoryDataset,
    kind: str,
    batch_size: int,
    *,
    names: Sequence[str],
    shown: ShownSamples | None = None,
) -> None:
    """Test the evaluator, if there is one, on one batch.

    Args:
        evaluator: a new evaluator, or None.
        graph: the prediction graph.
        dataset: the source of the batch.
        kind: the scenario's name in error messages.
        batch_size: samples in the batch.
        names: the names of losses and metrics, which the evaluator's results must not use.
        shown: describes samples of the batch as text, if given.

    Raises:
        ScenarioError: the evaluator fails.
    """
    batch = dataset.batch(np.arange(min(batch_size, len(dataset))))
    if evaluator is None and shown is None:
        return
    outputs = graph({name: tf.constant(column) for name, column in batch.inputs.items()}, training=False)
    answered = {name: value.numpy() for name, value in outputs.items()}
    if shown is not None:
        shown.update(batch.targets, answered, batch.meta)
    if evaluator is None:
        return
    try:
        evaluator.update(batch.targets, answered, batch.meta)
        results = evaluator.result()
        records_of(evaluator, [*names, *results])
    except AipError:
        raise
    except Exception as error:
        raise ScenarioError(
            f"The evaluator {type(evaluator).__name__} of {kind} fails on the first batch: {_reason(error)}."
        ) from error
    for name, value in results.items():
        if not _is_number(value):
            raise ScenarioError(
                f"{type(evaluator).__name__}.result() of {kind} returns {value!r} for {name!r}. "
                "Results must be numbers."
            )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def first_steps_check(optimizer: Any) -> Callable[[float, int], None]:
    """Return a check of the loss after the first batches of a run, called with the loss and the number of batches.

    It raises TrainingError if the loss is not finite, since then the weights are not finite either.
    """

    def check(loss: float, batches: int) -> None:
        if not np.isfinite(loss):
            rate = float(optimizer.learning_rate)
            raise TrainingError(
                f"The loss is {loss} after {count(batches, 'batch')}. Lower --learning_rate.lr (the rate is "
                f"{rate:.3g}) or give --optimizer.clip_global_norm 1."
            )

    return check


def _reason(error: Exception) -> str:
    message = str(getattr(error, "message", None) or error).strip() or "no message"
    # TensorFlow's message includes the kernel, which does not help the author.
    plain = re.sub(r"\{\{.*?\}\} *|\s*\[Op:.*", "", message.splitlines()[0])
    line = author_line(error)
    return f"{type(error).__name__}: {plain}" + ("" if line is None else f" ({line})")


def _is_elementwise(loss: Any) -> bool:
    function = getattr(loss, "fn", loss)
    return getattr(function, "__module__", "").startswith("keras.") and function.__name__ in ELEMENTWISE_NAMES


def _check_classes(column: Any, classes: int, ignored: int | None, target: str, origin: str) -> None:
    for first, values in _pieces(column):
        if values.dtype.kind not in "biuf":
            raise DataError(
                f"The {target} of sample {first} of {origin} is {values.flat[0]!r}, not a class index. Convert it to "
                "one in processors()."
            )
        wrong = np.atleast_1d((values < 0) | (values >= classes))
        if ignored is not None:
            wrong &= np.atleast_1d(values != ignored)
        if not wrong.any():
            continue
        index = first + (int(np.argwhere(wrong)[0][0]) if isinstance(column, np.ndarray) else 0)
        value = np.atleast_1d(values)[wrong].flat[0]
        limit = f"outputs for classes 0 {'and' if classes == 2 else 'to'} {classes - 1}"
        if classes == 1:
            limit = "1 output unit, so only class 0 is possible"
        raise DataError(
            f"Sample {index} of {origin} has the {target} {value}, but the model has {limit}. "
            "Give the output one unit for each class, or fix the sample."
        )


def _check_shapes(column: Any, shape: tuple[int | None, ...], target: str, output: str, origin: str) -> None:
    sample = np.asarray(column[0]).shape
    ours, theirs = _without_ones(shape[1:]), _without_ones(sample)
    if len(ours) != len(theirs) or any(a not in (None, b) for a, b in zip(ours, theirs, strict=True)):
        raise DataError(
            f"The {target} of sample 0 of {origin} has shape {sample}, but the {output} of the model has "
            f"shape {shape[1:]}. The loss compares them element by element. Give them the same shape."
        )


def _without_ones(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _not_finite(column: Any) -> int | None:
    """Return the index of the first sample of a column with a value that is not finite."""
    for first, values in _pieces(column):
        if values.dtype.kind != "f":
            return None
        if not (finite := np.isfinite(values)).all():
            return first + (int(np.argwhere(~finite)[0][0]) if isinstance(column, np.ndarray) else 0)
    return None


def _pieces(column: Any) -> Iterator[tuple[int, Any]]:
    """Yield parts of a column and the index of the first sample of each, so that checks need little memory.

    A part has several samples, or a single one for a column with samples of different lengths.
    """
    if not isinstance(column, np.ndarray):
        yield from enumerate(column)
        return
    step = max(1, PIECE_BYTES // max(1, column[:1].nbytes))
    for first in range(0, len(column), step):
        yield first, column[first : first + step]


def _called(part: str, name: str) -> str:
    return f"{part} {name!r}" if name else part
