"""What `aip train`, `aip params` and their like are given: a scenario, options of the command, and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from aipcore.errors import ScenarioError, UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario.loader import load_scenario
from aipcore.training import request
from aipcore.training.request import Request


@attrs.frozen
class CommandOption:
    """An option of the command itself, as opposed to a parameter.

    Attributes:
        names: how it is written, the long form first.
        help: one sentence.
        metavar: what its value is called; empty for a flag.
    """

    names: tuple[str, ...]
    help: str
    metavar: str = ""


HELP = CommandOption(("--help", "-h"), "Show this message, with the options and defaults of exactly this command.")
PARAMS = CommandOption(
    ("--params",), "Read parameters from a JSON or YAML file; options on the command line win.", "FILE"
)


@attrs.frozen(kw_only=True)
class Arguments:
    """The words after the command's name, sorted.

    Attributes:
        scenario: the first word, None if it is missing.
        options: values of the command's own options by long name; a flag's value is "".
        rest: the words that are parameters.
    """

    scenario: str | None
    options: dict[str, str]
    rest: list[str]


def sort_words(words: Sequence[str], options: Sequence[CommandOption]) -> tuple[dict[str, str], list[str]]:
    """Takes the command's own options out of its words.

    Returns:
        the values of the options by long name, a flag's being ""; and the other words.

    Raises:
        UsageError: an option lacks its value or comes twice.
    """
    by_name = {name: option for option in options for name in option.names}
    given: dict[str, str] = {}
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None:
            rest.append(word)
            continue
        key = option.names[0]
        if key in given:
            raise UsageError(f"{name} is given twice: give it once.")
        if not option.metavar:
            if equals:
                raise UsageError(f"{name} takes no value: write just {name}.")
            given[key] = ""
        else:
            if not equals:
                if not words or words[0].startswith("--"):
                    raise UsageError(f"{name} needs a value: {name} {option.metavar}.")
                value = words.pop(0)
            given[key] = value
    return given, rest


def split_arguments(
    words: Sequence[str], options: Sequence[CommandOption], command: str, *, first: str = "SCENARIO"
) -> Arguments:
    """Sorts the words of a command.

    Raises:
        UsageError: an option of the command lacks its value or comes twice, or the scenario does not come first.
    """
    given, rest = sort_words(words, options)
    scenario = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if scenario is None and rest:
        what = "folder" if first == "DIR" else "scenario"
        raise UsageError(f"The {what} comes first: aip {command} {first} {' '.join(rest)}")
    return Arguments(scenario=scenario, options=given, rest=rest)


def make_request(arguments: Arguments, command: str) -> Request:
    """Loads the scenario and reads the parameters given for it, without computing anything.

    Raises:
        UsageError: no scenario is named, it cannot be loaded, or the parameters cannot be read.
    """
    plugins = get_plugin_manager()
    names = list(plugins.names("scenario"))
    if arguments.scenario is None:
        raise ScenarioError(
            f"Name a scenario: aip {command} SCENARIO; there are {', '.join(names) or 'none'}, "
            "and any package.module:Class or .py file."
        )
    scenario = load_scenario(arguments.scenario, names=names, find=plugins.find_scenario)
    return request.make_request(scenario, given_layers(arguments), plugins)


def given_layers(arguments: Arguments) -> list[Layer]:
    """Return the layers of a parameter file and of the command line, which wins.

    Raises:
        ParamsError: they cannot be read.
    """
    file = arguments.options.get("--params")
    return [*([] if file is None else [Layer.from_file(Path(file))]), Layer.from_arguments(arguments.rest)]
