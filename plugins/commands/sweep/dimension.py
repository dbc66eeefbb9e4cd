"""One hyperparameter of a sweep: a value of `--space` and its range or choices."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Literal

import attrs

from aipcore.errors import AipError, UsageError
from aipcore.params.secret import recorded
from aipcore.params.tree import Component, Group, Leaf, Node
from aipcore.params.types import LeafType

FORMS = "NAME=LO..HI, NAME=LO..HI:STEP, NAME=log:LO..HI or NAME=A,B,C"
LOG = "log:"


@attrs.frozen(kw_only=True)
class Dimension:
    """One hyperparameter of a sweep.

    Attributes:
        name: its dotted name, in its short form if it has one.
        text: the value of `--space`.
        kind: a range of numbers, or a choice of values or of components.
        low, high: the range, inclusive.
        step: the distance between neighbours in the range; None for any number.
        log: True for logarithmic sampling.
        choices: the words to choose from.
        numbers: True if all choices are numbers.
    """

    name: str
    text: str
    kind: Literal["float", "int", "choice", "component"]
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()
    numbers: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """The words to check: both ends of the range, or every choice."""
        return self.choices or (self.word(self.low), self.word(self.high))

    def word(self, value: float | str) -> str:
        """Return the command-line word that parses to exactly this value."""
        return value if isinstance(value, str) else repr(int(value) if self.kind == "int" else float(value))

    def points(self) -> list[float | str]:
        """Return all values in order.

        Raises:
            UsageError: the dimension is a range of real numbers without a step.
        """
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.kind == "int" else None)
        if step is None:
            raise UsageError(
                f"--space {self.text} has infinitely many values, but a grid needs a finite number. "
                "Add a step (LO..HI:STEP), or use choices."
            )
        low, width = Decimal(repr(self.low)), Decimal(repr(step))
        count = int((Decimal(repr(self.high)) - low) / width) + 1
        return [_plain(low + width * index, self.kind) for index in range(count)]


def split(text: str) -> tuple[str, str]:
    """Return the name and the values of one `--space` option.

    Raises:
        UsageError: one of them is missing.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise UsageError(f"--space {text} is not allowed. Write {FORMS}.")
    return name.removeprefix("--").replace("-", "_"), values


def make_dimension(name: str, text: str, node: Node) -> Dimension:
    """Return the dimension of a parameter.

    Args:
        name: the displayed name of the parameter.
        text: the value of `--space`.
        node: the parameter.

    Raises:
        UsageError: the parameter cannot vary, or not in this way.
    """
    values = split(text)[1]
    if isinstance(node, Group):
        raise UsageError(f"--space {text}: {name} is a group of parameters. Name one of them.")
    if isinstance(node, Leaf) and any(recorded(node.spec, word) != word for word in values.split(",")):
        raise UsageError(f"--space {name}: the values contain a secret, and a sweep records them. Use one fixed value.")
    if isinstance(node, Leaf) and ".." in values and "," not in values and (number := _number(node.type)):
        return _range(name, text, values, number)
    if values.startswith(LOG):
        raise UsageError(f"--space {text} is not allowed. Write log:LO..HI with two numbers, for a numeric parameter.")
    if isinstance(node, Leaf) and node.type.form in ("fixed", "table"):
        raise UsageError(f"--space {text}: {name} takes {node.type.words}, which cannot be searched.")
    if isinstance(node, Component) and node.spec.repeat:
        raise UsageError(f"--space {text}: {name} is a list of components, which cannot be searched. Name an option.")
    words = tuple(values.split(","))
    if not isinstance(node, Leaf):
        try:
            words = tuple(_component_name(word, node) for word in words)
        except AipError as error:
            raise UsageError(f"--space {text}: {error}") from error
    if len(words) < 2 or "" in words:
        raise UsageError(f"--space {text}: {name} needs a range or at least two values. Write {FORMS}.")
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise UsageError(f"--space {text} names {twice} twice. Name it once.")
    is_leaf = isinstance(node, Leaf)
    numbers = is_leaf and all(_as_number(word) is not None for word in words)
    return Dimension(name=name, text=text, kind="choice" if is_leaf else "component", choices=words, numbers=numbers)


def _component_name(word: str, node: Component) -> str:
    if not node.several and node.optional and word.casefold() == "none":
        return word
    return node.source.canonical(node.kind, word)


def _number(leaf: LeafType) -> Literal["int", "float"] | None:
    """Return the kind of numbers that a parameter takes, or None."""
    if leaf.form != "one":
        return None
    kinds = (leaf.items[0], *getattr(leaf.items[0], "__args__", ()))
    return "int" if int in kinds else "float" if float in kinds else None


def _range(name: str, text: str, values: str, kind: Literal["int", "float"]) -> Dimension:
    log = values.startswith(LOG)
    ends, colon, step_word = values.removeprefix(LOG).partition(":")
    low_word, _, high_word = ends.partition("..")
    low, high = _as_number(low_word), _as_number(high_word)
    step = _as_number(step_word) if colon else None
    if low is None or high is None or (colon and (step is None or step <= 0)):
        raise UsageError(f"--space {text} is not a range of numbers. Write {FORMS}.")
    problem = ""
    if kind == "int" and any(value is not None and value % 1 for value in (low, high, step)):
        problem = f"{name} takes integers only."
    elif low >= high:
        problem = f"{low_word} is not less than {high_word}. Write the smaller end first."
    elif log and low <= 0:
        problem = "a logarithmic range needs numbers above 0. Begin above 0."
    elif log and step is not None:
        problem = "a logarithmic range has no step. Leave out log: or the step."
    elif step is not None and (high - low) % step:
        last = low + (high - low) // step * step
        problem = f"{high_word} is not a whole number of steps from {low_word}. End the range at {last}."
    if problem:
        raise UsageError(f"--space {text}: {problem}")
    width = None if step is None else _plain(step, kind)
    return Dimension(
        name=name, text=text, kind=kind, low=_plain(low, kind), high=_plain(high, kind), step=width, log=log
    )


def _plain(value: Decimal, kind: str) -> float:
    return int(value) if kind == "int" else float(value)


def _as_number(word: str) -> Decimal | None:
    """Return the exact number of a word; None if it is not a finite number."""
    try:
        value = Decimal(word)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
