"""The forward pass of an optimizer update: the sums and denominators of its losses for a batch."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from aipcore.scenario.losses import Objective, Tensors
from aipcore.scenario.metrics import LossMean, LossSums
from aipcore.scenario.model import Graph
from aipcore.scenario.sample_random import Part
from aipcore.scenario.update_losses import UpdateObjective


class Forward(Protocol):
    """A forward pass."""

    def __call__(
        self,
        running: LossMean,
        inputs: Tensors,
        targets: Tensors,
        weights: Tensors,
        samples: Any,
        part: Part,
        *,
        training: bool = True,
    ) -> tuple[Tensors | None, Tensors, LossSums]:
        """Return the model's outputs, the weights of the samples, and the sums and denominators of the losses.

        Args:
            running: the running losses.
            inputs: by name, tensors of shape [batch, ...].
            targets: likewise.
            weights: likewise, sample weights.
            samples: the batch size, a float32 scalar.
            part: the part of the batch.
            training: True for training mode.
        """

    @property
    def batches(self) -> Any:
        """The variable that counts batches, for random numbers; None if there are none."""


class ModelForward:
    """The forward pass of the whole model, with all losses of the scenario.

    Args:
        graph: the model.
        objective: the losses.
        input_gradient_penalty: the factor of the penalty of input gradients.
    """

    batches = None

    def __init__(self, graph: Graph, objective: Objective, input_gradient_penalty: float = 0.0) -> None:
        self._graph = graph
        self._objective = objective
        self._input_gradient_penalty = input_gradient_penalty

    def __call__(
        self,
        running: LossMean,
        inputs: Tensors,
        targets: Tensors,
        weights: Tensors,
        samples: Any,
        part: Part,
        *,
        training: bool = True,
    ) -> tuple[Tensors | None, Tensors, LossSums]:
        """See `Forward`."""
        del part
        weights = self._objective.sample_weights(targets, weights)

        def run() -> tuple[Tensors, Any]:
            outputs = self._graph(inputs, training=training)
            terms = self._objective(inputs, targets, outputs, weights, samples)
            return outputs, running.sums(terms, self._graph.penalty(), samples)

        if not self._input_gradient_penalty:
            outputs, sums = run()
            return outputs, weights, sums
        watched = [value for value in inputs.values() if value.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs, sums = run()
            # The gradient of each sample's own loss: the mean divides by the number of samples.
            loss = samples * running.total(running.means(sums, running.scales(sums)))
        gradients = tape.gradient(loss, watched, unconnected_gradients="zero")
        squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32))) for gradient in gradients])
        sums.sums[-1] += self._input_gradient_penalty * squares
        return outputs, weights, sums


class UpdateForward:
    """The forward pass of one of several updates: the scenario's own loss, which calls parts of the model.

    Args:
        objective: the losses of all updates.
        name: the name of the update.
    """

    def __init__(self, objective: UpdateObjective, name: str) -> None:
        self._objective = objective
        self._name = name
        self.batches = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"batches/{name}")

    def __call__(
        self,
        running: LossMean,
        inputs: Tensors,
        targets: Tensors,
        weights: Tensors,
        samples: Any,
        part: Part,
        *,
        training: bool = True,
    ) -> tuple[Tensors | None, Tensors, LossSums]:
        """See `Forward`."""
        weights = self._objective.sample_weights(targets, weights)
        term = self._objective.term(
            self._name, inputs, targets, weights, samples, part, batches=self.batches, training=training
        )
        return None, weights, running.sums({self._name: term}, None, samples)
