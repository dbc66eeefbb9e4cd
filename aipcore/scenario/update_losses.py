"""Losses of a scenario's updates, computed by its own methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.layers.layer import CallContext
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from aipcore.data.class_weight import Table
from aipcore.errors import ScenarioError
from aipcore.scenario.losses import LossTerm, Objective, Tensors, mask_of, reduced
from aipcore.scenario.model import Graph
from aipcore.scenario.sample_random import Part, SampleRandom
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.updates import Update, takes_random

CALL_CONTEXT = "current_call_ctx"
"""Keras' global attribute with the context of the outermost layer call."""

UNTRACKED = ("Random", "StatefulRandom", "StatefulStandardNormal", "StatefulUniform", "StatefulTruncatedNormal")
"""Beginnings of the names of TensorFlow's random operations whose state is not part of a run."""

UNTRACKED_NAMES = ("TruncatedNormal", "ParameterizedTruncatedNormal", "Multinomial")

VALIDATION = -1
"""The number of earlier batches that validation uses in the key of its random numbers."""


class UpdateObjective(Objective):
    """The losses of a scenario's updates by name. Each is minimised alone.

    Args:
        scenario: the scenario that defines the updates.
        graph: the trained model.
        weights: the weights that each update trains, by its name.
        seed: the seed of random numbers.
        class_weights: a weight per class, of shape [classes] in float32.
    """

    separate = True

    def __init__(
        self,
        scenario: Scenario,
        graph: Graph,
        targets: list[str],
        weights: Mapping[str, Sequence[Any]],
        seed: int,
        *,
        class_weights: Table | None = None,
    ) -> None:
        super().__init__(scenario, graph.outputs, targets, class_weights=class_weights)
        self._graph = graph
        self._trained = weights
        self._seed = seed
        self._updates = {each.name: each for each in scenario.updates if isinstance(each, Update)}

    def __call__(
        self,
        inputs: Tensors,
        targets: Tensors,
        outputs: Tensors,
        weights: Tensors,
        samples: Any,
        part: Part | None = None,
    ) -> dict[str, LossTerm]:
        """Return the losses of a batch by name, in inference mode; see `Objective`."""
        del outputs
        return {
            name: self.term(name, inputs, targets, weights, samples, part, training=False) for name in self._updates
        }

    def term(
        self,
        name: str,
        inputs: Tensors,
        targets: Tensors,
        weights: Tensors,
        samples: Any,
        part: Part | None = None,
        *,
        batches: Any = VALIDATION,
        training: bool = True,
    ) -> LossTerm:
        """Return the loss of an update.

        Args:
            name: the name of the update.
            inputs: by name, tensors of shape [batch, ...].
            targets: likewise.
            weights: sample weights by name of an update, of shape [batch] or [batch, ...]; the name "" applies to all.
            samples: the batch size, a float32 scalar.
            part: the part of the batch, for random numbers; by default the whole batch.
            batches: the number of earlier batches, an int64 scalar.
            training: True for training mode.
        """
        update, model = self._updates[name], self._graph.model
        method = getattr(self._scenario, update.loss.__name__)
        called = f"{self._kind}.{update.loss.__name__}()"
        first = next(iter(inputs.values()))
        random: dict[str, Any] = {}
        if takes_random(method):
            number = list(self._updates).index(name)
            key = tf.random.experimental.stateless_fold_in(
                tf.constant([self._seed % 2**31, number]), tf.cast(batches, tf.int64)
            )
            random["random"] = SampleRandom(key, part or Part(tf.shape(first)[0]))
        with _layer_calls(model, called, training=training), _tracked_random(called):
            value = method(model, _in_form_of_data(inputs), _in_form_of_data(targets), **random)
        value = _checked(value, first, called)
        factor = weights.get(name, weights.get(""))
        term = reduced(tf.cast(value, tf.float32), factor, mask_of(value), "mean", samples)
        return attrs.evolve(term, penalty=self._penalty(name))

    def _penalty(self, name: str) -> Any:
        """Return the loss of the regularizers of the trained weights, and of `add_loss` in the calls of the loss."""
        own = [loss for layer in self._graph.model._flatten_layers() for loss in layer._get_own_losses()]
        own += [weight.regularizer(weight) for weight in self._trained[name] if weight.regularizer is not None]
        return tf.add_n([tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in own] or [tf.constant(0.0)])


def _in_form_of_data(side: Tensors) -> Any:
    return side[""] if "" in side else dict(side)


def _checked(value: Any, first: Any, called: str) -> Any:
    if not tf.is_tensor(value):
        raise ScenarioError(
            f"{called} returned {'None' if value is None else f'a {type(value).__name__}'}. Return a tensor with one "
            "value for each sample."
        )
    size, batch = value.shape[0] if value.shape.rank else None, first.shape[0]
    if None not in (size, batch) and size != batch:
        raise ScenarioError(
            f"{called} returned values of shape {tuple(value.shape)} for a batch of {batch} samples. Return one value "
            "for each sample: add the losses of several passes instead of joining them."
        )
    return value


class _NoSeeds:
    """A stand-in for Keras' global seed generator, whose state is not part of a run."""

    def __init__(self, called: str) -> None:
        self._called = called

    def next(self, ordered: bool = True) -> Any:
        """Refuse to draw a seed."""
        del ordered
        raise _untracked(self._called, "keras.random without a seed")


def _untracked(called: str, what: str) -> ScenarioError:
    return ScenarioError(
        f"{called} draws numbers with {what}, which a resumed run could not repeat. Add the argument random, and draw "
        "with random.normal(...) or random.uniform(...)."
    )


@contextmanager
def _layer_calls(model: Any, called: str, *, training: bool) -> Iterator[None]:
    """Set the mode of all layers that are called without `training`, and refuse random numbers without a seed."""
    context: Any = CallContext(entry_layer=None)
    context.set_value("training", training)
    given = {CALL_CONTEXT: context, GLOBAL_SEED_GENERATOR: _NoSeeds(called)}
    before = {name: global_state.get_global_attribute(name) for name in given}
    # Within a context, layers do not forget the values of `add_loss` from earlier calls.
    model._clear_losses()
    try:
        for name, value in given.items():
            global_state.set_global_attribute(name, value)
        yield
    finally:
        for name, value in before.items():
            global_state.set_global_attribute(name, value)


@contextmanager
def _tracked_random(called: str) -> Iterator[None]:
    """Refuse random operations of TensorFlow that are not a function of a key, while a graph is traced."""
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    yield
    for operation in graph.get_operations()[before:]:
        if operation.type.startswith(UNTRACKED) or operation.type in UNTRACKED_NAMES:
            raise _untracked(called, f"TensorFlow's {operation.type}")
