"""The space that is searched: checked against the scenario's parameters, and walked along for each trial.

A parameter may exist only under some choices of another, as the options of an optimizer do: it then varies only there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import attrs
from aip_plugins.commands.sweep.space import Dimension, make_dimension, split

from aipcore.errors import AipError, UsageError
from aipcore.params import Layer, fill
from aipcore.params.declare import FieldSpec
from aipcore.params.files import COMMAND_LINE
from aipcore.params.secret import Contact, contacts, recorded
from aipcore.params.tree import Component, Group, Leaf, Node, find, leaves, owners, shown
from aipcore.training.request import Request

MOST_POINTS = 10_000
"""The largest grid."""

Choose = Callable[[Dimension], str]


@attrs.frozen(kw_only=True)
class Space:
    """The parameters that vary.

    Attributes:
        dimensions: in the order in which the user named them.
        request: the scenario with everything that does not vary.
        words: the parameters of the command line, which do not vary.
    """

    dimensions: tuple[Dimension, ...]
    request: Request
    words: tuple[str, ...]

    def walk(self, choose: Choose) -> dict[str, str]:
        """Has a word chosen for each parameter that exists, components before their options; in the user's order."""
        chosen: dict[str, str] = {}
        names = {dimension.name: dimension for dimension in self.dimensions}
        while True:
            exist = _existing(self.request, self.words, chosen, list(names))
            components = [name for name in exist if names[name].kind == "component" and name not in chosen]
            if not components:
                break
            chosen[components[0]] = choose(names[components[0]])
        for name in exist:
            if name not in chosen:
                chosen[name] = choose(names[name])
        return {name: chosen[name] for name in names if name in chosen}

    def options(self, chosen: dict[str, str]) -> list[str]:
        """The words of the command line for what was chosen."""
        return [f"--{name}={word}" for name, word in chosen.items()]

    def with_chosen(self, chosen: dict[str, str]) -> Request:
        """The scenario with its parameters as one trial has them."""
        layer = Layer.from_arguments([*self.words, *self.options(chosen)])
        return attrs.evolve(self.request, layers=[*self.request.layers[:-1], layer])

    def combinations(self) -> Iterator[dict[str, Dimension]]:
        """For each combination of components, the parameters that exist, those being reduced to the one choice."""
        components = [each for each in self.dimensions if each.kind == "component"]
        seen = set()
        for words in product(*(each.choices for each in components)):
            of = dict(zip((each.name for each in components), words, strict=True))
            met: dict[str, Dimension] = {}

            def note(each: Dimension, of: dict[str, str] = of, met: dict[str, Dimension] = met) -> str:
                word = of.get(each.name, each.ends[0])
                met[each.name] = attrs.evolve(each, choices=(word,)) if each.kind == "component" else each
                return word

            self.walk(note)
            key = tuple((name, each.choices) for name, each in met.items())
            if key not in seen:
                seen.add(key)
                yield met

    def grid(self) -> list[dict[str, float | str]]:
        """Every point of the space, the last parameter changing fastest.

        Raises:
            UsageError: there are too many.
        """
        found: list[dict[str, float | str]] = []
        for met in self.combinations():
            values: dict[str, list[float | str]] = {}
            for name, each in met.items():
                points = each.points()
                if points is None:
                    raise UsageError(
                        f"--space {each.text} has no end of values for a grid: give a step (LO..HI:STEP) or choices."
                    )
                values[name] = points
            order = [each.name for each in self.dimensions if each.name in values]
            for point in product(*(values[name] for name in order)):
                found.append(dict(zip(order, point, strict=True)))
                if len(found) > MOST_POINTS:
                    raise UsageError(f"The grid has more than {MOST_POINTS} points: give fewer, or --sampler random.")
        return found

    def contacts(self) -> list[Contact]:
        """Return the addresses that the words of the command line and of the space name."""
        found: dict[Contact, None] = {}
        for met in self.combinations():
            first = {name: each.ends[0] for name, each in met.items()}
            choices = [first, *({**first, name: word} for name, each in met.items() for word in each.choices)]
            for chosen in choices:
                request = self.with_chosen(chosen)
                tree = fill(request.root, request.layers, request.plugins)
                found |= dict.fromkeys(contacts(tree, (COMMAND_LINE,)))
        return list(found)


def make_space(texts: Sequence[str], request: Request, words: Sequence[str]) -> Space:
    """Reads the values of `--space` and checks each with the scenario's parameters.

    Args:
        texts: the values.
        request: the scenario.
        words: the parameters on the command line.

    Raises:
        UsageError: a parameter is unknown, cannot vary like that, or is given a value as well.
    """
    pending = {split(text)[0]: text for text in texts}
    if len(pending) < len(texts):
        raise UsageError("--space names a parameter twice: name it once, with all its values.")
    known: dict[str, Dimension] = {}
    # Components lead to further parameters, each of which may be a component again.
    for words_of_components in _rounds(known):
        nodes = _find(request, words, words_of_components, list(pending))
        for name, (shown_as, node) in nodes.items():
            text = pending.pop(name)
            dimension = _dimension(shown_as, text, node)
            if dimension.name in known:
                raise UsageError(f"--space {known[dimension.name].text} and {text} are the same parameter.")
            known[dimension.name] = dimension
        if not pending:
            break
    for name, text in pending.items():
        _explain_unknown(name, text, request, words)
    by_text = {dimension.text: dimension for dimension in known.values()}
    space = Space(dimensions=tuple(by_text[text] for text in texts), request=request, words=tuple(words))
    _check(space)
    return space


def _rounds(known: dict[str, Dimension]) -> Iterator[dict[str, str]]:
    """Combinations of the components known so far, again as long as that leads to more."""
    tried: set[tuple[tuple[str, str], ...]] = set()
    while True:
        components = [each for each in known.values() if each.kind == "component"]
        fresh = False
        for words in product(*(each.choices for each in components)):
            chosen = dict(zip((each.name for each in components), words, strict=True))
            key = tuple(chosen.items())
            if key in tried:
                continue
            tried.add(key)
            fresh = True
            yield chosen
        if not fresh:
            return


def _dimension(shown_as: str, text: str, node: Node) -> Dimension:
    try:
        return make_dimension(shown_as, text, node)
    except UsageError as error:
        raise error if str(error).startswith("--space") else UsageError(f"--space {text}: {error}") from error


def _explain_unknown(name: str, text: str, request: Request, words: Sequence[str]) -> None:
    try:
        # What an option of this name would be told: the nearest one, or the choice that it belongs to.
        fill(request.root, [*request.layers[:-1], Layer.from_arguments([*words, f"--{name}=0"])], request.plugins)
    except AipError as error:
        raise UsageError(f"--space {text}: {error}") from error
    raise UsageError(f"--space {text}: there is no parameter {name}.")


def structure(request: Request, words: Sequence[str], chosen: dict[str, str]) -> Group:
    """The parameters that exist once the components of the command line and `chosen` are chosen."""
    given = Layer.from_arguments(words)
    pending = {option.name: option for option in given.options}
    pending |= {name: Layer.from_arguments([f"--{name}={word}"]).options[0] for name, word in chosen.items()}
    choosing: list[str] = []
    while True:
        layer = Layer.of_options(given.name, (pending[name] for name in choosing))
        tree = fill(request.root, [*request.layers[:-1], layer], request.plugins)
        fresh = [name for name in pending if name not in choosing and isinstance(find(tree, name), Component)]
        if not fresh:
            return tree
        choosing += fresh


def recorded_words(request: Request, words: Sequence[str]) -> tuple[str, ...]:
    """Return words of the command line with `***` in the place of secrets."""
    tree = structure(request, words, {})
    kept: list[str] = []
    spec: FieldSpec | None = None
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option:
            spec = _spec(option.removeprefix("--").replace("-", "_"), tree)
        if not option or equals:
            value = value if spec is None else recorded(spec, value)
        kept.append(f"{option}{equals}{value}")
    return tuple(kept)


def _spec(name: str, tree: Group) -> FieldSpec | None:
    """Return what is declared of an option, which may be one of a component that varies."""
    node = find(tree, name)
    if isinstance(node, Leaf):
        return node.spec
    for component, choice in owners(tree, name):
        inner = next(
            (leaf for leaf in leaves(component.made(choice)) if leaf.path[-1] == name.rpartition(".")[2]), None
        )
        if inner is not None:
            return inner.spec
    return None


def _find(
    request: Request, words: Sequence[str], chosen: dict[str, str], names: Sequence[str]
) -> dict[str, tuple[str, Node]]:
    """Those of the names that exist, each with how it is shown and what it is.

    Raises:
        UsageError: one of them is given on the command line too.
    """
    tree = structure(request, words, chosen)
    given = {id(find(tree, option.name)): option for option in Layer.from_arguments(words).options}
    found: dict[str, tuple[str, Node]] = {}
    for name in names:
        node = find(tree, name)
        if node is None:
            continue
        if id(node) in given:
            raise UsageError(f"{given[id(node)].written} is given, and varies by --space too: leave one of them out.")
        found[name] = (shown(node.path, tree.shorts), node)
    return found


def _existing(request: Request, words: Sequence[str], chosen: dict[str, str], names: Sequence[str]) -> list[str]:
    tree = structure(request, words, chosen)
    return [name for name in names if find(tree, name) is not None]


def _check(space: Space) -> None:
    """Tries the ends and choices of every parameter under every combination of components."""
    for met in space.combinations():
        first = {name: each.ends[0] for name, each in met.items()}
        _check_fixed(space, {name: first[name] for name, each in met.items() if each.kind == "component"})
        for name, each in met.items():
            for word in each.ends:
                request = space.with_chosen({**first, name: word})
                try:
                    fill(request.root, request.layers, request.plugins)
                except AipError as error:
                    raise UsageError(f"--space {each.text}: {error}") from error
    unused = _unused(space)
    if unused:
        raise UsageError(f"--space {unused.text}: no choice of the other parameters has this one.")


def _check_fixed(space: Space, components: dict[str, str]) -> None:
    """Tries what does not vary under one combination of components."""
    request = space.with_chosen(components)
    try:
        fill(request.root, request.layers, request.plugins)
    except AipError as error:
        if not components:
            raise
        chosen = ", ".join(f"{name} {word}" for name, word in components.items())
        raise UsageError(f"With {chosen}: {error}") from error


def _unused(space: Space) -> Dimension | None:
    met = {name for each in space.combinations() for name in each}
    return next((each for each in space.dimensions if each.name not in met), None)
