"""A table with named columns: each column is an input of the model, and `aip predict` takes CSV files.

aip train examples/table_columns.py
aip predict runs/table_columns-1 --trust --data.files FLATS.csv --output rents.csv
"""

from aipcore.params import group, params
from aipcore.scenario import ListFileData, Scenario, ScenarioParams, matching_files, read_columns

COLUMNS = {"area": "float32", "rooms": "int32", "year": "int32"}


@params
class Params(ScenarioParams):
    data: ListFileData = group(ListFileData, help="The table.")


class Rents(Scenario):
    """Estimates the rent of a flat from its area, its number of rooms and its year of construction."""

    params_class = Params
    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.05}

    def train_data(self):
        return made_up_flats(seed=1)

    def val_data(self):
        return made_up_flats(seed=2)

    def predict_data(self):
        files = matching_files(self.params.data.files, (".csv",))
        return read_columns(files, COLUMNS) if files else self.val_data()

    def build(self, inputs):
        import keras
        from keras import layers

        scales = {"area": 0.01, "rooms": 0.25, "year": 0.01}
        shifts = {"area": 0.0, "rooms": 0.0, "year": -20.0}
        columns = [
            layers.Reshape((1,))(layers.Rescaling(scales[name], shifts[name])(keras.ops.cast(inputs[name], "float32")))
            for name in COLUMNS
        ]
        hidden = layers.Dense(16, activation="relu")(layers.Concatenate()(columns))
        return {"rent": layers.Flatten()(layers.Rescaling(1000.0)(layers.Dense(1)(hidden)))}

    def losses(self):
        from keras.losses import MeanAbsolutePercentageError

        return MeanAbsolutePercentageError()


def made_up_flats(seed):
    """Return the columns of 300 synthetic flats, and their rents of shape [300, 1]."""
    import numpy as np

    random = np.random.default_rng(seed)
    rooms = random.integers(1, 6, 300).astype(np.int32)
    area = (rooms * random.uniform(15, 30, 300)).astype(np.float32)
    year = random.integers(1900, 2025, 300).astype(np.int32)
    rent = area * (8 + (year - 1900) / 20) + 50 * rooms
    return {"area": area, "rooms": rooms, "year": year}, {"rent": rent[:, None].astype(np.float32)}
