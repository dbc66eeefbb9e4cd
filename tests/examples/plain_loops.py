"""The training loops of three examples in plain Keras, and their runs on the same weights and batches."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

STEPS = 20
RATE = 0.003
BATCH = 20
EPSILON = 1e-4
"""With Keras' default, Adam turns rounding errors of vanishing gradients into whole steps."""

WORDS = (
    "--trainer.epochs", str(STEPS), "--train.batch_size", str(BATCH), "--trainer.samples_per_epoch", str(BATCH),
    "--trainer.val_every_n", "99", "--data.workers", "0", "--trainer.tune", "off", "--learning_rate", "Constant",
    "--learning_rate.lr", str(RATE), "--optimizer.epsilon", str(EPSILON),
)  # fmt: skip
"""Each epoch is one step, so that the history has the loss of each step."""

TWO_DEVICES = ("--device.strategy", "mirror")


@attrs.frozen
class Loop:
    """An example and its plain loop.

    Attributes:
        module: the module of the scenario.
        scenario: its class.
        loss: returns the loss of a batch from the inputs, the targets, the outputs, and the parts of the batch that are
            on one device.
        words: options in addition to `WORDS`.
        phase: the step at which the rate of all layers but the head changes from 0 to a tenth, or None.
    """

    module: str
    scenario: str
    loss: Callable[[Any, Any, Any, int], Any]
    words: tuple[str, ...] = ()
    phase: int | None = None

    @property
    def cls(self) -> type[Any]:
        """The scenario's class."""
        module: Any = __import__(self.module)
        found: type[Any] = getattr(module, self.scenario)
        return found


def autoencoder_loss(inputs: Any, targets: Any, outputs: Any, parts: int) -> Any:
    """Return the loss as in Keras' own example of a variational autoencoder."""
    pixels = keras.losses.binary_crossentropy(targets[..., None], outputs["image"][..., None], from_logits=True)
    mean, log_variance = outputs["mean"], outputs["log_variance"]
    divergence = -0.5 * (1 + log_variance - tf.square(mean) - tf.exp(log_variance))
    return tf.reduce_mean(tf.reduce_sum(pixels, axis=(1, 2))) + tf.reduce_mean(tf.reduce_sum(divergence, axis=1))


def contrastive_loss(inputs: Any, targets: Any, outputs: Any, parts: int) -> Any:
    """Return equation 1 of the paper as fractions of exponentials, and the loss of the probe."""
    probe = keras.losses.sparse_categorical_crossentropy(targets, outputs["probe"], from_logits=True)
    losses = []
    for first, second in zip(*(tf.split(outputs[name], parts) for name in ("first", "second")), strict=True):
        views = tf.concat([first, second], axis=0)
        similar = tf.exp(tf.matmul(views, views, transpose_b=True) / 0.2)
        others = tf.reduce_sum(similar, axis=1) - tf.linalg.diag_part(similar)
        same = tf.exp(tf.reduce_sum(first * second, axis=1) / 0.2)
        losses.append(tf.reduce_mean(-tf.math.log(tf.concat([same, same], axis=0) / others)))
    return tf.add_n(losses) / parts + tf.reduce_mean(probe)


def classification_loss(inputs: Any, targets: Any, outputs: Any, parts: int) -> Any:
    """Return the mean crossentropy."""
    return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True))


LOOPS = {
    "finetune": Loop("finetune", "FineTuning", classification_loss, phase=10),
    "vae": Loop("vae", "Autoencoder", autoencoder_loss),
    "contrastive": Loop("contrastive", "Views", contrastive_loss),
}


def batches(trainer: Any) -> list[tuple[Any, Any]]:
    """Return the inputs and targets of each step of a run."""
    found = []
    for epoch in range(STEPS):
        (block,) = trainer.data.loader.blocks(epoch, chunk=1)
        inputs = {name: tf.constant(column[0]) for name, column in block.inputs.items()}
        found.append((inputs.get("", inputs), tf.constant(block.targets[""][0])))
    return found


def plain(loop: Loop, trainer: Any, *, parts: int = 1) -> tuple[list[float], list[Any]]:
    """Return the losses of each step and the final weights of the plain loop, from the weights of a trainer on."""
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    backbone = [] if loop.phase is None else model.get_layer("backbone").layers
    for layer in backbone:
        layer.trainable = False
    head, rest = (keras.optimizers.Adam(rate, epsilon=EPSILON) for rate in (RATE, RATE / 10))

    def step(inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loop.loss(inputs, targets, model(inputs, training=True), parts)
        weights = model.trainable_variables
        gradients = tape.gradient(loss, weights)
        inner = {id(weight) for layer in backbone for weight in layer.weights}
        for optimizer, chosen in ((rest, True), (head, False)):
            pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if (id(w) in inner) == chosen]
            if pairs:
                optimizer.apply_gradients(pairs)
        return loss

    losses = []
    run = tf.function(step, autograph=False)
    for number, (inputs, targets) in enumerate(batches(trainer)):
        if loop.phase is not None and number == loop.phase:
            for layer in backbone:
                layer.trainable = "norm" not in layer.name
            inner = [weight for layer in backbone for weight in layer.trainable_weights]
            rest.build(inner)
            # Of one optimizer, Adam's correction counts all updates.
            rest.iterations.assign(loop.phase)
            run = tf.function(step, autograph=False)
        losses.append(float(run(inputs, targets)))
    return losses, model.get_weights()


def distance(loop: Loop, trainer: Any, *, parts: int = 1) -> tuple[float, float]:
    """Train, and return the largest differences from the plain loop: of a loss, relative, and of a weight, absolute."""
    losses, weights = plain(loop, trainer, parts=parts)
    ours = [logs["loss"] for logs in trainer.fit().history]
    assert len(ours) == len(losses) == STEPS
    of_weights = (np.abs(a - b).max() for a, b in zip(trainer.model.get_weights(), weights, strict=True))
    return float(np.max(np.abs(np.divide(ours, losses) - 1))), float(functools.reduce(max, of_weights))
