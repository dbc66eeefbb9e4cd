"""The example of several updates: the numbers of a plain loop, exact resuming, and better drawings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.scenario.loader import load_scenario
from aipcore.scenario.sample_random import Part, SampleRandom
from aipcore.training.reporter import EpochReport, Reporter

EXAMPLE = Path(__file__).parents[2] / "examples" / "gan.py"
BATCH = 16
STEPS = 20
SEED = 7


@pytest.fixture(scope="module")
def gan() -> type[Any]:
    """Return the scenario of the example."""
    return load_scenario(str(EXAMPLE), names=[], find=lambda _: None).cls


def short(*words: str, steps: int = STEPS) -> tuple[str, ...]:
    """Return the words of a run of one short epoch without shuffling."""
    return (
        "--train.batch_size", str(BATCH), "--train.shuffle", "false", "--trainer.samples_per_epoch", str(steps * BATCH),
        "--trainer.epochs", "1", "--trainer.tune", "off", *words,
    )  # fmt: skip


def noise(update: int, batches: int) -> SampleRandom:
    """Return the random numbers of an update, as its documentation defines them."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([SEED, update]), tf.constant(batches, tf.int64))
    return SampleRandom(key, Part(BATCH))


def plain_loop(model: Any, images: Any, times: int, *, wasserstein: bool) -> dict[str, float]:
    """Train the two networks for an epoch as a user of Keras writes it; return the mean losses."""
    score, draw = model.get_layer("discriminator"), model.get_layer("generator")
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = [keras.optimizers.Adam(rate, beta_1=0.5) for rate in (5e-4, 1e-3)]
    losses: dict[str, list[float]] = {"discriminator_loss": [], "generator_loss": []}

    def update(network: Any, optimizer: Any, loss: Callable[[], Any], name: str) -> None:
        weights = network.trainable_variables
        with tf.GradientTape() as tape:
            value = loss()
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        losses[name].append(float(value))

    def critic(real: Any, random: SampleRandom) -> Any:
        drawn = draw(random.normal(16), training=True)
        if not wasserstein:
            scores = score(tf.concat([real, drawn], 0), training=True)
            ones = tf.concat([tf.ones((BATCH, 1)), tf.zeros((BATCH, 1))], 0)
            return 2 * entropy(ones, scores)
        share = random.uniform(1, 1, 1)
        with tf.GradientTape() as tape:
            mixed = real * (1 - share) + drawn * share
            tape.watch(mixed)
            scores = score(mixed, training=True)
        slopes = tf.reshape(tape.gradient(scores, mixed), (BATCH, -1))
        penalty = 10 * tf.reduce_mean((tf.norm(slopes, axis=1) - 1) ** 2)
        return tf.reduce_mean(score(drawn)) - tf.reduce_mean(score(real)) + penalty

    def painter(random: SampleRandom) -> Any:
        scores = score(draw(random.normal(16), training=True))
        return -tf.reduce_mean(scores) if wasserstein else entropy(tf.ones((BATCH, 1)), scores)

    for step in range(STEPS):
        real = images[step * BATCH : (step + 1) * BATCH]
        for repetition in range(times):
            update(score, optimizers[0], lambda n=step * times + repetition, real=real: critic(real, noise(0, n)),
                   "discriminator_loss")  # fmt: skip
        update(draw, optimizers[1], lambda n=step: painter(noise(1, n)), "generator_loss")
    return {name: float(np.mean(values)) for name, values in losses.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "times"), [("logistic", 1), ("wasserstein", 3)])
def test_equals_a_plain_loop(make_trainer: Any, gan: type[Any], loss: str, times: int) -> None:
    """After 20 steps, losses and weights are those of a plain Keras loop to 1e-4, also with a gradient penalty."""
    words = short("--model.loss", loss, "--updates.discriminator.times", str(times))
    trainer = make_trainer(gan, *words, "--trainer.skip_sanity_check", "true")
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    found = plain_loop(model, trainer.scenario.train_data()[0]["image"], times, wasserstein=loss == "wasserstein")
    logs = trainer.fit().history[0]
    for name, value in found.items():
        assert logs[name] == pytest.approx(value, rel=1e-4), name
    for ours, theirs in zip(trainer.model.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4, err_msg=ours.path)


@pytest.mark.slow
def test_resumes_exactly_and_exports_the_generator(make_trainer: Any, gan: type[Any]) -> None:
    """From the middle of an epoch the run ends in the same bits; the export draws images from noise alone."""
    words = short("--checkpoint.every_steps", "2", "--checkpoint.keep", "9", "--trainer.export_best", "false", steps=8)
    whole = make_trainer(gan, *words, output="whole")
    history = whole.fit().history
    paths = sorted((whole.output_dir / "checkpoint").iterdir())
    again = make_trainer(gan, *words, output="again", exports=False)
    again.restore(paths[1])
    assert 0 < again.state.step < 8
    assert again.fit().history == history
    first, second = whole.state.variables.read(), again.state.variables.read()
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    served = tf.saved_model.load(str(whole.output_dir / "export")).signatures["serving_default"]
    drawn = served(noise=tf.zeros((3, 16)))["drawn"]
    assert drawn.shape == (3, 8, 8, 1)
    assert set(served.structured_input_signature[1]) == {"noise"}


class Enough(Reporter):
    """Stops training when the drawings are close to the digits, compared with those of the first epoch."""

    def __init__(self) -> None:
        self.distances: list[float] = []

    def epoch_ended(self, report: EpochReport) -> None:
        self.distances.append(report.logs["val_drawn_moments"])

    def stop_reason(self) -> str:
        return "close enough" if self.distances and self.distances[-1] < 0.5 * self.distances[0] else ""


@pytest.mark.slow
def test_draws_digits(make_trainer: Any, gan: type[Any]) -> None:
    """The distribution of each pixel comes close to that of the digits."""
    enough = Enough()
    make_trainer(gan, "--trainer.epochs", "25", reporter=enough).fit()
    assert enough.stop_reason()
