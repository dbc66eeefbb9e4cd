"""A custom data generator: a simulated pendulum with a new swing for every sample of every epoch.

aip train examples/generated_data.py
aip benchmark-input-pipeline examples/generated_data.py --data.workers 2 --seconds 5
"""

import math

import attrs

from aipcore.params import above, at_least, field, group, params
from aipcore.scenario import DataParams, Mode, Processor, RandomProcessor, Sample, Scenario, ScenarioParams


@params
class Data(DataParams):
    swings: int = field(1000, help="Training samples per epoch.", check=at_least(1))
    steps: int = field(4000, help="Simulation steps of 1 ms.", check=at_least(400))
    noise: float = field(0.02, help="Standard deviation of the measured angles, in radians.", check=at_least(0))
    longest: float = field(2.0, help="Longest pendulum, in metres.", check=above(0.2))


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="The simulator.")


class Numbers:
    """The source: the number of samples per epoch, and the index of each sample as its input."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Sample(inputs=index)


class Swing(RandomProcessor):
    """The generator. It runs in worker processes, and `rng` depends on the run's seed, the epoch and the sample.

    Each epoch therefore has different samples, no two workers make the same ones, and a resumed run gets the samples of
    an uninterrupted one. In validation, `rng` is the same in each epoch.
    """

    modes = {Mode.TRAINING, Mode.EVALUATION}

    def __init__(self, steps, longest):
        self.steps, self.longest = steps, longest

    def process(self, sample, rng):
        import numpy as np

        length, angle, speed = rng.uniform(0.2, self.longest), rng.uniform(0.2, 1.5), 0.0
        angles = []
        for _ in range(self.steps):
            speed -= 0.001 * (9.81 / length * math.sin(angle) + 0.1 * speed)
            angle += 0.001 * speed
            angles.append(angle)
        return attrs.evolve(sample, inputs=np.array(angles, np.float32)[:, None], targets=np.float32([length]))


class Measure(RandomProcessor):
    """Adds the noise of a cheap sensor to the angles."""

    modes = {Mode.TRAINING, Mode.EVALUATION}

    def __init__(self, noise):
        self.noise = noise

    def process(self, sample, rng):
        noise = rng.normal(scale=self.noise, size=sample.inputs.shape).astype("float32")
        return attrs.evolve(sample, inputs=sample.inputs + noise)


class Thin(Processor):
    """Reduces the data to 25 angles per second."""

    def process(self, sample):
        return attrs.evolve(sample, inputs=sample.inputs[::40])


class Pendulum(Scenario):
    """Predicts the length of a pendulum from its swing."""

    params_class = Params
    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.003}
    monitor = ("min", "error")

    def train_data(self):
        return Numbers(self.params.data.swings)

    def val_data(self):
        return Numbers(200)

    def processors(self):
        data = self.params.data
        return [Swing(data.steps, data.longest), Measure(data.noise), Thin()]

    def build(self, inputs):
        from keras import layers

        x = inputs
        for filters in (16, 32, 32):
            x = layers.MaxPooling1D(2)(layers.Conv1D(filters, 5, padding="same", activation="relu")(x))
        return layers.Dense(1)(layers.Dense(32, activation="relu")(layers.Flatten()(x)))

    def losses(self):
        return "mse"

    def metrics(self):
        from keras.metrics import MeanAbsoluteError

        return [MeanAbsoluteError(name="error")]
