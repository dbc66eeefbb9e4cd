"""Error rates of recognized text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
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
        self.errors.assign_add(tf.reduce_sum(path_distances(y_true, y_pred)))
        self.characters.assign_add(tf.cast(tf.math.count_nonzero(tf.cast(y_true, tf.int32) > 0), tf.float32))

    def result(self) -> Any:
        """Return a float32 scalar; 0 without any text, above 1 with more errors than characters."""
        return tf.math.divide_no_nan(self.errors.value, self.characters.value)


def path_distances(texts: Any, logits: Any) -> Any:
    """Return the edit distance of the most probable path of each line to its text, float32 [batch].

    Args:
        texts: int [batch, characters], padded with 0.
        logits: [batch, steps, classes].
    """
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    truth = tf.cast(texts, tf.int32)
    return tf.edit_distance(_sparse(best, (best != before) & (best > 0)), _sparse(truth, truth > 0), normalize=False)


def _sparse(numbers: Any, kept: Any) -> tf.SparseTensor:
    """Return the kept numbers of each row, moved together."""
    positions = tf.cumsum(tf.cast(kept, tf.int64), axis=1) - 1
    rows = tf.where(kept)[:, 0]
    shape = tf.shape(numbers, out_type=tf.int64)
    return tf.SparseTensor(
        tf.stack([rows, tf.boolean_mask(positions, kept)], axis=1), tf.boolean_mask(numbers, kept), shape
    )


class ReadingEvaluator(Evaluator):
    """Character and line error rate, and the lines with the most errors.

    Args:
        codec: the alphabet of the model.
        reader: the decoder; see `TextLineRecognition.reader`. By default, the codec reads the most probable path.
    """

    def __init__(self, codec: Codec, reader: Any = None) -> None:
        self.codec = codec
        self.reader = reader or codec
        self.errors = self.characters = self.lines = self.wrong_lines = 0
        self.worst: list[tuple[int, str, str]] = []

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Update with texts, int32 [batch, characters] padded with 0, and logits, [batch, steps, classes]."""
        del meta
        texts, logits = targets["text"], outputs["text"]
        given = repeat(None) if self.reader is not self.codec else path_distances(texts, logits).numpy().tolist()
        for numbers, each, errors in zip(texts, logits, given, strict=False):
            self.count_line(self.codec.decode(numbers.tolist()), self.reader.read(each).text, errors)

    def update_results(
        self, targets: Mapping[str, Any], results: Sequence[Mapping[str, Any]], meta: Sequence[Any] | None
    ) -> None:
        """Update with joint results. The truth in the meta may have characters that only other models know."""
        for row, (numbers, result) in enumerate(zip(targets["text"], results, strict=True)):
            known = meta[row] if meta is not None and isinstance(meta[row], dict) else {}
            self.count_line(known.get("truth", self.codec.decode(numbers.tolist())), str(result["text"]))

    def count_line(self, truth: str, read: str, errors: float | None = None) -> None:
        """Update with the text of a line, the text that was read, and their edit distance if it is known."""
        errors = edit_distance(read, truth) if errors is None else int(errors)
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
