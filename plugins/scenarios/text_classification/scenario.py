"""The scenario of text classification."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.classes import checked_classes
from aip_plugins.scenarios.pretrained.params import KerasHub
from aip_plugins.scenarios.text_classification.params import TextParams

from aipcore.errors import DataError
from aipcore.files import open_regular, read_limit, read_text
from aipcore.params.names import nearest, one_of
from aipcore.scenario import Evaluator, ListFileScenario, Sample, adapted_classes

TABLES = {".csv": ",", ".tsv": "\t"}
"""The suffixes of tables, with the character between two columns."""


class TextClassification(ListFileScenario):
    """Classifies texts by the name of their folder or a column of a table. Without lists, it trains on requests."""

    params_class = TextParams
    params: TextParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 5,
        "learning_rate": "CosineDecay",
        "learning_rate.lr": 0.01,
    }
    monitor = ("max", "accuracy")
    fixed = ("data.classes",)
    suffixes = (".txt", *TABLES)

    def check(self) -> None:
        """Check the lists, and the files of a preset.

        Raises:
            UsageError: one cannot be used.
        """
        super().check()
        if isinstance(graph := self.params.model.graph.params, KerasHub):
            graph.check()

    def derived_params(self) -> TextParams:
        """Return the parameters with the classes, by default those of the training texts."""
        found = checked_classes(
            self.params.data.classes, lambda: sorted({sample.targets for sample in self.train_data()})
        )
        return attrs.evolve(self.params, data=attrs.evolve(self.params.data, classes=found))

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Mapping[str, Any] | None) -> Any:
        """Return the weights of the output layer, in which known classes keep those of the source."""
        if path.rpartition("/")[0] not in ("classes", "logits") or before is None:
            return None
        return adapted_classes(source, fresh, before.get("data.classes"), self.params.data.classes)

    def own_train_data(self) -> Any:
        """Return synthetic requests to a shop."""
        from aip_plugins.scenarios.text_classification.requests import made_requests

        return made_requests(1000, seed=1)

    def own_val_data(self) -> Any:
        """Return other requests."""
        from aip_plugins.scenarios.text_classification.requests import made_requests

        return made_requests(200, seed=2)

    def paths(self, entries: Sequence[Path], group_name: str) -> list[Path]:
        """Return the files that lists and folders name; a table is not a list, but a file with texts.

        Raises:
            UsageError: a list cannot be read or names no file.
        """
        tables = [entry for entry in entries if entry.suffix.lower() in TABLES and entry.is_file()]
        return [*tables, *super().paths([entry for entry in entries if entry not in tables], group_name)]

    def source(self, paths: Sequence[Path], *, targets: bool) -> list[Sample]:
        """Return the texts of files: a `.txt` file is a text, and a table has a text in each row."""
        return [sample for path in paths for sample in self._samples(path, targets)]

    def _samples(self, path: Path, targets: bool) -> Iterator[Sample]:
        """Yield the texts of a file.

        Raises:
            DataError: the file cannot be read, or lacks a column.
        """
        data = self.params.data
        try:
            if path.suffix.lower() not in TABLES:
                label = path.parent.name if targets else None
                yield Sample(inputs=read_text(path, limit=read_limit()), targets=label, meta={"path": str(path)})
                return
            with (
                open_regular(path, limit=read_limit()) as file,
                io.TextIOWrapper(file, "utf-8-sig", newline="") as lines,
            ):
                rows = csv.DictReader(lines, delimiter=TABLES[path.suffix.lower()], strict=True)
                for option, column in (("text", data.text), ("label", data.label))[: 2 if targets else 1]:
                    if column not in (names := list(rows.fieldnames or ())):
                        near = nearest(column, names)
                        hint = f"Did you mean {one_of(near)}?" if near else f"Its columns are {', '.join(names)}."
                        raise DataError(f"{path} has no column {column!r}. {hint} Pass --data.{option} COLUMN.")
                for row in rows:
                    if None in row or None in row.values():
                        raise DataError(f"{path}, line {rows.line_num} has more or fewer columns. Correct the line.")
                    if targets and not row[data.label].strip():
                        raise DataError(f"{path}, line {rows.line_num} has no {data.label}. Correct or remove it.")
                    place = {"path": f"{path}:{rows.line_num}"}
                    yield Sample(inputs=row[data.text], targets=row[data.label] if targets else None, meta=place)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not valid text in UTF-8 ({error}). Use another file.") from error

    def processors(self) -> Sequence[Any]:
        """Return the processor that encodes the class."""
        from aip_plugins.scenarios.image_classification.processors import EncodeClass

        return [EncodeClass(self.params.data.classes)]

    def post_processors(self) -> Sequence[Any]:
        """Return the post-processor for the most probable class."""
        from aip_plugins.scenarios.image_classification.processors import DecodeClass

        return [DecodeClass(self.params.data.classes)]

    def preprocessing(self) -> Any:
        """Return the layer from texts to words, or to the tokens of the preset."""
        import keras

        graph: Any = self.params.model.graph.params
        if isinstance(graph, KerasHub):
            from aip_plugins.scenarios.pretrained.networks import text_preset_preprocessing

            return text_preset_preprocessing(graph, graph.length)
        return keras.layers.TextVectorization(
            max_tokens=graph.vocabulary, ngrams=graph.ngrams, output_sequence_length=graph.length
        )

    def build(self, inputs: Any) -> Any:
        """Return the logits of texts."""
        graph: Any = self.params.model.graph.params
        classes = len(self.params.data.classes)
        if isinstance(graph, KerasHub):
            from aip_plugins.scenarios.pretrained.networks import text_preset_logits

            return {"class": text_preset_logits(inputs, graph, classes)}
        from keras import layers, ops

        embedded = layers.Embedding(graph.vocabulary, graph.units, name="embedding")(inputs)
        known = ops.cast(ops.expand_dims(ops.not_equal(inputs, 0), -1), embedded.dtype)
        # The average of Keras' GlobalAveragePooling1D is NaN for a text without words.
        features = ops.sum(embedded * known, axis=1) / ops.maximum(ops.sum(known, axis=1), 1)
        features = layers.Dropout(graph.dropout, name="dropout")(features)
        return {"class": layers.Dense(classes, name="classes", dtype="float32")(features)}

    def losses(self) -> Any:
        """Return the cross-entropy loss."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def evaluator(self) -> Evaluator:
        """Return a confusion evaluator."""
        from aip_plugins.scenarios.tutorial.evaluator import ConfusionEvaluator

        classes = self.params.data.classes
        return ConfusionEvaluator(len(classes), "class", classes)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of both classes."""
        return self.params.data.classes[int(targets["class"])], str(outputs["class"])
