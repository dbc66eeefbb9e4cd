"""The help of commands that take a scenario and its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import attrs
import click
from rich.console import Console
from rich.text import Text

from aipcore.cli.columns import Row, column_width, show_rows, show_sections
from aipcore.cli.request import Arguments, options_of
from aipcore.errors import UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Description, Section, fill, nearest, one_of, sections
from aipcore.params.files import COMMAND_LINE
from aipcore.params.help import containing, first_sentence, named, of_choice, of_other_choices
from aipcore.params.tree import DEFAULT, Group
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.updates import Update
from aipcore.training.params import run_params_class
from aipcore.training.request import Request
from aipcore.training.update_params import SINGLE

ALL = "all"
"""The topic of `--help` that prints every option in detail."""

EXAMPLES = ("", "--trainer.epochs 5 --learning_rate.lr 3e-4")

COMMON = (
    "trainer.epochs",
    "train.batch_size",
    "optimizer",
    "learning_rate",
    "learning_rate.lr",
    "early_stopping.n_to_go",
    "trainer.random_seed",
    "trainer.output_dir",
)
"""The options that most users of a training change."""

PARAMETERS = "PARAMETERS are the scenario's options, such as --trainer.epochs 5."

OUTPUT_DIR = "trainer.output_dir"
NEW_FOLDER = "runs/SCENARIO-N"
"""The folder of a run without `--trainer.output_dir`."""

UPDATE = ("times", "rate", "optimizer", "learning_rate", "learning_rate.lr")
"""The options of one of several updates that most users change."""

WIDEST_CHOICES = 40
"""Maximum width of the names of a component in place of `NAME`."""


def show_usage(console: Console, command: click.Command) -> None:
    """Print the help of a command before a scenario is named."""
    show_summary(console, command, "SCENARIO")
    plugins = get_plugin_manager()
    console.print("\nSCENARIO is a [bold].py[/bold] file, [bold]package.module:Class[/bold], or one of:")
    show_rows(
        console,
        [Row(Text(name, "cyan"), Text(plugins.summary("scenario", name))) for name in plugins.names("scenario")],
    )
    console.print(f"\nTo see a scenario's parameters: [bold]aip {command.name} SCENARIO --help[/bold]")


def show_summary(console: Console, command: click.Command, first: str) -> None:
    """Print the usage, summary and options of a command.

    Args:
        console: console to print to.
        command: command to describe.
        first: placeholder of its first word.
    """
    console.print(f"Usage: [bold]aip {command.name} {first} \\[OPTIONS] \\[PARAMETERS][/bold]\n\n{command.help}\n")
    show_options(console, options_of(command))
    console.print(f"\n{PARAMETERS}")


def show_help(
    console: Console,
    request: Request,
    command: click.Command,
    arguments: Arguments,
    *,
    examples: Sequence[str] = EXAMPLES,
) -> None:
    """Print the help of a command for one scenario, with the parameter values of this command line.

    Args:
        console: console to print to.
        request: the scenario and the parameters.
        command: command to describe.
        arguments: words of the command line.
        examples: further words of example commands.
    """
    topic = arguments.options["--help"]
    start = f"aip {command.name} {arguments.scenario}"
    tree = fill(request.root, request.layers, request.plugins)
    trainer = tree.children["trainer"]
    if request.scenario.cls.updates and isinstance(trainer, Group):
        for name in SINGLE:
            trainer.children.pop(name)
        first = next(each.name for each in request.scenario.cls.updates if isinstance(each, Update))
        examples = [each.replace("--learning_rate", f"--updates.{first}.learning_rate") for each in examples]
    about = About(
        start=start,
        subject=request.scenario.name,
        options=options_of(command),
        common=COMMON,
        standard=sections(fill(run_params_class(ScenarioParams), [], request.plugins)),
    )
    if not topic:
        console.print(Text.assemble("Usage: ", (f"{start} [OPTIONS] [PARAMETERS]", "bold")))
        console.print(f"{PARAMETERS}\n")
        summary = (request.scenario.cls.__doc__ or "").strip().splitlines()
        if summary:
            console.print(summary[0] + "\n", markup=False)
        needed = "".join(f" --{each.name} {each.metavar}" for each in _options(sections(tree)) if each.required)
        console.print(Text("Examples:", "bold"))
        for words in examples:
            console.print(f"  {start}{needed} {words}".rstrip(), markup=False, highlight=False, soft_wrap=True)
        console.print()
    show_parameters(console, [tree], about, topic)


@attrs.frozen(kw_only=True)
class About:
    """The command whose parameters are shown.

    Attributes:
        start: the command up to its first word, such as `aip train tutorial`.
        subject: name of the scenario.
        options: options of the command itself.
        common: names of the parameters that most users change.
        standard: sections of the parameters that every scenario has.
    """

    start: str
    subject: str
    options: Sequence[click.Option]
    common: Sequence[str]
    standard: Sequence[Section]

    def is_own(self, option: Description) -> bool:
        """Return True if only this scenario has the option. Of each update, these are the most important ones."""
        steps = option.name.split(".")
        if steps[0] == "updates":
            return ".".join(steps[2:]) in UPDATE
        return not any(".".join(steps[:cut]) in self._names for cut in range(1, len(steps) + 1))

    @cached_property
    def _names(self) -> set[str]:
        return {each.name for each in _options(self.standard)}


def show_parameters(console: Console, trees: Sequence[Group], about: About, topic: str) -> None:
    """Print an overview of parameters, or the details of some.

    Args:
        console: console to print to.
        trees: the parameters with their values. Required ones may be missing.
        about: the command.
        topic: empty for the overview, `all` for the details of all parameters, or a word that selects some: a group, an
            option, a component, or any part of the name or help of options.

    Raises:
        UsageError: the topic selects nothing.
    """
    found = [section for tree in trees for section in sections(tree)]
    if not topic:
        _show_overview(console, found, about)
        return
    selected = found if topic.casefold() == ALL else named(found, topic)
    selected = selected or [section for tree in trees for section in of_choice(tree, topic)]
    if selected:
        show_details(console, selected)
        return
    selected = containing(found, topic)
    others = {name: choices for tree in trees for name, choices in of_other_choices(tree, topic).items()}
    word = topic.casefold()
    own = [each for each in about.options if word in " ".join(each.opts).casefold()]
    if not (selected or others or own):
        raise _unknown(found, about, topic)
    show_details(console, selected)
    rows = [
        Row(Text(f"--{name}", "cyan"), Text(f"Option of {one_of(choices)}; see aip plugins show {choices[0]}."))
        for name, choices in others.items()
    ]
    show_sections(console, [("Options of components that are not chosen:", rows)])
    show_sections(console, [("Options of the command:", list(_command_rows(own)))])


def show_details(console: Console, found: Sequence[Section]) -> None:
    """Print sections with all facts of each option."""
    show_sections(
        console,
        [
            (
                each.title if each.choice or each.options[0].choices else f"{each.title}: {each.help}",
                list(_details(each.options)),
            )
            for each in found
        ],
    )


def _unknown(found: Sequence[Section], about: About, topic: str) -> UsageError:
    options = _options(found)
    names = [*(each.name for each in found), *(name for each in options for name in (each.name, *each.aliases))]
    near = nearest(topic, dict.fromkeys(names))
    hint = f"did you mean {one_of(near)}?" if near else f"{about.start} --help lists the groups."
    return UsageError(f"No option of {about.start} matches {topic!r}; {hint}")


def _options(found: Iterable[Section]) -> list[Description]:
    return [option for section in found for option in section.options]


def _show_overview(console: Console, found: Sequence[Section], about: About) -> None:
    own: list[Description] = []
    common: list[Description] = []
    given: list[tuple[str, list[Row]]] = []
    groups: list[Row] = []
    purposes = {each.name: each.help for each in about.standard}
    chosen = {each.name for each in _options(found) if each.choices and each.origin == COMMAND_LINE}
    for section in found:
        rest: list[Description] = []
        for option in section.options:
            common_one = option.required or option.name in about.common
            (own if about.is_own(option) else common if common_one else rest).append(option)
        if {section.name, section.name.rpartition(".")[0]} & chosen or any(
            each.origin == COMMAND_LINE for each in rest
        ):
            given.append((f"Options of {section.choice or section.name}:", list(_summaries(rest))))
        elif rest:
            purpose = section.choice or purposes.get(section.name, section.help)
            groups.append(Row(Text(section.name, "cyan"), _listed(purpose, rest)))
    order = {name: place for place, name in enumerate(about.common)}
    common.sort(key=lambda each: order.get(each.name, -1))
    parts = [
        (f"Options of {about.subject}:", list(_summaries(own))),
        ("Common options:", list(_summaries(common))),
        *given,
    ]
    command = list(_command_rows(about.options))
    column = column_width([*(row for _, rows in parts for row in rows), *command])
    show_sections(console, parts, column)
    show_sections(console, [("More options, by group:", groups)])
    show_sections(console, [("Options of the command:", command)], column)
    console.print(f"Details and limits: {about.start} --help GROUP, --help WORD, --help {ALL}", markup=False)


def _listed(purpose: str, options: Sequence[Description]) -> Text:
    """Return the purpose of a group and the names of its options, or the choices of its only one."""
    names = [name for name, _ in options[0].choices] or [each.name.rpartition(".")[2] for each in options]
    return Text.assemble(first_sentence(purpose).rstrip("."), ": ", (", ".join(names), "dim"))


def _summaries(options: Iterable[Description]) -> Iterator[Row]:
    """Yield a row with the first sentence of each option, and with the choices of a component if they are few."""
    for option in options:
        choices = "|".join(name for name, _ in option.choices)
        metavar = option.metavar
        if choices and len(choices) <= WIDEST_CHOICES:
            metavar = metavar.replace("NAME", choices)
        yield Row(_name(option, metavar), Text.assemble(option.summary, " ", _value(option)))


def _details(options: Iterable[Description]) -> Iterator[Row]:
    """Yield a row with the whole help of each option, and a row for each choice."""
    for option in options:
        text = Text(option.help)
        if option.limit:
            text.append(f" {option.requirement}", "dim")
        if option.aliases:
            text.append(f" Also: {', '.join(f'--{alias}' for alias in option.aliases)}.", "dim")
        text.append(" ").append_text(_value(option))
        yield Row(_name(option, option.metavar), text)
        choices = [Row(Text(f"  {name}", "cyan"), Text(summary)) for name, summary in option.choices]
        column = column_width(choices)
        yield from (attrs.evolve(row, column=column) for row in choices)


def _name(option: Description, metavar: str) -> Text:
    return Text.assemble((f"--{option.name}", "cyan"), (f" {metavar}", "dim cyan"))


def _value(option: Description) -> Text:
    """Return the value of an option in this command, with its origin unless it is the default."""
    if option.required:
        return Text("[required]", "bold red")
    origin = option.origin
    if origin == DEFAULT:
        unset = NEW_FOLDER if option.name == OUTPUT_DIR else "none"
        return Text(f"[{option.default if option.default not in ('', 'none') else unset}]", "green")
    if origin.startswith("scenario "):
        origin = f"set by {origin.removeprefix('scenario ')}"
    return Text(f"[{option.default or 'none'}, {origin}]", "green")


def show_options(console: Console, options: Sequence[click.Option]) -> None:
    """Print the options of a command itself."""
    show_rows(console, list(_command_rows(options)))


def _command_rows(options: Sequence[click.Option]) -> Iterator[Row]:
    for option in options:
        name = ", ".join(option.opts) + (f" {option.metavar}" if option.metavar else "")
        yield Row(Text(name, "cyan"), Text(option.help or ""))
