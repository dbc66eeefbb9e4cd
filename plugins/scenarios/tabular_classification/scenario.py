"""The scenario of the classification of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from aip_plugins.scenarios.tabular_classification.params import SUFFIXES, TableData, TableParams, named_kind

from aipcore.errors import DataError, UsageError
from aipcore.scenario import Evaluator, PostProcessor, Scenario, adapted_classes, matching_files

if TYPE_CHECKING:
    from aip_plugins.scenarios.tabular_classification.table import Table

INCLUDED = Path(__file__).parent / "data" / "penguins.csv"
"""The table that is included in aip."""


class TabularClassification(Scenario):
    """Classifies the rows of a table. Without files, it trains on penguins of three species."""

    params_class = TableParams
    params: TableParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 20,
        "learning_rate": "CosineDecay",
        "learning_rate.lr": 0.003,
    }
    fixed = ("data.target", "data.columns", "data.classes")

    def check(self) -> None:
        """Read the tables, and check their columns and classes."""
        data, table = self._completed, self._table
        self._with(data).train_data()
        if self.params.val.files:
            val = self._read(self.params.val.files)
            here, there = (set(each.columns) for each in (table, val))
            if here != there:
                only = [
                    f"only in {each.title}: {', '.join(sorted(names))}"
                    for each, names in ((table, here - there), (val, there - here))
                    if names
                ]
                raise DataError(
                    f"The training and validation tables have different columns ({'; '.join(only)}). Give both the "
                    "same columns, or leave some out with --data.ignore."
                )
            self._with(data).val_data()

    def derived_params(self) -> TableParams:
        """Return the parameters with the training files, the kinds of the columns, and the classes."""
        return self._with(self._completed).params

    def _with(self, data: TableData) -> TabularClassification:
        # A record must not name a file of the installed package.
        files = () if self._files == [INCLUDED] else tuple(self._files)
        train = attrs.evolve(self.params.train, files=files)
        return type(self)(attrs.evolve(self.params, data=attrs.evolve(data, files=()), train=train))

    @cached_property
    def _files(self) -> list[Path]:
        """The training files."""
        given, own = self.params.data.files, self.params.train.files
        if given and own:
            raise UsageError(
                "--data.files has no effect with --train.files, which names the training tables. Leave one of them out."
            )
        return matching_files(given, SUFFIXES) if given else list(own) or [INCLUDED]

    @cached_property
    def _table(self) -> Table:
        return self._read(self._files)

    @cached_property
    def _completed(self) -> TableData:
        """The parameters of the data, completed from the training table."""
        from aip_plugins.scenarios.tabular_classification.columns import find_columns

        data = self.params.data
        if self._files == [INCLUDED] and data.target is None:
            data = attrs.evolve(data, target="species")
        if self.params.trainer.folds is not None:
            # Each fold is validated on a part of the training data.
            data = attrs.evolve(data, val_share=0.0)
        return find_columns(self._table, data)

    def _read(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Table:
        from aip_plugins.scenarios.tabular_classification.table import read_table

        data = self.params.data
        return read_table(files, data.separator, data.missing, columns, data.ignore)

    def train_data(self) -> Any:
        """Return the columns, classes and weights of the training rows, without those that are held out."""
        return self._part(0)

    def val_data(self) -> Any:
        """Return those of the validation rows; in aip lav and aip predict, all rows of `data.files` if given."""
        data = self.params.data
        if data.files:
            further = [name for name in (data.target, data.weight) if name]
            return self._labelled(self._read(matching_files(data.files, SUFFIXES), [*self._names, *further]))
        if self.params.val.files:
            return self._labelled(self._read(self.params.val.files))
        return self._part(1) if data.val_share else None

    def predict_data(self) -> Any:
        """Return the columns of `data.files`, which need no classes; by default the validation rows."""
        from aip_plugins.scenarios.tabular_classification.columns import inputs_of

        data = self.params.data
        if not data.files:
            return self.val_data()
        return inputs_of(self._read(matching_files(data.files, SUFFIXES), self._names), data), None

    @property
    def _names(self) -> list[str]:
        """The columns that the model needs."""
        return [name for name, _ in map(named_kind, self.params.data.columns)]

    def _labelled(self, table: Table) -> tuple[Any, ...]:
        from aip_plugins.scenarios.tabular_classification.columns import class_ids, inputs_of, weights_of

        data = self.params.data
        weights = (weights_of(table, data.weight),) if data.weight in table.columns else ()
        return inputs_of(table, data), {"class": class_ids(table, data)}, *weights

    def _part(self, part: int) -> Any:
        """Return the training rows (0) or the held-out rows (1)."""
        from aip_plugins.scenarios.tabular_classification.columns import held_out

        data = self.params.data
        inputs, targets, *weights = self._labelled(self._table)
        if self.params.val.files or not data.val_share:
            return inputs, targets, *weights
        mask = held_out(targets["class"], data.val_share, data.val_seed)
        if not mask.any():
            raise DataError(
                f"No rows are held out: each class has too few for --data.val_share {data.val_share}. Give --val.files "
                "or a larger share, or 0 to train without validation."
            )
        rows = mask if part else ~mask
        sides = [{name: column[rows] for name, column in side.items()} for side in (inputs, targets)]
        return *sides, *(each[rows] for each in weights)

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Mapping[str, Any] | None) -> Any:
        """Return the weights of the output layer, in which known classes keep those of the source."""
        if path not in ("classes/kernel", "classes/bias") or before is None:
            return None
        return adapted_classes(source, fresh, before.get("data.classes"), self.params.data.classes)

    def preprocessing(self) -> Any:
        """Return the encoding of the columns."""
        from aip_plugins.scenarios.tabular_classification.encoding import feature_space

        return feature_space(self.params.data.columns)

    def build(self, inputs: Any) -> Any:
        """Return the logits of encoded rows."""
        from aip_plugins.scenarios.tabular_classification.encoding import logits

        return {"logits": logits(inputs, self.params.model.graph.params, len(self.params.data.classes))}

    def build_prediction(self, model: Any) -> Any:
        """Return the model with probabilities beside the logits."""
        import keras
        from aip_plugins.scenarios.tabular_classification.encoding import ClassName

        scores = model.output["logits"]
        probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(scores)
        name = ClassName(self.params.data.classes)(scores)
        return keras.Model(model.input, {"class": name, "logits": scores, "probabilities": probabilities})

    def vote(self, outputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the means of logits and probabilities, and the most probable classes."""
        import numpy as np

        means = {name: np.mean([each[name] for each in outputs], axis=0) for name in ("logits", "probabilities")}
        names = np.array(self.params.data.classes, object)[means["probabilities"].argmax(axis=-1)]
        return {"class": np.array([name.encode() for name in names], object), **means}

    def losses(self) -> Any:
        """Return the cross-entropy loss."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def post_processors(self) -> Sequence[PostProcessor]:
        """Return the post-processor for class names and probabilities."""
        from aip_plugins.scenarios.tabular_classification.results import NameClass

        return [NameClass(self.params.data.classes)]

    def evaluator(self) -> Evaluator:
        """Return a confusion evaluator."""
        from aip_plugins.scenarios.tutorial.evaluator import ConfusionEvaluator

        classes = self.params.data.classes
        return ConfusionEvaluator(len(classes), "logits", classes, target="class")

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of both classes."""
        return self.params.data.classes[int(targets["class"])], str(outputs["class"])
