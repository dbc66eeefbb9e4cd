"""One base class, two scenarios, and data of a selectable shape: points in the plane and a curve.

aip train examples/polymorphic_scenarios.py:InsideOrOutside --data.curve Star --data.curve.rays 7
aip train examples/polymorphic_scenarios.py:Distance --data.curve Circle --model.units 32 32
"""

from aipcore.params import Choice, above, at_least, between, component, field, group, params
from aipcore.scenario import DataParams, ModelParams, Scenario, ScenarioParams


@params
class Curve:
    """Base class of the curves: a radius for each direction. Add a class to add a curve."""

    radius: float = field(1.0, help="Mean distance from the origin.", check=above(0))

    def radius_at(self, angle):
        raise NotImplementedError


@params
class Circle(Curve):
    """A circle: the same radius in all directions."""

    def radius_at(self, angle):
        return self.radius + 0 * angle


@params
class Star(Curve):
    """A star: the radius varies with the rays."""

    rays: int = field(5, help="Number of rays.", check=at_least(2))
    depth: float = field(0.4, help="Depth of the rays, as a fraction of the radius.", check=between(0, 1))

    def radius_at(self, angle):
        import numpy as np

        return self.radius * (1 + self.depth * np.cos(self.rays * angle))


@params
class Data(DataParams):
    curve: Choice[Curve] = component({"Circle": Circle, "Star": Star}, default="Star", help="The curve.")
    points: int = field(4000, help="Number of training points.", check=at_least(10))


@params
class Model(ModelParams):
    units: tuple[int, ...] = field((64, 64), help="Units of each hidden layer.", check=at_least(1))


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="The points and the curve.")
    model: Model = group(Model, help="The network.")


class Plane(Scenario):
    """The base class: data and hidden layers. Subclasses define `target` and the rest of the scenario."""

    params_class = Params
    defaults = {"trainer.epochs": 15, "learning_rate.lr": 0.005}

    def train_data(self):
        return self.points(self.params.data.points, seed=1)

    def val_data(self):
        return self.points(1000, seed=2)

    def points(self, count, seed):
        import numpy as np

        points = np.random.default_rng(seed).uniform(-2, 2, (count, 2))
        x, y = points.T
        return points.astype("float32"), self.target(
            np.hypot(x, y) - self.params.data.curve.params.radius_at(np.arctan2(y, x))
        )

    def target(self, beyond):
        raise NotImplementedError

    def build(self, inputs):
        from keras import layers

        hidden = inputs
        for units in self.params.model.units:
            hidden = layers.Dense(units, activation="relu")(hidden)
        return layers.Dense(1)(hidden)


class InsideOrOutside(Plane):
    """Classifies points as inside or outside the curve."""

    monitor = ("max", "accuracy")

    def target(self, beyond):
        return (beyond < 0)[:, None].astype("float32")

    def losses(self):
        from keras.losses import BinaryCrossentropy

        return BinaryCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import BinaryAccuracy

        return [BinaryAccuracy(name="accuracy", threshold=0.0)]


@params
class DistanceParams(Params):
    loss: str = field("mse", help="Name of a Keras loss, such as mae.")


class Distance(Plane):
    """Predicts how far a point lies beyond the curve, seen from the origin. Adds a parameter and a new default."""

    params_class = DistanceParams
    defaults = {**Plane.defaults, "trainer.epochs": 25}

    def target(self, beyond):
        return beyond[:, None].astype("float32")

    def losses(self):
        return self.params.loss
