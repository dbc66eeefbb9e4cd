"""The variables of this model, with their names in every naming scheme of a source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

import attrs
import keras

from aipcore.scenario.paths import variables_by_path
from aipcore.training.warmstart.keras_files import LAYERS, snake_case
from aipcore.training.warmstart.matching import Target, Unit
from aipcore.training.warmstart.weights import Naming

SEEDS = "seed_generator_state"
"""The last part of the path of a random generator's state, which is never loaded from another run."""


@attrs.frozen(kw_only=True, eq=False)
class _Step:
    """One layer on the way from the model to a variable.

    Attributes:
        layer: the layer.
        attribute: the attribute of the parent layer that holds it; None for a layer of a model.
        container: the attribute with the list that holds it; empty for a layer of a model.
        order: its class and position in that list.
    """

    layer: Any
    attribute: str | None
    container: str = ""
    order: str = ""

    @property
    def auto(self) -> str | None:
        """The class part of the name, if Keras chose the name."""
        base = snake_case(type(self.layer).__name__)
        return base if re.fullmatch(rf"{re.escape(base)}(_\d+)?", self.layer.name) else None

    @property
    def movable(self) -> bool:
        """True for a layer of a model, False for a part of another layer, which moves with that layer."""
        return self.attribute is None and not self.container

    def parts(self, naming: Naming) -> list[tuple[str, str | None]]:
        """Return the parts of a name for this layer, each with its class part if it is numbered."""
        if self.attribute is not None:
            return [(self.layer.name, self.auto) if naming is Naming.LAYERS else (self.attribute, None)]
        before: list[tuple[str, str | None]] = [(self.container, None)] if self.container else []
        if naming is Naming.ORDER or (naming is Naming.ATTRIBUTES and self.container):
            return [*before, (self.order, snake_case(type(self.layer).__name__))]
        return [*before, (self.layer.name, self.auto)]


def model_targets(model: Any, naming: Naming) -> tuple[list[Target], list[Any]]:
    """Return the variables to load, and the Keras variables themselves in the same order.

    Args:
        model: a built Keras model.
        naming: the naming scheme of the source.
    """
    places: dict[int, tuple[list[_Step], int]] = {}
    for steps, layer in _walk(model, [], set()):
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        for number, variable in enumerate(own):
            places.setdefault(id(variable), (steps, number))
    targets, variables = [], []
    for path, variable in variables_by_path(model).items():
        if path.rpartition("/")[2].startswith(SEEDS):
            continue
        steps, number = places.get(id(variable), ([], 0))
        layers = "/".join([part for step in steps for part, _ in step.parts(Naming.LAYERS)])
        name, units = _by_path(path, steps) if naming is Naming.PATHS else _by_layers(path, steps, number, naming)
        targets.append(
            Target(
                path=path,
                name=name,
                own_name=path if naming is Naming.PATHS or not steps else f"{layers}/vars/{number}",
                shape=tuple(variable.shape),
                units=units,
            )
        )
        variables.append(variable)
    return targets, variables


def under_tensorflow_names(
    targets: Sequence[Target], variables: Sequence[Any], source: Collection[str]
) -> list[Target]:
    """Return the targets, with TensorFlow's names for those whose paths the SavedModel does not have.

    TensorFlow's names omit layers: `encoder/d1/kernel` is `d1/kernel` if the encoder is a functional model. Such a name
    is used if exactly one variable of this model has it. A name numbered by Keras (`dense_1`) is used only if all names
    of its kind omit the same layers, since the number depends on the order of construction.

    Args:
        targets: the targets, after rules.
        variables: their variables.
        source: the names in the SavedModel, after rules.
    """
    names = [variable.value.name.removesuffix(":0") for variable in variables]
    units = [_units_of(name, each) for name, each in zip(names, targets, strict=True)]
    count = Counter([*names, *(each.name for each in targets if each.name not in names)])
    lacking: dict[Unit, set[str]] = {}
    for name, each, own in zip(names, targets, units, strict=True):
        lacking.setdefault(_kind(own[-1]), set()).add(each.path.removesuffix(name))
    return [
        attrs.evolve(each, name=name, own_name=name, units=own)
        if each.name == each.path
        and each.name not in source
        and count[name] == 1
        and (_kind(own[-1]) == own[-1] or len(lacking[_kind(own[-1])]) == 1)
        else each
        for each, name, own in zip(targets, names, units, strict=True)
    ]


def _units_of(name: str, target: Target) -> tuple[Unit, ...]:
    """Return the units of a target under a name that omits some of its layers."""
    numbered = dict(target.units[-1]) if target.units else {}
    layer = target.units[0][-1][0] if target.units and target.units[0] else None
    parts = name.split("/")[:-1]
    ends = [at + 1 for at, part in enumerate(parts) if part == layer]
    return _units(tuple((part, numbered.get(part)) for part in parts), ends[-1] if ends else len(parts))


def _kind(unit: Unit) -> Unit:
    """Return a key shared by layers that differ only in their numbers."""
    return tuple(("" if base else part, base) for part, base in unit)


def _by_path(path: str, steps: list[_Step]) -> tuple[str, tuple[Unit, ...]]:
    parts = path.split("/")[:-1]
    autos = {step.layer.name: step.auto for step in steps}
    whole: Unit = tuple((part, autos.get(part)) for part in parts)
    movable = [step.layer.name for step in steps if step.movable]
    # A file may store a shared layer in a layer other than the one in its path.
    ends = [at + 1 for at in range(len(parts)) if movable and parts[at] == movable[-1]]
    return path, _units(whole, ends[-1] if ends else len(parts))


def _by_layers(path: str, steps: list[_Step], number: int, naming: Naming) -> tuple[str, tuple[Unit, ...]]:
    if not steps:
        return path, ()
    parts: list[tuple[str, str | None]] = []
    end = 0
    for step in steps:
        parts += step.parts(naming)
        if step.movable:
            end = len(parts)
    return "/".join([*(part for part, _ in parts), "vars", str(number)]), _units(tuple(parts), end)


def _units(whole: Unit, end: int) -> tuple[Unit, ...]:
    return (whole[:end],) if end == len(whole) else (whole[:end], whole)


@cache
def _of_any_layer() -> frozenset[str]:
    # An instance has more attributes than the class. These hold layers a second time.
    return frozenset([*dir(keras.Layer(name="layer")), "operations", "_operations", "_functional"])


def _walk(layer: Any, steps: list[_Step], seen: set[int]) -> Iterator[tuple[list[_Step], Any]]:
    """Yield all layers, each once, in the order in which Keras saves them."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield steps, layer
    if layer._obj_type() in ("Sequential", "Functional"):
        yield from _walk_list(layer.layers, "", steps, seen)
    known = _of_any_layer()
    for name in sorted(dir(layer), key=lambda name: (name.startswith("_"), name)):
        if name in known or name.startswith(("__", "_self_")):
            continue
        try:
            value = getattr(layer, name)
        except Exception:
            continue
        if isinstance(value, keras.Layer):
            yield from _walk(value, [*steps, _Step(layer=value, attribute=name)], seen)
        elif isinstance(value, list | tuple | dict):
            children = list(value.values() if isinstance(value, dict) else value)
            yield from _walk_list(children, "" if name == LAYERS else name, steps, seen)


def _walk_list(children: Any, container: str, steps: list[_Step], seen: set[int]) -> Iterator[tuple[list[_Step], Any]]:
    counts: dict[str, int] = {}
    for child in children:
        if not isinstance(child, keras.Layer):
            continue
        base = snake_case(type(child).__name__)
        number = counts[base] = counts.get(base, -1) + 1
        order = f"{base}_{number}" if number else base
        step = _Step(layer=child, attribute=None, container=container, order=order)
        yield from _walk(child, [*steps, step], seen)
