"""Scenarios with one fault each."""

from aipcore.params import params
from aipcore.scenario import Scenario, ScenarioParams


@params
class IsAScenarioParams(ScenarioParams):
    """Parameters of a class that is not a scenario."""


class IsAScenario:
    """A class that resembles a scenario."""

    params_class = IsAScenarioParams
    defaults = {}


def lines(seed=1):
    """Return points and a line through them."""
    import numpy as np

    x = np.random.default_rng(seed).uniform(-1, 1, (64, 3)).astype("float32")
    return x, x @ np.array([[1.0], [-2.0], [0.5]], "float32")


class Line(Scenario):
    """A scenario that learns a line."""

    def train_data(self):
        return lines()

    def val_data(self):
        return lines(2)

    def build(self, inputs):
        import keras

        return keras.layers.Dense(1)(keras.layers.Dense(32, activation="tanh")(inputs))

    def losses(self):
        return "mse"

    def metrics(self):
        return ["mae"]


@params
class DataIsReproducibleParams(ScenarioParams):
    """Parameters."""


class DataIsReproducible(Line):
    """A scenario that draws its data without a seed."""

    params_class = DataIsReproducibleParams

    def train_data(self):
        return lines(None)


@params
class DataFitsTheModelParams(ScenarioParams):
    """Parameters."""


class DataFitsTheModel(Line):
    """A scenario with validation data of another type."""

    params_class = DataFitsTheModelParams

    def val_data(self):
        x, y = lines(2)
        return x.astype("int32"), y


@params
class MonitorExistsParams(ScenarioParams):
    """Parameters."""


class MonitorExists(Line):
    """A scenario that monitors a value without a source."""

    params_class = MonitorExistsParams
    monitor = ("max", "accuracy")


@params
class RunsAreReproducibleParams(ScenarioParams):
    """Parameters."""


class RunsAreReproducible(Line):
    """A scenario that draws its weights without a seed."""

    params_class = RunsAreReproducibleParams

    def build(self, inputs):
        import keras
        import numpy as np

        def drawn(shape, dtype=None):
            return keras.ops.cast(np.random.default_rng().normal(size=shape), dtype)

        return keras.layers.Dense(1)(keras.layers.Dense(32, activation="tanh", kernel_initializer=drawn)(inputs))


@params
class OverfitsAFewSamplesParams(ScenarioParams):
    """Parameters."""


class OverfitsAFewSamples(Line):
    """A scenario whose model ignores its inputs."""

    params_class = OverfitsAFewSamplesParams

    def build(self, inputs):
        return super().build(0 * inputs)


@params
class ExportsParams(ScenarioParams):
    """Parameters."""


class Exports(Line):
    """A scenario that leaves its noise on."""

    params_class = ExportsParams

    def build(self, inputs):
        import keras
        import tensorflow as tf

        class Noise(keras.layers.Layer):
            def call(self, inputs):
                return inputs + tf.random.normal(tf.shape(inputs), 0.0, 0.01)

        return Noise()(super().build(inputs))
