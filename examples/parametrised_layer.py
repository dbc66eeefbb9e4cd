"""A layer selected and configured by parameters: three ways to read a digit from the eight rows of its image.

aip train examples/parametrised_layer.py --model.layer Attention --model.layer.heads 4
"""

from aipcore.params import Choice, at_least, component, field, group, params
from aipcore.scenario import ModelParams, Scenario, ScenarioParams


@params
class LayerParams:
    """Base class of the layers: `apply` turns rows, [batch, steps, features], into [batch, size]."""

    size: int = field(32, help="Size of the layer's output.", check=at_least(1))


@params
class Recurrent(LayerParams):
    """A GRU over the rows."""

    both_ways: bool = field(False, help="Add a second GRU that reads from bottom to top.")

    def apply(self, rows):
        from keras import layers

        gru = layers.GRU(self.size, name="down")
        return layers.Bidirectional(gru, merge_mode="sum", name="reader")(rows) if self.both_ways else gru(rows)


@params
class Convolution(LayerParams):
    """Convolution over neighbouring rows, with global max pooling."""

    rows: int = field(3, help="Kernel size, in rows.", check=at_least(1))

    def apply(self, rows):
        from keras import layers

        filtered = layers.Conv1D(self.size, self.rows, padding="same", activation="relu", name="filters")(rows)
        return layers.GlobalMaxPooling1D(name="greatest")(filtered)


@params
class Attention(LayerParams):
    """Self-attention between the rows."""

    heads: int = field(2, help="Number of attention heads.", check=at_least(1))

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
    """Classifies digits row by row, with a layer of your choice."""

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

        # The chosen class applies itself. To add a layer, add a class to the table above.
        return layers.Dense(10, name="logits")(self.params.model.layer.params.apply(inputs))

    def losses(self):
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]
