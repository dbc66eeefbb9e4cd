"""Error rates of recognized text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from aip_plugins.scenarios.text_line_recognition.codec import Codec

from aipcore.scenario import Evaluator


@keras.saving.register_keras_serializable(package="aip")
class CharacterErrorRate(keras.metrics.Metric):
    """Edit distance between the most probable path and the text, divided by the number of characters of all texts."""

    def __init__(self, name: str = "character_error_rate", **arguments: Any) -> None:
        super().__init__(name=name, **arguments)
        self.errors = self.add_variable((), initializer="zeros", name="errors")
        self.characters = self.add_variable((), initializer="zeros", name="characters")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Update with texts, int32 [batch, characters] padded with 0, and logits, [batch, steps, classes]."""
        del sample_weight
        best = tf.argmax(y_pred, axis=-1, output_type=tf.int32)
        before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
        read = _sparse(best, (best != before) & (best > 0))
        truth = _sparse(tf.cast(y_true, tf.int32), tf.cast(y_true, tf.int32) > 0)
        distances = tf.edit_distance(read, truth, normalize=False)
        self.errors.assign_add(tf.reduce_sum(distances))
        self.characters.assign_add(tf.cast(tf.size(truth.values), tf.float32))

    def result(self) -> Any:
        """Return a float32 scalar; 0 without any text, above 1 with more errors than characters."""
        return tf.math.divide_no_nan(self.errors.value, self.characters.value)


def _sparse(numbers: Any, kept: Any) -> tf.SparseTensor:
    """Return the kept numbers of each row, moved together."""
    positions = tf.cumsum(tf.cast(kept, tf.int64), axis=1) - 1
    rows = tf.where(kept)[:, 0]
    shape = tf.shape(numbers, out_type=tf.int64)
    return tf.SparseTensor(
        tf.stack([rows, tf.boolean_mask(positions, kept)], axis=1), tf.boolean_mask(numbers, kept), shape
    )


class ReadingEvaluator(Evaluator):
    """Character and line error rate, and the lines with the most errors."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.errors = self.characters = self.lines = self.wrong_lines = 0
        self.worst: list[tuple[int, str, str]] = []

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Update with texts, int32 [batch, characters] padded with 0, and logits, [batch, steps, classes]."""
        del meta
        for numbers, logits in zip(targets["text"], outputs["text"], strict=True):
            self.count_line(self.codec.decode(numbers.tolist()), self.codec.read(logits)[0])

    def count_line(self, truth: str, read: str) -> None:
        """Update with the text of a line and the text that was read."""
        errors = edit_distance(read, truth)
        self.errors += errors
        self.characters += len(truth)
        self.lines += 1
        self.wrong_lines += errors > 0
        if errors:
            self.worst = sorted([*self.worst, (errors, truth, read)], key=lambda line: -line[0])[:3]

    def result(self) -> dict[str, float]:
        """Return the character and line error rates."""
        return {
            "character_error_rate": self.errors / max(1, self.characters),
            "line_error_rate": self.wrong_lines / max(1, self.lines),
        }

    def report(self) -> str:
        """Return the worst lines."""
        if not self.worst:
            return "All lines were read correctly."
        return "Worst lines: " + ", ".join(f"{truth!r} read as {read!r}" for _, truth, read in self.worst) + "."


def edit_distance(one: str, other: str) -> int:
    """Return the edit distance: the fewest insertions, deletions and replacements of characters (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(diagonal + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]
