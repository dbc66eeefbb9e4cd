"""Factors on the learning rate by path, and the phases of a run that they define.

A rule is `PATTERN=FACTOR` or `PATTERN@START=FACTOR`. The pattern is a regular expression for whole paths of layers and
weights. START is an epoch (`3`) or an optimizer update (`500u`), both counted from 1, and 1 by default. Of the rules
that match a weight and have started, the last one applies. Factor 0 freezes: a layer whose weights all have factor 0 is
not trainable, so batch normalisation in it runs in inference mode.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import ParamsError
from aipcore.scenario.paths import layers_by_path, matching

OPTION = "--trainer.rates"

_RULE = re.compile(r"(?P<pattern>.+?)(?:@(?P<start>\d+)(?P<unit>u?))?=(?P<factor>[^=]+)", re.DOTALL)


@attrs.frozen(kw_only=True)
class Rule:
    """A factor on the learning rate of all weights that match a pattern, from a time on.

    Attributes:
        pattern: the regular expression.
        factor: the factor, at least 0.
        start: the first epoch or update, counted from 1.
        unit: the unit of `start`, "epoch" or "update".
        text: the rule as the user wrote it.
    """

    pattern: str
    factor: float
    start: int
    unit: str
    text: str

    @property
    def effect(self) -> str:
        """The pattern and the factor, without the start."""
        return f"{self.pattern}={self.factor:g}"

    def position(self, updates_per_epoch: int, accumulate_steps: int) -> tuple[int, int]:
        """Return the completed epochs, and the completed batches of the next one, at which the rule starts."""
        if self.unit == "epoch":
            return self.start - 1, 0
        epoch, update = divmod(self.start - 1, updates_per_epoch)
        return epoch, update * accumulate_steps


def parse_rule(text: str) -> Rule:
    """Return the rule of a text.

    Raises:
        ValueError: the text is not a rule.
    """
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    re.compile(found["pattern"])
    factor, start = float(found["factor"]), int(found["start"] or 1)
    if not (math.isfinite(factor) and factor >= 0 and start >= 1):
        raise ValueError(text)
    unit = "update" if found["unit"] else "epoch"
    return Rule(pattern=found["pattern"], factor=factor, start=start, unit=unit, text=text)


def is_rule(text: str) -> bool:
    """Return True if a text is a rule."""
    try:
        parse_rule(text)
    except (ValueError, re.error):
        return False
    return True


@attrs.frozen(kw_only=True, eq=False)
class Phase:
    """A part of a run with constant factors.

    Attributes:
        start: the completed epochs, and the completed batches of the next one, at which the phase begins.
        label: its first epoch or update, such as "epoch 3".
        layers: True for each trainable layer, in the order of `layers_by_path`.
        weights: True for each trainable weight, in the order of `model.weights`.
        factors: the factor of each weight, likewise; 0 for a weight that does not train.
        effects: the rules that apply to any weight, without their starts.
    """

    start: tuple[int, int]
    label: str
    layers: tuple[bool, ...]
    weights: tuple[bool, ...]
    factors: tuple[float, ...]
    effects: tuple[str, ...]

    @property
    def trains(self) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """The trainable layers and weights. Phases with the same ones share their compiled steps."""
        return self.layers, self.weights


def find_phases(
    model: Any,
    texts: Sequence[str],
    *,
    updates_per_epoch: int,
    accumulate_steps: int,
    updated: Collection[Any] | None = None,
) -> list[Phase]:
    """Return the phases of a run in order; none without rules.

    Args:
        model: a built Keras model. What it does not train now is not trained in any phase.
        texts: the rules.
        updates_per_epoch: optimizer updates in an epoch.
        accumulate_steps: batches per optimizer update.
        updated: the weights that the scenario's updates train; None for all.

    Raises:
        ParamsError: a rule matches nothing that trains, or has no effect, or nothing is left to train in a phase.
    """
    if not texts:
        return []
    rules = [parse_rule(text) for text in texts]
    targets = _Targets(model, updated)
    reached = [targets.reached(rule) for rule in rules]
    starts = {(0, 0): "epoch 1"}
    positions = [rule.position(updates_per_epoch, accumulate_steps) for rule in rules]
    for rule, position in zip(rules, positions, strict=True):
        starts.setdefault(position, f"{rule.unit} {rule.start:,}")
    effective: set[int] = set()
    phases = []
    for start in sorted(starts):
        applied: dict[int, int] = {}
        for number, found in enumerate(reached):
            if positions[number] <= start:
                applied |= dict.fromkeys(found, number)
        phases.append(targets.phase(start, starts[start], applied, rules))
        effective |= set(applied.values())
        if not targets.learn(phases[-1]):
            since = "" if start == (0, 0) else f" from {starts[start]} on"
            raise ParamsError(f"{OPTION} freezes every layer{since}. Nothing is left to train.")
    for number, rule in enumerate(rules):
        if number not in effective:
            raise ParamsError(
                f"{OPTION} {rule.text!r} has no effect, because later rules apply to everything that it matches. The "
                "last rule that matches applies. Change the order of the rules, or leave this one out."
            )
    return phases


class _Targets:
    """The layers and weights of a model to which rules apply. They are identified by `id`."""

    def __init__(self, model: Any, updated: Collection[Any] | None) -> None:
        self._layers = layers_by_path(model)
        self._updated = None if updated is None else {id(each) for each in updated}
        self._weights = list(model.weights)
        self._trained = {id(weight) for weight in model.trainable_weights}
        self._own = {id(layer): _own_weights(layer) for _, layer in self._layers}
        # Such a layer changes in training although nothing in it is learned, such as BatchNormalization(center=False,
        # scale=False).
        self._statistics = {
            id(layer)
            for _, layer in self._layers
            if layer.trainable and (own := self._own[id(layer)]) and not any(id(each) in self._trained for each in own)
        }

    def reached(self, rule: Rule) -> set[int]:
        """Return the trained weights and the layers of statistics that a rule matches.

        Raises:
            ParamsError: there are none.
        """
        layers = {path: layer for path, layer in self._layers if layer.weights}
        paths = [*layers, *(weight.path for weight in self._weights)]
        found = set(matching(rule.pattern, paths, OPTION, "layer or weight", whole=True))
        inside = {id(each) for path in found & layers.keys() for each in layers[path]._flatten_layers()}
        reached = {id(weight) for weight in self._weights if weight.path in found}
        reached |= {id(weight) for layer in inside for weight in self._own.get(layer, ())}
        reached = (reached & self._trained) | (inside & self._statistics)
        if not reached:
            raise ParamsError(
                f"{OPTION} {rule.text!r} matches only weights that do not train. The model or --trainer.no_train_scope "
                "freezes them in the whole run. Leave one of the two out."
            )
        if self._updated is not None and not reached & (self._updated | self._statistics):
            raise ParamsError(f"{OPTION} {rule.text!r} matches only weights that no update trains. Leave it out.")
        return reached

    def learn(self, phase: Phase) -> bool:
        """Return True if any weight learns in a phase."""
        pairs = zip(self._weights, phase.weights, strict=True)
        return any(trains and (self._updated is None or id(each) in self._updated) for each, trains in pairs)

    def phase(self, start: tuple[int, int], label: str, applied: Mapping[int, int], rules: Sequence[Rule]) -> Phase:
        """Return the phase in which these rules, by their indices, apply to weights and layers."""
        factors = {key: rules[number].factor for key, number in applied.items()}
        frozen: dict[int, bool] = {}
        for _, layer in self._layers:
            own = [id(weight) for weight in self._own[id(layer)]]
            trained = [key for key in own if key in self._trained]
            if trained or id(layer) in self._statistics:
                frozen[id(layer)] = all(factors.get(key, 1) == 0 for key in trained or [id(layer)])
            elif own:
                frozen[id(layer)] = True
        return Phase(
            start=start,
            label=label,
            layers=tuple(layer.trainable and not _all_frozen(layer, frozen) for _, layer in self._layers),
            weights=tuple(id(each) in self._trained and factors.get(id(each), 1) > 0 for each in self._weights),
            factors=tuple(factors.get(id(each), 1.0) if id(each) in self._trained else 0.0 for each in self._weights),
            effects=tuple(rules[number].effect for number in sorted(set(applied.values()))),
        )


def _own_weights(layer: Any) -> list[Any]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _all_frozen(layer: Any, frozen: Mapping[int, bool]) -> bool:
    """Return True if a layer has weights and is frozen, or if all layers with weights inside it are frozen."""
    if id(layer) in frozen:
        return frozen[id(layer)]
    inside = [frozen[id(each)] for each in layer._flatten_layers() if id(each) in frozen]
    return bool(inside) and all(inside)
