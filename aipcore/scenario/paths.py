"""Full paths of layers and variables: the names of all layers around them, joined by `/`.

`encoder_a/d1/kernel` is the kernel of the layer `d1` in the nested model `encoder_a`. The model itself is not part of a
path. Keras' own `variable.path` lacks the layers around a functional model, so that two nested models with a layer `d1`
both have a `d1/kernel`. `name_variables` and `name_optimizer_variables` make `variable.path` the full path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from aipcore.errors import ParamsError, ScenarioError
from aipcore.params.names import nearest

Chain = tuple[Any, ...]
"""The layers from the outermost one below the model to a layer."""

_NOT_IN_NAMES = re.compile(r"[\\^$.*+?()\[\]{}|]+")


def layers_by_path(model: Any) -> list[tuple[str, Any]]:
    """Return all layers below a model with their full paths, each followed by the layers in it.

    A layer that several layers hold appears once: at its shortest path, and of several, at the first in alphabetical
    order. So a path does not depend on the order in which the layers were built.
    """
    return [("/".join(_names(chain)), chain[-1]) for chain in _chains(model)]


def variables_by_path(model: Any) -> dict[str, Any]:
    """Return all variables of a model by their full paths, in the order of `model.variables`.

    A variable that several layers hold belongs to the one that made it.

    Raises:
        ScenarioError: two variables have one path.
    """
    places = [
        (chain, variable, name)
        for chain in [(), *_chains(model)]
        for variable, name in _own_variables(chain[-1] if chain else model)
    ]
    owners: dict[int, tuple[Chain, str]] = {}
    for chain, variable, name in sorted(places, key=lambda place: (not _is_maker(*place[:2]), *_rank(place[0]))):
        owners.setdefault(id(variable), (chain, name))
    found: dict[str, Any] = {}
    for variable in model.variables:
        chain, name = owners[id(variable)]
        path = "/".join([*_names(chain), name])
        if path in found:
            raise ScenarioError(_ambiguity(model, path, owners[id(found[path])][0], chain))
        found[path] = variable
    return found


def name_variables(model: Any) -> None:
    """Make the full path of each variable of a model its `path`.

    Raises:
        ScenarioError: two variables have one path.
    """
    for path, variable in variables_by_path(model).items():
        variable._path = path


def name_optimizer_variables(optimizer: Any) -> None:
    """Give the variables of a built Keras optimizer paths below those of the weights that they belong to.

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
        paths: those of all layers or variables in question.
        option: where the expression comes from, such as `--warmstart.include`.
        what: what has the paths, in the singular.
        whole: whether a path has to match as a whole.

    Raises:
        ParamsError: it matches none.
    """
    expression = re.compile(pattern)
    found = [path for path in paths if (expression.fullmatch if whole else expression.search)(path)]
    if not found:
        rule = " The whole path has to match." if whole else ""
        raise ParamsError(f"{option} {pattern!r} matches no {what}.{rule} {nearest_of(pattern, paths, what)}")
    return found


def nearest_of(pattern: str, paths: Sequence[str], what: str, *, most: int = 6) -> str:
    """Return a sentence that lists the paths that an expression was probably meant to match, or else the first ones."""
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


def _chains(model: Any) -> Iterator[Chain]:
    """The layers below a model in the model's order, each once."""
    chains: dict[int, Chain] = {id(model): ()}
    level: list[Chain] = [()]
    while level:
        below = [(*chain, child) for chain in level for child in _children(chain[-1] if chain else model)]
        level = []
        for chain in sorted(below, key=_rank):
            if id(chain[-1]) not in chains:
                chains[id(chain[-1])] = chain
                level.append(chain)

    def visit(layer: Any) -> Iterator[Chain]:
        for child in _children(layer):
            chain = chains[id(child)]
            if chain and (chain[-2] if len(chain) > 1 else model) is layer:
                yield chain
                yield from visit(child)

    return visit(model)


def _children(layer: Any) -> list[Any]:
    children: list[Any] = layer._flatten_layers(include_self=False, recursive=False)
    return children


def _names(chain: Chain) -> list[str]:
    return [layer.name for layer in chain]


def _rank(chain: Chain) -> tuple[int, list[str]]:
    return len(chain), _names(chain)


def _own_variables(layer: Any) -> Iterator[tuple[Any, str]]:
    """The variables of a layer itself, each with the rest of its path."""
    for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
        yield variable, variable.name
    # Keras numbers generators without a name over the whole process.
    generators = layer._seed_generators
    for each in generators:
        yield each.state, each.state.name if len(generators) == 1 else f"{each.name}/{each.state.name}"


def _is_maker(chain: Chain, variable: Any) -> bool:
    return bool(chain) and variable.path.split("/")[-2:-1] == [chain[-1].name]


def _ambiguity(model: Any, path: str, first: Chain, second: Chain) -> str:
    """A sentence about two variables of one path, by the layers around them."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one is not other:
            around = first[at - 1] if at else model
            layers = " and ".join(f"{type(layer).__name__}{_held(around, layer)}" for layer in (one, other))
            return (
                f"Two layers have the path {'/'.join(_names(first[: at + 1]))!r}: {layers} of "
                f"{type(around).__name__}. Give each layer a name of its own."
            )
    layer = first[-1] if first else model
    return (
        f"Two variables of the layer {'/'.join(_names(first)) or model.name!r} ({type(layer).__name__}) have the path "
        f"{path!r}. Give each variable a name of its own, such as add_weight(name=...)."
    )


def _held(around: Any, layer: Any) -> str:
    """Where a layer is in the layer around it, as far as its attributes tell."""
    for attribute, value in vars(around).items():
        if attribute.startswith("_"):
            continue
        if value is layer:
            return f" in the attribute {attribute}"
        items = (
            enumerate(value) if isinstance(value, list | tuple) else value.items() if isinstance(value, dict) else ()
        )
        for key, each in items:
            if each is layer:
                return f" in the attribute {attribute}[{key!r}]"
    return ""
