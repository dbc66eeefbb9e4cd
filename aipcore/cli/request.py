"""The arguments of commands such as `aip train` and `aip params`: scenario, options of the command, and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from click.shell_completion import CompletionItem

from aipcore.errors import ScenarioError, UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.params.names import nearest, one_of
from aipcore.scenario.loader import load_scenario
from aipcore.training import request
from aipcore.training.request import Request


def command_option(
    *names: str,
    help: str,  # noqa: A002 - as click calls it
    metavar: str = "",
    type: click.ParamType[Any] | None = None,  # noqa: A002
    multiple: bool = False,
) -> click.Option:
    """Return an option of a command itself, as opposed to a parameter of a scenario.

    Args:
        names: spellings, the long form first.
        help: one sentence.
        metavar: placeholder of the value; empty for a flag.
        type: type of the value; by default any text, or a path if the metavar is FILE or DIR.
        multiple: if True, the option takes several values and may be repeated.
    """
    if not metavar:
        return click.Option(names, help=help, is_flag=True)
    path = click.Path(readable=False) if metavar in ("FILE", "DIR") else None
    return click.Option(names, help=help, metavar=metavar, type=type or path, multiple=multiple)


class HelpOption(click.Option):
    """`--help`, optionally with a topic: a group, a word, or `all`."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the topic through the command."""
        return ctx.command.shell_complete(ctx, incomplete)


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options of a command itself."""
    return [each for each in command.params if isinstance(each, click.Option)]


HELP = HelpOption(
    ("--help", "-h"),
    help="Show this help, or the details of a part of it.",
    metavar="[GROUP|WORD|all]",
)
PARAMS_SUFFIXES = (".json", ".yaml", ".yml")
PARAMS = command_option(
    "--params",
    help="Read parameters from JSON or YAML files. A later file overrides the earlier ones, and command-line options "
    "override all.",
    metavar="FILE ...",
    type=click.Path(readable=False),
    multiple=True,
)


@attrs.frozen(kw_only=True)
class Arguments:
    """The sorted words after a command's name.

    Attributes:
        scenario: first word; None if it is missing.
        options: values of the command's own options by long name.
        rest: words of the parameters.
    """

    scenario: str | None
    options: dict[str, Any]
    rest: list[str]


def sort_words(words: Sequence[str], options: Sequence[click.Option]) -> tuple[dict[str, Any], list[str]]:
    """Separate the command's own options from its other words.

    The word after `--help` is its topic if the first word of the command, such as the scenario, precedes it.

    Returns:
        the values of the options by long name (lists for `multiple` ones), and the other words.

    Raises:
        UsageError: an option lacks its value, has a value that is not allowed, or is repeated.
    """
    by_name = {name: option for option in options for name in option.opts}
    given: dict[str, Any] = {}
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None:
            rest.append(word)
            continue
        key = option.opts[0]
        if option.multiple:
            values = [value] if equals else []
            while not equals and words and not words[0].startswith("-"):
                if option is PARAMS and values and not words[0].endswith(PARAMS_SUFFIXES):
                    break  # The scenario, which may follow.
                values.append(words.pop(0))
            if not values:
                raise UsageError(f"{name} needs a value: {name} {option.metavar}.")
            given.setdefault(key, []).extend(values)
            continue
        if key in given:
            raise UsageError(f"{name} is given twice. Give it once.")
        if isinstance(option, HelpOption):
            topic = bool(rest and words) and not equals and not words[0].startswith("-")
            given[key] = words.pop(0) if topic else value
        else:
            given[key] = _value(option, name, value if equals else None, words)
    return given, rest


def _value(option: click.Option, name: str, value: str | None, words: list[str]) -> Any:
    """Return the value of an option that was given as `name=value` or, if `value` is None, as `name`.

    Raises:
        UsageError: the value is missing or not allowed.
    """
    if option.is_flag:
        if value is not None:
            raise UsageError(f"{name} takes no value. Write just {name}.")
        return True
    if value is None:
        if not words or words[0].startswith("--"):
            raise UsageError(f"{name} needs a value: {name} {option.metavar}.")
        value = words.pop(0)
    return _converted(option.type, name, value)


def _converted(kind: click.ParamType[Any], name: str, word: str) -> Any:
    """Convert a word to the value of an option.

    Raises:
        UsageError: the value is not allowed.
    """
    if isinstance(kind, click.Choice) and word not in kind.choices:
        near = nearest(word, kind.choices)
        hint = f"; did you mean {one_of(near)}?" if near else f". It must be {one_of(kind.choices)}."
        raise UsageError(f"{name}: {word} is not allowed{hint}")
    try:
        value = kind.convert(word, None, None)
        if not isinstance(value, float) or math.isfinite(value):
            return value
    except click.BadParameter:
        pass
    low = getattr(kind, "min", None)
    must = f"a whole number, at least {low}" if isinstance(kind, click.IntRange) else f"a number above {low}"
    raise UsageError(f"{name}: {word} is not allowed. It must be {must}.")


def split_arguments(
    words: Sequence[str], options: Sequence[click.Option], command: str, *, first: str = "SCENARIO"
) -> Arguments:
    """Sort the words of a command.

    Raises:
        UsageError: an option lacks its value or is repeated, or the scenario does not come first.
    """
    given, rest = sort_words(words, options)
    scenario = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if scenario is None and rest:
        what = "folder" if first == "DIR" else "scenario"
        raise UsageError(f"The {what} comes first: aip {command} {first} {' '.join(rest)}")
    return Arguments(scenario=scenario, options=given, rest=rest)


def make_request(arguments: Arguments, command: str) -> Request:
    """Load the scenario and read its parameters, without computing anything.

    Raises:
        UsageError: the scenario is missing or cannot be loaded, or the parameters cannot be read.
    """
    plugins = get_plugin_manager()
    names = list(plugins.names("scenario"))
    if arguments.scenario is None:
        raise ScenarioError(
            f"Name a scenario: aip {command} SCENARIO. Available: {', '.join(names) or 'none'}, "
            "and any package.module:Class or .py file."
        )
    scenario = load_scenario(arguments.scenario, names=names, find=plugins.find_scenario)
    return request.make_request(scenario, given_layers(arguments), plugins)


def given_layers(arguments: Arguments) -> list[Layer]:
    """Return the layers of parameter files, in their order, and of the command line, which overrides the files.

    Raises:
        UsageError: a file is given twice.
        ParamsError: a file or the command line cannot be read.
    """
    files = arguments.options.get("--params", [])
    for at, file in enumerate(files):
        if file in files[:at]:
            raise UsageError(f"--params {file} is given twice. Give it once.")
    return [*(Layer.from_file(Path(file)) for file in files), Layer.from_arguments(arguments.rest)]
