"""A layer chosen and configured by parameters: what reads a digit from the eight rows of its image?

aip train examples/parametrised_layer.py --model.layer Attention --model.layer.heads 4
"""

from aipcore.params import Choice, at_least, component, field, group, params
from aipcore.scenario import ModelParams, Scenario, ScenarioParams


@params
class LayerParams:
    """What all choices have in common: `apply` turns rows, [batch, steps, features], into [batch, size]."""

    size: int = field(32, help="Numbers that the layer makes of an image.", check=at_least(1))


@params
class Recurrent(LayerParams):
    """A GRU that reads row by row."""

    both_ways: bool = field(False, help="Whether a second one reads from the bottom to the top.")

    def apply(self, rows):
        from keras import layers

        gru = layers.GRU(self.size, name="down")
        return layers.Bidirectional(gru, merge_mode="sum", name="reader")(rows) if self.both_ways else gru(rows)


@params
class Convolution(LayerParams):
    """Filters over neighbouring rows, and of each its greatest value."""

    rows: int = field(3, help="Rows that a filter sees.", check=at_least(1))

    def apply(self, rows):
        from keras import layers

        filtered = layers.Conv1D(self.size, self.rows, padding="same", activation="relu", name="filters")(rows)
        return layers.GlobalMaxPooling1D(name="greatest")(filtered)


@params
class Attention(LayerParams):
    """Rows that look at one another."""

    heads: int = field(2, help="Attention heads.", check=at_least(1))

    def apply(self, rows):
        from keras import layers

        rows += layers.MultiHeadAttention(self.heads, key_dim=8, name="attention")(rows, rows)
        return layers.Dense(self.size, activation="relu", name="all_rows")(layers.Flatten(name="flat")(rows))


@params
class Model(ModelParams):
    layer: Choice[LayerParams] = component(
        {"Recurrent": Recurrent, "Convolution": Convolution, "Attention": Attention},
        default="Recurrent",
        help="The layer that reads the rows.",
    )


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The network.")


class Digits(Scenario):
    """Reads digits row by row, with a layer of your choice."""

    params_class = Params
    defaults = {"trainer.epochs": 15, "learning_rate.lr": 0.005}
    monitor = ("max", "accuracy")

    def train_data(self):
        return self.part(0)

    def val_data(self):
        return self.part(1)

    def part(self, number):
        from aip_plugins.scenarios.tutorial.datasets import load

        return load("digits")[number]

    def build(self, inputs):
        from keras import layers

        # The chosen class applies itself: another choice is another class in the table above, and nothing else.
        return layers.Dense(10, name="logits")(self.params.model.layer.params.apply(inputs))

    def losses(self):
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]
