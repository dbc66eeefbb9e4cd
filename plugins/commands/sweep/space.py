"""The search space: the values of `--space`, checked against the scenario's parameters, and its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import attrs
from aip_plugins.commands.sweep.dimension import Dimension, make_dimension, split

from aipcore.errors import AipError, UsageError
from aipcore.params import Layer, fill
from aipcore.params.declare import FieldSpec
from aipcore.params.files import COMMAND_LINE, Option
from aipcore.params.secret import Contact, contacts, recorded, redacted
from aipcore.params.tree import Component, Group, Leaf, find, shown
from aipcore.training.request import Request

MOST_POINTS = 10_000
"""The most points of a grid."""


@attrs.frozen
class Branch:
    """The parameters that exist for one choice of all varied components.

    Attributes:
        components: the chosen words by name, in the order of choice.
        free: the other parameters, in the user's order.
    """

    components: dict[str, str]
    free: tuple[Dimension, ...]

    @property
    def first(self) -> dict[str, str]:
        """The first point of the branch."""
        return self.components | {each.name: each.ends[0] for each in self.free}


@attrs.frozen(kw_only=True)
class Space:
    """The search space of a sweep.

    A parameter may exist only for some choices of a component, such as the options of an optimizer.

    Attributes:
        dimensions: the hyperparameters in the user's order.
        branches: one branch for each choice of the components.
        request: the scenario with all fixed parameters.
        words: the fixed parameters of the command line.
    """

    dimensions: tuple[Dimension, ...]
    branches: tuple[Branch, ...]
    request: Request
    words: tuple[str, ...]

    def walk(self, choose: Callable[[Dimension], str]) -> dict[str, str]:
        """Choose a word for each existing parameter, components before their options."""
        by_name = {each.name: each for each in self.dimensions}
        chosen: dict[str, str] = {}
        branches: Sequence[Branch] = self.branches
        while name := next((name for name in branches[0].components if name not in chosen), None):
            chosen[name] = choose(by_name[name])
            branches = [branch for branch in branches if branch.components.get(name) == chosen[name]]
        chosen |= {each.name: choose(each) for each in branches[0].free}
        return {name: chosen[name] for name in by_name if name in chosen}

    def options(self, chosen: Mapping[str, str]) -> list[str]:
        """Return the command-line words of a choice."""
        return [f"--{name}={word}" for name, word in chosen.items()]

    def with_chosen(self, chosen: Mapping[str, str]) -> Request:
        """Return the request of one trial."""
        layer = Layer.from_arguments([*self.words, *self.options(chosen)])
        return attrs.evolve(self.request, layers=[*self.request.layers[:-1], layer])

    def grid(self) -> list[dict[str, float | str]]:
        """Return all points of the space; the last parameter changes fastest.

        Raises:
            UsageError: there are too many points.
        """
        found: list[dict[str, float | str]] = []
        for branch in self.branches:
            values: dict[str, list[float | str]] = {name: [word] for name, word in branch.components.items()}
            values |= {each.name: each.points() for each in branch.free}
            names = [each.name for each in self.dimensions if each.name in values]
            for point in product(*(values[name] for name in names)):
                found.append(dict(zip(names, point, strict=True)))
                if len(found) > MOST_POINTS:
                    raise UsageError(
                        f"The grid has more than {MOST_POINTS:,} points. Use fewer values, or --sampler random."
                    )
        return found

    def contacts(self) -> list[Contact]:
        """Return the addresses named by the command line and the space."""
        found: dict[Contact, None] = {}
        for branch in self.branches:
            others = [{each.name: word} for each in branch.free for word in each.choices]
            for other in [{}, *others]:
                tree = _filled(self.with_chosen(branch.first | other))
                found |= dict.fromkeys(contacts(tree, (COMMAND_LINE,)))
        return list(found)

    def recorded_words(self) -> tuple[str, ...]:
        """Return `words` with `***` in place of secrets."""
        options = Layer.from_arguments(self.words).options
        specs: dict[str, FieldSpec] = {}
        for branch in self.branches:
            tree = _structure(self.request, self.words, branch.components)
            found = {option.name: find(tree, option.name) for option in options}
            specs |= {name: node.spec for name, node in found.items() if isinstance(node, Leaf)}
        words: list[str] = []
        for option in options:
            spec = specs.get(option.name)
            kept = tuple(redacted(word if spec is None else recorded(spec, word)) for word in option.words)
            words += written(attrs.evolve(option, words=kept))
        return tuple(words)


def make_space(texts: Sequence[str], request: Request, words: Sequence[str]) -> Space:
    """Return the search space of the values of `--space`, after checking each with the scenario's parameters.

    Args:
        texts: the values of `--space`.
        request: the request of the scenario.
        words: the parameters on the command line.

    Raises:
        UsageError: a parameter is unknown, cannot vary in this way, or also has a fixed value.
    """
    by_name = {split(text)[0]: text for text in texts}
    if len(by_name) < len(texts):
        raise UsageError("--space names a parameter twice. Name it once, with all its values.")
    known: dict[str, Dimension] = {}
    branches = tuple(_branches(by_name, request, tuple(words), {}, known))
    for name, text in by_name.items():
        if name not in known:
            _explain_unknown(name, text, request, words)
        dimension = known[name]
        if all(dimension.name not in branch.first for branch in branches):
            raise UsageError(f"--space {text}: this parameter does not exist for any choice of the other parameters.")
    space = Space(
        dimensions=tuple(known[name] for name in by_name), branches=branches, request=request, words=tuple(words)
    )
    _check(space)
    return space


def written(option: Option) -> list[str]:
    """Return the words of an option."""
    if option.closed:
        return [f"{option.written}={''.join(option.words[:1])}", *option.words[1:]]
    return [option.written, *option.words]


def _branches(
    texts: Mapping[str, str],
    request: Request,
    words: tuple[str, ...],
    chosen: dict[str, str],
    known: dict[str, Dimension],
) -> Iterator[Branch]:
    """Yield the branches: each component is chosen in turn, since it may lead to further components.

    Args:
        texts: the values of `--space`, by parameter name.
        request: the request of the scenario.
        words: the parameters on the command line.
        chosen: the components chosen so far.
        known: receives the dimensions by parameter name.
    """
    tree = _structure(request, words, chosen)
    given = {id(find(tree, option.name)): option for option in Layer.from_arguments(words).options}
    exist: list[Dimension] = []
    for name, text in texts.items():
        node = find(tree, name)
        if node is None:
            continue
        if id(node) in given:
            raise UsageError(f"{given[id(node)].written} is also in --space. Leave out one of them.")
        if name not in known:
            dimension = make_dimension(shown(node.path, tree.shorts), text, node)
            for other in known.values():
                if other.name == dimension.name:
                    raise UsageError(f"--space {other.text} and {text} are the same parameter. Use one of them.")
            known[name] = dimension
        exist.append(known[name])
    components = [each for each in exist if each.kind == "component" and each.name not in chosen]
    if components:
        # An outer component precedes its own components.
        outer = min(components, key=lambda each: each.name.count("."))
        for word in outer.choices:
            yield from _branches(texts, request, words, {**chosen, outer.name: word}, known)
    else:
        yield Branch(chosen, tuple(each for each in exist if each.kind != "component"))


def _structure(request: Request, words: Sequence[str], chosen: Mapping[str, str]) -> Group:
    """Return the parameters that exist for the components of the command line and `chosen`."""
    pending = Layer.from_arguments([*words, *(f"--{name}={word}" for name, word in chosen.items())])
    choosing: list[Option] = []
    while True:
        layer = Layer.of_options(pending.name, choosing)
        tree = _filled(attrs.evolve(request, layers=[*request.layers[:-1], layer]))
        fresh = [
            option
            for option in pending.options
            if option not in choosing and isinstance(find(tree, option.name), Component)
        ]
        if not fresh:
            return tree
        choosing += fresh


def _filled(request: Request) -> Group:
    return fill(request.root, request.layers, request.plugins)


def _check(space: Space) -> None:
    """Check the ends and choices of every parameter for every choice of components."""
    for branch in space.branches:
        try:
            _filled(space.with_chosen(branch.components))
        except AipError as error:
            if not branch.components:
                raise
            chosen = ", ".join(f"{name} {word}" for name, word in branch.components.items())
            raise UsageError(f"With {chosen}: {error}") from error
        for each in branch.free:
            for word in each.ends:
                try:
                    _filled(space.with_chosen({**branch.first, each.name: word}))
                except AipError as error:
                    raise UsageError(f"--space {each.text}: {error}") from error


def _explain_unknown(name: str, text: str, request: Request, words: Sequence[str]) -> None:
    try:
        # The error for an unknown option names the nearest one, or the component with this option.
        layer = Layer.from_arguments([*words, f"--{name}=0"])
        _filled(attrs.evolve(request, layers=[*request.layers[:-1], layer]))
    except AipError as error:
        raise UsageError(f"--space {text}: {error}") from error
    raise UsageError(f"--space {text}: the parameter {name} does not exist.")
