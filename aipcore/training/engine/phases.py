"""The phases of a run in the engine: trainable layers, factors on the learning rate, and the steps of each phase."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import tensorflow as tf

from aipcore.params.names import count
from aipcore.scenario.paths import layers_by_path
from aipcore.training.engine.evaluate import Evaluation
from aipcore.training.engine.learning_rate import Horizon
from aipcore.training.engine.rates import Phase, find_phases
from aipcore.training.engine.train_step import TrainingLoop


class RatePhases:
    """The phases of a run, of which `enter` begins the one at a position. Without rules, there are none.

    A phase is a function of the position in the run, so it is not part of the run's state.

    Args:
        model: the built model, with all weights trainable that may ever train. Weights that have factor 0 in all phases
            become non-trainable.
        rules: the rules for the factors.
        horizon: the length of the run.
        accumulate_steps: batches per optimizer update.
        updated: the weights that the scenario's updates train; None for all.

    Attributes:
        all: the phases in order.
        trained: the weights that train in any phase.

    Raises:
        ParamsError: see `find_phases`.
    """

    def __init__(
        self,
        model: Any,
        rules: Sequence[str],
        horizon: Horizon,
        accumulate_steps: int,
        updated: Collection[Any] | None = None,
    ) -> None:
        self.all = find_phases(
            model,
            rules,
            updates_per_epoch=horizon.updates_per_epoch,
            accumulate_steps=accumulate_steps,
            updated=updated,
        )
        self._updated = {id(each) for each in (model.weights if updated is None else updated)}
        self._epochs = horizon.epochs
        self._starts = [phase.start for phase in self.all]
        self._current: Phase | None = None
        self._layers = [layer for _, layer in layers_by_path(model)]
        self._weights = list(model.weights)
        self._loop: TrainingLoop | None = None
        self._evaluations: list[Evaluation] = []
        self._scales: dict[tuple[float, ...], Any] = {}
        if self.all:
            self._set_trainable(
                [any(flags) for flags in zip(*(phase.layers for phase in self.all), strict=True)],
                [any(flags) for flags in zip(*(phase.weights for phase in self.all), strict=True)],
            )
        self.trained = list(model.trainable_variables)

    def connect(self, optimizers: Iterable[Any], loop: TrainingLoop, evaluations: Iterable[Evaluation]) -> None:
        """Connect the phases to built optimizers, whose rates they scale, and to the steps, which they switch."""
        if not self.all:
            return
        self._loop = loop
        # Only the losses of regularizers depend on the trainable weights in an evaluation.
        if any(getattr(weight, "regularizer", None) is not None for weight in self.trained):
            self._evaluations = list(evaluations)
        factors = zip(*(phase.factors for phase in self.all), strict=True)
        by_weight = {id(weight): each for weight, each in zip(self._weights, factors, strict=True)}
        # Without another factor than 0 and 1, a step needs no multiplication.
        changing = {each for each in by_weight.values() if not set(each) <= {0.0, 1.0}}
        self._scales = {each: tf.Variable(1.0, trainable=False, name="rate_factor") for each in sorted(changing)}
        for optimizer in optimizers:
            scales = [self._scales.get(by_weight[id(weight)]) for weight in optimizer._trainable_variables]
            if any(scale is not None for scale in scales):
                scale_rates(optimizer, scales)

    def enter(self, epoch: int, step: int) -> Phase | None:
        """Begin the phase at a position, and return it if it is another one than before.

        Args:
            epoch: completed epochs.
            step: completed batches of the next epoch.
        """
        if not self.all:
            return None
        index = bisect_right(self._starts, (epoch, step)) - 1
        phase, before = self.all[index], self._current
        if phase is before:
            return None
        assert self._loop is not None
        self._current = phase
        for factors, scale in self._scales.items():
            scale.assign(factors[index])
        if before is None or phase.trains != before.trains:
            self._set_trainable(phase.layers, phase.weights)
            self._loop.switch(phase.trains)
            for evaluation in self._evaluations:
                evaluation.compile()
        return phase

    def enter_longest(self, position: tuple[int, int], steps: int) -> None:
        """Begin the phase with the most batches after a position, which determines the best compilation.

        Args:
            position: completed epochs, and completed batches of the next one.
            steps: batches in an epoch.
        """
        if not self.all:
            return
        end = self._epochs * steps
        edges = [*(min(end, epoch * steps + step) for epoch, step in self._starts), end]
        done = min(end, position[0] * steps + position[1])
        lengths = [max(0, after - max(start, done)) for start, after in pairwise(edges)]
        self.enter(*self._starts[lengths.index(max(lengths))])

    def ends(self, epoch: int) -> list[int]:
        """Return the batches of an epoch after which another phase begins."""
        return [step for start, step in self._starts if start == epoch]

    def describe(self) -> list[tuple[str, str]]:
        """Return one row of the plan for each phase: its number, and its start, trained weights and factors."""
        sizes = [int(each.shape.num_elements()) * (id(each) in self._updated) for each in self._weights]
        trained = [sum(n for n, trains in zip(sizes, phase.weights, strict=True) if trains) for phase in self.all]
        counts = [f"{count(number, 'weight')} train{'s' if number == 1 else ''}" for number in trained]
        late = [" (after the last epoch)" if phase.start[0] >= self._epochs else "" for phase in self.all]
        starts = [f"from {phase.label}{note}" for phase, note in zip(self.all, late, strict=True)]
        wide, broad = (max(map(len, texts), default=0) for texts in (starts, counts))
        return [
            (f"phase {number}", f"{start:<{wide}}  {trains:>{broad}}  {' '.join(phase.effects)}".rstrip())
            for number, (phase, start, trains) in enumerate(zip(self.all, starts, counts, strict=True), start=1)
        ]

    def _set_trainable(self, layers: Sequence[bool], weights: Sequence[bool]) -> None:
        # A layer also sets the layers inside it and its weights, which follow.
        for layer, trainable in zip(self._layers, layers, strict=True):
            layer.trainable = trainable
        for weight, trainable in zip(self._weights, weights, strict=True):
            weight.trainable = trainable


def scale_rates(optimizer: Any, scales: Sequence[Any]) -> None:
    """Make a Keras optimizer multiply the learning rate of each weight, in its update and in its decay.

    Args:
        optimizer: the built optimizer.
        scales: a scalar variable for each of its weights, or None for no multiplication.
    """
    update, decay = optimizer.update_step, optimizer._apply_weight_decay
    rate = optimizer._get_current_learning_rate
    applied: list[Any] = [None]

    def update_step(gradient: Any, variable: Any, learning_rate: Any, *more: Any, **named: Any) -> Any:
        scale = scales[optimizer._get_variable_index(variable)]
        return update(gradient, variable, learning_rate if scale is None else learning_rate * scale, *more, **named)

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        groups: dict[int, tuple[Any, list[Any]]] = {}
        for variable in variables:
            scale = scales[optimizer._get_variable_index(variable)]
            groups.setdefault(id(scale), (scale, []))[1].append(variable)
        for scale, group in groups.values():
            applied[0] = scale
            decay(group)
        applied[0] = None

    def current_rate() -> Any:
        return rate() if applied[0] is None else rate() * applied[0]

    optimizer.update_step = update_step
    optimizer._apply_weight_decay = apply_weight_decay
    optimizer._get_current_learning_rate = current_rate
