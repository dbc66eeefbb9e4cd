"""Computations of a callback with the model and data of a run, which leave the run bit-identical."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.dataset import Batch, Dataset
from aipcore.data.preprocessed import stream_of
from aipcore.data.sampler import Visits
from aipcore.scenario.model import block_signature
from aipcore.scenario.sample_random import Part
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.shown_samples import describe_answer
from aipcore.training.data import RunData
from aipcore.training.engine.train_step import TrainingLoop

Array = npt.NDArray[Any]


def spread_samples(dataset: Dataset, count: int) -> Batch:
    """Return at most `count` samples, evenly spaced over a dataset, always the same, padded to one size.

    Of a stream, they are the first samples.
    """
    if stream_of(dataset) is not None:
        dataset = dataset.known()
    indices = np.linspace(0, len(dataset) - 1, min(len(dataset), count)).round().astype(np.int64)
    return next(dataset.batches([Visits(indices=indices, epochs=np.zeros(len(indices), np.int64))]))


class RunProbe:
    """A probe that runs a run's model in inference mode, without randomness or changes of state.

    Use it between epochs, such as in `on_epoch_end`, and only on the chief (`RunContext.is_chief`).

    Args:
        scenario: the scenario of the run.
        loop: the training step, with the model and the EMA of its weights.
        data: the data of the run.
        eager: if True, compile nothing.
    """

    def __init__(self, scenario: Scenario, loop: TrainingLoop, data: RunData, *, eager: bool = False) -> None:
        self._scenario = scenario
        self._loop = loop
        self._train = data.train
        self._validation = data.val
        self._batch_size = data.batching.batch_size
        self._post = list(scenario.post_processors())
        self._batches: list[list[dict[str, Any]]] = []
        graph = loop.graph
        sides = [block_signature(side, axes=1) for side in data.train.specs()]
        self._outputs: Any = lambda given: graph(given, training=False)
        self._eager, self._sides = eager, sides
        self._norms: dict[tuple[bool, ...], Any] = {}
        if not eager:
            self._outputs = tf.function(self._outputs, autograph=False, input_signature=sides[:1])

    def validation_samples(self, count: int) -> Batch | None:
        """Return at most `count` validation samples, evenly spaced, always the same; None without validation data."""
        return None if self._validation is None else spread_samples(self._validation, count)

    def outputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's outputs, with the averaged weights if there are any.

        Args:
            inputs: arrays of shape [samples, ...] by name; the name of a single unnamed input is "".

        Returns:
            Arrays of shape [samples, ...] by output name.
        """
        size, average, parts = self._batch_size, self._loop.average, []
        with nullcontext() if average is None else average.applied():
            for first in range(0, len(next(iter(inputs.values()))), size):
                batch = {name: tf.constant(column[first : first + size]) for name, column in inputs.items()}
                parts.append({name: value.numpy() for name, value in self._outputs(batch).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def descriptions(self, rows: Batch, outputs: Mapping[str, Array]) -> list[tuple[str, str]]:
        """Return, for each sample, the target and the output after post-processing, as text.

        Args:
            rows: the samples.
            outputs: the model's outputs for them, arrays of shape [samples, ...] by name.
        """
        texts = []
        for row in range(len(next(iter(outputs.values())))):
            targets = {name: values[row] for name, values in rows.targets.items()}
            meta = None if rows.meta is None else rows.meta[row]
            answer = {name: values[row] for name, values in outputs.items()}
            texts.append(describe_answer(self._scenario, self._post, targets, answer, meta))
        return texts

    def gradient_norms(self, batches: int) -> list[float]:
        """Return the joint L2 norm of the gradients of all trained weights, before clipping, for each of some batches.

        The gradients are those of the mean loss with all penalties, in inference mode (no dropout; batch normalisation
        by its running statistics), at the raw weights. Of several updates, each has its own loss.

        Args:
            batches: number of batches; their samples are evenly spaced over the training data, always the same.
        """
        if not self._batches:
            size = self._batch_size
            rows = spread_samples(self._train, batches * size)
            count = len(next(iter(rows.targets.values() or rows.inputs.values())))
            # Neighbouring samples are often alike, so each batch takes samples from all of the data.
            every = max(1, round(count / size))
            for first in range(min(every, batches)):
                self._batches.append(
                    [
                        {name: tf.constant(column[first::every]) for name, column in side.items()}
                        for side in (rows.inputs, rows.targets, rows.weights)
                    ]
                )
        average = self._loop.average
        with nullcontext() if average is None else average.lifted():
            norm = self._norm()
            return [float(norm(*sides)) for sides in self._batches]

    def _norm(self) -> Any:
        """Return the function for the gradient norm of the weights that train now."""
        if self._eager:
            return self._gradient_norm
        trained = tuple(weight.trainable for weight in self._loop.graph.model.weights)
        if trained not in self._norms:
            self._norms[trained] = tf.function(self._gradient_norm, autograph=False, input_signature=self._sides)
        return self._norms[trained]

    def _gradient_norm(self, inputs: Mapping[str, Any], targets: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
        found = []
        count = tf.shape(next(iter(inputs.values())))[0]
        samples = tf.cast(count, tf.float32)
        for update in self._loop.trained:
            variables = [weight.value for weight in update.weights]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                running = self._loop.metrics.losses(0, update.name)
                _, _, sums = update.forward(running, inputs, targets, weights, samples, Part(count), training=False)
                objective = running.total(running.means(sums, running.scales(sums)))
                if update.loss_scale is not None:
                    objective = update.loss_scale.scaled(objective)
            gradients = tape.gradient(objective, variables, unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            if update.loss_scale is not None:
                gradients = update.loss_scale.unscaled(gradients)
            found += [tf.cast(gradient, tf.float32) for gradient in gradients]
        return tf.linalg.global_norm(found)
