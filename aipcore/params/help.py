"""The help of a filled tree: one panel for each group and component, with the options of the current selection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.params.declare import NO_CHOICES, REQUIRED, Choices
from aipcore.params.files import Layer
from aipcore.params.resolve import fill
from aipcore.params.secret import recorded
from aipcore.params.tree import DEFAULT, Component, Group, Leaf, build_tree, parts, shown, walk
from aipcore.params.types import to_plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


@attrs.frozen(kw_only=True)
class Description:
    """The displayed facts of one option.

    Attributes:
        name: dotted name in its short form, without dashes.
        metavar: placeholder of the value.
        default: value in the tree, as it would be typed; empty without one.
        origin: origin of that value, or "default".
        required: True if the user must give a value.
        limit: end of the sentence "must be ..."; empty if the type is the only limit.
        help: one sentence.
        choices: for components, the available names, each with a sentence.
    """

    name: str
    metavar: str
    default: str
    origin: str
    required: bool
    limit: str
    help: str
    choices: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Section:
    """A group of options with a title and a sentence."""

    title: str
    help: str
    options: tuple[Description, ...]


def describe(cls: type, choices: Choices = NO_CHOICES, prefix: str = "") -> list[Description]:
    """Return all options of a parameter class with its defaults, under names that begin with `prefix`."""
    tree = build_tree(cls, choices)
    found = [option for section in sections(tree) for option in section.options]
    return [attrs.evolve(option, name=prefix + option.name) for option in found]


def sections(tree: Group) -> list[Section]:
    """Return the options of a filled tree in sections, in the order of declaration."""
    found: list[Section] = []
    for node in walk(tree):
        name, options = shown(node.path, tree.shorts), []
        match node:
            case Leaf():
                continue
            case Component() if node.chosen and not node.several:
                continue
            case Component():
                title, text, options = name, node.spec.help, [_describe_component(node, name)]
            case Group(component=Component() as owner) if owner.several:
                title, text = name, owner.source.summary(owner.kind, node.choice)
            case Group(component=Component() as owner):
                title, text, options = f"{name}: {node.choice}", owner.spec.help, [_describe_component(owner, name)]
            case Group():
                title, text = name, node.help
        options += [_describe_leaf(each, tree) for each in parts(node) if isinstance(each, Leaf)]
        if options:
            found.append(Section(title=title, help=text, options=tuple(options)))
    return found


def _describe_leaf(leaf: Leaf, tree: Group) -> Description:
    return Description(
        name=shown(leaf.path, tree.shorts),
        metavar=leaf.type.metavar,
        default="" if leaf.missing else as_typed(recorded(leaf.spec, to_plain(leaf.value))),
        origin=leaf.origin,
        required=leaf.missing,
        limit=leaf.spec.check.allowed if leaf.spec.check else "",
        help=leaf.spec.help,
    )


def _describe_component(node: Component, name: str) -> Description:
    return Description(
        name=name,
        metavar="NAME ..." if node.several else "NAME",
        default=" ".join(node.chosen) or ("" if node.several else "none"),
        origin=node.origin,
        required=False,
        limit="",
        help=node.spec.help,
        choices=tuple((each, node.source.summary(node.kind, each)) for each in node.names),
    )


def as_typed(value: Any) -> str:
    """Return a value as it would be typed on the command line."""
    plain = to_plain(value)
    if value is REQUIRED:
        return ""
    if plain is None:
        return "none"
    if isinstance(plain, list):
        return " ".join(as_typed(item) for item in plain)
    if isinstance(plain, dict):
        return " ".join(f"{key}={as_typed(item)}" for key, item in plain.items())
    return repr(plain) if isinstance(plain, float) else str(plain)


def render_help(
    root: type, layers: Sequence[Layer], choices: Choices, console: Console, hidden: Sequence[str] = ()
) -> None:
    """Print a panel for each section of `root` with the layers applied. Required values may be missing.

    Args:
        root: parameter class.
        layers: layers of values.
        choices: available components.
        console: console to print to.
        hidden: fields of `root` to omit.

    Raises:
        ParamsError: a value in a layer is not allowed.
    """
    from rich.box import ROUNDED
    from rich.console import Group as Lines
    from rich.panel import Panel
    from rich.text import Text

    tree = fill(root, layers, choices)
    for name in hidden:
        tree.children.pop(name, None)
    for section in sections(tree):
        lines: list[Any] = []
        if section.help and not section.options[0].choices:
            lines.append(Text(section.help, "dim"))
        for option in section.options:
            lines.extend(_lines(option, console.width))
        console.print(
            Panel(Lines(*lines), title=Text(section.title), title_align="left", border_style="dim", box=ROUNDED)
        )


def _lines(option: Description, width: int) -> Iterator[Any]:
    from rich.table import Table

    left, right = _columns(option)
    # Equal in all panels. Names are never broken: one that is too long gets its own line.
    left_width = min(48, (width - 4) * 2 // 5)
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=left_width, overflow="fold")
    table.add_column(ratio=1)
    if len(option.name) + 2 > left_width:
        yield left
        table.add_row("", right)
    else:
        table.add_row(left, right)
    yield table
    if option.choices:
        listed = Table.grid(padding=(0, 2), expand=True)
        listed.add_column(style="cyan", no_wrap=True)
        listed.add_column(ratio=1)
        for name, summary in option.choices:
            listed.add_row(f"  {name}", summary)
        yield listed


def _columns(option: Description) -> tuple[Text, Text]:
    from rich.text import Text

    left = Text(f"--{option.name}", "cyan")
    left.append(f" {option.metavar}", "dim cyan")
    right = Text(option.help)
    if option.limit:
        right.append(f" {option.limit[0].upper()}{option.limit[1:]}.", "dim")
    if option.required:
        right.append(" Required.", "bold red")
    else:
        right.append(f" [{option.default or 'none'}", "green")
        right.append("]" if option.origin == DEFAULT else f", {option.origin}]", "green")
    return left, right
