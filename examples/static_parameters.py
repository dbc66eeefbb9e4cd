"""Parameters derived from the data: classes, mean and standard deviation of the training data.

aip train examples/static_parameters.py
aip train examples/static_parameters.py --data.table YOURS.csv
"""

import csv
from pathlib import Path

import attrs

from aipcore.params import field, group, params
from aipcore.scenario import DataParams, PostProcessor, Scenario, ScenarioParams


@params
class Data(DataParams):
    table: Path | None = field(
        None,
        help="CSV file with the class in the last column. The other columns are numbers. Default: synthetic fruits.",
    )
    classes: tuple[str, ...] = field((), help="Names of the classes. Default: those of the training data.")
    mean: tuple[float, ...] = field((), help="Mean of each column. Default: that of the training data.")
    deviation: tuple[float, ...] = field((), help="Deviation of each column. Default: that of the training data.")


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="The table.")


class Fruits(Scenario):
    """Classifies the rows of a table with any columns and classes."""

    params_class = Params
    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.02}
    monitor = ("max", "accuracy")

    def derived_params(self):
        """Add derived parameters. Called once, before training; the result is recorded with the model."""
        import numpy as np

        data = self.params.data
        if data.classes:
            return self.params
        numbers, names = self.rows()
        found = attrs.evolve(
            data,
            classes=tuple(sorted(set(names))),
            mean=tuple(np.mean(numbers, axis=0).tolist()),
            deviation=tuple(np.std(numbers, axis=0).tolist()),
        )
        return attrs.evolve(self.params, data=found)

    def train_data(self):
        return self.samples(seed=1)

    def val_data(self):
        return self.samples(seed=2) if self.params.data.table is None else None

    def samples(self, seed):
        import numpy as np

        numbers, names = self.rows(seed)
        classes = {name: number for number, name in enumerate(self.params.data.classes)}
        return np.array(numbers, np.float32), np.array([classes[name] for name in names], np.int32)

    def rows(self, seed=1):
        if self.params.data.table is not None:
            with self.params.data.table.open(newline="") as lines:
                rows = list(csv.reader(lines))
            return [[float(number) for number in row[:-1]] for row in rows], [row[-1] for row in rows]
        return made_up_fruits(seed)

    def build(self, inputs):
        from keras import layers

        data = self.params.data
        # Part of the model: the exported model takes grams and millimetres.
        scaled = layers.Normalization(mean=data.mean, variance=[each**2 for each in data.deviation])(inputs)
        return layers.Dense(len(data.classes))(layers.Dense(16, activation="tanh")(scaled))

    def losses(self):
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]

    def post_processors(self):
        return [NameClass(self.params.data.classes)]


class NameClass(PostProcessor):
    """Converts logits to a class name. The classes come from the parameters, so prediction reads no training data."""

    def __init__(self, classes):
        self.classes = classes

    def process(self, outputs, meta):
        return {"class": self.classes[int(outputs[""].argmax())]}


def made_up_fruits(seed):
    """Return weights in grams and widths in millimetres of 300 synthetic fruits, and their names."""
    import numpy as np

    random = np.random.default_rng(seed)
    kinds = {"apple": (180, 75), "cherry": (8, 22), "melon": (1500, 160)}
    names = random.choice(list(kinds), 300).tolist()
    return [[size * random.normal(1, 0.15) for size in kinds[name]] for name in names], names
