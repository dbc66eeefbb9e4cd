"""Full paths of layers and variables: the names of all enclosing layers, joined by `/`.

`encoder_a/d1/kernel` is the kernel of the layer `d1` in the nested model `encoder_a`. The model itself is not part of a
path. Keras' own `variable.path` lacks the layers around a functional model: two nested models with a layer `d1` both
have a `d1/kernel`. `name_variables` and `name_optimizer_variables` make `variable.path` the full path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from aipcore.errors import ParamsError, ScenarioError
from aipcore.params.names import nearest

_NOT_IN_NAMES = re.compile(r"[\\^$.*+?()\[\]{}|]+")


def layers_by_path(model: Any) -> list[tuple[str, Any]]:
    """Return all layers below a model with their full paths, each followed by its own layers.

    A layer held by several layers appears once: at its shortest path and, among several, at the first in alphabetical
    order. A path therefore does not depend on the order in which the layers were built.
    """
    return [("/".join(place.names), place.layer) for place in _places(model) if place.names]


def variables_by_path(model: Any) -> dict[str, Any]:
    """Return all variables of a model by their full paths, in the order of `model.variables`.

    A variable held by several layers belongs to the layer that made it.

    Raises:
        ScenarioError: two variables have the same path.
    """
    root, *_ = places = _places(model)
    held = [(place, *own) for place in places for own in _own_variables(place.layer)]
    owners: dict[int, tuple[_Place, str]] = {}
    for place, variable, name in sorted(held, key=lambda each: (not each[0].made(each[1]), each[0].rank)):
        owners.setdefault(id(variable), (place, name))
    found: dict[str, Any] = {}
    for variable in model.variables:
        # A layer may list variables that it does not hold the usual way.
        place, name = owners.setdefault(id(variable), (root, variable.path))
        path = "/".join([*place.names, name])
        if path in found:
            raise ScenarioError(_ambiguity(path, owners[id(found[path])][0], place))
        found[path] = variable
    return found


def name_variables(model: Any) -> None:
    """Set the `path` of each variable of a model to its full path.

    Raises:
        ScenarioError: two variables have the same path.
    """
    for path, variable in variables_by_path(model).items():
        variable._path = path


def name_optimizer_variables(optimizer: Any) -> None:
    """Set the paths of the variables of a built Keras optimizer to those of their weights, below the optimizer's name.

    Optimizers keep them in lists in the order of the weights: the first of `adam._momentums` gets the path
    `adam/encoder_a/d1/kernel/momentums`. Other variables keep their paths.
    """
    weights = optimizer._trainable_variables
    left = {id(variable) for variable in optimizer.variables}
    for attribute, values in sorted(vars(optimizer).items()):
        if attribute == "_variables" or not isinstance(values, list | tuple) or len(values) != len(weights):
            continue
        for weight, variable in zip(weights, values, strict=True):
            if id(variable) in left:
                left.remove(id(variable))
                variable._path = f"{optimizer.name}/{weight.path}/{attribute.strip('_')}"


def matching(pattern: str, paths: Sequence[str], option: str, what: str, *, whole: bool) -> list[str]:
    """Return the paths that a regular expression matches.

    Args:
        pattern: the expression.
        paths: the paths of all candidate layers or variables.
        option: the option with the expression, such as `--warmstart.include`.
        what: the noun for a path's owner, in the singular.
        whole: True if the expression must match the whole path.

    Raises:
        ParamsError: the expression matches no path.
    """
    expression = re.compile(pattern)
    found = [path for path in paths if (expression.fullmatch if whole else expression.search)(path)]
    if not found:
        rule = " The whole path must match." if whole else ""
        raise ParamsError(f"{option} {pattern!r} matches no {what}.{rule} {nearest_of(pattern, paths, what)}")
    return found


def nearest_of(pattern: str, paths: Sequence[str], what: str, *, most: int = 6) -> str:
    """Return a sentence with the paths nearest to an expression, or the first paths."""
    wanted = _NOT_IN_NAMES.sub("", pattern).strip("/")
    near: dict[str, None] = {}
    pieces: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        parts = path.split("/")
        for piece in {*parts, *("/".join(parts[:end]) for end in range(1, len(parts) + 1))}:
            pieces.setdefault(piece, []).append(path)
    for piece in nearest(wanted, pieces):
        near |= dict.fromkeys(pieces[piece])
    listed = list(near or dict.fromkeys(paths))
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    verb = "are" if len(listed) != 1 else "is"
    noun = "nearest" if near else f"{what}{'s' if len(listed) != 1 else ''}"
    return f"The {noun} {verb} {', '.join(listed[:most])}{more}." if listed else f"There is no {what}."


@attrs.frozen(kw_only=True, eq=False)
class _Place:
    """A layer and its enclosing layers.

    Attributes:
        names: the parts of the layer's path.
        layers: the layers from the model to the layer.
    """

    names: tuple[str, ...]
    layers: tuple[Any, ...]

    @property
    def layer(self) -> Any:
        """The layer itself."""
        return self.layers[-1]

    @property
    def rank(self) -> tuple[int, tuple[str, ...]]:
        """The sort key of places; the smallest one determines the path of a layer."""
        return len(self.names), self.names

    def made(self, variable: Any) -> bool:
        """Return True if the layer made a variable, judged by the current path of the variable."""
        return variable.path.split("/")[-2:-1] in ([self.layer.name], list(self.names[-1:]))

    def inside(self) -> list[_Place]:
        """Return the places of the layer's own layers."""
        held = self.layer._flatten_layers(include_self=False, recursive=False)
        count = Counter(each.name for each in held)
        places = []
        for each in held:
            name = each.name
            # RandAugment(name=...) gives all layers in it this name. No pattern refers to layers without weights.
            if count[name] > 1 and not each.weights:
                name = _attribute(self.layer, each) or name
            places.append(_Place(names=(*self.names, name), layers=(*self.layers, each)))
        return places


def _places(model: Any) -> list[_Place]:
    """Return the model's own place, and each layer below it once, in the model's order."""
    root = _Place(names=(), layers=(model,))
    chosen = {id(model): root}
    level = [root]
    while level:
        below = sorted((inner for place in level for inner in place.inside()), key=lambda place: place.rank)
        level = []
        for place in below:
            if id(place.layer) not in chosen:
                chosen[id(place.layer)] = place
                level.append(place)

    def visit(place: _Place) -> Iterator[_Place]:
        yield place
        for inner in place.inside():
            if chosen[id(inner.layer)].layers == inner.layers:
                yield from visit(inner)

    return list(visit(root))


def _own_variables(layer: Any) -> Iterator[tuple[Any, str]]:
    """Yield the variables of a layer itself, each with the rest of its path."""
    for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
        yield variable, variable.name
    # Keras numbers unnamed generators over the whole process.
    generators = layer._seed_generators
    for each in generators:
        yield each.state, each.state.name if len(generators) == 1 else f"{each.name}/{each.state.name}"


def _ambiguity(path: str, first: _Place, second: _Place) -> str:
    """Return a sentence about two variables of the same path, by their enclosing layers."""
    for at, pair in enumerate(zip(first.layers, second.layers, strict=False)):
        if pair[0] is not pair[1]:
            around = first.layers[at - 1]
            held = [(type(layer).__name__, _attribute(around, layer)) for layer in pair]
            layers = " and ".join(f"{kind} in the attribute {name}" if name else kind for kind, name in held)
            return (
                f"Two layers have the path {'/'.join(first.names[:at])!r}: {layers} of {type(around).__name__}. "
                "Give each layer a unique name."
            )
    return (
        f"Two variables of the layer {'/'.join(first.names) or first.layer.name!r} ({type(first.layer).__name__}) have "
        f"the path {path!r}. Give each variable a unique name, as in add_weight(name=...)."
    )


def _attribute(around: Any, layer: Any) -> str:
    """Return the attribute of a layer that holds another one, such as `blocks[0]`; empty if none does."""
    for attribute, value in vars(around).items():
        if attribute.startswith("_"):
            continue
        if value is layer:
            return str(attribute)
        items = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        for key, each in items.items() if isinstance(items, dict) else ():
            if each is layer:
                return f"{attribute}[{key}]"
    return ""
